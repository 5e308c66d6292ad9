"""What one training step at level 0 has to do: FLOPs and bytes of every operation, by phase and block.

The step is taken with real autograd on the meta device (on the model's own tensors where it cannot run there), so it is
counted without being computed. Forward operations belong to the block whose parameters were first used last; backward
ones to the block whose part of the backward pass it is, as in the stage ledger.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from freezeout.blocks import Block, Blocks
from freezeout.perf.counter import BackwardCounter, Counter, ForwardCounter, Operations
from freezeout.perf.operations import Operation, Width
from freezeout.perf.records import PHASES
from freezeout.perf.workload import main_output, sgd
from freezeout.trace import Sample, Where, first_that_works, stand_in

MakeOptimizer = Callable[[list[dict[str, Any]]], Optimizer]
"""Makes an optimizer from parameter groups."""


def count_work(
    model: nn.Module,
    blocks: Blocks,
    sample: Sample,
    *,
    dtype: str = "fp32",
    optimizer: MakeOptimizer = sgd,
) -> dict[str, Operations]:
    """Count the operations of one training step of `model` on `sample`, none of its blocks frozen.

    The loss is the sum of the main output. A call of `scaled_dot_product_attention` counts as one operation forward and
    one backward, as a fused kernel makes of it, with the FLOPs of its products. The optimizer's step is the second one,
    when its state is there.

    Autocast does not work on the meta device, so with bf16 and fp16 every float of the forward and backward pass is
    taken to be 2 bytes wide. That autocast computes some of them in fp32 all the same, and what its casts move, is left
    out.

    Args:
        model: the model that `blocks` was made from; it is left as it was.
        blocks: from `freezeout.partition`.
        sample: one input; the work is of this batch.
        dtype: fp32, tf32, bf16 or fp16.
        optimizer: makes the optimizer from the parameter group of a block.

    Returns:
        For each phase of `PHASES`, by block: [FLOPs, bytes read and written] of every operation.

    Raises:
        ValueError: no parameter went into the main output.
    """
    forward, backward, trained = first_that_works(
        model, lambda where: _counted(model, blocks, sample, where, dtype)
    )
    step = [_optimizer_step(block, trained, optimizer) for block in blocks]
    return dict(zip(PHASES, (forward, backward, step), strict=True))


def _counted(
    model: nn.Module, blocks: Blocks, sample: Sample, where: Where, dtype: str
) -> tuple[Operations, Operations, set[str]]:
    """Operations of the forward and of the backward pass, and the names of parameters that got a gradient."""
    with stand_in(model, where, lambda _: True) as subject:
        blocks = _standing_in(blocks, subject.parameters)
        width = _width(dtype)
        forward = ForwardCounter(blocks, width)
        with torch.inference_mode(False), torch.enable_grad():
            with forward, _fused_attention(forward):
                loss = main_output(subject.call(sample)).sum()
            backward = BackwardCounter(loss, blocks, width, forward.attention)
            with backward:
                loss.backward()  # type: ignore[no-untyped-call]
        trained = {name for name, p in subject.parameters.items() if p.grad is not None}
        return forward.found, backward.found, trained


def _standing_in(blocks: Blocks, parameters: Mapping[str, nn.Parameter]) -> Blocks:
    """The same blocks, of stand-ins for their parameters."""
    return replace(
        blocks,
        blocks=tuple(
            replace(block, parameters=tuple(parameters[name] for name in block.parameter_names))
            for block in blocks
        ),
    )


def _width(dtype: str) -> Width:
    def width(tensor: Tensor) -> int:
        is_halved = dtype in ("bf16", "fp16") and tensor.dtype == torch.float32
        return 2 if is_halved else tensor.element_size()

    return width


@contextmanager
def _fused_attention(counter: ForwardCounter) -> Iterator[None]:
    """Let `counter` see each call of `scaled_dot_product_attention` as a whole; on meta torch takes it to pieces.

    A TorchFunctionMode would not do: torch's own MultiheadAttention hides the call from it.
    """
    attention = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = partial(counter.attend, attention)
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = attention


def _optimizer_step(block: Block, trained: set[str], optimizer: MakeOptimizer) -> list[Operation]:
    """Operations of a step on stand-ins for those parameters of `block` that get a gradient."""
    named = zip(block.parameter_names, block.parameters, strict=True)
    parameters = [
        nn.Parameter(torch.empty_like(p, device="meta")) for name, p in named if name in trained
    ]
    if not parameters:
        return []
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    stepped = optimizer([{"params": parameters}])
    stepped.step()  # makes its state
    counter = Counter(1, Tensor.element_size)
    with counter:
        stepped.step()
    return counter.found[0]
