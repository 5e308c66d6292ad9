import io
import itertools

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from reports.catalog import blocks_figure, truncation_figure
from reports.catalog.model import AuditedModel
from reports.catalog.readme import plates
from reports.style import DARK, LIGHT, rendered, settings
from tests.reports.catalog_rows import (
    ROWS,
    make_blocks,
    make_leaf_rule,
    make_row,
    not_audited,
)

MODELS = tuple(map(AuditedModel, ROWS))


def catalog():
    """As many families of as uneven a size as a library has; the baseline stops some in part."""
    rows = [
        make_row(
            f"timm:a_family_of_some_length_{i}_{j}",
            f"a_family_of_some_length_{i}",
            leaf_rule=make_leaf_rule(range(5) if j < i % 3 or i % 7 == 1 else ()),
            blocks=make_blocks([1] * (3 + i)),
        )
        for i in range(60)
        for j in range(1 + 120 // (i + 1))
    ]
    return tuple(map(AuditedModel, rows))


def drawn(draw, theme=LIGHT):
    with mpl.rc_context(settings(theme)):
        figure = draw(theme)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return figure, canvas.get_renderer()


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["truncation", "blocks"])
def test_figures_are_not_blank_and_large_enough_for_print(name, theme):
    png = rendered(plates(MODELS)[name].draw, theme, "png")
    image = mpl.image.imread(io.BytesIO(png))[..., :3]
    height, width, _ = image.shape
    assert (width >= 1400, height >= 500) == (True, True)
    ground = np.abs(image - image[0, -1]).max(axis=-1) > 0.2
    assert 0.03 < ground.mean() < 0.7


def test_bars_are_the_share_of_models_that_each_rule_stops():
    figure, _ = drawn(plates(MODELS)["truncation"].draw)
    ours, baseline = figure.axes[0].containers
    assert [bar.get_height() for bar in ours] == [100.0] * 6
    assert [bar.get_height() for bar in baseline] == [75, 50, 50, 50, 75, 50]
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert all("(n = 4)" in text for text in said[:2])
    assert said[2:] == ["ours by family (line, tint)"]


def test_the_filled_area_of_a_library_is_the_models_that_the_baseline_stops():
    figure, _ = drawn(plates(MODELS)["truncation"].draw)
    assert len(figure.axes) == 2  # of torchvision only one family was audited
    (bars,) = figure.axes[1].containers
    areas = [bar.get_width() * bar.get_height() / 100 for bar in bars]
    assert areas == [1.0, 0.0]
    assert "the baseline stops 1 of 3 exactly, ours 3 of 3" in figure.axes[1].get_title(loc="left")


def test_names_of_families_do_not_overlap_and_are_not_cut_off():
    figure, renderer = drawn(plates(catalog())["truncation"].draw)
    names = figure.axes[1].texts
    assert len(names) > 8
    panel = figure.axes[1].get_window_extent(renderer)
    boxes = [text.get_window_extent(renderer) for text in names]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(panel.y0 <= box.y0 and box.y1 <= panel.y1 for box in boxes)


def test_families_with_all_models_or_none_are_one_column_each():
    figure, _ = drawn(plates(catalog())["truncation"].draw)
    (bars,) = figure.axes[1].containers
    heights = [bar.get_height() for bar in bars]
    assert heights == sorted(heights, reverse=True)
    assert heights.count(0) == 1
    assert heights.count(100) == 1
    none = figure.axes[1].texts[-1].get_text()
    assert none.startswith("17 families\n")
    assert " more" in none


def test_no_bar_touches_the_right_frame():
    figure, _ = drawn(plates(catalog())["blocks"].draw)
    axes = figure.axes[0]
    last = max(bar.get_x() + bar.get_width() for bar in axes.patches if bar.get_height())
    assert last < axes.get_xlim()[1]


def test_histograms_hold_every_audited_model_and_count_what_is_beyond_the_marks():
    rows = [make_row("timm:a", blocks=make_blocks([8, 1, 1])), make_row("torchvision:b", "x/y")]
    found = tuple(map(AuditedModel, [*rows, *ROWS]))
    figure, _ = drawn(lambda theme: blocks_figure.draw(found, theme))
    for axes, said in zip(
        figure.axes, ("1 model with fewer than 4", "1 model above 60 %"), strict=True
    ):
        assert sum(bar.get_height() for bar in axes.patches) == 6
        assert [text.get_text() for text in axes.texts] == [said]


def test_the_mark_of_few_blocks_lies_between_two_bins():
    for most in (5, 60):
        row = AuditedModel(make_row("timm:a", blocks=make_blocks([1] * most)))
        figure, _ = drawn(lambda theme, row=row: blocks_figure.draw([row], theme))
        edges = {round(bar.get_x(), 6) for bar in figure.axes[0].patches}
        assert blocks_figure.FEWEST_BLOCKS - 0.5 in edges


def test_the_text_of_a_mark_stands_above_the_bars():
    figure, renderer = drawn(plates(catalog())["blocks"].draw)
    for axes in figure.axes:
        (text,) = axes.texts
        box = text.get_window_extent(renderer)
        under = [bar for bar in axes.patches if bar.get_window_extent(renderer).overlaps(box)]
        assert under == []
        assert box.x1 <= figure.bbox.x1


def test_nothing_audited_makes_no_figure():
    assert plates([AuditedModel(not_audited("timm:x"))]) == {}


def test_without_the_baseline_there_is_only_the_panel_by_cut():
    models = [AuditedModel(make_row(f"timm:{i}", f"f{i}", leaf_rule=None)) for i in range(3)]
    figure, _ = drawn(lambda theme: truncation_figure.draw(models, theme))
    (axes,) = figure.axes
    assert len(axes.containers) == 1
    assert "family" not in truncation_figure.caption(models)


def test_other_models_have_no_panel_of_families():
    models = [AuditedModel(make_row(f"package.module:net{i}")) for i in range(3)]
    figure, _ = drawn(lambda theme: truncation_figure.draw(models, theme))
    assert len(figure.axes) == 1
