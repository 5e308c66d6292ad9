"""Models taken together: a library, a kind, a family; what of them is proven, and how their blocks are."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

from reports.catalog.model import LIBRARIES, AuditedModel


@dataclass(frozen=True, kw_only=True)
class Group:
    """Some models under one name."""

    name: str
    models: tuple[AuditedModel, ...]

    @property
    def proven(self) -> int:
        """Models of which everything was shown."""
        return sum(model.proven for model in self.models)

    @property
    def block_counts(self) -> list[int]:
        """Number of blocks of every audited model that has some."""
        return [
            len(model.row.blocks) for model in self.models if model.audited and model.row.blocks
        ]

    @property
    def stage_counts(self) -> list[int]:
        """Number of stages of every audited model that has some besides its blocks."""
        return [len(model.stages) for model in self.models if model.audited and model.stages]

    @property
    def flops_shares(self) -> list[float]:
        """Share of the forward FLOPs in the largest block of every audited model where it is known."""
        found = [model.row.largest_flops_share for model in self.models if model.audited]
        return [share for share in found if share is not None]

    @property
    def typical_share(self) -> float | None:
        """Median share of the largest block."""
        return median(self.flops_shares) if self.flops_shares else None

    @property
    def baseline_tried(self) -> int:
        """Models that the baseline was tried on."""
        return sum(model.baseline is not None for model in self.models)

    @property
    def baseline_holds(self) -> int:
        """Models whose backward pass the baseline stops at every cut."""
        return sum(m.baseline.everywhere for m in self.models if m.baseline is not None)

    @property
    def ours_tried(self) -> int:
        """Models whose blocks were cut at some level."""
        return sum(model.ours is not None for model in self.models)

    @property
    def ours_holds(self) -> int:
        """Models whose backward pass ends at the frontier at every cut of their blocks."""
        return sum(m.ours.everywhere for m in self.models if m.ours is not None)


def libraries(models: Iterable[AuditedModel]) -> list[Group]:
    """One group a library that has models, the known ones first; names that no model has are of none."""
    found = [model for model in models if model.exists]
    return sorted(_grouped(found, lambda model: model.library), key=_library_rank)


def families(models: Iterable[AuditedModel]) -> list[Group]:
    """One group a family, by name; models are expected of one library."""
    return _grouped(models, lambda model: model.family)


def kinds(models: Iterable[AuditedModel]) -> list[Group]:
    """One group a kind, the largest first; models are expected of torchvision."""
    return largest_first(_grouped(models, lambda model: model.kind))


def largest_first(groups: Iterable[Group]) -> list[Group]:
    """By number of models, then by name."""
    return sorted(groups, key=lambda group: (-len(group.models), group.name))


def together(name: str, groups: Sequence[Group]) -> Group:
    """All models of some groups under one name."""
    return Group(name=name, models=tuple(model for group in groups for model in group.models))


def _grouped(models: Iterable[AuditedModel], key: Callable[[AuditedModel], str]) -> list[Group]:
    return [
        Group(name=name, models=tuple(members))
        for name, members in groupby(sorted(models, key=key), key=key)
    ]


def _library_rank(group: Group) -> tuple[int, str]:
    known = group.name in LIBRARIES
    return (LIBRARIES.index(group.name) if known else len(LIBRARIES), group.name)
