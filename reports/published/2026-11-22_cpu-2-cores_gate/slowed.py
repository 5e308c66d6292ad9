"""Wide ResNet 16-4 whose block stage2.1 waits SLOWER milliseconds in the backward pass, where that is set."""

import os
import time

import torch

import models


class _Wait(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.device = x.device.type
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        if ctx.device == "cpu":
            until = time.perf_counter() + float(os.environ["SLOWER"]) / 1000
            while time.perf_counter() < until:
                pass
        return grad


def net(**_):
    """The network, at 32 px and 10 classes."""
    module = models.create("wrn_16_4", input_size=32, num_classes=10).module
    if os.environ.get("SLOWER"):
        block = module.get_submodule("stage2.1")
        block.register_forward_hook(lambda _module, _inputs, output: _Wait.apply(output))
    module.input_shape = (3, 32, 32)
    return module
