import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.flop_counter import FlopCounterMode

from freezeout.blocks import partition
from freezeout.freezer import Freezer
from freezeout.perf.flops import count_flops


def convolution_backward(
    grad, images, weight, _bias, _stride, _pad, _dilation, transposed, _out_pad, _groups, mask, **_
):
    """torch's own formula multiplies the weight gradient of a grouped convolution by its groups."""
    pixels = (images if transposed else grad)[2:].numel()
    forward = 2 * images[0] * pixels * weight.numel()
    return forward * (mask[0] + mask[1])


def torch_counts(model, sample):
    """Forward and backward FLOPs by torch's counter, of real autograd."""
    mapping = {torch.ops.aten.convolution_backward: convolution_backward}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        loss = sum_of(model(sample))
        forward = counter.get_total_flops()
        loss.backward()
    return forward, counter.get_total_flops() - forward


def sum_of(output):
    return output.square().sum()


class Attention(nn.Module):
    def __init__(self, form, width=8, heads=2):
        super().__init__()
        self.form, self.heads = form, heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        parts = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return x + self.out(self.mixed(*parts).transpose(1, 2).reshape(batch, tokens, width))

    def mixed(self, q, k, v):
        if self.form == "fused":
            return functional.scaled_dot_product_attention(q, k, v)
        if self.form == "einsum":
            return torch.einsum(
                "bhqk,bhkd->bhqd", torch.einsum("bhqd,bhkd->bhqk", q, k).softmax(-1), v
            )
        return (q @ k.transpose(-2, -1)).softmax(-1) @ v


class Conv(nn.Module):
    """Convolutions of every kind, with a residual and in-place operations."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=4, bias=False)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=16)
        self.norm = nn.BatchNorm2d(16)
        self.up = nn.ConvTranspose2d(16, 4, 3, stride=2, groups=2)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = functional.relu(self.stem(x), inplace=True)
        x = self.grouped(x)
        y = self.norm(self.depthwise(x))
        y += x
        return self.head(self.up(y.relu_()).mean((2, 3)))


class Detached(nn.Module):
    """One branch gets no gradient by detach, one by no_grad; both share storage with live tensors."""

    def __init__(self):
        super().__init__()
        self.stem, self.left, self.right, self.target = (nn.Linear(4, 4) for _ in range(4))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        stem = self.stem(x).relu_()
        left = self.left(stem.detach().view(-1, 4))
        with torch.no_grad():
            target = self.target(stem)
        right = self.right(stem) * target
        return self.head(left + right)


class InPlace(nn.Module):
    """A buffer is filled, slice by slice, with what needs a gradient; then a constant goes on top."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(8, 2)

    def forward(self, x):
        joined = torch.zeros(*x.shape[:-1], 8, device=x.device)
        joined[..., :4] = self.first(x)
        joined[..., 4:].copy_(self.second(x))
        joined.add_(1)
        return self.head(joined)


class Product(torch.autograd.Function):
    """A linear layer by hand; autograd does not look inside."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return (x @ weight.t()).mul(2)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        for_x = 2 * grad @ weight if ctx.needs_input_grad[0] else None
        return for_x, 2 * grad.t() @ x if ctx.needs_input_grad[1] else None


class Same(torch.autograd.Function):
    @staticmethod
    def forward(_ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(_ctx, grad):
        return grad


class CustomFunctions(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x):
        x = Same.apply(self.first(x))
        x = Product.apply(x, self.second.weight) + self.second.bias
        return Product.apply(Same.apply(x), self.third.weight + self.third.bias)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 6, num_layers=2), nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.lstm(x)[0])


class Fourier(nn.Module):
    """A filter in frequency space: what is complex carries gradients too."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(torch.fft.irfft(torch.fft.rfft(self.first(x)), n=8))


class Spectral(nn.Module):
    """Its power iteration multiplies matrices without gradient."""

    def __init__(self):
        super().__init__()
        self.first, self.second = spectral_norm(nn.Linear(4, 4)), spectral_norm(nn.Linear(4, 4))

    def forward(self, x):
        return self.second(self.first(x).relu())


