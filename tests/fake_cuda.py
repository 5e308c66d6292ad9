"""A CUDA device that is not there, for rehearsing on any machine what else only a GPU would run.

Tensors "on cuda" lie on the CPU and remember on their storage that they are elsewhere; what torch tells of their device
says so, and an operation on tensors of both places fails as it would on a GPU. Values are real, so whole trainings run.
Of a GPU's own ways are there: what makes the host wait (an error where `set_sync_debug_mode` or a capture forbids it),
events that have happened only after a wait, graphs that are captured without being done and done when replayed, and how
much memory is in use. Not there: kernels, their speed, streams side by side, and whatever CUDA's kernels refuse.

torch's FakeTensorMode also has tensors that claim to be on cuda, but neither values nor, without a driver, a backward
pass: autograd's engine asks the driver for the device. `hollow` instead puts the tensors on meta: no values either, but
whole steps of models at their full size, in no time.

As a plugin (`python -m pytest -p tests.fake_cuda`) it makes the device for a whole session.
"""

import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
import torch._dynamo  # torch loads it late, and it must not load while stand-ins are there
from torch import Tensor
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Private names of torch that this file needs, tried with 2.11 and 2.14: TorchDispatchMode as above;
# torch._C.DisableTorchFunction, so that looking at a tensor inside a dispatch is no call to be looked at itself;
# torch._C._nn._parse_to, which reads the many forms of Tensor.to; torch.autograd._engine_run_backward, see
# there; and Optimizer._group_tensors_by_device_and_dtype, which
# groups by device in C++, where no claim is heard.
CUDA = torch.device("cuda", 0)
SYNC_NOTICE = "Synchronization debug mode is a prototype feature"
MIXES = {"copy_", "_to_copy", "_foreach_copy_", "set_", "set_data"}
"""Operations whose tensors may be in different places."""
INDEXES = {"index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_"}
"""Operations on a GPU that take their indices from the host as well."""
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2"}
"""Operations whose result the host, or its next allocation, needs."""


