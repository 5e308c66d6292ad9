import itertools
from dataclasses import replace
from typing import get_args

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from freezeout.perf.comparison import SOURCES
from freezeout.perf.kinds import Kind
from freezeout.perf.prediction_budgets import PREDICTIONS
from freezeout.perf.records import PHASES
from freezeout.schedule import PUBLISHED_PACE
from reports.collection import collect
from reports.figures import (
    block_times,
    kinds,
    of_report,
    of_subject,
    prediction,
    timeline,
)
from reports.style import DARK, LIGHT, MARKER, arms, rendered, settings
from reports.write import plates


def drawn(draw, theme=LIGHT):
    """The figure laid out as it will be saved, with a renderer to measure it."""
    with mpl.rc_context(settings(theme)):
        figure = draw(theme)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return figure, canvas.get_renderer()


def overlaps(texts, renderer):
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    return [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(boxes, 2)
        if a.overlaps(b) and min(a.width, b.width) > 0
    ]


def many_runs(make):
    """Eleven models whose real runs all save about the same."""
    records = [make.session()]
    for i in range(11):
        config = make.config(f"timm:a_rather_long_model_name_{i}.with_a_tag_that_is_long_too")
        records += [make.curve(config, 9 + i % 3), make.run(config, 9 + i % 3)]
    return collect(records)


def test_every_figure_is_written_and_shows_something(written, records):
    names = {plate.name for plate in plates(collect(records))}
    assert len(names) == 8
    for name in names:
        png = (written / "figures" / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG")
        assert len(png) > 20_000
        svg = (written / "figures" / f"{name}.svg").read_text()
        assert svg.count("<path") > 20


def test_pngs_are_large_enough_for_print(written):
    for png in (written / "figures").glob("*.png"):
        header = png.read_bytes()
        assert int.from_bytes(header[16:20], "big") >= 1000
        chunk = header.index(b"pHYs")
        assert int.from_bytes(header[chunk + 4 : chunk + 8], "big") >= 150 / 0.0254 - 1


def test_labels_of_the_scatter_do_not_overlap(make):
    report = many_runs(make)
    figure, renderer = drawn(lambda theme: prediction.draw(report, theme))
    (axes,) = figure.axes
    badges = [text for text in axes.texts if text.get_gid() == "badge"]
    keys = [text for text in axes.texts if text.get_gid() in ("key", "key number")]
    assert (len(badges), len(keys)) == (11, 22)
    legend = axes.get_legend().get_texts()
    assert overlaps([*badges, *keys, *legend], renderer) == []


def test_nothing_of_the_scatter_is_cut_off(make):
    report = many_runs(make)
    figure, renderer = drawn(lambda theme: prediction.draw(report, theme))
    width, height = figure.canvas.get_width_height()
    for text in [*figure.axes[0].texts, *figure.axes[0].get_legend().get_texts()]:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height


def test_the_scatter_holds_what_was_predicted_and_measured(records):
    report = collect(records)
    rows = prediction.groups(report)
    figure, _ = drawn(lambda theme: prediction.draw(report, theme))
    (axes,) = figure.axes
    sources = prediction.predictions([row for _, row in rows])
    assert sources == list(PREDICTIONS)
    for container, source in zip(axes.containers, sources, strict=True):
        shown = [row.sources for _, row in rows if row.sources[source] is not None]
        x, y = container.lines[0].get_xydata().T
        np.testing.assert_allclose(x, [100 * sources["real run"].value for sources in shown])
        np.testing.assert_allclose(y, [100 * sources[source].value for sources in shown])
    assert axes.get_xlim() == axes.get_ylim()


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ([1.0, 5.0], [1.0, 5.0]),
        ([2.0, 2.0], [1.5, 2.5]),
        ([0.0, 0.0, 1.0], [-2 / 3, 1 / 3, 4 / 3]),
    ],
    ids=["apart", "equal", "chain"],
)
def test_spread_moves_positions_only_as_far_as_needed(positions, expected):
    assert prediction.spread(positions, 1.0) == pytest.approx(expected)


def test_measured_predictions_are_filled_and_calculated_ones_hollow(records):
    report = collect(records)
    figure, _ = drawn(lambda theme: prediction.draw(report, theme))
    looks = {
        container.get_label(): container.lines[0].get_markerfacecolor()
        for container in figure.axes[0].containers
    }
    hollow = {name for name, colour in looks.items() if colour == "none"}
    assert hollow == {"calc_speedup", "FLOPs", "roofline"}
    markers = [c.lines[0].get_marker() for c in figure.axes[0].containers]
    assert len(set(markers)) == len(markers) == 5


def complete(make, num_blocks=14):
    """A model with curve, ledger and profile."""
    measured = (make.curve, make.ledger, make.profile)
    report = collect([make.session(), *(kind(make.resnet, num_blocks) for kind in measured)])
    return report.subjects[0]


def test_block_times_hold_every_source_in_lanes_of_their_own(make):
    subject = complete(make)
    figure, _ = drawn(lambda theme: block_times.draw(subject, theme))
    (axes,) = figure.axes
    assert [c.get_label() for c in axes.containers] == list(block_times.SOURCES)
    found = {c.get_label(): c.lines[0].get_xydata() for c in axes.containers}
    expected = [time.ledger.value for time in subject.block_times]
    np.testing.assert_allclose(found["stage ledger"][:, 0], expected)
    assert len(found["difference of totals"]) == 13  # the head never freezes
    assert len({round(float(xy[0, 1]), 6) for xy in found.values()}) == 4
    np.testing.assert_array_equal(np.round(found["profiler"][:, 1]), range(14))


