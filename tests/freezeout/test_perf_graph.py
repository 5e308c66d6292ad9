import pytest
import torch
from torch import nn

from freezeout import partition
from freezeout.perf.graph import block_spans


class Net(nn.Module):
    """A chain whose last layer also sees the first one's output, with a shared weight."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        first = self.stem(x).relu()
        return self.head(torch.cat([self.body(first), first], dim=1))


GROUPS = {
    "stem.weight": "stem",
    "stem.bias": "stem",
    "body.0.weight": "body",
    "body.0.bias": "body",
    "head.weight": "head",
    "head.bias": "head",
}


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def spans_of(model, x=None, groups=GROUPS):
    x = torch.randn(2, 4) if x is None else x
    blocks = partition(model, x, groups=groups)
    loss = model(x).sum()
    return block_spans(loss, blocks), loss


def test_blocks_begin_one_after_the_other(net):
    spans, _ = spans_of(net)
    assert list(spans.starts) == sorted(spans.starts)
    assert len(set(spans.starts)) == 3


def test_every_number_belongs_to_the_last_block_that_has_begun(net):
    spans, loss = spans_of(net)
    for block, start in enumerate(spans.starts):
        assert spans.block_of(start) == block
        assert spans.block_of(start - 1) == (block - 1 if block else None)
    assert spans.block_of(loss.grad_fn._sequence_nr()) == 2


def test_the_backward_pass_meets_the_blocks_in_turn(net):
    """What runs first in each block is passed from the head down, and each block's gradients come before the next."""
    spans, loss = spans_of(net)
    seen = []
    for block, node in enumerate(spans.last_nodes):
        node.register_prehook(lambda _g, block=block: seen.append(block))
    for name, parameter in net.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _p, name=name: seen.append(name))
    loss.backward()
    where = {each: place for place, each in enumerate(seen)}
    assert where[2] < where["head.weight"] < where[1] < where["body.0.weight"] < where[0]
    assert where[0] < where["stem.weight"]


def test_a_frozen_block_has_no_span(net):
    net.stem.requires_grad_(False)
    spans, _ = spans_of(net)
    assert spans.starts[0] is None
    assert spans.last_nodes[0] is None
    assert None not in spans.starts[1:]


def test_a_shared_parameter_begins_its_block_at_its_first_use(net):
    net.head = nn.Linear(8, 4)
    net.body[0].weight = net.stem.weight
    groups = {name: group for name, group in GROUPS.items() if name != "body.0.weight"}
    spans, _ = spans_of(net, groups=groups)
    assert list(spans.starts) == sorted(spans.starts)


def test_a_loss_without_parameters_is_refused(net):
    x = torch.randn(2, 4, requires_grad=True)
    blocks = partition(net, x.detach(), groups=GROUPS)
    with pytest.raises(ValueError, match="nothing can be timed"):
        block_spans(x.sum(), blocks)


def test_a_backward_pass_of_one_node_is_refused(net):
    class Whole(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, *parameters):
            ctx.shapes = [p.shape for p in parameters]
            return x.sum()

        @staticmethod
        def backward(ctx, grad):
            return None, *(grad.expand(shape) for shape in ctx.shapes)

    x = torch.randn(2, 4)
    blocks = partition(net, x, groups=GROUPS)
    with pytest.raises(ValueError, match=r"single node .* use mode eager"):
        block_spans(Whole.apply(x, *net.parameters()), blocks)
