"""Ours against the labelled baseline: where each rule stops the backward pass."""

from collections import Counter
from collections.abc import Iterator, Sequence

from freezeout.catalog.records import Cut
from reports.catalog.group import Group, libraries, together
from reports.catalog.model import AuditedModel
from reports.catalog.truncation import POSITIONS, Truncation
from reports.catalog.words import part, share
from reports.display import NONE, Table
from reports.text import counted, listing

OURS = "ours: blocks in the order of first use"
BASELINE = "baseline: leaf modules as registered"
FAILURES = {
    "frozen_behind_frontier": "a frozen parameter is first used behind an active one",
    "frozen_with_gradient": "a frozen parameter gets a gradient",
    "backward_nodes_before_frontier": "backward nodes are left before the frontier",
    "saved_tensors_before_frontier": "tensors are kept before the frontier",
}
"""What a cut can fail by, in words."""


def comparison_table(models: Sequence[AuditedModel]) -> Table:
    """Models whose backward pass ends at the frontier: at every cut, and at each, by library and rule."""
    groups = libraries(models)
    if len(groups) > 1:
        groups.append(together("all", groups))
    rows = [row for group in groups for row in _rows(group)]
    return Table(
        header=("library", "rule", "models", "every cut", *POSITIONS),
        rows=tuple(rows),
        note="Models whose backward pass ends exactly at the frontier, by real autograd. The baseline is the rule of "
        "other tools: leaf modules that hold parameters, frozen in the order of registration, cut at the same "
        "shares. Short models have one cut for several columns.",
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
    if absent := sum(not model.audited for model in models):
        lines.append(f"Not audited, and so counted for neither rule: {counted(absent, 'model')}.")
    if uncut := [model.name for model in models if model.audited and model.ours is None]:
        lines.append(f"Audited, but without a level to cut at: {listing(uncut)}.")
    if not everything.baseline_tried:
        return [*lines, "The baseline was not tried."]
    told = part(everything.baseline_holds, everything.baseline_tried)
    return [*lines, f"The baseline at every cut: {told}.", *_why(models), *_outside(models)]


def _why(models: Sequence[AuditedModel]) -> list[str]:
    cuts = [cut for model in models if model.baseline for cut in model.baseline.cuts]
    failed = [cut for cut in cuts if not cut.ok]
    reasons = Counter(name for cut in failed for name in FAILURES if _fails(cut, name))
    told = "; ".join(
        f"{words} in {reasons[name]}" for name, words in FAILURES.items() if reasons[name]
    )
    return (
        [f"Why it fails, at {len(failed)} of its {counted(len(cuts), 'cut')}: {told}."]
        if failed
        else []
    )


def _fails(cut: Cut, name: str) -> bool:
    return bool(getattr(cut, name))


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
