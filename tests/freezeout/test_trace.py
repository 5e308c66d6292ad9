import pytest
import torch
from torch import nn

from freezeout.trace import arguments, first_that_works, parameter_use, stand_in


class Net(nn.Module):
    """Convolution, batch norm, dropout and a linear layer that stands first in the tree."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images):
        return self.head(self.dropout(self.norm(self.conv(images)).relu()).mean((2, 3)))


class RealNet(Net):
    """Cannot run on the meta device: its path depends on values."""

    def forward(self, images):
        kept = images[images.flatten(1).sum(1) > -1e9]
        scale = kept.mean().item()
        return super().forward(kept * scale)


def images():
    return torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(1))


def state_of(model):
    """Everything that a trace could leave behind."""
    return {
        "tensors": {k: (id(v), v.clone()) for k, v in model.state_dict(keep_vars=True).items()},
        "grads": {n: (id(p.grad), p.grad.clone()) for n, p in model.named_parameters()},
        "flags": {n: p.requires_grad for n, p in model.named_parameters()},
        "training": {n: m.training for n, m in model.named_modules()},
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "attributes": {n: sorted(vars(m)) for n, m in model.named_modules()},
        "rng": torch.get_rng_state(),
    }


def assert_same(before, after):
    for kind in ("tensors", "grads"):
        assert before[kind].keys() == after[kind].keys()
        for name, (identity, value) in before[kind].items():
            assert after[kind][name][0] == identity, name
            assert torch.equal(after[kind][name][1], value), name
    for kind in ("flags", "training", "hooks", "attributes"):
        assert before[kind] == after[kind]
    assert torch.equal(before["rng"], after["rng"])


def lived_in(model):
    """`model` as it may be in the middle of a user's work."""
    model(images()).sum().backward()
    model.norm.eval()
    model.conv.bias.requires_grad_(False)
    return model


@pytest.mark.parametrize(("kind", "where"), [(Net, "meta"), (RealNet, "real")])
def test_a_trace_leaves_the_model_as_it_was(kind, where):
    torch.manual_seed(0)
    model = lived_in(kind())
    before = state_of(model)
    use = parameter_use(model, images())
    assert use.where == where
    assert_same(before, state_of(model))
    assert use.first_use == [
        *("conv.weight", "conv.bias", "norm.weight", "norm.bias", "head.weight", "head.bias")
    ]


@pytest.mark.parametrize("kind", [Net, RealNet])
def test_a_stand_in_that_is_trained_leaves_the_model_as_it_was(kind):
    torch.manual_seed(0)
    model = lived_in(kind())
    before = state_of(model)
    where = "meta" if kind is Net else "real"
    with stand_in(model, where, lambda _: True) as subject:
        subject.call(images()).sum().backward()
        assert all(p.grad is not None for p in subject.parameters.values())
    assert_same(before, state_of(model))


@pytest.mark.parametrize("where", ["meta", "real"])
def test_a_trace_that_fails_leaves_the_model_as_it_was(where):
    torch.manual_seed(0)
    model = lived_in(Net())
    before = state_of(model)

    def fail():
        with stand_in(model, where) as subject:
            subject.call(images())
            raise KeyError("on purpose")

    with pytest.raises(KeyError, match="on purpose"):
        fail()
    assert_same(before, state_of(model))


class Caching(nn.Module):
    """Keeps what it computes: on an attribute, in a dict, in a list and in a new buffer."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.mask, self.table, self.shapes = None, {}, []

    def forward(self, rows):
        if self.mask is None:
            self.mask = torch.ones_like(rows)
            self.table["mask"] = self.mask
            self.shapes.append(self.mask)
            self.register_buffer("late", torch.ones(3, device=rows.device))
        return self.linear(rows * self.mask * self.table["mask"] * self.late)


@pytest.mark.parametrize("where", ["meta", "real"])
def test_what_a_forward_pass_caches_is_taken_away_again(where):
    model = Caching()
    with stand_in(model, where) as subject:
        subject.call(torch.ones(2, 3))
    assert (model.mask, model.table, model.shapes) == (None, {}, [])
    assert not list(model.buffers())
    assert model(torch.ones(2, 3)).shape == (2, 3)


def test_a_model_that_caches_runs_on_after_a_trace():
    model = Caching()
    assert parameter_use(model, torch.ones(2, 3)).where == "meta"
    assert model(torch.ones(2, 3)).device.type == "cpu"


def test_a_module_that_sits_in_the_tree_twice_is_put_back_in_both_places():
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    weight = shared.weight
    use = parameter_use(model, torch.ones(2, 3))
    assert model[0].weight is weight
    assert model[2].weight is weight
    assert use.first_use == ["0.weight", "0.bias"]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.middle = nn.Linear(3, 3)
        self.head = nn.Linear(3, 5)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.middle(self.embedding(tokens)))


def test_order_and_last_use_of_a_tied_parameter():
    use = parameter_use(Tied(), torch.zeros(2, dtype=torch.long))
    assert use.first_use == ["embedding.weight", "middle.weight", "middle.bias", "head.bias"]
    # The head is handed the embedding's weight before its own bias, and is done with both at once.
    assert [use.last_use[name] for name in use.first_use] == [4, 3, 3, 4]


def test_module_exits_are_counted_in_parameters_used():
    model = Net()
    use = parameter_use(model, images())
    exits = {name: use.module_exit[module] for name, module in model.named_modules()}
    assert exits == {"": 6, "conv": 2, "norm": 4, "dropout": 4, "head": 6}


def test_the_models_own_error_is_what_is_raised():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, rows):
            raise KeyError(f"no {rows.shape[1]} columns")

    with pytest.raises(KeyError, match="no 3 columns"):
        parameter_use(Broken(), torch.ones(1, 3))


def test_a_model_built_on_meta_is_never_run_on_real_tensors():
    with torch.device("meta"):
        model = RealNet()
    with pytest.raises(Exception, match="meta"):
        parameter_use(model, images())


def test_the_second_attempt_is_made_only_where_the_first_fails():
    model, tried = Net(), []
    assert first_that_works(model, lambda where: (tried.append(where), where)[1]) == "meta"

    def refuse_meta(where):
        tried.append(where)
        if where == "meta":
            raise RuntimeError("not here")
        return where

    assert first_that_works(model, refuse_meta) == "real"
    assert tried == ["meta", "meta", "real"]


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (1, ((1,), {})),
        ((1, 2), ((1, 2), {})),
        ([1, 2], ((1, 2), {})),
        ({"a": 1}, ((), {"a": 1})),
    ],
    ids=["tensor", "tuple", "list", "dict"],
)
def test_a_sample_is_one_argument_several_or_named_ones(sample, expected):
    assert arguments(sample) == expected


def test_gradients_may_be_switched_off_around_a_trace():
    for context in (torch.no_grad(), torch.inference_mode()):
        model = Net()
        with context:
            assert len(parameter_use(model, images()).first_use) == 6
        model(images()).sum().backward()  # the model is still one that can be trained
        assert model.conv.weight.grad is not None
