"""Ours against the labelled baseline: where each rule stops the backward pass."""

from collections.abc import Iterator, Sequence
from statistics import median

from reports.catalog.group import Group, libraries, together
from reports.catalog.model import POSITIONS, AuditedModel, Truncation
from reports.catalog.words import part, share
from reports.display import NONE, Table
from reports.text import counted, listing

OURS = "ours: blocks in the order of first use"
BASELINE = "baseline: leaf modules as registered"
SOURCE = (
    "The baseline is the rule of Composer's layer freezing (mosaicml/composer, _get_layers in "
    "composer/algorithms/layer_freezing/layer_freezing.py): leaf modules that hold parameters, frozen in the order of "
    "registration; parameters elsewhere are never frozen, nor is the last layer."
)
COST = (
    "A cut that is not exact still freezes: the frozen weights get no gradient and no step. What is lost is the stop: "
    "the backward pass goes on through frozen layers to the earliest active parameter, and what it needs for that "
    "stays in memory."
)


def comparison_table(models: Sequence[AuditedModel]) -> Table:
    """Models whose backward pass ends at the frontier: at every cut, and at each, by library and rule."""
    groups = libraries(models)
    if len(groups) > 1:
        groups.append(together("all", groups))
    rows = [row for group in groups for row in _rows(group)]
    return Table(
        header=("library", "rule", "models", "every cut", *POSITIONS),
        rows=tuple(rows),
        note="Models whose backward pass ends exactly at the frontier, by real autograd. Each rule is cut at the "
        "same shares of its own layers; one leaf module is a smaller step than one block, hence the baseline's high "
        "share at the first cut. Short models have one cut for several columns.",
    )


def _rows(group: Group) -> Iterator[tuple[str, ...]]:
    for rule, found in rules(group):
        held = [sum(each.at(position).ok for each in found) for position in POSITIONS]
        counts = [sum(each.everywhere for each in found), *held]
        cells = [f"{count} ({share(count / len(found))})" if found else NONE for count in counts]
        yield (group.name, rule, str(len(found)), *cells)


def rules(group: Group) -> list[tuple[str, list[Truncation]]]:
    """Both rules with what they did, model by model; the baseline is left out where it was not tried."""
    ours = [model.ours for model in group.models if model.ours]
    baseline = [model.baseline for model in group.models if model.baseline]
    return [(OURS, ours), *([(BASELINE, baseline)] if baseline else [])]


def remarks(models: Sequence[AuditedModel]) -> list[str]:
    """Sentences that go with the table."""
    everything = Group(name="all", models=tuple(models))
    lines = [f"Ours at every cut: {part(everything.ours_holds, everything.ours_tried)}."]
    if absent := sum(model.exists and not model.audited for model in models):
        lines.append(f"Not audited, and so counted for neither rule: {counted(absent, 'model')}.")
    if uncut := [model.name for model in models if model.audited and model.ours is None]:
        lines.append(f"Audited, but without a level to cut at: {listing(uncut)}.")
    if not everything.baseline_tried:
        return [*lines, "The baseline was not tried."]
    told = part(everything.baseline_holds, everything.baseline_tried)
    return [
        *(*lines, f"The baseline at every cut: {told}."),
        *(*_why(models), *_outside(models), *_left(models), COST, SOURCE),
    ]


def _why(models: Sequence[AuditedModel]) -> list[str]:
    """Whether the baseline fails for what it cannot freeze, or by order alone."""
    failed = [model for model in models if model.baseline and not model.baseline.everywhere]
    if not failed:
        return []
    outside = sum(bool(m.row.leaf_rule and m.row.leaf_rule.outside_parameters) for m in failed)
    others = len(failed) - outside
    return [
        f"Of the {counted(len(failed), 'model')} that it does not stop exactly at every cut, "
        f"{outside} ({share(outside / len(failed))}) have parameters that no leaf module holds, such as class "
        "tokens, position tables, layer scales, and norms that have an activation as child (timm's BatchNormAct2d); "
        f"{others} ({share(others / len(failed))}) have none, and fail by the order of their leaf modules alone."
    ]


def _left(models: Sequence[AuditedModel]) -> list[str]:
    """How much of the backward pass remains under either rule, half of its layers frozen."""
    found = [(model.backward_left, model.baseline) for model in models]
    everywhere = [left for left, _ in found if left]
    failed = [left for left, rule in found if left and rule and not rule.everywhere]
    if not everywhere:
        return []
    told = f"{_medians(everywhere)}, median over {counted(len(everywhere), 'model')}"
    if 0 < len(failed) < len(everywhere):
        told += f" ({_medians(failed)} over the {len(failed)} that the baseline does not stop exactly at every cut)"
    return [
        f"Backward nodes (operations, not time) that remain with half of the layers frozen, of those at the first "
        f"cut of our blocks: {told}."
    ]


def _medians(found: Sequence[tuple[float, float]]) -> str:
    ours, baseline = (median(each) for each in zip(*found, strict=True))
    return f"ours {share(ours)}, baseline {share(baseline)}"


def _outside(models: Sequence[AuditedModel]) -> list[str]:
    """How much the baseline never freezes, whatever the level."""
    tried = [model for model in models if model.row.leaf_rule and model.audited]
    shares = {
        model.name: model.row.leaf_rule.outside_parameters / model.row.parameters
        for model in tried
        if model.row.leaf_rule and model.row.leaf_rule.outside_parameters and model.row.parameters
    }
    if not shares:
        return []
    worst = max(shares, key=lambda name: shares[name])
    return [
        f"Parameters that no leaf module holds, and the baseline never freezes: in {part(len(shares), len(tried))}, "
        f"most in {worst} ({share(shares[worst])} of its parameters)."
    ]
