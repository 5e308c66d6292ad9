import warnings
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from freezeout.perf.error_budgets import ERROR_BUDGETS
from freezeout.perf.saving import measured_saving
from reports.collection import collect
from reports.course import courses, without_noise
from reports.figures import error_course, of_report, speedup_error, trade_points
from reports.figures.schedule_looks import look, specs
from reports.style import DARK, LIGHT, settings
from tests.reports.study import BASELINE, EPOCHS, SCHEDULES, STEPS, study, trial

CUBIC, STEEP, LINEAR, _ = SCHEDULES
BLOCKS = 8
SLIM = {"stretched": False, "published": False}


def drawn(draw, theme=LIGHT):
    """The figure laid out as it will be saved, with a renderer to measure it."""
    with mpl.rc_context(settings(theme)):
        figure = draw(theme)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return figure, canvas.get_renderer()


@pytest.fixture(scope="module")
def report(make):
    return collect([make.session(), *study(make, num_blocks=BLOCKS)])


@pytest.fixture(scope="module")
def trade(report):
    figure, _ = drawn(lambda theme: speedup_error.draw(report, theme))
    return figure.axes[0]


def of_gid(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


def xy(lines):
    return sorted(tuple(map(float, line.get_xydata()[0])) for line in lines)


def test_every_row_stands_at_its_saving_and_its_error(report, trade):
    rows = [row for row in report.trained if not row.is_baseline]
    expected = {(100 * r.saved.value, 100 * r.relative_increase.value) for r in rows if r.freezes}
    unfrozen = {r.first.epochs: r for r in rows if not r.freezes}
    expected |= {(100 * r.saved.value, 100 * r.relative_increase.value) for r in unfrozen.values()}
    expected.add((0.0, 0.0))
    np.testing.assert_allclose(xy(of_gid(trade, "mean")), sorted(expected), atol=1e-9)


def test_predictions_are_hollow_and_joined_to_what_was_measured(report, trade):
    rows = [row for row in report.trained if row.freezes]
    expected = sorted(
        (100 * row.time_saved.published.value, 100 * row.relative_increase.value) for row in rows
    )
    found = of_gid(trade, "predicted")
    np.testing.assert_allclose(xy(found), expected)
    assert {line.get_markerfacecolor() for line in found} == {LIGHT.paper}
    ends = {tuple(line.get_xdata()) for line in trade.lines if len(line.get_xdata()) == 2}
    for row in rows:
        pair = (100 * row.time_saved.published.value, 100 * row.saved.value)
        assert any(np.allclose(pair, each) for each in ends)


def test_the_baseline_by_epochs_is_one_line_from_the_whole_run_on(report, trade):
    (line,) = of_gid(trade, "fewer epochs")
    x, y = line.get_xydata().T
    assert (x[0], y[0]) == (0.0, 0.0)
    assert (np.diff(x) > 0).all()
    epochs = {row.first.epochs for row in report.trained if row.kind == "control"}
    np.testing.assert_allclose(x[1:], [100 * (1 - e / EPOCHS) for e in sorted(epochs)[::-1]])


def test_budgets_are_shaded_up_to_their_bounds_and_named(trade):
    corners = sorted((b.get_x() + b.get_width(), b.get_y() + b.get_height()) for b in trade.patches)
    expected = sorted((100 * b.saved, 100 * b.relative_error) for b in ERROR_BUDGETS)
    np.testing.assert_allclose(corners, expected, atol=1e-9)
    names = [text.get_text() for text in trade.texts if text.get_gid() == "budget"]
    assert "at most +3 %\nfor savings up to 20 %" in names
    assert any(
        name.startswith("at most +0 % (margin 1 %)") and "cubic scaled" in name for name in names
    )


def test_the_front_is_of_what_nothing_beats(report, trade):
    points = [
        trade_points.Point.of(row, look(row, report, LIGHT))
        for row in report.trained
        if row.freezes or row.is_baseline
    ]
    front = trade_points.front(points)
    for point in points:
        beaten = any(o.x >= point.x and o.y <= point.y and o is not point for o in points)
        assert (point in front) != beaten
    (line,) = of_gid(trade, "front")
    np.testing.assert_allclose(line.get_xdata(), [p.x for p in front if p.row.freezes or p.x == 0])
    assert line.get_drawstyle() == "steps-pre"


def test_every_single_seed_is_inside(make):
    trials = [
        trial(make, make.resnet, BLOCKS, spec, seed, error)
        for spec, found in ((BASELINE, (5.0,) * 9), (CUBIC, (5.0,) * 8 + (9.0,)))
        for seed, error in enumerate(found)
    ]
    report = collect([make.session(), make.curve(make.resnet, BLOCKS), *trials])
    figure, _ = drawn(lambda theme: speedup_error.draw(report, theme))
    low, high = figure.axes[0].get_ylim()
    assert low < 0
    assert high > 80


def test_an_interval_beyond_the_panel_ends_in_an_arrow(make):
    records = study(make, num_blocks=BLOCKS, seeds=2, controls=False, **SLIM)
    figure, _ = drawn(lambda theme: speedup_error.draw(collect([make.session(), *records]), theme))
    axes = figure.axes[0]
    assert of_gid(axes, "arrow")
    edges = {float(line.get_ydata()[0]) for line in of_gid(axes, "arrow")}
    assert edges <= set(axes.get_ylim())


def test_runs_of_one_schedule_share_colour_and_marker_and_differ_in_fill(report):
    rows = [r for r in report.trained if r.freezes and replace(r.spec, pace=1.0) == CUBIC]
    assert {r.kind for r in rows} == {"schedule", "stretched", "published steps"}
    looks = [look(row, report, DARK) for row in rows]
    assert len({(each.colour, each.marker) for each in looks}) == 1
    assert len({each.fill for each in looks}) == len({each.dash for each in looks}) == 3


def test_twenty_schedules_look_different(make):
    many = {replace(CUBIC, t_0=round(0.05 * i, 2)): 0.0 for i in range(20)}
    trials = [trial(make, make.resnet, BLOCKS, spec, 0, 20.0) for spec in many]
    report = collect([make.session(), *trials])
    looks = {(x.colour, x.marker) for row in report.trained for x in [look(row, report, LIGHT)]}
    assert len(looks) == len(specs(report.trained)) == 20


LONG = "package.module:a_rather_long_factory_name_that_is_long_too_and_longer_still"


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("figure_of", [speedup_error, error_course], ids=["trade", "course"])
def test_several_models_of_long_names_are_drawn_in_both_themes(make, theme, figure_of):
    slim = {"seeds": 2, "schedules": {CUBIC: 0.01, LINEAR: 0.0}}
    records = study(make, num_blocks=BLOCKS, **slim)
    records += study(make, make.config(LONG), BLOCKS, told={"label_smoothing": 0.1}, **slim)
    report = collect([make.session(), *records])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure, renderer = drawn(lambda theme: figure_of.draw(report, theme), theme)
    width, height = figure.canvas.get_width_height()
    texts = [axes.title for axes in figure.axes] + [axes._left_title for axes in figure.axes]
    texts += [axes.xaxis.label for axes in figure.axes] + figure.legends[0].get_texts()
    for text in texts:
        box = text.get_window_extent(renderer)
        assert min(box.x0, box.y0) >= 0
        assert (box.x1 <= width, box.y1 <= height) == (True, True), text.get_text()


EDGES = {
    "one seed": ({"seeds": 1}, {"speedup_error", "error_course"}),
    "no curve": ({"curve": False}, {"error_course"}),
    "no control": ({"controls": False}, {"speedup_error", "error_course"}),
    "equal seeds": ({"spread": 0.0}, {"speedup_error", "error_course"}),
    "zero error": ({"level": 0.0}, {"error_course"}),
}


@pytest.mark.parametrize("edge", EDGES)
def test_edge_cases_are_drawn_as_far_as_there_is_something_to_draw(make, edge):
    changes, expected = EDGES[edge]
    report = collect([make.session(), *study(make, num_blocks=BLOCKS, **changes)])
    plates = of_report(report)
    assert set(plates) & {"speedup_error", "error_course"} == expected
    for name in expected:
        drawn(plates[name].draw)


@pytest.mark.parametrize("exclusive", [True, False], ids=["by the wall", "by the curve"])
def test_a_seed_that_diverged_early_is_left_out_of_the_course(make, exclusive):
    curve = make.curve(make.resnet, BLOCKS)
    trials = [
        trial(make, make.resnet, BLOCKS, spec, seed, error, exclusive=exclusive)
        for spec, found in ((BASELINE, (None, 20.0, 22.0)), (CUBIC, (None, 21.0, 23.0)))
        for seed, error in enumerate(found)
    ]
    assert len(trials[0].history) < EPOCHS
    report = collect([make.session(), curve, *trials])
    clock, lines = courses(report.trained)
    assert clock == ("wall" if exclusive else "curve")
    assert [len(line.times) for line in lines] == [EPOCHS, EPOCHS]
    assert [line.errors_percent[-1] for line in lines] == [21.0, 22.0]
    if not exclusive:
        assert lines[0].times[-1] == pytest.approx(1.0)
    drawn(of_report(report)["error_course"].draw)


def test_a_seed_that_was_trained_twice_counts_once_in_the_course(make):
    found = ((0, 20.0), (0, 22.0), (1, 30.0))
    trials = [
        trial(make, make.resnet, BLOCKS, spec, seed, error)
        for spec in (BASELINE, CUBIC)
        for seed, error in found
    ]
    _, lines = courses(collect([make.session(), *trials]).trained)
    assert {line.errors_percent[-1] for line in lines} == {25.5}


def test_wall_clocks_of_two_machines_are_not_put_on_one_axis(make):
    sessions = [make.session(), make.session("s2", threads=1)]
    trials = [
        trial(make, make.resnet, BLOCKS, spec, 0, 20.0, session=session)
        for spec, session in ((BASELINE, "s1"), (CUBIC, "s2"))
    ]
    curve = make.curve(make.resnet, BLOCKS)
    assert courses(collect([*sessions, curve, *trials]).trained)[0] == "curve"
    both = [
        trial(
            make, make.resnet, BLOCKS, BASELINE, 1, 20.0, session="s2", exclusive=True, saved=-0.9
        )
    ]
    clock, lines = courses(collect([*sessions, curve, *trials, *both]).trained)
    assert clock == "wall"
    np.testing.assert_allclose(lines[0].times, np.cumsum([e["wall_s"] for e in both[0].history]))


def test_what_exceeds_its_budget_is_ringed(make):
    slim = {**SLIM, "schedules": {CUBIC: 0.2, LINEAR: -0.05}}
    report = collect([make.session(), *study(make, num_blocks=BLOCKS, **slim)])
    figure, _ = drawn(lambda theme: speedup_error.draw(report, theme))
    (row,) = (r for r in report.trained if r.freezes and r.judgement.verdict == "EXCEEDED")
    expected = [(100 * row.saved.value, 100 * row.relative_increase.value)]
    np.testing.assert_allclose(xy(of_gid(figure.axes[0], "exceeded")), expected)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "EXCEEDED its budget" in legend


def test_the_caption_says_which_budget_counts_and_what_no_bar_means(trade):
    assert "held to the narrowest region of its family" in speedup_error.CAPTION
    assert "No vertical bar: one seed" in speedup_error.CAPTION
    assert not of_gid(trade, "exceeded")


def test_histories_without_errors_make_no_course(make):
    trainings = [make.training(make.resnet, 14, spec, 0, 5.0) for spec in (BASELINE, CUBIC)]
    assert "error_course" not in of_report(collect([make.session(), *trainings]))


def test_a_course_is_the_mean_of_the_seeds_by_the_clock_of_the_exclusive_trial(report):
    clock, lines = courses([row for row in report.trained if row.kind != "control"])
    assert clock == "wall"
    course = next(c for c in lines if c.row.spec == STEEP)
    alone = next(t for t in course.row.trainings if t.exclusive)
    np.testing.assert_allclose(course.times, np.cumsum([e["wall_s"] for e in alone.history]))
    errors = [[e["eval_error"] for e in t.history] for t in course.row.trainings]
    np.testing.assert_allclose(course.errors_percent, np.mean(errors, axis=0))
    assert course.errors_percent[-1] == pytest.approx(course.row.error_percent.value)


def shared(records):
    return [replace(r, exclusive=False) if hasattr(r, "exclusive") else r for r in records]


def test_without_exclusive_trials_the_cost_curve_tells_the_time(make):
    records = shared(study(make, num_blocks=BLOCKS))
    report = collect([make.session(), *records])
    clock, lines = courses(report.trained)
    assert clock == "curve"
    for course in lines:
        assert (np.diff(course.times) > 0).all()
        # A whole run takes what it does not save, by the same curve.
        assert course.times[-1] == pytest.approx(1 - course.row.saved.value, abs=2e-3)
    early = next(c for c in lines if c.row.spec == CUBIC and c.row.kind == "schedule")
    assert early.times[0] == pytest.approx(1 / EPOCHS)  # nothing is frozen yet
    assert "by the cost curve" in error_course.caption(report)


def test_with_neither_only_epochs_are_known(make):
    records = shared(study(make, num_blocks=BLOCKS, curve=False, **SLIM))
    report = collect([make.session(), *records])
    clock, lines = courses(report.trained)
    assert clock == "epochs"
    assert lines[0].times == tuple(range(1, EPOCHS + 1))
    figure, _ = drawn(lambda theme: error_course.draw(report, theme))
    assert figure.axes[0].get_xlabel() == "epochs (no time known)"


def test_a_curve_without_noise_has_the_medians_of_the_curve(make):
    curve = make.curve(make.resnet, BLOCKS)
    found = measured_saving(without_noise(curve), CUBIC, STEPS * EPOCHS)
    assert found.value == pytest.approx(measured_saving(curve, CUBIC, STEPS * EPOCHS).value)


def test_the_right_panel_holds_the_end_of_every_run(report):
    figure, _ = drawn(lambda theme: error_course.draw(report, theme))
    right = figure.axes[1]
    (left, end), (low, high) = right.get_xlim(), right.get_ylim()
    for line in of_gid(right, "end"):
        (x,), (y,) = line.get_data()
        assert left <= x <= end
        assert low <= y <= high
