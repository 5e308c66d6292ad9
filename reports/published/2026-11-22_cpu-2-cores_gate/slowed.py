"""wrn_16_4 whose block stage2.1 takes 5 % longer in the backward pass if SLOWER is set."""
import os, time
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
    made = models.create("wrn_16_4", input_size=32, num_classes=10)
    module = made.module
    if os.environ.get("SLOWER"):
        block = module.get_submodule(os.environ.get("WHERE","stage2.1"))
        block.register_forward_hook(lambda _m, _i, out: _Wait.apply(out))
    module.input_shape = (3, 32, 32)
    return module
