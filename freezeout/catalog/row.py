"""The audit of one model of a catalog: its blocks, the proof at several cuts, and the baseline beside it."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import Tensor, nn

from freezeout.blocks import Block, Blocks, PartitionError, partition
from freezeout.catalog.leaf_rule import leaf_blocks
from freezeout.catalog.records import (
    SHARES,
    BlockSummary,
    Cut,
    LeafRule,
    ModelRow,
    level_at,
)
from freezeout.determinism import check_determinism
from freezeout.proof import AuditReport, audit
from freezeout.runs import FEWEST_BLOCKS, MOST_OF_A_BLOCK
from freezeout.trace import ParameterUse, Sample, parameter_use

CUTS = "first, quarter, half, three quarters, last"
MOST_REAL_BYTES = 2 * 2**30
"""Of parameters: a larger model that cannot run on the meta device is not run at all."""


class Built(Protocol):
    """What `models.create` gives, as far as it matters here."""

    @property
    def module(self) -> nn.Module:
        """Built on the requested device."""
        ...

    def sample(self, batch_size: int = 2, device: Any = "meta") -> Sample:
        """Make one training input."""
        ...


Create = Callable[[str, str], Built]
"""Makes the model of a name on a device, `meta` or `cpu`."""


@dataclass(frozen=True, kw_only=True)
class Audited:
    """A model that was audited, with what the row was made of."""

    row: ModelRow
    module: nn.Module
    sample: Sample
    blocks: Blocks
    reports: tuple[AuditReport, ...]


def levels(count: int) -> list[int]:
    """First, quarter, half, three quarters and last level of `count` blocks that freezes some but not all."""
    return sorted({level_at(share, count) for share in SHARES} - {0})


def model_row(create: Create, name: str, *, family: str = "", baseline: bool = True) -> ModelRow:
    """Audit the model of that name; whatever goes wrong with it is in the row.

    Args:
        create: makes the model.
        name: as for `create`.
        family: kept in the row.
        baseline: whether the leaf rule is audited too.
    """
    start = time.monotonic()
    try:
        row = audited(create, name, family=family, baseline=baseline).row
    except Exception as error:
        row = ModelRow(name=name, family=family, verdict="NOT AUDITED", reason=in_one_line(error))
    return replace(row, seconds=time.monotonic() - start)


def in_one_line(error: Exception) -> str:
    """What an exception says, with its name where that says more."""
    text = " ".join(str(error).split())
    if isinstance(error, ValueError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def audited(create: Create, name: str, *, family: str = "", baseline: bool = True) -> Audited:
    """Audit the model of that name.

    Raises:
        Exception: whatever building or running it raises; what it is told in is not settled.
    """
    module, sample, blocks = _blocks(create, name)
    stages = partition(module, sample, granularity="stage").names
    faults = _faults(module, blocks, parameter_use(module, sample))
    reports = tuple(_audits(module, sample, blocks))
    rule = _leaf_rule(module, sample, blocks) if baseline else None
    cuts = tuple(map(_cut, reports))
    reason = _reason(faults, reports)
    row = ModelRow(
        name=name,
        family=family,
        verdict="NOT PROVEN" if reason else "PROVEN",
        reason=reason,
        notes=(*_notes(blocks, reports), *_not_determined(blocks, sample)),
        sample=described(sample),
        traced_on=blocks.traced_on,
        parameters=sum(p.numel() for p in module.parameters()),
        blocks=tuple(map(_summary, blocks)),
        complete="complete" not in faults,
        in_order="in order" not in faults,
        stages=stages,
        unused=blocks.unused,
        reused=dict(blocks.reused),
        frozen_with=_frozen_with(blocks),
        cuts=cuts,
        leaf_rule=rule,
    )
    return Audited(row=row, module=module, sample=sample, blocks=blocks, reports=reports)


def _blocks(create: Create, name: str) -> tuple[nn.Module, Sample, Blocks]:
    """The model and its blocks on the meta device, or on the CPU where it does not run on the former."""
    built = create(name, "meta")
    sample = built.sample(2, "meta")
    try:
        return built.module, sample, partition(built.module, sample)
    except PartitionError as error:
        size = sum(p.numel() * p.element_size() for p in built.module.parameters())
        if size > MOST_REAL_BYTES:
            raise PartitionError(
                f"{error} On the meta device, that is; its parameters alone take {size / 2**30:.1f} GiB, "
                "too much to run it for real here."
            ) from error
    built = create(name, "cpu")
    sample = built.sample(2, "cpu")
    return built.module, sample, partition(built.module, sample)


def _faults(module: nn.Module, blocks: Blocks, use: ParameterUse) -> dict[str, str]:
    """What is wrong with the blocks by a fresh trace: `complete` or `in order`, and how."""
    names = [name for block in blocks for name in block.parameter_names]
    held = [id(p) for block in blocks for p in block.parameters]
    parameters = dict(module.named_parameters())
    faults = {}
    if sorted(names) != sorted(parameters) or held != [id(parameters[name]) for name in names]:
        faults["complete"] = "the blocks do not hold every parameter exactly once"
    used = [name for name in names if name in use.last_use]
    is_behind = set(blocks[-1].parameter_names) >= parameters.keys() - use.last_use.keys()
    if used != use.first_use or not is_behind:
        faults["in order"] = "the blocks do not follow the order of first use of a second trace"
    return faults


def _audits(module: nn.Module, sample: Sample, blocks: Blocks) -> Iterator[AuditReport]:
    for level in levels(len(blocks)):
        yield audit(module, sample, level, blocks=blocks)


def _leaf_rule(module: nn.Module, sample: Sample, blocks: Blocks) -> LeafRule:
    layers, outside = leaf_blocks(blocks)
    return LeafRule(
        layers=len(layers),
        outside_parameters=outside,
        cuts=tuple(map(_cut, _audits(module, sample, layers))),
    )


def _cut(report: AuditReport) -> Cut:
    return Cut(
        level=report.level,
        frozen_with_gradient=len(report.frozen_with_gradient),
        frozen_behind_frontier=len(report.frozen_behind_frontier),
        backward_nodes_before_frontier=report.backward_nodes_before_frontier,
        saved_tensors_before_frontier=report.saved_tensors_before_frontier,
        backward_nodes=report.backward_nodes,
        nodes_through_reused=report.nodes_through_reused,
    )


def _summary(block: Block) -> BlockSummary:
    return BlockSummary(
        name=block.name, parameters=block.num_parameters, forward_flops=block.forward_flops
    )


def _reason(faults: Mapping[str, str], reports: tuple[AuditReport, ...]) -> str:
    """Why the model is not proven; empty where it is."""
    reasons = [*faults.values()]
    if not reports:
        reasons.append("there is one block, so nothing can be frozen")
    reasons += [
        f"level {each.level} is not free: {_leftovers(each)}" for each in reports if not each.ok
    ]
    return "; ".join(reasons)


def _leftovers(report: AuditReport) -> str:
    found = {
        "frozen parameters with a gradient": len(report.frozen_with_gradient),
        "frozen parameters behind the frontier": len(report.frozen_behind_frontier),
        "backward nodes before it": report.backward_nodes_before_frontier,
        "saved tensors before it": report.saved_tensors_before_frontier,
    }
    return ", ".join(f"{count} {what}" for what, count in found.items() if count)


def _notes(blocks: Blocks, reports: tuple[AuditReport, ...]) -> Iterator[str]:
    flops = [block.forward_flops for block in blocks]
    largest = max(blocks, key=lambda block: block.forward_flops)
    share = largest.forward_flops / sum(flops) if sum(flops) else 0.0
    if len(blocks) < FEWEST_BLOCKS:
        word = "block" if len(blocks) == 1 else "blocks"
        yield f"{len(blocks)} {word}: its modules give no finer cut"
    if share > MOST_OF_A_BLOCK:
        yield f"{largest.name} has {share:.0%} of the forward FLOPs, and no module in it gives a finer cut"
    without = sorted({name for report in reports for name in report.active_without_gradient})
    if without:
        yield f"active, but no output depends on them: {_first(without)}"


def _not_determined(blocks: Blocks, sample: Sample) -> Iterator[str]:
    """What in the frozen half of the model is no function of its input alone, or does not stay as it is."""
    try:
        found = check_determinism(blocks, sample, level=len(blocks) // 2)
    except Exception as error:  # it decides nothing, so it must not cost the audit
        yield f"whether the frozen half still draws or changes anything is unknown: {in_one_line(error)}"
        return
    told = {"still random": found.random, "still changing": found.changed_buffers}
    parts = [f"{what}: {_first(names)}" for what, names in told.items() if names]
    if parts:
        yield f"in the frozen half {'; '.join(parts)}"


def _first(names: Sequence[str]) -> str:
    """The first three of some names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _frozen_with(blocks: Blocks) -> dict[str, str]:
    """The block that each of the parameters which are used again is in."""
    home = {name: block.name for block in blocks for name in block.parameter_names}
    return {name: home[name] for name in blocks.reused}


def described(sample: Any) -> str:
    """A sample in short, such as float32[2, 3, 224, 224] or ([2 x float32[3, 128, 128]], ...)."""
    if isinstance(sample, Tensor):
        shape = ", ".join(map(str, sample.shape))
        return f"{str(sample.dtype).removeprefix('torch.')}[{shape}]"
    if isinstance(sample, Mapping):
        return "{" + ", ".join(f"{key}: {described(each)}" for key, each in sample.items()) + "}"
    if isinstance(sample, (list, tuple)):
        opening, closing = "[]" if isinstance(sample, list) else "()"
        return opening + ", ".join(_in_turn([described(each) for each in sample])) + closing
    return type(sample).__name__


def _in_turn(parts: list[str]) -> Iterator[str]:
    """The parts, equal neighbours told as one."""
    start = 0
    for end in range(1, len(parts) + 1):
        if end == len(parts) or parts[end] != parts[start]:
            yield parts[start] if end - start == 1 else f"{end - start} x {parts[start]}"
            start = end
