"""torch.compile for a model whose blocks freeze: whole or block by block, counted, and never eager in silence.

Every freeze changes what a compiled model was specialized to, so it is compiled again. torch gives up after
`torch._dynamo.config.recompile_limit` compilations of one function and runs it in eager mode from then on, with a
warning at most. Here the limit is set to what the freeze levels need, and reaching it all the same is an error.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from torch import nn
from torch._dynamo import callback, config
from torch._dynamo.exc import FailOnRecompileLimitHit
from torch._dynamo.utils import counters

from freezeout.blocks import Block, Blocks

_MODES = 2
"""Train and eval mode are compiled apart."""
_STATES = 3
"""Of a block: active behind an active one, active behind a frozen one, frozen."""


class RecompileLimitError(ValueError):
    """A limit of torch.compile was reached: from here on it would run in eager mode, in silence."""


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """What was compiled, and what was not."""

    modules: tuple[str, ...]
    """Paths of the modules that are compiled, each by itself; the path of the whole model is empty."""
    eager: Mapping[str, tuple[str, ...]]
    """Names of the parameters that stay in eager code, by name of their block."""
    recompile_limit: int
    """What torch allows now: compilations of one function, in any compiled code of this process."""


def compile_model(blocks: Blocks, *, inputs: int = 2, **options: Any) -> Compiled:
    """Compile the blocks' model in place, as a whole: most fusion, and a compilation of everything at each level.

    Raises torch's limits where they are too low, for the whole process, and makes it an error to reach them.

    Args:
        blocks: of the model, from `freezeout.partition`.
        inputs: kinds of input that the model sees: batch shapes, dtypes, autocast on and off.
        options: of `torch.compile`: `backend`, `mode`, `dynamic`, `fullgraph`.
    """
    limit = _allow(_MODES * len(blocks) * inputs)
    _compile(blocks.model, type(blocks.model).__name__, options)
    return Compiled(modules=("",), eager={}, recompile_limit=limit)


def compile_blocks(blocks: Blocks, *, inputs: int = 2, **options: Any) -> Compiled:
    """Compile every block's own modules in place: less to compile at a freeze, and alike blocks share what is compiled.

    A block's own modules are the outermost ones that the model calls and that hold parameters of no other block. What
    happens between them stays in eager code, and so do parameters outside of them, scripted modules, and single layers
    of torch's, which have nothing to fuse.
    Raises torch's limits where they are too low, for the whole process, and makes it an error to reach them.

    Args:
        blocks: from `freezeout.partition`.
        inputs: kinds of input that the model sees: batch shapes, dtypes, autocast on and off.
        options: of `torch.compile`: `backend`, `mode`, `dynamic`, `fullgraph`.

    Raises:
        ValueError: no block has a module to compile.
    """
    names = {module: name for name, module in blocks.model.named_modules()}
    own = {module: names[module] for block in blocks for module in _own(block, blocks.called)}
    if not own:
        raise ValueError(
            f"{type(blocks.model).__name__} has no block with a module to compile by itself; use compile_model."
        )
    alike = Counter(_code(module) for module in own)
    limit = _allow(_MODES * _STATES * max(alike.values()) * inputs)
    for module, name in own.items():
        _compile(module, name, options)
    covered = {parameter for module in own for parameter in module.parameters()}
    eager = {block.name: _outside(block, covered) for block in blocks}
    return Compiled(
        modules=tuple(own.values()),
        eager={name: parameters for name, parameters in eager.items() if parameters},
        recompile_limit=limit,
    )


def _code(module: nn.Module) -> object:
    """What torch counts compilations by, as far as it is known."""
    forward: Any = module.forward
    while isinstance(forward, partial):
        forward = forward.func
    return getattr(forward, "__code__", type(module))


def _own(block: Block, called: Set[nn.Module]) -> Iterator[nn.Module]:
    """The outermost modules that compute with this block's parameters alone, in the model's order."""
    mine = set(block.parameters)
    fitting = [m for m in block.modules if m in called and _fits(m, mine)]
    inner = {id(m) for outer in fitting for m in outer.modules() if m is not outer}
    return (module for module in fitting if id(module) not in inner)


def _fits(module: nn.Module, mine: set[nn.Parameter]) -> bool:
    parameters = set(module.parameters())
    return bool(parameters) and parameters <= mine and _can_fuse(module)


def _can_fuse(module: nn.Module) -> bool:
    if isinstance(module, torch.jit.ScriptModule):
        return False
    return any(module.children()) or not _is_single_layer(module)


def _is_single_layer(module: nn.Module) -> bool:
    """Whether it is one of torch's layers, or derived from one."""
    kinds = (kind for kind in type(module).__mro__ if kind is not nn.Module)
    return any(kind.__module__.startswith("torch.nn.modules.") for kind in kinds)


def _outside(block: Block, covered: set[nn.Parameter]) -> tuple[str, ...]:
    pairs = zip(block.parameter_names, block.parameters, strict=True)
    return tuple(name for name, parameter in pairs if parameter not in covered)


