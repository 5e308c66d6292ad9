"""The optimizer of a run: SGD, in the form that its step needs."""

from typing import Any

import torch
from torch.optim import SGD, Optimizer


def sgd(groups: list[dict[str, Any]], *, fused: bool = False, **settings: Any) -> SGD:
    """SGD over `groups`, with the settings of `torch.optim.SGD`.

    Args:
        groups: parameter groups.
        fused: one kernel a group, which reads learning rates from the device and skips a step whose gradients
            overflowed without asking the host. A captured step and one with scaled gradients need this.
        **settings: lr, momentum, nesterov, weight_decay.
    """
    if not fused:
        return SGD(groups, **settings)
    optimizer = SGD(groups, fused=True, **settings)
    _start_momentum(optimizer)
    optimizer.register_step_pre_hook(_start_momentum)  # for what is thawed
    return optimizer


def _start_momentum(optimizer: Optimizer, *_: Any) -> None:
    """Give each trained parameter without momentum one of zero; its next step is then a first step all the same.

    Fused SGD (torch 2.15) would make it in the first step: uninitialized if that step is skipped for an overflow, and
    anew at every replay if it is captured.
    """
    for group in optimizer.param_groups:
        if group["momentum"] == 0:
            continue
        for parameter in group["params"]:
            if parameter.requires_grad and parameter not in optimizer.state:
                momentum = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                optimizer.state[parameter]["momentum_buffer"] = momentum