def test_block_times_of_a_curve_alone_show_the_difference_of_totals(make):
    subject = collect([make.session(), make.curve(make.resnet, 14)]).subjects[0]
    assert block_times.shown(subject) == ["difference of totals"]
    assert "stage ledger" not in block_times.caption(subject).lower()


def test_nothing_of_the_block_figures_is_cut_off(make):
    subject = complete(make, 40)
    for plate in of_subject(subject).values():
        figure, renderer = drawn(plate.draw)
        width, height = figure.canvas.get_width_height()
        texts = [label for axes in figure.axes for label in axes.get_yticklabels()]
        legends = [each for each in (*figure.legends, figure.axes[0].get_legend()) if each]
        texts += [text for legend in legends for text in legend.get_texts()]
        assert overlaps([t for t in texts if t.get_visible()], renderer) == []
        for text in texts:
            box = text.get_window_extent(renderer)
            assert min(box.x0, box.y0) >= 0
            assert (box.x1 <= width, box.y1 <= height) == (True, True)


def test_kinds_of_work_stack_up_to_the_time_of_each_block(make):
    subject = complete(make)
    figure, _ = drawn(lambda theme: kinds.draw(subject, theme))
    scales = []
    for axes, phase in zip(figure.axes, PHASES, strict=True):
        ends = np.zeros(14)
        for bar in axes.patches:
            row = round(bar.get_y() + bar.get_height() / 2)
            ends[row] = max(ends[row], bar.get_x() + bar.get_width())
        expected = [sum(block.values()) for block in subject.profile.kind_ms[phase]]
        np.testing.assert_allclose(ends, expected)
        scales.append(axes.get_window_extent().width / np.diff(axes.get_xlim())[0])
    np.testing.assert_allclose(scales, scales[0], rtol=0.02)


def test_minor_kinds_are_drawn_as_other_and_none_is_lost(make):
    kind_ms = {phase: [{"norm": 10.0, "pooling": 0.001}] * 2 for phase in PHASES}
    profile = make.profile(make.resnet, 2, kind_ms=kind_ms)
    shown = kinds.shown(profile)
    assert shown == ["norm", "other"]
    np.testing.assert_allclose(kinds.lengths_ms(profile, "forward", shown), [[10, 10], [0.001] * 2])


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_every_kind_and_every_source_has_a_colour_of_its_own(theme):
    named = [theme.kind(kind) for kind in get_args(Kind)]
    assert len(set(named)) == len(named)
    assert theme.paper not in named
    assert len(set(theme.source.values())) == len(SOURCES)
    assert len({MARKER[source] for source in SOURCES}) == len(SOURCES)


def test_names_of_forty_blocks_do_not_overlap(make):
    report = collect([make.session(), make.curve(make.resnet, 40)])
    figure, renderer = drawn(lambda theme: block_times.draw(report.subjects[0], theme))
    labels = figure.axes[0].get_yticklabels()
    assert len(labels) == 39
    assert overlaps(labels, renderer) == []


def test_the_timeline_follows_the_published_formula(make):
    schedule = make.cubic.schedule(5, 1000)
    share, lr = timeline.factors(schedule, 0).T
    t = 0.8**3
    before = share < 100 * t
    expected = 0.5 / t * (1 + np.cos(np.pi * share[before] / 100 / t))
    np.testing.assert_allclose(lr[before], expected, atol=1e-9)
    assert not lr[~before].any()


def test_the_timeline_has_a_panel_for_every_schedule(records):
    report = collect(records)
    figure, _ = drawn(lambda theme: timeline.draw(report, theme))
    titles = [axes.get_title(loc="left") for axes in figure.axes[:-1]]
    assert titles == [spec.title for spec in timeline.schedules(report)]
    assert "baseline" not in titles


def test_steps_counted_as_published_freeze_later_in_the_timeline(make):
    """Blocks freeze at 1000 / 900 of their times, and those beyond the end of the run not at all."""
    slow = replace(make.cubic, pace=PUBLISHED_PACE)
    runs = [replace(make.run(make.resnet, 5), schedule=spec) for spec in (make.cubic, slow)]
    report = collect([make.session(), make.curve(make.resnet, 5), *runs])
    figure, _ = drawn(lambda theme: timeline.draw(report, theme))
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes[:-1]}
    dots = (panels[spec.title].collections[1] for spec in (make.cubic, slow))
    true, late = (np.asarray(each.get_offsets())[:, 0].tolist() for each in dots)
    reached = [t / 0.9 for t in true if t / 0.9 <= 100]
    assert len(reached) < len(true)
    assert late == pytest.approx(reached)


def test_curves_alone_make_no_scatter(make):
    report = collect([make.session(), make.curve(make.resnet, 14)])
    assert set(of_report(report)) == {"timeline"}


def test_drawing_twice_gives_equal_bytes_and_leaves_settings_alone(records):
    plate = of_report(collect(records))["timeline"]
    before = dict(mpl.rcParams)
    assert rendered(plate.draw, DARK, "svg") == rendered(plate.draw, DARK, "svg")
    assert dict(mpl.rcParams) == before


def test_arms_are_empty_where_there_is_no_interval(make):
    subject = collect([make.session(), make.curve(make.resnet, 14, rounds=1)]).subjects[0]
    assert np.isnan(arms(subject.ratios)).all()
