"""The order of first use, cut into runs of parameters: where a block begins and ends, and what it is called.

Whatever is cut here, a prefix of the order can be frozen for free; what is decided is how fine the cuts are.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from math import inf

from torch import nn

from freezeout import structure
from freezeout.trace import ParameterUse, Product

MOST_OF_A_BLOCK = 0.6
"""Share of the forward FLOPs above which a block is taken apart down to single layers."""
MUCH_OF_A_BLOCK = 0.25
"""Share above which it is taken apart if its parts hold several layers each, as those of a hidden stack do."""
FEWEST_BLOCKS = 4
"""With fewer than this, blocks are taken apart down to single layers too."""
_FEWEST_STAGES = 3
_LOWER = 1.5
"""By what a resolution must fall to be another one: a class token more or a border less is none."""
_REAL_PART = 0.05
"""Share of a block's FLOPs below which a product says nothing of its resolution, such as a squeeze-and-excitation's."""
Runs = list[tuple[str, list[str]]]
"""Name of each block, and the names of its parameters in the order of use."""


def cut(order: Sequence[str], labels: Mapping[str, str | None]) -> Runs:
    """Cut the order wherever a label turns up for the first time; a label met again opens no second block.

    What comes before the first label belongs to the block of that label.
    """
    runs: Runs = []
    seen: set[str] = set()
    early: list[str] = []
    for parameter in order:
        label = labels[parameter]
        if label is not None and label not in seen:
            runs.append((label, early if not runs else []))
            seen.add(label)
        (runs[-1][1] if runs else early).append(parameter)
    return runs or [(early[0].rpartition(".")[0] or early[0], early)]


def refined_runs(model: nn.Module, use: ParameterUse) -> Runs:
    """Runs by module paths, none of which holds too much if it has parts."""
    labels = structure.labels(model)
    runs = cut(use.first_use, labels)
    while True:
        found = _finer(model, labels, runs, use)
        if found is None:
            return runs
        labels, runs = found


def _finer(
    model: nn.Module, labels: structure.Labels, runs: Runs, use: ParameterUse
) -> tuple[structure.Labels, Runs] | None:
    """Labels and runs with the largest block that holds too much and has parts taken apart."""
    flops = flops_of(runs, use.products)
    largest_first = sorted(range(len(runs)), key=lambda index: -flops[index])
    for index in largest_first:
        is_most = flops[index] > MOST_OF_A_BLOCK * sum(flops) or len(runs) < FEWEST_BLOCKS
        if not is_most and flops[index] <= MUCH_OF_A_BLOCK * sum(flops):
            return None
        finer = _taken_apart(model, labels, runs, index, use.first_use, down_to_layers=is_most)
        if finer is not None:
            return finer
    return None


def _taken_apart(
    model: nn.Module,
    labels: structure.Labels,
    runs: Runs,
    index: int,
    order: Sequence[str],
    *,
    down_to_layers: bool,
) -> tuple[structure.Labels, Runs] | None:
    """Labels and runs with run `index` taken apart; None if it has no parts.

    A module that is all of another is passed by.
    """
    first = runs[index][1][0]
    finer, finer_runs = labels, runs
    while len(finer_runs) <= len(runs):
        # Others of its class may have joined what comes before them, so its index may be another one by now.
        path = next(name for name, parameters in finer_runs if first in parameters)
        if path not in finer.values():  # all of the model, and no module of it begins a block
            return None
        found = structure.finer(model, finer, path, down_to_layers=down_to_layers)
        if found is None:
            return None
        finer, finer_runs = found, cut(order, found)
    return finer, finer_runs


def flops_of(runs: Runs, products: Sequence[Product]) -> list[int]:
    """Forward FLOPs of each run."""
    flops = [0] * len(runs)
    for index, product in _by_run(runs, products):
        flops[index] += product.flops
    return flops


def _by_run(runs: Runs, products: Sequence[Product]) -> Iterator[tuple[int, Product]]:
    """Each product with the index of the run in which it is made; what comes before all is the first's."""
    ends = [*accumulate(len(names) for _, names in runs)]
    for product in products:
        yield bisect_left(ends, max(product.after, 1)), product


def stages_of(runs: Runs, products: Sequence[Product]) -> Runs:
    """The runs joined as long as they work at one resolution, if the model has at least three resolutions.

    A run works at the resolution that it ends at, and a stage begins at a resolution lower than all before: branches
    that go on at a higher one, and what scales up again, stay where they are.
    """
    lowest: float = inf
    stages: list[Runs] = []
    for run, rows in zip(runs, _resolutions(runs, products), strict=True):
        if not stages or (rows and rows * _LOWER < lowest):
            stages.append([])
        lowest = min(lowest, rows or inf)
        stages[-1].append(run)
    if len(stages) < _FEWEST_STAGES:
        return runs
    return [
        (_stage_name(stage, runs), [p for _, names in stage for p in names]) for stage in stages
    ]


def _resolutions(runs: Runs, products: Sequence[Product]) -> list[int]:
    """Pixels or tokens, over the batch, of each run's last product that takes a real part of its FLOPs; 0 for none."""
    flops = flops_of(runs, products)
    rows = [0] * len(runs)
    for index, product in _by_run(runs, products):
        if product.rows and product.flops >= _REAL_PART * flops[index]:
            rows[index] = product.rows
    return rows


def _stage_name(stage: Runs, runs: Runs) -> str:
    """The path that all blocks of the stage and no others share, or the first and the last of them."""
    names = [name for name, _ in stage]
    if len(names) == 1:
        return names[0]
    path = names[0].split(".")
    while path and any(name.split(".")[: len(path)] != path for name in names):
        path.pop()
    others = [name for name, _ in runs if name.split(".")[: len(path)] == path]
    return ".".join(path) if path and len(others) == len(names) else f"{names[0]}..{names[-1]}"