CASES = {
    "convolutions": (Conv, (2, 3, 9, 9)),
    "mlp": (
        lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(True), nn.Linear(8, 8), nn.Linear(8, 2)),
        (5, 4),
    ),
    "mlp on tokens": (
        lambda: nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2)),
        (2, 5, 4),
    ),
    "fused attention": (
        lambda: nn.Sequential(nn.Linear(8, 8), Attention("fused"), Attention("fused")),
        (2, 5, 8),
    ),
    "bmm attention": (lambda: nn.Sequential(nn.Linear(8, 8), Attention("bmm")), (2, 5, 8)),
    "einsum attention": (lambda: nn.Sequential(nn.Linear(8, 8), Attention("einsum")), (2, 5, 8)),
    "torch attention": (
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False
        ),
        (2, 5, 8),
    ),
    "custom functions": (CustomFunctions, (3, 4)),
    "detached": (Detached, (3, 4)),
    "in place": (InPlace, (3, 4)),
    "recurrent": (Recurrent, (3, 2, 4)),
    "fourier": (Fourier, (3, 8)),
    "spectral norm": (Spectral, (3, 4)),
    "conv1d and conv3d": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 4, 3), nn.Unflatten(2, (1, 2, 4)), nn.Conv3d(4, 2, (1, 2, 2))
        ),
        (2, 3, 10),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_level_costs_what_torch_counts_on_real_autograd(name):
    build, shape = CASES[name]
    model, sample = build().to("meta"), torch.empty(shape, device="meta")
    blocks = partition(model, sample)
    curve = count_flops(model, blocks, sample)
    freezer = Freezer(blocks)
    for level in range(len(blocks)):
        freezer.set_level(level)
        forward, backward = torch_counts(model, sample)
        assert sum(curve.block_forward_flops) == forward
        assert curve.backward_flops[level] == backward, (level, blocks.names)


@pytest.mark.parametrize("name", CASES)
def test_backward_flops_never_rise_with_the_level(name):
    build, shape = CASES[name]
    model, sample = build(), torch.zeros(shape)
    curve = count_flops(model, partition(model, sample), sample)
    assert list(curve.backward_flops) == sorted(curve.backward_flops, reverse=True)
    assert curve.backward_flops[-1] > 0


@pytest.mark.parametrize("groups", [1, 2, 8], ids=["plain", "grouped", "depthwise"])
def test_a_convolution_costs_twice_backward_but_for_the_frontiers_input(groups):
    model = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1, groups=groups) for _ in range(3)))
    sample = torch.zeros(2, 8, 5, 5)
    curve = count_flops(model, partition(model, sample), sample)
    one = 2 * 2 * 25 * 8 * (8 // groups) * 9
    assert curve.block_forward_flops == (one, one, one)
    assert curve.backward_flops == (5 * one, 3 * one, one)


def test_flops_are_booked_to_the_block_that_does_the_work():
    """Attention itself has no parameters; it is booked to the block whose parameters came last."""
    model = nn.Sequential(nn.Linear(8, 8), Attention("bmm"), nn.Linear(8, 2))
    sample = torch.zeros(2, 5, 8)
    curve = count_flops(model, partition(model, sample), sample)
    linear = 2 * 2 * 5 * 8
    assert curve.block_forward_flops[0] == linear * 8
    attention = linear * 24 + linear * 8 + 2 * (2 * 2 * 2 * 5 * 5 * 4)
    assert sum(curve.block_forward_flops[1:-1]) == attention
    assert curve.block_forward_flops[-1] == linear * 2


def test_flops_grow_with_the_batch():
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    blocks = partition(model, torch.zeros(2, 4))
    one, three = (count_flops(model, blocks, torch.zeros(n, 4)) for n in (1, 3))
    assert three.backward_flops == tuple(3 * each for each in one.backward_flops)


def test_a_model_that_cannot_run_on_meta_is_counted_on_its_own_tensors():
    class Real(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.head = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)

        def forward(self, x):
            x = self.norm(self.first(x))
            return self.head(x) * x.abs().sum().sign().item()

    model, sample = Real(), torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    blocks = partition(model, sample)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    curve = count_flops(model, blocks, sample)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    first, head = 2 * 3 * 4 * 4, 2 * 3 * 4 * 2
    assert sum(curve.block_forward_flops) == first + head
    assert curve.backward_flops == (first + 2 * head, head)


def test_a_tied_weight_is_free_only_where_it_is_the_frozen_one():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.middle, self.last = (nn.Linear(4, 4, bias=False) for _ in range(3))
            self.last.weight = self.first.weight

        def forward(self, x):
            return self.last(self.middle(self.first(x)))

    model, sample = Tied(), torch.zeros(3, 4)
    one = 2 * 3 * 4 * 4
    curve = count_flops(model, partition(model, sample), sample)
    # Level 1: of the last product only the gradient of its input is needed; its weight is a constant.
    assert curve.backward_flops == (5 * one, 2 * one)


def test_a_nets_fused_attention_on_a_real_device_costs_two_and_a_half_backward():
    class Real(Attention):
        def forward(self, x):
            return super().forward(x) * x.abs().sum().sign().item()

    model = nn.Sequential(nn.Linear(64, 64), Real("fused", width=64))
    sample = torch.randn(2, 16, 64, generator=torch.Generator().manual_seed(0))
    blocks = partition(model, sample)
    linear, mixing = 2 * 2 * 16 * 64 * 64, 2 * (2 * 2 * 16 * 16 * 64)
    curve = count_flops(model, blocks, sample)
    assert sum(curve.block_forward_flops) == (1 + 3 + 1) * linear + mixing
    assert curve.backward_flops[0] == (1 + 6 + 2) * linear + 2.5 * mixing