def _allow(compilations: int) -> int:
    """Let torch compile one function that often, and fail beyond; returns the limit."""
    config.recompile_limit = max(config.recompile_limit, compilations)
    config.accumulated_recompile_limit = max(
        config.accumulated_recompile_limit, config.recompile_limit
    )
    config.fail_on_recompile_limit_hit = True
    return int(config.recompile_limit)


def _compile(module: nn.Module, name: str, options: Mapping[str, Any]) -> None:
    module.compile(**options)
    # Where nn.Module.compile keeps its result, and what copying and pickling leave out (2.11 to 2.15).
    call = module._compiled_call_impl
    assert call is not None
    module._compiled_call_impl = _Loud(call, name)


class _Loud:
    """A compiled call that says what to set when a limit ends it."""

    def __init__(self, call: Callable[..., Any], name: str) -> None:
        self.call = call
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.call(*args, **kwargs)
        except FailOnRecompileLimitHit as error:
            raise RecompileLimitError(_advice(self.name, str(error.__cause__))) from error


def _advice(name: str, cause: str) -> str:
    limit = "accumulated_recompile_limit"
    limit = limit if limit in cause else "recompile_limit"
    allowed = getattr(config, limit)
    return (
        f"torch.compile has reached its limit of {allowed} compilations in {name}, and would run it in eager mode now. "
        f"Set torch._dynamo.config.{limit} to {2 * allowed} or more, or pass a larger `inputs` to the function that "
        "compiled it, if it sees that many shapes and dtypes; TORCH_LOGS=recompiles tells why it compiles again."
    )


class Freezing(Protocol):
    """Whatever knows the freeze level: a FreezeOutLR or a Freezer."""

    @property
    def level(self) -> int:
        """Number of blocks that are frozen now."""
        ...


@dataclass(frozen=True, kw_only=True)
class Compilation:
    """Once that torch.compile was at work: on a function's forward pass, or later on its backward pass."""

    id: str
    """torch's: number of the function / how often that was compiled before."""
    level: int | None
    """Freeze level at that time, if known."""
    graphs: int
    """What came of it: 0 for a backward pass, and for a function in which there is nothing to compile."""
    seconds: float


class Compilations:
    """Counts what torch.compile compiles in this process while open as a context, and how long that takes.

    `print` it for one line, or read `records`. torch reports no more after `torch.compiler.reset()`.
    """

    def __init__(self, freezing: Freezing | None = None) -> None:
        """Take `freezing`, a scheduler or Freezer, to book every compilation under its freeze level."""
        self.freezing = freezing
        self.records: list[Compilation] = []
        """Every time that torch.compile was at work, in order."""
        self.graph_breaks = 0
        """How often a function was cut because a part of it cannot be compiled; known when the context is left."""
        self._began_s = 0.0
        self._graphs_before = 0
        self._breaks_before = 0

    @property
    def count(self) -> int:
        """Number of functions compiled, each as often as it was; its backward pass is not counted again."""
        return len(self._compiled())

    @property
    def recompiled(self) -> int:
        """How many of them had been compiled before, for another level, mode or kind of input."""
        return sum(not record.id.endswith("/0") for record in self._compiled())

    @property
    def seconds(self) -> float:
        """Time spent in torch.compile, backward passes included."""
        return sum(record.seconds for record in self.records)

    def at_level(self, level: int) -> tuple[int, float]:
        """Number of compilations begun at a freeze level, and the seconds spent compiling at it."""
        count = sum(record.level == level for record in self._compiled())
        return count, sum(record.seconds for record in self.records if record.level == level)

    def _compiled(self) -> list[Compilation]:
        return [record for record in self.records if record.graphs]

    def __enter__(self) -> Self:
        self._breaks_before = _graph_breaks()
        callback.on_compile_start(self._begin)
        callback.on_compile_end(self._end)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.graph_breaks = _graph_breaks() - self._breaks_before
        handler = callback.callback_handler
        if self._begin in handler.start_callbacks:  # torch.compiler.reset() drops them
            handler.remove_start_callback(self._begin)
            handler.remove_end_callback(self._end)

    def _begin(self, _: callback.CallbackArgs) -> None:
        self._graphs_before = counters["stats"]["unique_graphs"]
        self._began_s = time.perf_counter()

    def _end(self, args: callback.CallbackArgs) -> None:
        self.records.append(
            Compilation(
                id=args.compile_id,
                level=None if self.freezing is None else self.freezing.level,
                graphs=counters["stats"]["unique_graphs"] - self._graphs_before,
                seconds=time.perf_counter() - self._began_s,
            )
        )

    def __str__(self) -> str:
        return (
            f"{self.count} compilations ({self.recompiled} of them again) in {self.seconds:.1f} s, "
            f"{self.graph_breaks} graph breaks"
        )


def _graph_breaks() -> int:
    return sum(counters["graph_break"].values())
