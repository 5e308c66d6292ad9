"""A model as an ordered, complete, disjoint tuple of named blocks.

The order is the order in which a forward pass first uses the parameters. Freeze any prefix of it and nothing computed
before the first use of the first active parameter can require a gradient, whatever the wiring: the backward pass ends
exactly there. The structure of the model only decides where in that order a block may begin, and what it is called.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

from torch import nn
from torch.nn.parameter import is_lazy

from freezeout.runs import Runs, cut, flops_of, refined_runs, stages_of
from freezeout.structure import Granularity
from freezeout.trace import ParameterUse, Sample, Where, parameter_use


class PartitionError(ValueError):
    """A model that cannot be cut into blocks; names the model and the parameters at fault."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Block:
    """A run of parameters, in order of first use, that freezes at once."""

    index: int
    name: str
    parameter_names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]
    modules: tuple[nn.Module, ...]
    """Modules to hold in eval mode once the block is frozen: those that do all their work before the next block begins.

    One with buffers need only do so when it is first called: a buffer freezes with its first use, as a parameter does.
    """
    forward_flops: int
    """FLOPs of the traced forward pass from the block's first parameter to the next block's, 2 a multiply-add."""

    @property
    def num_parameters(self) -> int:
        """Number of parameter elements."""
        return sum(p.numel() for p in self.parameters)

    def __repr__(self) -> str:
        size = f"{self.num_parameters:,} parameters, {self.forward_flops:,} FLOPs"
        return f"{self.index}: {self.name} ({size})"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Blocks(Sequence[Block]):
    """All blocks of a model; the last one is the head, which is trained to the end."""

    model: nn.Module
    blocks: tuple[Block, ...]
    unused: tuple[str, ...]
    """Parameters that the traced forward pass never used; they are in the last block."""
    reused: Mapping[str, str]
    """Parameters used again in a later block than their own, and the name of the last block that uses them."""
    called: frozenset[nn.Module]
    """Modules that the traced forward pass called."""
    reused_modules: Mapping[nn.Module, int]
    """Modules without buffers that draw random numbers, such as a dropout, in several blocks: index of the first."""
    traced_on: Where
    """`meta`, or `real` where the model cannot run on the meta device."""

    @overload
    def __getitem__(self, index: int) -> Block: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Block, ...]: ...
    def __getitem__(self, index: int | slice) -> Block | tuple[Block, ...]:
        return self.blocks[index]

    def __len__(self) -> int:
        return len(self.blocks)

    def __repr__(self) -> str:
        return "\n".join([f"{type(self.model).__name__}, {len(self)} blocks:", *map(repr, self)])

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of every block, in order."""
        return tuple(block.name for block in self.blocks)

    @cached_property
    def _index_of(self) -> dict[nn.Parameter, int]:
        return {p: block.index for block in self.blocks for p in block.parameters}

    def index_of(self, parameter: nn.Parameter) -> int | None:
        """Index of the block that holds `parameter`; None for a parameter of something else."""
        return self._index_of.get(parameter)

    def param_groups(self, **options: Any) -> list[dict[str, Any]]:
        """One optimizer parameter group per block, in order, each with `options` (such as `weight_decay`) added.

        Parameters that do not require a gradient now are left out, and so is a block that has no others.
        """
        groups = [
            {"params": [p for p in block.parameters if p.requires_grad], "block": block.name}
            for block in self.blocks
        ]
        return [{**group, **options} for group in groups if group["params"]]


def partition(
    model: nn.Module,
    sample: Sample,
    *,
    groups: Mapping[str, str] | None = None,
    granularity: Granularity = "block",
) -> Blocks:
    """Cut `model` into blocks by the order in which a forward pass first uses its parameters.

    The forward pass is made once, in train mode, on the meta device (on real tensors where the model cannot run there);
    the model is left as it was.

    Args:
        model: any module.
        sample: one training input of it: a tensor, or a tuple of positional or a mapping of keyword arguments. Two
            images are enough; one may be too few for a batch norm in train mode.
        groups: a label for every parameter name. A block begins where a label is first met in the order of use, and
            bears it. Without it labels are derived from module paths, and a block that holds most of the forward FLOPs,
            or one of fewer than four, is taken apart where it has parts.
        granularity: with no `groups`: `block` for the finest sensible blocks, `stage` for runs of them that work at one
            resolution. A model of fewer than three resolutions, its head counted, has no stages: its blocks are given.

    Raises:
        PartitionError: the model has no parameters, uses none, cannot run, or `groups` does not cover it.
    """
    name = type(model).__name__
    parameters = dict(model.named_parameters())
    if not parameters:
        raise PartitionError(f"{name} has no parameters, so there is nothing to freeze.")
    sharded = [p for p, parameter in parameters.items() if hasattr(parameter, "full_tensor")]
    if sharded:
        raise PartitionError(
            f"{name} is sharded ({listed(sharded, 1)}); partition it before fully_shard, "
            "then take freezeout.distributed.rebound(blocks)."
        )
    lazy = [p for p, parameter in parameters.items() if is_lazy(parameter)]
    if lazy:
        raise PartitionError(
            f"{name} has parameters without a shape yet: {listed(lazy)}; run it once before."
        )
    _check(name, parameters, groups, granularity)
    use = _use(model, name, sample)
    if groups is not None:
        runs = cut(use.first_use, groups)
    else:
        runs = refined_runs(model, use)
        runs = stages_of(runs, use.products) if granularity == "stage" else runs
    unused = tuple(p for p in parameters if p not in use.last_use)
    runs[-1][1].extend(unused)
    return _blocks(model, parameters, runs, unused, use)


def _check(
    name: str,
    parameters: Mapping[str, nn.Parameter],
    groups: Mapping[str, str] | None,
    granularity: Granularity,
) -> None:
    if granularity not in ("block", "stage"):
        raise PartitionError(f"`granularity` must be block or stage, got {granularity!r}.")
    missing = [p for p in parameters if groups is not None and p not in groups]
    if missing:
        raise PartitionError(f"`groups` has no label for {listed(missing)} of {name}.")


def _use(model: nn.Module, name: str, sample: Sample) -> ParameterUse:
    try:
        use = parameter_use(model, sample)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise PartitionError(
            f"{name} cannot run forward in train mode on the sample: {reason[0]}"
        ) from error
    if not use.first_use:
        raise PartitionError(
            f"a forward pass of {name} uses none of its parameters: {listed([*dict(model.named_parameters())])}."
        )
    return use


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first few of `names`, and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _blocks(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    runs: Runs,
    unused: tuple[str, ...],
    use: ParameterUse,
) -> Blocks:
    block_of = {p: index for index, (_, names) in enumerate(runs) for p in names}
    block_at = [0, *(block_of[p] for p in use.first_use)]  # by number of parameters used so far
    home = _module_blocks(model, {parameters[p]: i for p, i in block_of.items()}, use, block_at)
    flops = flops_of(runs, use.products)
    blocks = tuple(
        Block(
            index=index,
            name=label,
            parameter_names=tuple(names),
            parameters=tuple(parameters[p] for p in names),
            modules=tuple(module for module, where in home.items() if where == index),
            forward_flops=flops[index],
        )
        for index, (label, names) in enumerate(runs)
    )
    reused = {
        p: blocks[block_at[last]].name
        for p, last in use.last_use.items()
        if block_at[last] > block_of[p]
    }
    return Blocks(
        model=model,
        blocks=blocks,
        unused=unused,
        reused=reused,
        called=frozenset(use.first_exit),
        reused_modules=_reused_modules(home, use, block_at),
        traced_on=use.where,
    )


def _module_blocks(
    model: nn.Module,
    block_of: Mapping[nn.Parameter, int],
    use: ParameterUse,
    block_at: Sequence[int],
) -> dict[nn.Module, int]:
    """For each module the block with which it is to be held in eval mode."""
    home: dict[nn.Module, int] = {}

    def visit(module: nn.Module) -> int:
        if module not in home:
            found = [visit(child) for child in module.children()]
            own = [block_of[p] for p in module.parameters(recurse=False)]
            if module in use.first_exit and _has_buffers(module):
                found = [block_at[use.first_exit[module]]]
            elif module in use.module_exit:
                found.append(block_at[use.module_exit[module]])
            home[module] = max(found + own, default=-1)  # -1: neither called nor holding anything
        return home[module]

    visit(model)
    return home


def _has_buffers(module: nn.Module) -> bool:
    return any(True for _ in module.buffers(recurse=False))


def _reused_modules(
    home: Mapping[nn.Module, int], use: ParameterUse, block_at: Sequence[int]
) -> dict[nn.Module, int]:
    first = {m: block_at[use.first_exit[m]] for m in home if m in use.drawing}
    return {m: block for m, block in first.items() if block < home[m] and not _has_buffers(m)}
