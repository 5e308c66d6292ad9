"""One model of the catalog with what follows from its row."""

from dataclasses import dataclass
from functools import cached_property

from freezeout.catalog.records import BlockSummary, ModelRow
from reports.catalog.truncation import Truncation

LIBRARIES = ("timm", "torchvision")
OTHER = "other models"
FEWEST_BLOCKS = 4
"""Below that freezing goes in steps that are hardly useful."""
LARGEST_SHARE = 0.6
"""Of the forward FLOPs in one block; above that most of the work is frozen at once or not at all."""


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
