"""Run a model once, without touching it, and see which parameter each operation is handed.

The run is made on the meta device (shapes without data) with stand-ins for parameters and buffers. Where a model cannot
run there (data-dependent shapes, parameters held outside the module tree), it is made on the model's own tensors, and
what a forward pass changes (buffers, training flags, random state, gradients) is put back.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry

from freezeout.shapes import KnownShapes

T = TypeVar("T")
Where = Literal["meta", "real"]
Sample = Tensor | Sequence[Any] | Mapping[str, Any]
"""One input of a model: a tensor, a sequence of positional arguments or a mapping of keyword arguments."""


def arguments(sample: Sample) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments that `sample` stands for."""
    if isinstance(sample, Mapping):
        return (), dict(sample)
    if isinstance(sample, (tuple, list)):
        return tuple(sample), {}
    return (sample,), {}


@dataclass(frozen=True)
class StandIn:
    """A callable form of a model whose parameters may be looked at and given gradients freely."""

    call: Callable[[Sample], Any]
    parameters: Mapping[str, nn.Parameter]
    where: Where


@contextmanager
def stand_in(
    model: nn.Module, where: Where, requires_grad: Callable[[str], bool] = lambda _: False
) -> Iterator[StandIn]:
    """Yield `model` in train mode, on the meta device or on its own tensors; nothing in it is changed afterwards."""
    kept = _on_meta(model) if where == "meta" else _tensors_kept(model)
    attributes, flags = _attributes_kept(model), _flags_kept(model)
    shapes: Any = KnownShapes() if where == "meta" else nullcontext()  # type: ignore[no-untyped-call]
    with attributes, flags, torch.random.fork_rng(_cuda_devices(model)), kept, shapes:
        model.train()
        _keep_to_this_process(model)
        parameters = dict(model.named_parameters())
        for name, parameter in parameters.items():
            parameter.requires_grad_(requires_grad(name))

        def call(sample: Sample) -> Any:
            args, kwargs = arguments(sample)
            if where == "meta":
                args, kwargs = tree_map(_to_meta, (args, kwargs))
            else:
                args, kwargs = tree_map(_detached, (args, kwargs))
            return model(*args, **kwargs)

        yield StandIn(call, parameters, where)


def _keep_to_this_process(model: nn.Module) -> None:
    """Have synchronized norms ask no other process: it may not be tracing, and they refuse meta tensors."""
    for module in model.modules():
        if isinstance(module, nn.SyncBatchNorm):
            module.training = False


@contextmanager
def _on_meta(model: nn.Module) -> Iterator[None]:
    """Swap every parameter and buffer for one on the meta device.

    `torch.func.functional_call` would do but for modules that sit in the tree twice: it leaves its stand-ins behind in
    those (torch 2.15).
    """
    swapped: dict[Tensor, Tensor] = {}
    before = [(m, dict(m._parameters), dict(m._buffers)) for m in model.modules()]

    def swap(tensor: Tensor | None) -> Any:
        if tensor is None:
            return None
        if tensor not in swapped:
            copy = torch.empty_like(tensor, device="meta")
            swapped[tensor] = (
                nn.Parameter(copy, False) if isinstance(tensor, nn.Parameter) else copy
            )
        return swapped[tensor]

    try:
        for module, parameters, buffers in before:
            module._parameters.update({name: swap(p) for name, p in parameters.items()})
            module._buffers.update({name: swap(b) for name, b in buffers.items()})
        yield
    finally:
        for module, parameters, buffers in before:
            module._parameters.update(parameters)
            module._buffers.update(buffers)


