"""FreezeOut on several processes: under DistributedDataParallel and under FSDP2's `fully_shard`.

DDP fixes at its construction which parameters it waits for. Freeze one of them and the next backward pass does not
finish its reduction: without a word that step's gradients differ from rank to rank, and the step after it raises
"Expected to have finished reduction". `RebuildAtFreeze` prevents both. FSDP2 has no such list; but it replaces the
parameters of the model, so that blocks taken before it need `rebound`.
"""

import time
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from freezeout.blocks import Blocks, listed


class RebuildAtFreeze:
    """Keeps a DistributedDataParallel right while its parameters freeze and thaw, whatever does that.

    Before each forward pass it looks whether other parameters require a gradient than at the last one. If so, the
    buckets and hooks by which DDP reduces gradients are built anew in place, with the same settings and communication
    hook. The DDP object stays the same one, so a trainer that made it notices nothing. Building communicates nothing;
    but all ranks must freeze at the same step, as they do by a schedule in steps.
    """

    rebuilds: int
    """How often there were other parameters to reduce."""
    rebuild_s: float
    """Time that took this process altogether, in seconds."""

    def __init__(self, ddp: DistributedDataParallel) -> None:
        """Watch `ddp` until `remove`.

        Args:
            ddp: wrapped as ever; `find_unused_parameters` is not needed for freezing.

        Raises:
            ValueError: `ddp` is no DistributedDataParallel, or one that reduces in a way of its own.
        """
        _refuse(ddp)
        self._parameters = tuple(ddp.module.parameters())
        # Once at the start, too: on a torch whose DDP is made otherwise it fails here, and not hours later at a freeze.
        _rebuild(ddp)
        self._reduced = self._required()
        self.rebuilds = 0
        self.rebuild_s = 0.0
        # The hook is handed the DDP, so this object need not hold it: the two would keep each other, and the hooks of a
        # DDP that was dropped would go on reducing.
        self._hook = ddp.register_forward_pre_hook(self._before_forward)

    @property
    def reduced_bytes(self) -> int:
        """Bytes of gradient that each rank reduces in one synchronised step at the present level."""
        return sum(p.numel() * p.element_size() for p in self._parameters if p.requires_grad)

    def remove(self) -> None:
        """Watch no longer."""
        self._hook.remove()

    def _required(self) -> tuple[bool, ...]:
        return tuple(p.requires_grad for p in self._parameters)

    def _before_forward(self, ddp: nn.Module, _args: Any) -> None:
        required = self._required()
        if required == self._reduced:
            return
        began = time.perf_counter()
        _rebuild(ddp)
        self.rebuild_s += time.perf_counter() - began
        self.rebuilds += 1
        self._reduced = required


def counted_allreduce(
    sizes: list[int],
    bucket: dist.GradBucket,  # type: ignore[name-defined]  # DDP looks at the annotation
) -> Future[torch.Tensor]:
    """The communication hook that averages as DDP does by itself, and notes how much it reduced.

    Register it with `ddp.register_comm_hook(sizes, counted_allreduce)`; for the default process group.

    Args:
        sizes: takes the bytes of every bucket, in the order in which they are reduced.
        bucket: of gradients.
    """
    sizes.append(bucket.buffer().nbytes)
    return allreduce_hook(None, bucket)  # type: ignore[arg-type]  # None: the default group


def rebound(blocks: Blocks) -> Blocks:
    """The same blocks, with the parameters that their model holds now under the same names.

    `fully_shard` replaces every parameter, and a sharded model cannot be traced: partition first, then shard, then call
    this, and build the optimizer from what it returns.

    Raises:
        ValueError: the model no longer has a parameter of some name.
    """
    now = dict(blocks.model.named_parameters())
    missing = [name for block in blocks for name in block.parameter_names if name not in now]
    if missing:
        raise ValueError(
            f"{type(blocks.model).__name__} no longer has {listed(missing)}; partition it as it is now."
        )
    return replace(
        blocks,
        blocks=tuple(
            replace(block, parameters=tuple(now[name] for name in block.parameter_names))
            for block in blocks
        ),
    )


def refuse_stale(ddp: Any) -> None:
    """Refuse a DDP that waits for other gradients than there will be, before it leaves a step unreduced.

    Raises:
        ValueError: parameters of `ddp` froze or thawed after it was wrapped, and nothing has rebuilt it.
    """
    awaited = ddp._get_ddp_logging_data()["num_parameter_tensors"]
    active = sum(
        p.requires_grad and name not in ddp.parameters_to_ignore
        for name, p in ddp.module.named_parameters()
    )
    if awaited != active and not ddp.find_unused_parameters:
        raise ValueError(
            f"DistributedDataParallel waits for the gradients of {awaited} parameters, and {active} are active now: "
            "blocks froze after it was wrapped. Add RebuildAtFreeze(ddp) of freezeout.distributed after wrapping."
        )


def _refuse(ddp: Any) -> None:
    if not isinstance(ddp, DistributedDataParallel):
        raise ValueError(
            f"`ddp` must be a DistributedDataParallel, got {type(ddp).__name__}; "
            "FSDP2 needs no rebuilding."
        )
    if ddp.mixed_precision is not None or ddp._delay_all_reduce_params:
        raise ValueError(
            "a DistributedDataParallel with `mixed_precision` or delayed reductions cannot be rebuilt; "
            "use torch.autocast, or leave them out."
        )


def _rebuild(ddp: Any) -> None:
    """Give `ddp` the reducer that its constructor would make now; all its settings are still on it.

    There is no public way to do so in place. These are the steps of DDP's constructor, and of its unpickling, in torch
    2.11 to 2.15, less the broadcast of parameters, which are equal on all ranks by then.
    """
    ddp.logger = ddp.reducer = None  # lets go of the old buckets before there are new ones
    parameters, sparse = ddp._build_params_for_reducer()
    names = ddp._build_debug_param_to_name_mapping(parameters)
    ddp._ddp_init_helper(parameters, sparse, names, ddp.static_graph)
    ddp._has_rebuilt_buckets = False
    if ddp.static_graph:
        ddp.static_graph = False  # or it would take it for done
        ddp._set_static_graph()
    hooks, ddp._comm_hooks = ddp._comm_hooks, []
    for hook, state in hooks:
        ddp.register_comm_hook(state, hook)
