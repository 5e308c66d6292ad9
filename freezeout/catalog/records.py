"""What an audit of a catalog found: the lines of its file. Plain values, no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["PROVEN", "NOT PROVEN", "NOT AUDITED"]
VERSIONS = ("torch", "timm", "torchvision", "freezeout", "python")
"""Keys of an environment that must be the same in all runs whose rows are told as one."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the blocks that are frozen at the cuts; not all and, where there are two, not none."""


def level_at(share: float, count: int) -> int:
    """The level nearest to a share of `count` blocks that freezes some but not all of them; 0 of one block."""
    return min(max(round(share * count), 1), count - 1)


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What a real backward pass showed with the first `level` blocks frozen; see `freezeout.AuditReport`."""

    level: int
    frozen_with_gradient: int
    """Frozen parameters that got a gradient."""
    frozen_behind_frontier: int
    """Frozen parameters first used after an active one."""
    backward_nodes_before_frontier: int
    """Nodes of the backward pass made before the first active parameter was first used."""
    saved_tensors_before_frontier: int
    """Tensors saved before that point and kept for the backward pass."""
    backward_nodes: int
    """Nodes of the backward pass in all."""
    nodes_through_reused: int = 0
    """Those of operations that are handed a frozen parameter again, behind the frontier."""

    @property
    def ok(self) -> bool:
        """Whether the backward pass ends where the active blocks begin."""
        return not (
            self.frozen_with_gradient
            or self.frozen_behind_frontier
            or self.backward_nodes_before_frontier
            or self.saved_tensors_before_frontier
        )


@dataclass(frozen=True, kw_only=True)
class BlockSummary:
    """One block in numbers."""

    name: str
    parameters: int
    """Parameter elements."""
    forward_flops: int
    """Of the traced sample."""


@dataclass(frozen=True, kw_only=True)
class LeafRule:
    """The baseline: leaf modules frozen in the order of registration, as other tools do."""

    layers: int
    """Leaf modules that hold parameters of their own; one is the smallest thing the rule freezes."""
    outside_parameters: int
    """Parameter elements that no leaf module holds, which the rule never freezes."""
    cuts: tuple[Cut, ...]
    """At the same shares of its layers as the cuts of the blocks."""


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """One model of the catalog."""

    name: str
    """As for `models.create`, such as timm:resnet50."""
    family: str
    """timm: the module that defines it, such as resnet; torchvision: kind and module, such as
    detection/faster_rcnn; empty for others."""
    verdict: Verdict
    reason: str = ""
    """Why it was not proven or not audited; one line."""
    notes: tuple[str, ...] = ()
    """What a reader should know though it decides nothing, such as why there is no finer cut."""
    sample: str = ""
    """The input it was traced with, such as float32[2, 3, 224, 224]."""
    traced_on: str = ""
    """`meta` or `real`."""
    parameters: int = 0
    """Parameter elements."""
    blocks: tuple[BlockSummary, ...] = ()
    """In order of first use."""
    complete: bool = False
    """Whether the blocks hold every parameter exactly once."""
    in_order: bool = False
    """Whether the blocks follow one another in the order of first use."""
    stages: tuple[str, ...] = ()
    """Names of the blocks of granularity `stage`."""
    unused: tuple[str, ...] = ()
    """Parameters that the forward pass never uses."""
    reused: Mapping[str, str] | None = None
    """Parameters used again in a later block, and the last block that uses them."""
    frozen_with: Mapping[str, str] | None = None
    """The block that each of the reused parameters is in, and is frozen with."""
    cuts: tuple[Cut, ...] = ()
    leaf_rule: LeafRule | None = None
    """None where the baseline was not asked for or the model was not audited."""
    seconds: float = 0.0
    """Wall time, building included."""
    peak_bytes: int | None = None
    """Peak resident memory of the process that audited it, so far."""

    @property
    def largest_parameter_share(self) -> float | None:
        """Share of all parameter elements in the block that has most; None without any."""
        return _largest_share([block.parameters for block in self.blocks])

    @property
    def largest_flops_share(self) -> float | None:
        """Share of all forward FLOPs in the block that has most; None without any."""
        return _largest_share([block.forward_flops for block in self.blocks])


def _largest_share(parts: list[int]) -> float | None:
    return max(parts) / sum(parts) if sum(parts) else None


@dataclass(frozen=True, kw_only=True)
class AuditSession:
    """One run of the command that wrote to the file: its first line, and written again when it ends."""

    catalog: str
    """timm, torchvision, or the name of a file."""
    models_glob: str | None
    asked: int
    """Models that the catalog and the pattern name."""
    cuts: str
    """Which levels were cut at, in words."""
    jobs: int
    command: str
    environment: Mapping[str, Any]
    """As `freezeout.perf.environment` describes it."""
    started: str
    """UTC, ISO 8601."""
    wall_s: float | None = None
    """None in the line written at the start."""
    done: int | None = None
    """Models audited by this run."""
