"""A device whose time passes only where a network of `Costly` layers says so, for tests of everything that measures."""

import random
from dataclasses import dataclass, field

import torch
from torch import nn

from freezeout.perf.records import Config
from freezeout.perf.workload import Subject


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Milliseconds of the kernels of one layer."""

    forward_ms: float
    input_ms: float
    """Of the gradient of its input."""
    weight_ms: float
    """Of the gradient of its weight."""


@dataclass(kw_only=True)
class FakeDevice:
    """Clock and conditions of a device that runs one kernel after the other."""

    drift: float = 0.0
    """Share by which the device gets slower each millisecond."""
    noise: float = 0.0
    """Standard deviation of a kernel's time, as a share."""
    launch_gap_ms: float = 0.0
    """Time that the host needs to launch a kernel: no kernel ends sooner after the one before."""
    mark_ms: float = 0.0
    """Time that one mark takes."""
    hot: tuple[tuple[float, float], ...] = ()
    """Spans of time in which heat makes every kernel take twice as long."""
    now: float = 0.0
    kernels: list[float] = field(default_factory=list)
    """Milliseconds of every kernel so far, without gaps."""
    rng: random.Random = field(default_factory=lambda: random.Random(0))

    def run(self, ms: float) -> None:
        ms *= (1 + self.drift * self.now) * self.rng.gauss(1, self.noise) * (1 + self.is_hot)
        self.kernels.append(ms)
        self.now += max(ms, self.launch_gap_ms)

    @property
    def is_hot(self) -> bool:
        return any(start <= self.now < end for start, end in self.hot)

    # A clock

    def mark(self) -> float:
        self.now += self.mark_ms
        return self.now

    def elapsed_ms(self, start: float, end: float) -> float:
        return end - start

    def synchronize(self) -> None:
        pass

    def host_ms(self) -> float:
        return self.now

    # A watcher of conditions

    def read(self) -> dict[str, object]:
        return {"hot_so_far": sum(start <= self.now for start, _ in self.hot), "hot": self.is_hot}

    def throttled(self, before: dict[str, object], after: dict[str, object]) -> bool:
        return bool(before["hot"] or after["hot"] or before["hot_so_far"] != after["hot_so_far"])


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, device, cost):
        ctx.save_for_backward(x, weight)
        ctx.device, ctx.cost = device, cost
        if x.device.type != "meta":
            device.run(cost.forward_ms)
        return x @ weight.t()

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        real = x.device.type != "meta"
        for_input = for_weight = None
        if ctx.needs_input_grad[0]:
            if real:
                ctx.device.run(ctx.cost.input_ms)
            for_input = grad @ weight
        if ctx.needs_input_grad[1]:
            if real:
                ctx.device.run(ctx.cost.weight_ms)
            for_weight = grad.t() @ x
        return for_input, for_weight, None, None


class Costly(nn.Module):
    """A product with a weight whose kernels take a set time on a fake device."""

    def __init__(self, device, cost, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / inputs)
        self.device, self.cost = device, cost

    def forward(self, x):
        return _Product.apply(x, self.weight, self.device, self.cost)


CONFIG = Config(
    model="fake",
    input_shape=(3, 2, 2),
    num_classes=12,
    batch_size=2,
    dtype="fp32",
    memory_format="contiguous",
    device="cpu",
)


def subject(device: FakeDevice, costs: list[Cost]) -> Subject:
    """A network of one block for each of `costs`, whose time passes on `device`."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Flatten(), *(Costly(device, cost, 12, 12) for cost in costs))

    return Subject(config=CONFIG, build=build)
