"""The groups that a timm model declares (`group_matcher`), with labels a person can read."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any, cast

from torch import nn

from models.construction import import_library
from models.model import Granularity


def timm_groups(module: nn.Module, granularity: Granularity) -> dict[str, str] | None:
    """Label every parameter by its group, or return None for a model that declares none.

    timm numbers its groups; the label is what the group holds: "layer1.0", "blocks.11+norm". The
    first group is "stem" and the one with the classifier "head" where they are no single module.
    Names that nothing in timm's rules matches are in its last group, so all are covered.
    """
    if not hasattr(module, "group_matcher"):
        return None
    try:
        matcher = cast(Any, module).group_matcher(coarse=granularity == "stage")
    except AssertionError:  # RDNet: "coarse grouping is not implemented"
        return None
    group_parameters = import_library("timm").models.group_parameters
    group_of: dict[str, int] = group_parameters(module, matcher, reverse=True)
    if len(set(group_of.values())) < 2:
        return None
    labels = _labels(group_of, _classifier_prefixes(module), granularity)
    return {name: labels[group_of[name]] for name, _ in module.named_parameters()}


def _classifier_prefixes(module: nn.Module) -> tuple[str, ...]:
    config: dict[str, Any] = getattr(module, "default_cfg", {})
    names = config.get("classifier") or ()
    return tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))


def _labels(
    group_of: dict[str, int], classifier: tuple[str, ...], granularity: Granularity
) -> dict[int, str]:
    members: dict[int, list[str]] = defaultdict(list)
    for name, group in group_of.items():
        members[group].append(name)
    owned = _prefixes_owned_by_one_group(group_of)
    labels = {}
    for group, names in members.items():
        pieces = _pieces(names, owned, granularity)
        if len(pieces) > 1 and group == min(members):
            labels[group] = "stem"
        elif len(pieces) > 1 and any(name.startswith(classifier) for name in names):
            labels[group] = "head"
        else:
            labels[group] = _join(pieces)
    return _unique(labels)


def _prefixes_owned_by_one_group(group_of: dict[str, int]) -> set[str]:
    owners: dict[str, set[int]] = defaultdict(set)
    for name, group in group_of.items():
        for prefix in _prefixes(name):
            owners[prefix].add(group)
    return {prefix for prefix, groups in owners.items() if len(groups) == 1}


def _prefixes(name: str) -> Iterator[str]:
    """Yield "a", "a.b", "a.b.weight" for "a.b.weight"."""
    return accumulate(name.split("."), "{}.{}".format)


def _pieces(names: Iterable[str], owned: set[str], granularity: Granularity) -> list[str]:
    """Return the paths a group consists of: the largest modules that are all its own.

    A block keeps the number it has in its stage, even where it is alone there: "layer1.0".
    """
    parts: dict[str, list[str]] = defaultdict(list)
    for name in names:
        largest = next(prefix for prefix in _prefixes(name) if prefix in owned)
        parts[largest].append(name)
    if granularity == "stage":
        return list(parts)
    return [_down_to_number(largest, members) for largest, members in parts.items()]


def _down_to_number(largest: str, names: list[str]) -> str:
    common = _common_path([name.rpartition(".")[0] for name in names]).split(".")
    while len(common) > largest.count(".") + 1 and not common[-1].isdigit():
        common.pop()
    # A parameter of a module that other groups share has no path below `largest`.
    return max(largest, ".".join(common), key=len)


def _common_path(paths: list[str]) -> str:
    columns = zip(*(path.split(".") for path in paths), strict=False)
    common = []
    for column in columns:
        if len(set(column)) > 1:
            break
        common.append(column[0])
    return ".".join(common)


def _join(pieces: list[str]) -> str:
    """Write "stages.1.downsample+blocks.0" for two pieces of one stage."""
    if len(pieces) == 1:
        return pieces[0]
    common = _common_path([piece.rpartition(".")[0] for piece in pieces])
    tails = [piece.removeprefix(f"{common}.") for piece in pieces]
    if len(tails) > 3:
        tails = [f"{tails[0]}..{tails[-1]}"]
    return f"{common}.{'+'.join(tails)}".lstrip(".")


def _unique(labels: dict[int, str]) -> dict[int, str]:
    """Number the repeats of a label: "head", "head (2)"."""
    seen: dict[str, int] = defaultdict(int)
    unique = {}
    for group, label in sorted(labels.items()):
        seen[label] += 1
        unique[group] = label if seen[label] == 1 else f"{label} ({seen[label]})"
    return unique
