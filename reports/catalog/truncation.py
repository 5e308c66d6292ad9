"""At which cuts one rule of freezing stops the backward pass of one model."""

from dataclasses import dataclass
from types import MappingProxyType

from freezeout.catalog.records import Cut

POSITIONS = MappingProxyType(
    {"first": 0.0, "quarter": 0.25, "half": 0.5, "three quarters": 0.75, "last": 1.0}
)
"""Where the tables look, and at which share of the model that is; a short model has one cut for several of them."""


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
        # Rounded as by the audit, which cuts exactly there; nearest, if it was asked for other levels.
        level = min(max(round(POSITIONS[position] * self.count), 1), self.count - 1)
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