def tensors(value: Any) -> list[Tensor]:
    """Those in arguments or results, which hold them by themselves or in lists; torch's tree_leaves is far slower."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return []
    return [tensor for each in value for tensor in tensors(each)]


def place_of(tensor: Tensor) -> str:
    """`cuda`, `host`, `meta`, or `any` for what torch made itself and nobody knows where."""
    with torch._C.DisableTorchFunction():
        place = getattr(tensor.untyped_storage(), "place", None)
        return place or ("meta" if tensor.is_meta else "host")


@dataclass(kw_only=True)
class Tape:
    """What a graph captured, so that it can be done again."""

    operations: list[tuple[Any, Any, Any, list[Tensor]]] = field(default_factory=list)
    before: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """By storage that was there before: all of it, and its values of then."""
    made: dict[int, Any] = field(default_factory=dict)
    """Storages that the captured operations made."""

    def keep(self, used: list[Tensor]) -> None:
        for tensor in used:
            storage = tensor.untyped_storage()
            if storage._cdata not in self.before and storage._cdata not in self.made:
                whole = torch.empty(0, dtype=torch.uint8).set_(storage)
                self.before[storage._cdata] = whole, whole.clone()

    def add(self, func: Any, args: Any, kwargs: Any, out: list[Tensor]) -> None:
        for tensor in out:
            self.made.setdefault(tensor.untyped_storage()._cdata, tensor.untyped_storage())
        self.operations.append((func, args, kwargs, [tensor.detach() for tensor in out]))

    def undo(self) -> None:
        """Put back what the operations changed: they were only to be captured."""
        with torch.no_grad():
            for whole, values in self.before.values():
                whole.copy_(values)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, out in self.operations:
            used = {each.untyped_storage()._cdata for each in tensors((args, kwargs))}
            for new, old in zip(tensors(func(*args, **kwargs)), out, strict=True):
                if new.untyped_storage()._cdata not in used:  # neither a view nor in place
                    old.copy_(new)


@dataclass(kw_only=True)
class FakeCuda:
    """The device."""

    material: str = "cpu"
    """Where its tensors really are."""
    allocated: int = 0
    peak: int = 0
    waits: int = 0
    """How often the host waited so far."""
    sync_mode: str = "default"
    tape: Tape | None = None
    """Of the capture that is going on."""
    is_told: bool = False
    """Whether the operation that runs was called from Python without a tensor: then its device is what was said."""

    is_leaving: bool = False
    """Whether a tensor is being copied to the host."""

    def wait(self, what: str) -> None:
        """Let the host wait for the device, where it may."""
        if self.tape is not None:
            raise RuntimeError(
                f"CUDA error: {what}: operation not permitted when stream is capturing"
            )
        if self.sync_mode == "error":
            raise RuntimeError(f"called a synchronizing CUDA operation: {what}")
        self.waits += 1

    def put(self, found: Any, place: str = "cuda") -> Any:
        """Note of tensors where they are; returns them."""
        for tensor in tensors(found):
            with torch._C.DisableTorchFunction():
                storage = tensor.untyped_storage()
            if getattr(storage, "place", None) is None:
                storage.place = place
                if place == "cuda":
                    self._allocate(storage)
        return found

    def _allocate(self, storage: Any) -> None:
        size = storage.nbytes()
        self.allocated += size
        self.peak = max(self.peak, self.allocated)
        weakref.finalize(storage, self._free, size).atexit = False

    def _free(self, size: int) -> None:
        self.allocated -= size


class _Places(TorchDispatchMode):
    """Sees every operation, those of the backward pass too: keeps the places apart and hands them on."""

    def __init__(self, device: FakeCuda) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        with torch._C.DisableTorchFunction():
            used = tensors((args, kwargs))
            places = {place_of(each) for each in used if each.numel()}
            self._check(name, args, used, places)
            tape = self.device.tape
            if tape is not None:
                tape.keep(used)
            out = func(*args, **kwargs)
            made = tensors(out)
            self.device.put(made, self._place(used, places, kwargs))
            if tape is not None:
                tape.add(func, args, kwargs, made)
        return out

    def _check(self, name: str, args: Any, used: list[Tensor], places: set[str]) -> None:
        if name in WAITS and "cuda" in places:
            self.device.wait(name)
        if name in ("copy_", "_foreach_copy_") and {"cuda", "host"} <= places:
            is_prompt = len(args) > 2 and args[2]  # non_blocking
            if not (is_prompt and all(_may_fly(each) for each in tensors(args[1]))):
                self.device.wait(name)
        if name in MIXES or not {"cuda", "host"} <= places:
            return
        if name in INDEXES and place_of(args[0]) == "cuda":
            return
        for each in used:
            if place_of(each) == "host" and each.dim() > 0:
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                    f"(in {name}: {[(place_of(t), tuple(t.shape)) for t in used]})"
                )

    def _place(self, used: list[Tensor], places: set[str], kwargs: Any) -> str | None:
        """Where new results are; None for the host or meta, of which nothing need be noted."""
        asked = kwargs.get("device")
        if asked is not None and torch.device(asked).type != self.device.material:
            return None
        if self.device.is_leaving:
            return None
        if "cuda" in places or (not places and any(place_of(each) == "cuda" for each in used)):
            return "cuda"
        if "any" in places and "host" not in places:
            return "any"
        return None if used or self.device.is_told else "any"


def _may_fly(source: Tensor) -> bool:
    """Whether the host can go on while this is copied."""
    return place_of(source) == "cuda" or getattr(source.untyped_storage(), "pinned", False)


class _Names(TorchFunctionMode):
    """Sees every call from Python: what is asked of a device by name, and what is asked about one."""

    def __init__(self, device: FakeCuda) -> None:
        super().__init__()
        self.device = device
        self.own: dict[Any, Callable[..., Any]] = {
            Tensor.device.__get__: self._device,
            Tensor.is_cuda.__get__: lambda t, *_: place_of(t) == "cuda",
            Tensor.is_cpu.__get__: lambda t, *_: place_of(t) in ("host", "any"),
            Tensor.is_meta.__get__: lambda t, *_: place_of(t) == "meta",
            Tensor.get_device: lambda t: 0 if place_of(t) == "cuda" else -1,
            torch._C._nn._parse_to: torch._C._nn._parse_to,  # only reads what nn.Module.to is told
            Tensor.to: self._to,
            Tensor.cuda: lambda t, *_, **options: self._to(t, CUDA, **options),
            Tensor.cpu: lambda t, **options: self._to(t, "cpu", **options),
            Tensor.numpy: self._on_the_host(Tensor.numpy),
            Tensor.__array__: self._on_the_host(Tensor.__array__),
            Tensor.pin_memory: lambda t: _pinned(t.clone()),
            Tensor.is_pinned: lambda t: getattr(t.untyped_storage(), "pinned", False),
            Tensor.__deepcopy__: self._deepcopy,
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in self.own:
            return self.own[func](*args, **kwargs)
        is_pinned = kwargs.pop("pin_memory", False)
        asked = kwargs.get("device")
        is_cuda = asked is not None and torch.device(asked).type == "cuda"
        if is_cuda:
            kwargs["device"] = self.device.material
            if func in (torch.tensor, torch.as_tensor):
                self.device.wait("copy of numbers that the host has")
        before, self.device.is_told = self.device.is_told, not tensors(args)
        try:
            out = func(*args, **kwargs)
        finally:
            self.device.is_told = before
        if is_cuda:
            self._moved(out)
        return _pinned(out) if is_pinned else out

    def _moved(self, out: Tensor) -> Tensor:
        if getattr(out.untyped_storage(), "place", None) == "any":
            out.untyped_storage().place = None
        return self.device.put(out)

    def _device(self, tensor: Tensor, *_: Any) -> torch.device:
        place = place_of(tensor)
        return CUDA if place == "cuda" else torch.device("meta" if place == "meta" else "cpu")

    def _to(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        copy = kwargs.pop("copy", False)
        if args and isinstance(args[0], Tensor):
            args = (self._device(args[0]), args[0].dtype, *args[1:])
        target, dtype, non_blocking, format_ = torch._C._nn._parse_to(*args, **kwargs)
        form = {} if format_ is None else {"memory_format": format_}
        dtype = dtype or tensor.dtype
        here = self._device(tensor)
        if target is None or target.type == here.type:
            return tensor.to(dtype, copy=copy, **form)
        if target.type == "meta":
            return tensor.to(target, dtype, **form)
        if here.type != "meta" and not (non_blocking and _may_fly(tensor)):
            self.device.wait(f"copy from {here.type} to {target.type}")
        if target.type == "cuda":
            return self.device.put(tensor.to(self.device.material, dtype, copy=True, **form))
        self.device.is_leaving = True
        try:
            return tensor.to("cpu", dtype, copy=True, **form)
        finally:
            self.device.is_leaving = False

    def _on_the_host(self, func: Any) -> Any:
        def call(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            if place_of(tensor) == "cuda":
                raise TypeError("can't convert cuda:0 device type tensor to numpy.")
            return func(tensor, *args, **kwargs)

        return call

    def _deepcopy(self, tensor: Tensor, memo: Any) -> Tensor:
        out = Tensor.__deepcopy__(tensor, memo)
        return self.device.put(out) if place_of(tensor) == "cuda" else out


def _pinned(tensor: Tensor) -> Tensor:
    tensor.untyped_storage().pinned = True
    return tensor


class _Generator(torch.Generator):
    """Of the CPU, whatever device it is asked for."""

    def __new__(cls, _device: Any = None) -> "_Generator":
        return super().__new__(cls, "cpu")


class _Stream:
    def __init__(self, device: Any = None, **_: Any) -> None:
        self.device = device

    def wait_stream(self, _other: "_Stream") -> None:
        pass

    def synchronize(self) -> None:
        pass


class _Current(_Stream):
    """The stream that is current."""

    def __init__(self, device: FakeCuda) -> None:
        super().__init__(CUDA)
        self.fake = device

    def is_capturing(self) -> bool:
        return self.fake.tape is not None


class _Cuda:
    """The functions of `torch.cuda` that need a driver."""

    def __init__(self, device: FakeCuda) -> None:
        self.fake = device
        self.streams = [_Stream(CUDA)]
        fake = device

        class Event:
            """Has happened once the host waited after it was recorded."""

            def __init__(self, enable_timing: bool = False, **_: Any) -> None:
                self.is_timing = enable_timing
                self.at_ms: float | None = None

            def record(self, _stream: Any = None) -> None:
                if fake.tape is not None:
                    raise RuntimeError("CUDA error: a timing event was recorded in a capture")
                self.at_ms, self.waits = time.perf_counter() * 1000, fake.waits

            def elapsed_time(self, end: "Event") -> float:
                for event in (self, end):
                    if event.at_ms is None or not event.is_timing:
                        raise ValueError("Both events must be recorded and timing.")
                    if event.waits == fake.waits:
                        raise RuntimeError("Both events must be completed before elapsed time.")
                return end.at_ms - self.at_ms

            def synchronize(self) -> None:
                fake.wait("Event.synchronize")

        class CUDAGraph:
            """Captures operations of torch and does them again."""

            tape: Tape | None = None

            def replay(self) -> None:
                assert self.tape is not None
                self.tape.replay()

            def reset(self) -> None:
                self.tape = None

        self.Event, self.CUDAGraph = Event, CUDAGraph

    @contextmanager
    def graph(self, graph: Any, *, stream: Any = None) -> Iterator[None]:
        self.synchronize()
        assert graph.tape is None, "a graph is captured once"
        with self.stream(stream):
            tape, random = Tape(), torch.get_rng_state()
            self.fake.tape = tape
            try:
                yield
            finally:
                self.fake.tape = None
                tape.undo()
                torch.set_rng_state(random)
        graph.tape = tape

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        self.streams.append(stream)
        try:
            yield
        finally:
            self.streams.pop()

    def current_stream(self, _device: Any = None) -> Any:
        return self.streams[-1]

    def synchronize(self, _device: Any = None) -> None:
        if self.fake.tape is not None:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        self.fake.waits += 1

    def reset_peak_memory_stats(self, _device: Any = None) -> None:
        self.fake.peak = self.fake.allocated

    def set_sync_debug_mode(self, mode: str) -> None:
        warnings.warn(f"{SYNC_NOTICE} and does not yet detect all", UserWarning, stacklevel=2)
        self.fake.sync_mode = mode

    def stand_ins(self) -> dict[str, Any]:
        """By name, of what is replaced."""
        fake = self.fake
        return {
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "_is_in_bad_fork": lambda: False,
            "_lazy_init": lambda: None,
            "init": lambda: None,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "manual_seed_all": lambda _seed: None,  # one generator serves host and device
            "get_rng_state": lambda _device=CUDA: torch.get_rng_state(),
            "set_rng_state": lambda state, _device=CUDA: torch.set_rng_state(state),
            "Event": self.Event,
            "CUDAGraph": self.CUDAGraph,
            "Stream": _Stream,
            "graph": self.graph,
            "stream": self.stream,
            "current_stream": self.current_stream,
            "synchronize": self.synchronize,
            "is_current_stream_capturing": lambda: fake.tape is not None,
            "set_sync_debug_mode": self.set_sync_debug_mode,
            "reset_peak_memory_stats": self.reset_peak_memory_stats,
            "max_memory_allocated": lambda _device=None: fake.peak,
            "memory_stats": lambda _device=None: {"num_device_alloc": 0},
            "memory_allocated": lambda _device=None: fake.allocated,
            "memory_reserved": lambda _device=None: fake.allocated,
            "empty_cache": lambda: None,
            "mem_get_info": lambda _device=None: (2**24, 2**25),
            "get_device_name": lambda _device=None: "fake CUDA device",
            "get_device_capability": lambda _device=None: (9, 0),
            "get_device_properties": lambda _device=None: SimpleNamespace(
                name="fake CUDA device",
                uuid="01234567-89ab-cdef-0123-456789abcdef",
                pci_domain_id=0,
                pci_bus_id=27,
                pci_device_id=0,
                total_memory=2**25,
            ),
        }


@contextmanager
def fake_cuda(*, hollow: bool = False) -> Iterator[FakeCuda]:
    """Let torch have a CUDA device inside."""
    device = FakeCuda(material="meta" if hollow else "cpu")
    names = _Names(device)
    with _stand_ins(device, names), _Places(device), names:
        yield device


@contextmanager
def _stand_ins(device: FakeCuda, names: _Names) -> Iterator[None]:
    autocast, run_backward = torch.autocast, torch.autograd._engine_run_backward
    group = Optimizer._group_tensors_by_device_and_dtype

    def grouped(lists: Any, with_indices: bool = False) -> Any:
        """By the device that tensors claim: in C++ they do not."""
        first = {place_of(each) for each in lists[0]}
        assert len(first) == 1, "an optimizer's group has parameters on host and device"
        found = group(lists, with_indices)
        return {(CUDA, d): v for (_, d), v in found.items()} if first == {"cuda"} else found

    def watched_backward(*args: Any, **kwargs: Any) -> Any:
        """With an eye on its hooks: torch takes the mode of function calls away for the call of backward()."""
        with names:
            return run_backward(*args, **kwargs)

    with ExitStack() as stack:
        for name, value in _Cuda(device).stand_ins().items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        for owner, name, value in (
            # CPU tensors heed the CPU's autocast.
            (torch, "autocast", lambda _type, **options: autocast("cpu", **options)),
            (torch, "Generator", _Generator),
            # What Adam asks, from 2.14 on.
            (torch.accelerator, "current_stream", lambda _device=None: _Current(device)),
            (torch.autograd, "_engine_run_backward", watched_backward),
            (Optimizer, "_group_tensors_by_device_and_dtype", staticmethod(grouped)),
        ):
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """As a plugin: the device is there before anything asks for it, and to the last."""
    stack = ExitStack()
    stack.enter_context(fake_cuda())
    early_config.add_cleanup(stack.close)
