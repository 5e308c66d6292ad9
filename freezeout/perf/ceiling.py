"""Measures what the device can do at most: multiply large matrices, and copy more than its cache holds."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal

import torch

from freezeout.numerics import numerics
from freezeout.perf.budget import Budget
from freezeout.perf.clock import Clock, clock_for
from freezeout.perf.records import Ceiling

BUDGET_S = 2.0
MATMUL_SIZES = (512, 1024, 2048, 4096, 8192, 16384)
"""Tried from the smallest up for as long as the time budget and the memory allow."""
COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}
"""Beyond the last-level caches of today: at most 0.5 GiB on CPUs, 0.1 GiB on GPUs."""
MIN_REPETITIONS = 5
MAX_REPETITIONS = 50
_PROBES = 2
"""Repetitions by which one size is judged against another."""
_SEARCH_SHARE = 0.25
"""Share of the budget for finding the best size."""
_MATMUL_SHARE = 0.5
"""Share of the budget for that and its repetitions; on a CPU the copy takes its time to make its buffers."""
_CPU_ROOM_BYTES = 2**30
"""What the matrices may take on a CPU."""


def measure_ceiling(
    device: torch.device,
    dtype: Literal["fp32", "tf32", "bf16", "fp16"],
    *,
    session: str,
    budget_s: float = BUDGET_S,
    clock: Clock | None = None,
) -> Ceiling:
    """Measure the matmul and the copy ceiling of `device`.

    Each is repeated at least `MIN_REPETITIONS` times; what warms up is not counted.

    Args:
        device: to measure.
        dtype: number format of the matrices, as `freezeout.numerics` sets it.
        session: id of the session the record belongs to.
        budget_s: seconds that both together should take.
        clock: that times the device; the device's own by default.

    Raises:
        ValueError: `dtype` does not exist on `device`, or the budget is not positive.
    """
    clock = clock or clock_for(device)
    with numerics(dtype, device), torch.no_grad():  # the first entry imports parts of torch
        budget = Budget(budget_s, now=_seconds_of(clock))
        size, product_s = _matmul(device, dtype, clock, budget)
        num_bytes, copy_s = _copy(device, clock, budget)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # large, and nothing that comes will use it again
    return Ceiling(
        session=session,
        device="cuda" if device.type == "cuda" else "cpu",
        dtype=dtype,
        matmul_flops_per_s=[2 * size**3 / each for each in product_s],
        matmul_size=size,
        copy_bytes_per_s=[2 * num_bytes / each for each in copy_s],
        copy_bytes=num_bytes,
    )


def _seconds_of(clock: Clock) -> Callable[[], float]:
    return lambda: clock.host_ms() / 1000


def _matmul(
    device: torch.device, dtype: str, clock: Clock, budget: Budget
) -> tuple[int, list[float]]:
    """The best size and the seconds of every repetition of its product."""
    best_size, best_rate, each_s = 0, 0.0, 0.0
    for size in _sizes(device, dtype):
        expected_s = 8 * each_s * (_PROBES + 1)  # twice the size, and one that warms up
        if best_size and budget.spent_s + expected_s > _SEARCH_SHARE * budget.seconds:
            break
        each_s = min(_seconds(_product(device, dtype, size), clock, _PROBES))
        if size**3 / each_s > best_rate:
            best_size, best_rate = size, size**3 / each_s
    product = _product(device, dtype, best_size)
    return best_size, _repeat(product, clock, budget, _MATMUL_SHARE)


def _sizes(device: torch.device, dtype: str) -> list[int]:
    on_gpu = device.type == "cuda"
    room = torch.cuda.mem_get_info(device)[0] // 4 if on_gpu else _CPU_ROOM_BYTES
    width = _number_format(dtype).itemsize
    return [size for size in MATMUL_SIZES if 3 * size**2 * width <= room] or [MATMUL_SIZES[0]]


def _number_format(dtype: str) -> torch.dtype:
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(dtype, torch.float32)


def _product(device: torch.device, dtype: str, size: int) -> Callable[[], object]:
    """A product of two square matrices of random numbers (on zeros a GPU takes less power and clocks higher)."""
    generator = torch.Generator(device).manual_seed(0)
    form: dict[str, Any] = {"device": device, "dtype": _number_format(dtype)}
    left, right = (torch.randn(size, size, generator=generator, **form) for _ in range(2))
    product = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=product)


def _copy(device: torch.device, clock: Clock, budget: Budget) -> tuple[int, list[float]]:
    """Bytes and the seconds of every repetition of their copy."""
    num_bytes = COPY_BYTES[device.type]
    if device.type == "cuda":
        num_bytes = min(num_bytes, torch.cuda.mem_get_info(device)[0] // 8)
    source = torch.ones(num_bytes // 4, device=device)
    target = torch.zeros_like(
        source
    )  # written once, so that no copy is the one that faults its pages in
    return 4 * len(source), _repeat(lambda: target.copy_(source), clock, budget, 1.0)


def _repeat(
    run: Callable[[], object], clock: Clock, budget: Budget, until_share: float
) -> list[float]:
    """Seconds of as many repetitions as fit before this share of the budget is spent."""
    each_s = min(_seconds(run, clock, _PROBES))
    left_s = until_share * budget.seconds - budget.spent_s
    fitting = int(left_s / each_s) - 1  # one more warms up
    return _seconds(run, clock, min(max(fitting, MIN_REPETITIONS), MAX_REPETITIONS))


def _seconds(run: Callable[[], object], clock: Clock, repetitions: int) -> list[float]:
    run()  # not counted: it warms up, and while a GPU is busy with it the host queues the rest
    marks = [clock.mark()]
    for _ in range(repetitions):
        run()
        marks.append(clock.mark())
    clock.synchronize()
    return [clock.elapsed_ms(start, end) / 1000 for start, end in pairwise(marks)]
