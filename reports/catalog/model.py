"""One model of the catalog with what follows from its row."""

from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from freezeout.catalog.records import SHARES, BlockSummary, Cut, ModelRow, level_at

LIBRARIES = ("timm", "torchvision")
OTHER = "other models"
FEWEST_BLOCKS = 4
"""Below that freezing goes in steps that are hardly useful."""
LARGEST_SHARE = 0.6
"""Of the forward FLOPs in one block; above that most of the work is frozen at once or not at all."""
POSITIONS = MappingProxyType(
    dict(zip(("first", "quarter", "half", "three quarters", "last"), SHARES, strict=True))
)
"""Where the tables look, and at which share of the model that is; a short model has one cut for several of them."""
UNKNOWN_NAME = ("unknown model `", "is no model name")
"""What the reason holds where a name that was asked for is no model's."""


@dataclass(frozen=True, kw_only=True)
class Truncation:
    """Every cut that was tried of one model under one rule; there is at least one."""

    cuts: tuple[Cut, ...]
    count: int
    """Of what the rule freezes one after the other: blocks, or leaf modules."""

    @property
    def everywhere(self) -> bool:
        """Whether the backward pass ends at the frontier at every cut."""
        return all(cut.ok for cut in self.cuts)

    @property
    def holding(self) -> int:
        """Number of cuts at which it does."""
        return sum(cut.ok for cut in self.cuts)

    def at(self, position: str) -> Cut:
        """The cut nearest to a position of `POSITIONS`."""
        # The audit cuts exactly there; nearest, if it was asked for other levels.
        level = level_at(POSITIONS[position], self.count)
        return min(self.cuts, key=lambda cut: abs(cut.level - level))

    @property
    def reused_share(self) -> tuple[float, int] | None:
        """Largest share of the backward nodes that pass through later uses of frozen parameters, and its level.

        None where no backward pass has a node.
        """
        shares = [
            (c.nodes_through_reused / c.backward_nodes, -c.level)
            for c in self.cuts
            if c.backward_nodes
        ]
        share, level = max(shares, default=(None, 0))
        return None if share is None else (share, -level)


@dataclass(frozen=True)
class AuditedModel:
    """A row of the catalog as the tables see it."""

    row: ModelRow

    @property
    def name(self) -> str:
        """As for `models.create`."""
        return self.row.name

    @property
    def library(self) -> str:
        """The library that the name begins with, or `OTHER`."""
        prefix, colon, _ = self.name.partition(":")
        return prefix if colon and prefix in LIBRARIES else OTHER

    @property
    def family(self) -> str:
        """Name of its family in its library; its own name where none is known."""
        return self.row.family or self.name

    @property
    def kind(self) -> str:
        """What it is for: the part of a torchvision family before the slash."""
        return self.row.family.partition("/")[0] or OTHER

    @property
    def exists(self) -> bool:
        """Whether the name is a model's, as far as is known."""
        return self.audited or not any(words in self.row.reason for words in UNKNOWN_NAME)

    @property
    def audited(self) -> bool:
        """Whether anything is known of it."""
        return self.row.verdict != "NOT AUDITED"

    @property
    def proven(self) -> bool:
        """Whether everything that was to be shown was shown."""
        return self.row.verdict == "PROVEN"

    @cached_property
    def ours(self) -> Truncation | None:
        """Of its blocks, in the order of first use; None without a cut."""
        if not self.audited or not self.row.cuts:
            return None
        return Truncation(cuts=self.row.cuts, count=len(self.row.blocks))

    @cached_property
    def baseline(self) -> Truncation | None:
        """Of its leaf modules, in the order of registration; None without a cut."""
        rule = self.row.leaf_rule
        if not self.audited or rule is None or not rule.cuts:
            return None
        return Truncation(cuts=rule.cuts, count=rule.layers)

    @property
    def backward_left(self) -> tuple[float, float] | None:
        """Backward nodes at half of our blocks and of the baseline's layers, of those at our first cut.

        None where one of the rules was not tried, or there is no backward pass to compare with.
        """
        if self.ours is None or self.baseline is None:
            return None
        whole = self.ours.at("first").backward_nodes
        ours, baseline = (rule.at("half").backward_nodes for rule in (self.ours, self.baseline))
        return (ours / whole, baseline / whole) if whole else None

    @property
    def largest_block(self) -> BlockSummary | None:
        """The block with most forward FLOPs; None without any."""
        if self.row.largest_flops_share is None:
            return None
        return max(self.row.blocks, key=lambda block: block.forward_flops)

    @property
    def stages(self) -> tuple[str, ...]:
        """Its stages, where these are something else than its blocks."""
        blocks = tuple(block.name for block in self.row.blocks)
        return () if self.row.stages == blocks else self.row.stages

    @property
    def is_coarse(self) -> bool:
        """Whether it has few blocks or one that holds most of the work."""
        share = self.row.largest_flops_share
        few = len(self.row.blocks) < FEWEST_BLOCKS
        return self.audited and (few or (share is not None and share > LARGEST_SHARE))
