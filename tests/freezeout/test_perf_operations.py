import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from freezeout.perf.operations import operations


class Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.found += operations(func, args, kwargs, out, Tensor.element_size)
        return out


def recorded(call, *tensors):
    with Recorder() as recorder:
        call(*tensors)
    return recorder.found


def meta(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="meta")


X = meta(10, 6)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x: x.t(), []),
        (lambda x: x.view(60)[3:7], []),
        (lambda x: x.unsqueeze_(0).squeeze_(0), []),
        (lambda x: x.detach(), []),
        (lambda x: x.chunk(2), []),
        (lambda x: functional.dropout(x, 0.0), []),
        (lambda x: torch.empty_like(x), []),
        (lambda x: x.new_empty(3), []),
        (lambda x: x.t().contiguous(), [[0, 480]]),
        (lambda x: x + x, [[0, 480]]),
        (lambda x: x + 1, [[0, 480]]),
        (lambda x: x.add_(meta(10, 6)), [[0, 720]]),
        (lambda x: functional.relu(x, inplace=True), [[0, 480]]),
        (lambda x: x.copy_(meta(10, 6)), [[0, 480]]),
        (lambda x: x.copy_(meta(6)), [[0, 264]]),
        (lambda x: x.zero_(), [[0, 240]]),
        (lambda x: x.fill_(3), [[0, 240]]),
        (lambda x: meta(1).expand(60) + x.view(60), [[0, 4 + 240 + 240]]),
        (lambda x: x[:, :2] * 2, [[0, 160]]),
        (lambda x: x > 0, [[0, 240 + 60]]),
        (lambda x: torch.cat([x, x + 1]), [[0, 480], [0, 960]]),
        (lambda x: x @ meta(6, 3), [[2 * 10 * 6 * 3, 4 * (60 + 18 + 30)]]),
        (
            lambda x: functional.linear(x, meta(3, 6), meta(3)),
            [[2 * 10 * 6 * 3, 4 * (60 + 18 + 3 + 30)]],
        ),
        (lambda x: functional.max_pool1d(x[None], 2), [[0, 240 + 120 + 240]]),
    ],
)
def test_an_operation_moves_what_goes_in_and_what_comes_out(call, expected):
    assert recorded(call, X) == expected


def convolution(groups, transposed, shape=(2, 8, 5, 5)):
    """A convolution's forward pass with autograd, its input and its weight."""
    kind = functional.conv_transpose2d if transposed else functional.conv2d
    images, bias = meta(*shape), meta(8)
    weight = meta(8, 8 // groups, 3, 3)
    return kind, images, weight, bias


@pytest.mark.parametrize("groups", [1, 2, 8], ids=["plain", "grouped", "depthwise"])
@pytest.mark.parametrize("transposed", [False, True], ids=["down", "up"])
@pytest.mark.parametrize("needed", ["input", "weight", "bias", "input weight", "input weight bias"])
def test_a_convolutions_gradients_are_operations_of_their_own(groups, transposed, needed):
    kind, images, weight, bias = convolution(groups, transposed)
    for name, tensor in (("input", images), ("weight", weight), ("bias", bias)):
        tensor.requires_grad_(name in needed)
    out = kind(images, weight, bias, stride=2, groups=groups)
    pixels = 25 if transposed else out[0, 0].numel()
    flops = 2 * 2 * pixels * weight.numel()
    sizes = images.numel(), weight.numel(), out.numel()
    by_name = {
        "input": [flops, 4 * sum(sizes)],
        "weight": [flops, 4 * sum(sizes)],
        "bias": [0, 4 * (out.numel() + 8)],
    }
    found = recorded(lambda: torch.autograd.backward(out, torch.empty_like(out)))
    assert found == [by_name[name] for name in by_name if name in needed]


def test_a_norm_has_no_flops_but_moves_its_input():
    x = meta(2, 8, 5, 5)
    ((flops, moved),) = recorded(
        lambda: functional.batch_norm(x, None, None, training=True, momentum=0.1)
    )
    assert flops == 0
    assert 4 * 2 * x.numel() <= moved <= 4 * 2 * x.numel() + 4 * 4 * 8
