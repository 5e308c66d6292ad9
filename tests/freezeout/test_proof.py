from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from freezeout.blocks import partition
from freezeout.proof import audit


def rows():
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def images():
    return torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Dense(nn.Module):
    """Every layer sees all that came before it."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(12, 2)
        self.layers = nn.ModuleList(nn.Linear(3 * (i + 1), 3) for i in range(3))

    def forward(self, x):
        for layer in self.layers:
            x = torch.cat([x, layer(x).relu()], dim=1)
        return self.head(x)


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.join = nn.Linear(6, 2)
        self.right, self.left, self.stem = (nn.Linear(3, 3) for _ in range(3))

    def forward(self, x):
        stem = self.stem(x)
        return self.join(torch.cat([self.left(stem), self.right(stem.detach())], dim=1))


class InPlace(nn.Module):
    """Residual, with batch norms, in-place activations and an in-place sum."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(3))
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            shortcut = x
            x = norm(conv(x))
            x += shortcut
            x = self.relu(x)
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    """A late class token, as in CaiT, and a position that stands on the root."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.position = nn.Parameter(torch.zeros(1, 4, 4))
        self.patches = nn.Linear(3, 4)
        self.layers = nn.ModuleList(nn.Linear(4, 12) for _ in range(2))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.patches(x)[None] + self.position
        for index, layer in enumerate(self.layers):
            if index == 1:
                x = torch.cat([self.token, x], dim=1)
            q, k, v = layer(x).chunk(3, dim=-1)
            x = x + functional.scaled_dot_product_attention(q, k, v)
        return self.head(x[:, 0])


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * grad


class CustomFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.ModuleList(nn.Linear(3, 3) for _ in range(3))

    def forward(self, x):
        for layer in self.body:
            x = Square.apply(layer(x))
        return x


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.ModuleList(nn.Linear(3, 3) for _ in range(3))
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        for layer in self.body:
            x = checkpoint(lambda y, layer=layer: layer(y).relu(), x, use_reentrant=False)
        return self.head(x)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.body = nn.Linear(3, 3)
        self.head = nn.Linear(3, 5)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.body(self.embedding(tokens)))


class DataDependent(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(3)
        self.body = nn.Linear(3, 3)

    def forward(self, x):
        x = self.norm(self.body(x))
        return self.head(x[x.sum(1) > -100]) * x.abs().sum().sign().item()


class Several(nn.Module):
    """A mapping of outputs, one of which has no gradient."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 3)
        self.left, self.right = nn.Linear(3, 1), nn.Linear(3, 1)

    def forward(self, x):
        x = self.body(x)
        return {"all": [self.left(x), (self.right(x),)], "best": x.argmax(1), "raw": x.detach()}


CASES = {
    "dense": (Dense, rows()),
    "branches": (Branches, rows()),
    "in place": (InPlace, images()),
    "attention": (Attention, rows()),
    "custom function": (CustomFunction, rows()),
    "checkpoint": (Checkpointed, rows()),
    "tied": (Tied, torch.tensor([0, 3])),
    "data-dependent": (DataDependent, rows()),
    "several outputs": (Several, rows()),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    torch.manual_seed(0)
    build, sample = request.param
    return build(), sample


def test_a_partition_is_free_at_every_level(case):
    model, sample = case
    blocks = partition(model, sample)
    assert len(blocks) >= 3 or isinstance(model, DataDependent)
    for level in range(len(blocks)):
        report = audit(model, sample, level, blocks=blocks)
        assert report.ok, report
        assert (report.level, report.num_blocks) == (level, len(blocks))
        assert report.frontier == blocks[level].name
        assert report.model == type(model).__name__
        assert report.active_without_gradient == ()


def test_fewer_tensors_are_saved_the_more_is_frozen(case):
    model, sample = case
    blocks = partition(model, sample)
    saved = [
        audit(model, sample, level, blocks=blocks).saved_tensors for level in range(len(blocks))
    ]
    assert saved == sorted(saved, reverse=True)
    # A checkpoint keeps what it needs under hooks of its own.
    assert saved[0] > saved[-1] or isinstance(model, Checkpointed)


def test_the_model_is_left_as_it_was(case):
    model, sample = case
    blocks = partition(model, sample)
    model.eval()
    next(model.children()).train()
    first = next(model.parameters())
    first.grad = torch.ones_like(first)
    blocks[-1].parameters[0].requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    flags = [(p.requires_grad, p.grad) for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    rng = torch.get_rng_state()
    for level in range(len(blocks)):
        audit(model, sample, level, blocks=blocks)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    after = [(p.requires_grad, p.grad) for p in model.parameters()]
    assert all(a[0] == b[0] and a[1] is b[1] for a, b in zip(flags, after, strict=True))
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), rng)


def in_order(blocks, names):
    """The same blocks, wrongly in the order of `names`."""
    by_name = {block.name: block for block in blocks}
    return replace(blocks, blocks=tuple(replace(by_name[n], index=i) for i, n in enumerate(names)))


class Reversed(nn.Module):
    def __init__(self):
        super().__init__()
        self.third, self.second, self.first = (nn.Linear(3, 3) for _ in range(3))

    def forward(self, x):
        return self.third(self.second(self.first(x).relu()).relu())