def _to_meta(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return torch.empty_like(value, device="meta").requires_grad_(value.requires_grad)


def _detached(value: Any) -> Any:
    """The same values, but whoever takes gradients leaves none on the caller's tensor."""
    if not isinstance(value, Tensor):
        return value
    return value.detach().requires_grad_(value.requires_grad)


def _cuda_devices(model: nn.Module) -> list[int]:
    return sorted({p.get_device() for p in model.parameters() if p.is_cuda})


@contextmanager
def _attributes_kept(model: nn.Module) -> Iterator[None]:
    """Put back what a forward pass binds on modules, such as a cache, which holds no data if it ran on meta."""
    namespaces = [vars(module) for module in model.modules()]
    containers = [v for names in namespaces for v in names.values() if type(v) in (dict, list)]
    before = [(each, each.copy()) for each in (*namespaces, *containers)]
    try:
        yield
    finally:
        for each, copy in before:
            each.clear()
            each.extend(copy) if isinstance(each, list) else each.update(copy)


@contextmanager
def _flags_kept(model: nn.Module) -> Iterator[None]:
    training = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, flag in training.items():
            module.training = flag


@contextmanager
def _tensors_kept(model: nn.Module) -> Iterator[None]:
    tensors = [(each, each.detach().clone()) for each in (*model.buffers(), *model.parameters())]
    gradients = [(p, p.grad, p.requires_grad) for p in model.parameters()]
    for parameter, _, _ in gradients:
        parameter.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, before in tensors:
                tensor.copy_(before)
        for parameter, grad, flag in gradients:
            parameter.grad = grad
            parameter.requires_grad_(flag)


def first_that_works(model: nn.Module, attempt: Callable[[Where], T]) -> T:
    """Result of `attempt` on the meta device or, where the model cannot run there, on its own tensors."""
    try:
        return attempt("meta")
    except Exception:
        # Any error can mean "not on meta"; what is wrong with the model itself shows again below.
        if any(p.is_meta for p in model.parameters()):
            raise
        return attempt("real")


@dataclass(frozen=True, kw_only=True)
class Product:
    """One operation that multiplies: a convolution, a matrix product, an attention."""

    after: int
    """Number of parameters that had been used for the first time by then, its own included."""
    flops: int
    rows: int
    """Pixels or tokens, over the whole batch, that its weights are applied to; 0 for a product of no weights."""


@dataclass(kw_only=True)
class ParameterUse:
    """Order and extent of parameter use in one forward pass, in train mode."""

    where: Where
    first_use: list[str] = field(default_factory=list)
    """Names of parameters in the order in which they are first used."""
    last_use: dict[str, int] = field(default_factory=dict)
    """For each used parameter, how many parameters had been used for the first time by its last use.

    What is made of parameters and buffers alone, such as a view or a table of positions, is used in their place.
    """
    module_exit: dict[nn.Module, int] = field(default_factory=dict)
    """For each called module, how many parameters had been used for the first time when it last returned.

    For one that is never called but whose buffers are used, as by a method of its own: when they last were.
    """
    first_exit: dict[nn.Module, int] = field(default_factory=dict)
    """The same for its first return; called modules only."""
    drawing: set[nn.Module] = field(default_factory=set)
    """Modules that draw random numbers themselves: dropout, stochastic depth."""
    products: list[Product] = field(default_factory=list)
    """Everything that costs FLOPs, in order (torch's count: 2 a multiply-add; norms, activations and pooling none)."""


def tensors_in(args: Iterable[Any], kwargs: Mapping[str, Any] | None) -> Iterator[Tensor]:
    """Tensors among the arguments of an operation, which holds them by themselves or in lists.

    `torch.utils._pytree.tree_leaves` would find them too, and take most of a trace's time for it.
    """
    for value in (*args, *(kwargs or {}).values()):
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (each for each in value if isinstance(each, Tensor))


class _UseRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every parameter that an operation is handed, and every product."""

    def __init__(self, use: ParameterUse, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.use = use
        self.names = {id(parameter): name for name, parameter in model.named_parameters()}
        owned = [(b, m) for m in model.modules() for b in m.buffers(recurse=False)]
        self.owners = {id(buffer): (buffer, module) for buffer, module in owned}
        # By id: names of the parameters that went into what no input went into.
        self.made_of = {id(buffer): frozenset[str]() for buffer, _ in owned}
        self.made_of |= {key: frozenset({name}) for key, name in self.names.items()}
        self.alive: list[Any] = []  # keeps ids from being given out again
        self.buffer_use: dict[nn.Module, int] = {}
        self.running: list[nn.Module] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        tensors = list(tensors_in(args, kwargs))
        for tensor in tensors:
            name = self.names.get(id(tensor))
            if name is not None and name not in self.use.last_use:
                self.use.first_use.append(name)
            for used in self.made_of.get(id(tensor), ()):
                self.use.last_use[used] = len(self.use.first_use)
            if id(tensor) in self.owners:
                self.buffer_use[self.owners[id(tensor)][1]] = len(self.use.first_use)
        if self.running and torch.Tag.nondeterministic_seeded in func.tags:
            self.use.drawing.add(self.running[-1])
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in flop_registry:
            flops = flop_registry[packet](*args, **(kwargs or {}), out_val=out)
            product = Product(after=len(self.use.first_use), flops=flops, rows=_rows(packet, out))
            self.use.products.append(product)
        self.note_made(tensors, out)
        return out

    def note_made(self, tensors: Sequence[Tensor], out: Any) -> None:
        """Note a result of nothing but parameters and buffers, such as a table of positions: its uses are theirs."""
        if all(id(tensor) in self.made_of for tensor in tensors):
            names = frozenset[str]().union(*(self.made_of[id(tensor)] for tensor in tensors))
            self.alive.append(out)
            for tensor in tensors_in((out,), None):
                self.made_of.setdefault(id(tensor), names)

    def note_last_use(self, parameters: Iterable[nn.Parameter]) -> None:
        """Note that these, so far as they have been used, are in use until now."""
        for name in (self.names.get(id(parameter)) for parameter in parameters):
            if name in self.use.last_use:
                self.use.last_use[name] = len(self.use.first_use)


def _rows(packet: Any, output: Any) -> int:
    name = packet.__name__
    if "convolution" in name:
        return int(math.prod((output.shape[0], *output.shape[2:])))
    return int(output.shape[0]) if name in ("mm", "addmm") else 0


def parameter_use(model: nn.Module, sample: Sample) -> ParameterUse:
    """Trace one forward pass of `model` in train mode; the model is left as it was.

    Raises:
        Exception: whatever the model raises when it runs neither on the meta device nor on its own tensors.
    """
    return first_that_works(model, lambda where: _parameter_use(model, sample, where))


def _parameter_use(model: nn.Module, sample: Sample, where: Where) -> ParameterUse:
    use = ParameterUse(where=where)
    with stand_in(model, where) as subject:
        recorder = _UseRecorder(use, model)

        def note_entry(module: nn.Module, _args: Any) -> None:
            recorder.running.append(module)

        def note_exit(module: nn.Module, _args: Any, _output: Any) -> None:
            recorder.running.pop()
            use.module_exit[module] = len(use.first_use)
            use.first_exit.setdefault(module, len(use.first_use))
            if not any(True for _ in module.children()):
                # A layer is handed a tied weight before its own bias: it is done with both when it returns.
                recorder.note_last_use(module.parameters(recurse=False))

        handles = (
            register_module_forward_pre_hook(note_entry),
            # Also where a module raises and the model goes on without it.
            register_module_forward_hook(note_exit, always_call=True),
        )
        try:
            with torch.no_grad(), recorder:
                subject.call(sample)
        finally:
            for handle in handles:
                handle.remove()
    use.module_exit = recorder.buffer_use | use.module_exit
    return use
