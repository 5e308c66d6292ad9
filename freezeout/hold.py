"""Keeps the modules of frozen blocks in eval mode, whoever calls `train()` and whatever runs forward."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from freezeout.blocks import Blocks


class Hold:
    """Modules of the first `level` blocks, held in eval mode."""

    def __init__(self, blocks: Blocks, *, keep_dropout: bool = False) -> None:
        """Hold nothing yet.

        Args:
            blocks: of the model.
            keep_dropout: hold only modules with a state of their own, such as running statistics.
        """
        self.blocks = blocks
        self.level = 0
        self._held = tuple(
            tuple(m for m in block.modules if not keep_dropout or _has_state(m)) for block in blocks
        )
        self._reused = {} if keep_dropout else dict(blocks.reused_modules)
        self._staying: dict[nn.Module, _StayInEval] = {}
        self._watched: dict[nn.Module, tuple[_FrozenCalls, Any, Any]] = {}

    @property
    def modules(self) -> set[nn.Module]:
        """Modules that are held now, from their first call to their last."""
        return {module for held in self._held[: self.level] for module in held}

    def set_level(self, level: int) -> None:
        """Hold the modules of the first `level` blocks and no others."""
        for index in range(level, self.level):
            for module in self._held[index]:
                self._let_go(module)
        for index in range(self.level, level):
            for module in self._held[index]:
                self._hold(module)
        self.level = level
        for module, first in self._reused.items():
            self._watch(module) if first < level else self._unwatch(module)

    def enforce(self) -> None:
        """Put held modules back into eval mode, should a flag have been set by hand."""
        for index in range(self.level):
            for module in self._held[index]:
                if module.training:
                    module.training = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take charge of the copies, in a model that is copied or loaded as a whole."""
        vars(self).update(state)
        for staying in self._staying.values():
            staying.in_charge = True
        for calls, *_ in self._watched.values():
            calls.in_charge = True

    def _hold(self, module: nn.Module) -> None:
        # The flag, and not eval(): that of some modules does more, such as merging weights.
        module.training = False
        self._staying[module] = vars(module)["train"] = _StayInEval(module)

    def _let_go(self, module: nn.Module) -> None:
        self._staying.pop(module).let_go()
        # Drops what a module may have cached in eval mode; children that are held stay so.
        module.train(self.blocks.model.training)

    def _watch(self, module: nn.Module) -> None:
        if module not in self._watched:
            calls = _FrozenCalls()
            self._watched[module] = (
                calls,
                module.register_forward_pre_hook(calls.enter, with_kwargs=True),
                module.register_forward_hook(calls.leave, always_call=True),
            )

    def _unwatch(self, module: nn.Module) -> None:
        for hook in self._watched.pop(module, ())[1:]:
            hook.remove()


class _Charge:
    """What a Hold sets on a module. On a copy of the module alone, without its model, it has no say any more."""

    in_charge = True

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "in_charge": False}  # a copied Hold takes charge itself


class _StayInEval(_Charge):
    """Stands for a module's `train`: does all that it does, but leaves the module itself in eval mode.

    A class, and not a closure, so that a model that bears it can be copied and pickled.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.before = vars(module).get("train")

    def __call__(self, *args: Any, **kwargs: Any) -> nn.Module:
        if not self.in_charge:
            self.let_go()
        (self.before or partial(type(self.module).train, self.module))(*args, **kwargs)
        if self.in_charge:
            self.module.training = False
        return self.module

    def let_go(self) -> None:
        self.in_charge = False
        if vars(self.module).get("train") is self:  # and not what a user has put there since
            del vars(self.module)["train"]
            if self.before is not None:
                vars(self.module)["train"] = self.before


class _FrozenCalls(_Charge):
    """Puts a module into eval mode for those of its calls that are handed nothing of an active block."""

    def __init__(self) -> None:
        self.before: list[bool] = []
        """Of the calls under way: more than one if the module calls itself."""

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.before.append(module.training)
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        frozen = not any(tensor.requires_grad for tensor in given)
        if self.in_charge and frozen and torch.is_grad_enabled():
            module.training = False

    def leave(self, module: nn.Module, _args: Any, _output: Any) -> None:
        if self.before:  # else a hook before `enter` has failed
            module.training = self.before.pop()


def _has_state(module: nn.Module) -> bool:
    """Whether a module holds a buffer that may change: tables of constants are of integers or not persistent."""
    return any(
        buffer is not None
        and buffer.is_floating_point()
        and name not in module._non_persistent_buffers_set
        for name, buffer in module._buffers.items()
    )
