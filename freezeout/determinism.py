"""Finds what in the frozen part of a model still draws random numbers or changes buffers in train mode."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from freezeout.blocks import Blocks
from freezeout.hold import Hold
from freezeout.trace import Sample, StandIn, Where, first_that_works, stand_in, tensors_in

_SWITCHES = ("train", "training", "dropout_p")
"""Arguments of operations that draw random numbers, or write to what they are handed, only if these are not zero."""


@dataclass(frozen=True, kw_only=True)
class DeterminismReport:
    """What the frozen part of a model did in one forward pass in train mode."""

    model: str
    level: int
    where: Where
    """`meta`: shapes only; `real`: on the model's own tensors."""
    random: tuple[str, ...]
    """Modules that drew random numbers in the frozen part; `the model` for its own forward. Must be empty."""
    changed_buffers: tuple[str, ...]
    """Buffers written to in the frozen part, or of modules of frozen blocks. Must be empty."""

    @property
    def ok(self) -> bool:
        """Whether the frozen part is a function of its input alone and stays as it is."""
        return not self.random and not self.changed_buffers


def check_determinism(
    blocks: Blocks, sample: Sample, level: int, *, keep_dropout: bool = False
) -> DeterminismReport:
    """Run the model forward once in train mode with its first `level` blocks held, and report what they still do.

    Draws by torch alone are seen, not those of `random` or NumPy. The model is left as it was.

    Args:
        blocks: of the model, from `freezeout.partition`.
        sample: one training input, as for `freezeout.partition`.
        level: number of frozen blocks, 0..len(blocks) - 1.
        keep_dropout: as for `freezeout.Freezer`; what is kept is then reported.

    Raises:
        ValueError: `level` is out of range.
    """
    if not 0 <= level < len(blocks):
        raise ValueError(f"`level` must be in 0..{len(blocks) - 1}, got {level}.")
    flags = {module: module.training for module in blocks.model.modules()}
    hold = Hold(blocks, keep_dropout=keep_dropout)
    hold.set_level(level)
    try:
        return first_that_works(
            blocks.model, lambda where: _check(blocks, sample, level, hold, where)
        )
    finally:
        hold.set_level(0)
        for module, flag in flags.items():
            module.training = flag


def _check(
    blocks: Blocks, sample: Sample, level: int, hold: Hold, where: Where
) -> DeterminismReport:
    model = blocks.model
    frozen = {name for block in blocks[:level] for name in block.parameter_names}
    held = hold.modules
    with stand_in(model, where, lambda name: name not in frozen) as subject:
        subject.call(sample)  # what a model sets up in its first forward pass is no change
        watch = _Watch(subject, model, frozen)
        handles = (
            register_module_forward_pre_hook(watch.enter),
            register_module_forward_hook(watch.leave, always_call=True),
        )
        try:
            with watch:  # gradients are on, as in training
                subject.call(sample)
        finally:
            for handle in handles:
                handle.remove()
        watch.note_replaced()
    return DeterminismReport(
        model=type(model).__name__,
        level=level,
        where=where,
        random=watch.in_frozen_part(watch.random, held),
        changed_buffers=watch.in_frozen_part(watch.written, held),
    )


@dataclass(frozen=True)
class _Event:
    when: int
    """Number of frozen parameters that had been used by then."""
    module: nn.Module
    name: str


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes who draws random numbers and which buffers are written to, and when."""

    def __init__(self, subject: StandIn, model: nn.Module, frozen: set[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model
        self.to_come = {id(p) for name, p in subject.parameters.items() if name in frozen}
        self.used = 0
        self.paths = {module: path or "the model" for path, module in model.named_modules()}
        self.buffers: Mapping[str, Tensor] = dict(model.named_buffers())
        # By storage, so that a write through a view is seen.
        self.names = {_storage(buffer): name for name, buffer in self.buffers.items()}
        self.storages = {n: b.untyped_storage() for n, b in self.buffers.items()}
        self.running: list[nn.Module] = []
        self.random: list[_Event] = []
        self.written: list[_Event] = []

    def enter(self, module: nn.Module, _args: Any) -> None:
        self.running.append(module)

    def leave(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        self.running.pop()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for tensor in tensors_in(args, kwargs):
            if id(tensor) in self.to_come:
                self.to_come.remove(id(tensor))
                self.used += 1
        given = _named_arguments(func, args, kwargs or {})
        if _draws(func, given):
            module = self.running[-1] if self.running else self.model
            self.random.append(_Event(self.used, module, self.paths[module]))
        for tensor in _written(func, given):
            self._note_write(self.names.get(_storage(tensor)), self.used)
        return func(*args, **(kwargs or {}))

    def _note_write(self, name: str | None, when: int) -> None:
        if name is not None:
            owner = self.model.get_submodule(name.rpartition(".")[0])
            self.written.append(_Event(when, owner, name))

    def note_replaced(self) -> None:
        """Note buffers, or their data, that the model has bound anew.

        When that was is unknown, so only held modules are blamed for it.
        """
        now = dict(self.model.named_buffers())
        for name, buffer in self.buffers.items():
            if now.get(name) is not buffer or _storage(buffer) != self.storages[name]._cdata:
                self._note_write(name, self.used)

    def in_frozen_part(self, events: Iterable[_Event], held: set[nn.Module]) -> tuple[str, ...]:
        """Names of those that came before the last frozen parameter was first used, or of modules that are held.

        What lies between that and the first active parameter, such as a dropout in the model's own forward, belongs to
        the active block.
        """
        found = [e.name for e in events if e.when < self.used or e.module in held]
        return tuple(dict.fromkeys(found))


def _named_arguments(func: Any, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    arguments = func._schema.arguments
    # An argument that equals its default is not passed on.
    defaults = {a.name: a.default_value for a in arguments if a.has_default_value()}
    given = dict(zip((a.name for a in arguments), args, strict=False))
    return {**defaults, **given, **kwargs}


def _draws(func: Any, given: Mapping[str, Any]) -> bool:
    return torch.Tag.nondeterministic_seeded in func.tags and _is_on(given)


def _is_on(given: Mapping[str, Any]) -> bool:
    return all(given[name] is None or given[name] for name in _SWITCHES if name in given)


def _written(func: Any, given: Mapping[str, Any]) -> list[Tensor]:
    """Tensors that an operation writes to; the schemas of batch norms do not tell (torch 2.15)."""
    if not _is_on(given):
        return []
    names = [a.name for a in func._schema.arguments if a.alias_info and a.alias_info.is_write]
    if "batch_norm" in str(func):
        names += ["running_mean", "running_var"]
    return list(tensors_in((given.get(name) for name in names), None))


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
