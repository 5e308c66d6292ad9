"""Puts a freeze level into effect on a model and its optimizer."""

from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from freezeout.blocks import Blocks, listed
from freezeout.hold import Hold


class Freezer:
    """Freezes the first `level` blocks of a model, and thaws them again if the level falls.

    A frozen parameter does not require a gradient, has none, and has no optimizer state; it stays in its parameter
    group, so that the optimizer's state_dict keeps its shape. The modules of a frozen block are held in eval mode, so
    that its buffers stay as they are and its dropout is off, also after `train()` on the model or any part of it, and
    whatever part of the model is called. A copy of the whole model is held as well; a part of it that is copied or
    saved alone is not, and follows `train()` again. Call `remove()` before you put a part itself into another model.
    """

    def __init__(
        self, blocks: Blocks, optimizer: Optimizer | None = None, *, keep_dropout: bool = False
    ) -> None:
        """Take charge of the blocks' model, at level 0.

        Args:
            blocks: of the model, from `freezeout.partition`.
            optimizer: whose state of frozen parameters is dropped.
            keep_dropout: leave dropout and stochastic depth of frozen blocks on; only modules with a state of their own
                (running statistics, the vectors of a power iteration) are then held in eval mode.

        Raises:
            ValueError: the model has blocks that another Freezer has frozen; they would pass for frozen by the user. Or
                its parameters have been replaced since `blocks` were made, as `fully_shard` does.
        """
        _refuse_frozen(blocks.model)
        _refuse_replaced(blocks)
        self.blocks = blocks
        self.optimizer = optimizer
        self.level = 0
        # Parameters that the user froze before stay as they are at every level.
        self._trainable = tuple(
            tuple(p for p in block.parameters if p.requires_grad) for block in blocks
        )
        self._hold = Hold(blocks, keep_dropout=keep_dropout)
        self._hook = blocks.model.register_forward_pre_hook(_HoldFrozen(self))

    def set_level(self, level: int) -> None:
        """Freeze the first `level` blocks and no others; setting the same level again changes nothing.

        Raises:
            ValueError: `level` is not in 0..len(blocks) - 1 (the head is never frozen).
        """
        if not 0 <= level < len(self.blocks):
            raise ValueError(f"`level` must be in 0..{len(self.blocks) - 1}, got {level}.")
        for index in range(level, self.level):
            self._thaw(index)
        for index in range(self.level, level):
            self._freeze(index)
        self._hold.set_level(level)
        self.level = level

    def _freeze(self, index: int) -> None:
        for parameter in self._trainable[index]:
            parameter.requires_grad_(False)
            parameter.grad = None
            if self.optimizer is not None:
                self.optimizer.state.pop(parameter, None)

    def _thaw(self, index: int) -> None:
        for parameter in self._trainable[index]:
            parameter.requires_grad_(True)

    def hold(self) -> None:
        """Put modules of frozen blocks whose flag was set by hand back into eval mode; done before each forward pass.

        `train()` needs no such care: they stay in eval mode through it.
        """
        self._hold.enforce()

    def remove(self) -> None:
        """Thaw everything and let go of the model."""
        self.set_level(0)
        self._hook.remove()


class _HoldFrozen:
    """The forward pre-hook; a class so that a model that bears it can be copied and pickled."""

    def __init__(self, freezer: Freezer) -> None:
        self.freezer = freezer
        self.checked_level = 0

    def __call__(self, module: nn.Module, _args: Any) -> None:
        if module.training:
            self.freezer.hold()
        if self.checked_level == self.freezer.level or torch.compiler.is_compiling():
            return
        ddp = DistributedDataParallel._active_ddp_module
        if ddp is not None and torch.is_grad_enabled():
            _refuse_stale(ddp)
            self.checked_level = self.freezer.level


def _refuse_stale(ddp: DistributedDataParallel) -> None:
    """Refuse to run inside a DDP that waits for gradients of frozen parameters: it would leave a step unreduced."""
    from freezeout.distributed import refuse_stale  # late, for only a DDP needs it

    refuse_stale(ddp)


def _refuse_replaced(blocks: Blocks) -> None:
    now = set(blocks.model.parameters())
    missing = [
        name
        for block in blocks
        for name, parameter in zip(block.parameter_names, block.parameters, strict=True)
        if parameter not in now
    ]
    if missing:
        raise ValueError(
            f"{type(blocks.model).__name__} no longer holds the parameters that its blocks do, among them "
            f"{listed(missing, 1)}; after fully_shard take freezeout.distributed.rebound(blocks), else partition again."
        )


def _refuse_frozen(model: nn.Module) -> None:
    for hook in model._forward_pre_hooks.values():
        if isinstance(hook, _HoldFrozen) and hook.freezer.level > 0:
            raise ValueError(
                f"{type(model).__name__} already has {hook.freezer.level} frozen blocks; "
                "call remove() of the Freezer or FreezeOutLR that froze them before making another."
            )