def test_blocks_in_the_order_of_registration_are_caught():
    model = Reversed()
    wrong = in_order(partition(model, rows()), ["third", "second", "first"])
    assert audit(model, rows(), 0, blocks=wrong).ok
    first = audit(model, rows(), 1, blocks=wrong)
    assert not first.ok
    assert first.frozen_behind_frontier == ("third.weight", "third.bias")
    assert not audit(model, rows(), 2, blocks=wrong).ok


def test_two_blocks_that_changed_places_are_caught_where_it_matters():
    model = Reversed()
    wrong = in_order(partition(model, rows()), ["first", "third", "second"])
    verdicts = [audit(model, rows(), level, blocks=wrong).ok for level in range(3)]
    assert verdicts == [True, True, False]


def test_a_parameter_that_was_moved_to_an_earlier_block_is_caught():
    model = Reversed()
    first, second, third = partition(model, rows())
    wrong = replace(
        partition(model, rows()),
        blocks=(
            replace(
                first,
                parameter_names=(*first.parameter_names, "third.bias"),
                parameters=(*first.parameters, model.third.bias),
            ),
            second,
            replace(third, parameter_names=("third.weight",), parameters=(model.third.weight,)),
        ),
    )
    report = audit(model, rows(), 1, blocks=wrong)
    assert report.frozen_behind_frontier == ("third.bias",)
    assert not report.ok


class OwnGraph(nn.Module):
    """Brings a tensor into the forward pass that requires a gradient and is no parameter."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        x = x + torch.zeros(3, device=x.device, requires_grad=True)
        return self.head(self.body(x).exp())


def test_a_backward_pass_that_goes_on_before_the_frontier_is_caught():
    report = audit(OwnGraph(), rows(), 1)
    assert report.backward_nodes_before_frontier > 0
    assert report.saved_tensors_before_frontier > 0
    assert not report.ok


@pytest.mark.parametrize("build", [Dense, DataDependent], ids=["meta", "real"])
def test_a_sample_that_requires_a_gradient_costs_a_backward_pass_through_frozen_blocks(build):
    model, sample = build(), rows().requires_grad_()
    report = audit(model, sample, 1)
    assert report.backward_nodes_before_frontier > 0
    assert not report.ok
    assert sample.grad is None  # the caller's tensor is left alone


def test_a_first_use_that_makes_no_node_excuses_no_node_before_it():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(3))
            self.gain = nn.Parameter(torch.ones(3))
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            return self.head((x + self.shift) * self.gain.detach())

    model = Detached()
    groups = {"shift": "shift", "gain": "gain", "head.weight": "head", "head.bias": "head"}
    blocks = partition(model, rows(), groups=groups)
    report = audit(model, rows().requires_grad_(), 1, blocks=blocks)
    assert report.backward_nodes_before_frontier == 1  # of the addition


def test_weights_that_were_taken_early_count_where_they_are_used():
    class Taken(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.ParameterList(torch.ones(3, 3) for _ in range(5))

        def forward(self, x):
            for weight in reversed([weight.t() for weight in self.weights]):
                x = (x @ weight).relu()
            return x

    model = Taken()
    groups = {name: name for name, _ in model.named_parameters()}
    report = audit(model, rows(), 3, blocks=partition(model, rows(), groups=groups))
    assert report.nodes_through_reused == 3


def test_an_active_parameter_that_no_output_depends_on_is_told_but_not_judged():
    class Stopped(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.aside, self.head = (nn.Linear(3, 3) for _ in range(3))

        def forward(self, x):
            x = self.body(x)
            self.aside(x)
            return self.head(x)

    report = audit(Stopped(), rows(), 1)
    assert report.active_without_gradient == ("aside.weight", "aside.bias")
    assert report.ok


def test_a_parameter_that_is_used_again_is_told_while_it_is_frozen():
    reports = [audit(Tied(), torch.tensor([0, 3]), level) for level in range(3)]
    assert [r.reused for r in reports] == [(), ("embedding.weight",), ("embedding.weight",)]


def test_the_backward_pass_through_later_uses_of_a_frozen_parameter_is_counted():
    reports = [audit(Tied(), torch.tensor([0, 3]), level) for level in range(3)]
    # At level 1 the loss goes through the head's product with the tied weight to the middle layer; at level 2 only the
    # head's bias is active, and that product needs no gradient.
    assert [r.nodes_through_reused for r in reports] == [0, 1, 0]
    assert reports[0].backward_nodes > reports[1].backward_nodes > reports[2].backward_nodes


@pytest.mark.parametrize("level", [-1, 4, 40])
def test_a_level_out_of_range_is_refused(level):
    with pytest.raises(ValueError, match=rf"`level` must be in 0..3, got {level}"):
        audit(Dense(), rows(), level)


def test_a_model_without_anything_to_make_a_loss_of_is_refused():
    class Classes(Dense):
        def forward(self, x):
            return super().forward(x).argmax(1)

    with pytest.raises(ValueError, match="depends on no active parameter"):
        audit(Classes(), rows(), 0)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_an_audit_may_be_made_where_gradients_are_off(context):
    model = Dense()
    with context():
        assert audit(model, rows(), 2).ok
    model(rows()).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
