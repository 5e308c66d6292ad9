"""Puts a freeze level into effect on a model and its optimizer."""

from typing import Any

from torch import nn
from torch.optim import Optimizer

from freezeout.blocks import Blocks


class Freezer:
    """Freezes the first `level` blocks of a model, and thaws them again if the level falls.

    A frozen parameter does not require a gradient, has none, and has no optimizer state; it stays in its parameter
    group, so that the optimizer's state_dict keeps its shape. The modules of a frozen block are held in eval mode, so
    that its running statistics stay as they are and its dropout is off, also after `model.train()`.
    """

    def __init__(
        self, blocks: Blocks, optimizer: Optimizer | None = None, *, keep_dropout: bool = False
    ) -> None:
        """Take charge of the blocks' model, at level 0.

        Args:
            blocks: of the model, from `freezeout.partition`.
            optimizer: whose state of frozen parameters is dropped.
            keep_dropout: leave dropout and stochastic depth of frozen blocks on; only modules with running statistics
                are then held in eval mode.

        Raises:
            ValueError: the model has blocks that another Freezer has frozen; they would pass for frozen by the user.
        """
        _refuse_frozen(blocks.model)
        self.blocks = blocks
        self.optimizer = optimizer
        self.level = 0
        # Parameters that the user froze before stay as they are at every level.
        self._trainable = tuple(
            tuple(p for p in block.parameters if p.requires_grad) for block in blocks
        )
        self._held = tuple(
            tuple(m for m in block.modules if not keep_dropout or _has_running_statistics(m))
            for block in blocks
        )
        # A pre-hook on the model holds against train(), which may be called at any time.
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
        self.level = level

    def _freeze(self, index: int) -> None:
        for parameter in self._trainable[index]:
            parameter.requires_grad_(False)
            parameter.grad = None
            if self.optimizer is not None:
                self.optimizer.state.pop(parameter, None)
        for module in self._held[index]:
            module.training = False

    def _thaw(self, index: int) -> None:
        for parameter in self._trainable[index]:
            parameter.requires_grad_(True)
        for module in self._held[index]:
            module.training = self.blocks.model.training

    def hold(self) -> None:
        """Put the modules of frozen blocks back into eval mode; done by itself before each forward pass."""
        for index in range(self.level):
            for module in self._held[index]:
                module.training = False

    def remove(self) -> None:
        """Thaw everything and let go of the model."""
        self.set_level(0)
        self._hook.remove()


class _HoldFrozen:
    """The forward pre-hook; a class so that a model that bears it can be copied and pickled."""

    def __init__(self, freezer: Freezer) -> None:
        self.freezer = freezer

    def __call__(self, module: nn.Module, _args: Any) -> None:
        if module.training:
            self.freezer.hold()


def _refuse_frozen(model: nn.Module) -> None:
    for hook in model._forward_pre_hooks.values():
        if isinstance(hook, _HoldFrozen) and hook.freezer.level > 0:
            raise ValueError(
                f"{type(model).__name__} already has {hook.freezer.level} frozen blocks; "
                "call remove() of the Freezer or FreezeOutLR that froze them before making another."
            )


def _has_running_statistics(module: nn.Module) -> bool:
    return getattr(module, "running_mean", None) is not None
