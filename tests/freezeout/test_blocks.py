import contextlib

import pytest
import torch
from torch import nn
from torch.nn.functional import batch_norm
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from freezeout.blocks import PartitionError, partition
from freezeout.proof import audit


class Reversed(nn.Module):
    """Registered in the opposite order of execution."""

    def __init__(self):
        super().__init__()
        self.third = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.first = nn.Linear(3, 3)

    def forward(self, rows):
        return self.third(self.second(self.first(rows).relu()).relu())


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.join = nn.Linear(6, 2)
        self.right = nn.Linear(3, 3)
        self.left = nn.Linear(3, 3)
        self.stem = nn.Linear(3, 3)

    def forward(self, rows):
        stem = self.stem(rows)
        return self.join(torch.cat([self.left(stem), self.right(stem)], dim=1))


class TiedEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.middle = nn.Linear(3, 3)
        self.head = nn.Linear(3, 5)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.middle(self.embedding(tokens)))


class Twice(nn.Module):
    """One module in two places of the tree."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Linear(3, 3)
        self.between = nn.Linear(3, 3)
        self.again = self.shared
        self.head = nn.Linear(3, 2)

    def forward(self, rows):
        return self.head(self.again(self.between(self.shared(rows))))


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.never = nn.Linear(3, 3)
        self.body = nn.Linear(3, 3)
        self.head = nn.Linear(3, 2)

    def forward(self, rows):
        return self.head(self.body(rows))


class OnTheRoot(nn.Module):
    """Parameters that no submodule holds, one of them used late."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3))
        self.token = nn.Parameter(torch.zeros(1, 3))
        self.body = nn.Linear(3, 3)
        self.head = nn.Linear(3, 2)

    def forward(self, rows):
        rows = self.body(rows * self.gain)
        return self.head(torch.cat([rows, self.token]))


class DataDependent(nn.Module):
    """Cannot run on meta: how many rows go on depends on their values."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(3)
        self.body = nn.Linear(3, 3)

    def forward(self, rows):
        rows = self.norm(self.body(rows))
        return self.head(rows[rows.sum(1) > -100]) * rows.sum().sign().item()


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.lstm = nn.LSTM(3, 4, num_layers=2, batch_first=True)

    def forward(self, rows):
        return self.head(self.lstm(rows[:, None])[0][:, -1])


class LateOfAnEarlyLabel(nn.Module):
    """The second half of `pair` is used after `between`."""

    def __init__(self):
        super().__init__()
        self.pair = nn.ModuleDict({"early": nn.Linear(3, 3), "late": nn.Linear(3, 3)})
        self.between = nn.Linear(3, 3)

    def forward(self, rows):
        return self.pair["late"](self.between(self.pair["early"](rows)))


class Parametrized(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.spectral = spectral_norm(nn.Linear(3, 3))
        self.weighted = weight_norm(nn.Linear(3, 3))

    def forward(self, rows):
        return self.head(self.spectral(self.weighted(rows)))


ROWS = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
CASES = {
    "reversed": (Reversed, ROWS, ["first", "second", "third"]),
    "branches": (Branches, ROWS, ["stem", "left", "right", "join"]),
    "tied": (TiedEmbedding, torch.tensor([1, 2]), ["embedding", "middle", "head"]),
    "twice": (Twice, ROWS, ["shared", "between", "head"]),
    "unused": (Unused, ROWS, ["body", "head"]),
    "root": (OnTheRoot, ROWS, ["body", "head"]),
    "data-dependent": (DataDependent, ROWS, ["body", "head"]),
    "recurrent": (Recurrent, ROWS, ["lstm", "head"]),
    "late label": (LateOfAnEarlyLabel, ROWS, ["pair.early", "between", "pair.late"]),
    "parametrized": (Parametrized, ROWS, ["weighted", "spectral", "head"]),
    "one layer": (lambda: nn.Linear(3, 2), ROWS, ["weight"]),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    torch.manual_seed(0)
    build, sample, names = request.param
    model = build()
    return model, partition(model, sample), names


def test_blocks_are_named_in_the_order_of_use(case):
    _, blocks, names = case
    assert list(blocks.names) == names


def test_blocks_hold_every_parameter_once(case):
    model, blocks, _ = case
    held = [p for block in blocks for p in block.parameters]
    assert len(held) == len(set(held))
    assert set(held) == set(model.parameters())
    named = [n for block in blocks for n in block.parameter_names]
    by_name = dict(model.named_parameters())
    assert sorted(named) == sorted(by_name)
    assert [by_name[n] for n in named] == held


def test_blocks_know_their_place(case):
    _, blocks, _ = case
    assert [block.index for block in blocks] == list(range(len(blocks)))
    assert blocks[0] is blocks.blocks[0]
    assert blocks[-1] is list(blocks)[-1]
    assert blocks[:1] == (blocks[0],)
    for block in blocks:
        assert block.num_parameters == sum(p.numel() for p in block.parameters)
        assert {blocks.index_of(p) for p in block.parameters} == {block.index}
    assert blocks.index_of(nn.Parameter(torch.zeros(1))) is None


def test_a_frozen_prefix_is_left_out_of_the_backward_pass(case):
    """The theorem, on real tensors: autograd reaches no parameter of the prefix, and all behind it."""
    model, blocks, _ = case
    sample = next(each for build, each, names in CASES.values() if names == case[2])
    for level in range(len(blocks)):
        model.zero_grad()
        for block in blocks:
            for p in block.parameters:
                p.requires_grad_(block.index >= level)
        model(sample).sum().backward()
        for block in blocks:
            for name, p in zip(block.parameter_names, block.parameters, strict=True):
                expected = block.index >= level and name not in blocks.unused
                assert (p.grad is not None) == expected, (level, name)


def test_every_module_that_works_in_a_frozen_prefix_belongs_to_it(case):
    """Each module of the tree is in one block at most, and in none before its parameters'."""
    _, blocks, _ = case
    homes = {m: b.index for b in blocks for m in b.modules}
    assert sum(len(b.modules) for b in blocks) == len(homes)
    for module, home in homes.items():
        assert all(blocks.index_of(p) <= home for p in module.parameters())


@pytest.mark.parametrize("name", CASES)
def test_blocks_are_the_same_every_time(name):
    build, sample, _ = CASES[name]
    names = [[b.parameter_names for b in partition(build(), sample)] for _ in range(2)]
    assert names[0] == names[1]


@pytest.mark.parametrize("name", CASES)
def test_what_a_model_is_traced_on(name):
    build, sample, _ = CASES[name]
    expected = "real" if name == "data-dependent" else "meta"
    assert partition(build(), sample).traced_on == expected


def test_unused_parameters_are_named_and_stay_with_the_head():
    blocks = partition(Unused(), ROWS)
    assert blocks.unused == ("never.weight", "never.bias")
    assert blocks[-1].parameter_names[-2:] == blocks.unused


@pytest.mark.parametrize(
    ("build", "sample", "expected"),
    [
        (TiedEmbedding, torch.tensor([1, 2]), {"embedding.weight": "head"}),
        (Twice, ROWS, {"shared.weight": "between", "shared.bias": "between"}),
        (Reversed, ROWS, {}),
    ],
    ids=["tied", "twice", "none"],
)
def test_a_parameter_used_again_is_listed_with_the_last_block_that_uses_it(build, sample, expected):
    assert partition(build(), sample).reused == expected


def test_a_parameter_of_no_block_of_its_own_joins_the_one_it_is_used_in():
    blocks = partition(OnTheRoot(), ROWS)
    assert [b.parameter_names for b in blocks] == [
        ("gain", "body.weight", "body.bias", "token"),
        ("head.weight", "head.bias"),
    ]


def test_a_late_parameter_of_an_early_label_joins_the_block_it_is_used_in():
    model = LateOfAnEarlyLabel()
    groups = {name: name.split(".")[0] for name, _ in model.named_parameters()}
    blocks = partition(model, ROWS, groups=groups)
    assert blocks.names == ("pair", "between")
    assert blocks[0].parameter_names == ("pair.early.weight", "pair.early.bias")
    assert blocks[1].parameter_names[2:] == ("pair.late.weight", "pair.late.bias")


def test_groups_name_the_blocks_and_the_trace_orders_them():
    model = Reversed()
    groups = {name: "tail" if "third" in name else "body" for name, _ in model.named_parameters()}
    blocks = partition(model, ROWS, groups=groups)
    assert blocks.names == ("body", "tail")
    assert blocks[0].parameter_names[0] == "first.weight"


def test_a_dropout_and_a_norm_without_parameters_belong_to_what_they_follow():
    model = nn.Sequential(
        *(nn.Dropout(0.1), nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False)),
        *(nn.Dropout(0.1), nn.Linear(3, 2)),
    )
    blocks = partition(model, ROWS)
    assert set(blocks[0].modules) == {model[0], model[1], model[2], model[3]}
    assert set(blocks[1].modules) == {model, model[4]}


def used_twice(layer):
    parts = {"a": nn.Linear(3, 3), "n": layer, "b": nn.Linear(3, 3), "m": layer}
    model = nn.Sequential()
    for name, part in {**parts, "c": nn.Linear(3, 3), "head": nn.Linear(3, 2)}.items():
        model.add_module(name, part)
    return model


def test_a_module_with_buffers_is_held_from_its_first_use_on():
    """Buffers freeze with their first use, as parameters do."""
    norm = nn.BatchNorm1d(3)
    blocks = partition(used_twice(norm), ROWS)
    assert blocks.names == ("a", "b", "c", "head")
    assert norm in blocks[0].modules
    assert blocks.reused_modules == {}


def test_a_module_without_buffers_is_held_only_when_its_last_use_is_frozen():
    dropout = nn.Dropout(0.5)
    blocks = partition(used_twice(dropout), ROWS)
    assert [dropout in block.modules for block in blocks] == [False, True, False, False]
    assert blocks.reused_modules == {dropout: 0}


def test_a_module_used_again_that_draws_nothing_is_not_told():
    assert partition(used_twice(nn.ReLU()), ROWS).reused_modules == {}


def test_a_module_that_is_never_called_is_held_with_the_last_use_of_its_buffers():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.ones(3))

        def get(self):
            return self.table * 2

    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList(nn.Linear(3, 3) for _ in range(4))
            self.table = Table()

        def forward(self, rows):
            for part in self.parts[:2]:
                rows = part(rows) + self.table.get()
            return self.parts[3](self.parts[2](rows))

    model = Shifted()
    blocks = partition(model, ROWS)
    assert [model.table in block.modules for block in blocks] == [False, True, False, False]


def test_a_module_that_is_never_called_is_held_with_its_parameters():
    class ByHand(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.norm, self.body = nn.Linear(3, 2), nn.BatchNorm1d(3), nn.Linear(3, 3)

        def forward(self, rows):
            norm = self.norm
            statistics = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
            return self.head(batch_norm(self.body(rows), *statistics, training=norm.training))

    model = ByHand()
    blocks = partition(model, ROWS)
    assert blocks.names == ("body", "head")
    assert set(blocks[0].modules) == {model.body, model.norm}


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.right = nn.Linear(3, 3)
        self.left = nn.Linear(3, 3)

    def forward(self, left, right):
        return {"scores": self.left(left) * self.right(right), "nothing": None}


@pytest.mark.parametrize(
    "sample",
    [(ROWS, ROWS), [ROWS, ROWS], {"left": ROWS, "right": ROWS}],
    ids=["tuple", "list", "dict"],
)
def test_a_sample_may_hold_several_inputs(sample):
    assert partition(TwoInputs(), sample).names == ("left", "right")


class Pyramid(nn.Module):
    """Five convolutions at three resolutions, a branch back up, and a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.down = nn.Sequential(
            nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        )
        self.up = nn.ConvTranspose2d(4, 4, 4, 4)
        self.low = nn.Conv2d(4, 4, 3, 4, 1)
        self.head = nn.Linear(4, 2)

    def forward(self, images):
        low = self.down(self.stem(images))
        return self.head(self.low(self.up(low)[..., ::4, ::4]).mean((2, 3)))


IMAGES = torch.zeros(2, 3, 16, 16)


def test_stages_are_runs_of_blocks_at_one_resolution():
    blocks = partition(Pyramid(), IMAGES)
    assert blocks.names == ("stem", "down.0", "down.1", "down.2", "up", "low", "head")
    stages = partition(Pyramid(), IMAGES, granularity="stage")
    assert stages.names == ("stem", "down.0..up", "low", "head")
    assert [p for s in stages for p in s.parameter_names] == [
        p for b in blocks for p in b.parameter_names
    ]


def test_a_stage_bears_the_path_that_only_its_blocks_share():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.Sequential(*(nn.Conv2d(4, 4, 3, stride, 1) for stride in (2, 1, 1))),
        nn.Flatten(),
        nn.Linear(4 * 7 * 7, 2),
    )
    assert partition(model, IMAGES, granularity="stage").names == ("0", "1", "3")


def test_a_model_of_one_resolution_has_no_stages():
    model = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(5)))
    assert partition(model, IMAGES, granularity="stage").names == partition(model, IMAGES).names


class Layered(nn.Module):
    """Hides its layers from whoever looks at containers only, as a RegNet's stage does."""

    def __init__(self, width, count):
        super().__init__()
        for index in range(count):
            self.add_module(f"b{index}", Pair(width))

    def forward(self, rows):
        for layer in self.children():
            rows = layer(rows)
        return rows


class Pair(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.up = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, width)

    def forward(self, rows):
        return rows + self.down(self.norm(self.up(rows)))


class Wrapped(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, rows):
        return self.inner(rows)


def test_a_block_that_holds_most_of_the_work_is_taken_apart_with_all_of_its_class():
    model = nn.Sequential(Pair(), Layered(3, 1), Layered(3, 6), nn.Linear(3, 2))
    names = partition(model, ROWS).names
    assert names == ("0", "1.b0", *(f"2.b{i}" for i in range(6)), "3")


def test_a_few_small_blocks_are_taken_apart_down_to_layers_and_norms_begin_none():
    blocks = partition(nn.Sequential(Pair(), Pair()), ROWS)
    assert blocks.names == ("0.up", "0.down", "1.up", "1.down")
    assert blocks[0].parameter_names[2:] == ("0.norm.weight", "0.norm.bias")


def test_a_wrapper_does_not_hide_the_blocks():
    inner = nn.Sequential(*(Pair() for _ in range(5)))
    assert partition(Wrapped(Wrapped(inner)), ROWS).names == tuple(
        f"inner.inner.{i}" for i in range(5)
    )


class Norms(nn.Module):
    """Layers that share their weights and have norms of their own, as in an ALBERT."""

    def __init__(self, count):
        super().__init__()
        first = Pair()
        self.layers = nn.ModuleList([first, *(Pair() for _ in range(count - 1))])
        for layer in self.layers:
            layer.up, layer.down = first.up, first.down

    def forward(self, rows):
        for layer in self.layers:
            rows = layer(rows)
        return rows


@pytest.mark.parametrize("count", [2, 3, 4])
def test_layers_that_share_their_weights_stay_blocks_if_their_parts_give_no_more(count):
    blocks = partition(Norms(count), ROWS)
    assert blocks.names == tuple(f"layers.{index}" for index in range(count))
    assert blocks.reused["layers.0.down.weight"] == f"layers.{count - 1}"


class Catching(nn.Module):
    """Goes on without a submodule that raises, and drops in its own code afterwards."""

    class Raising(nn.Module):
        def forward(self, _rows):
            raise ValueError

    def __init__(self):
        super().__init__()
        self.raising = self.Raising()
        self.layers = nn.Sequential(*(nn.Linear(3, 3) for _ in range(4)))

    def forward(self, rows):
        with contextlib.suppress(ValueError):
            self.raising(rows)
        return nn.functional.dropout(self.layers(rows), 0.1, self.training)


def test_a_submodule_may_raise_if_the_model_goes_on():
    assert partition(Catching(), ROWS).names == tuple(f"layers.{index}" for index in range(4))


def test_a_table_that_is_made_once_and_used_by_later_blocks_is_listed():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(4, 3)
            self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(4))
            self.register_buffer("index", torch.arange(4))

        def forward(self, rows):
            table = self.table(self.index).mean(0)
            for layer in self.layers:
                rows = layer(rows) + table
            return rows

    model = Table()
    assert partition(model, ROWS).reused == {"table.weight": "layers.3"}
    nodes = [audit(model, ROWS, level).nodes_through_reused for level in range(1, 5)]
    assert nodes == [4, 3, 2, 1]  # one addition a layer


def test_one_large_layer_stays_one_block():
    model = nn.Sequential(
        nn.Linear(3, 3), nn.Linear(3, 300), nn.Linear(300, 300), nn.Linear(300, 3), nn.Linear(3, 2)
    )
    assert partition(model, ROWS).names == ("0", "1", "2", "3", "4")


def test_groups_of_ones_own_are_left_as_they_are():
    model = nn.Sequential(Pair(), Pair(), nn.Linear(3, 2))
    groups = {p: "all" if p < "2" else "head" for p, _ in model.named_parameters()}
    assert partition(model, ROWS, groups=groups).names == ("all", "head")


def test_blocks_are_printed_as_a_short_table():
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 2))
    assert str(partition(model, ROWS)).splitlines() == [
        "Sequential, 4 blocks:",
        "0: 0 (20 parameters, 120 FLOPs)",
        "1: 1 (30 parameters, 200 FLOPs)",
        "2: 2 (30 parameters, 200 FLOPs)",
        "3: 3 (12 parameters, 80 FLOPs)",
    ]


def test_blocks_know_their_forward_flops():
    model = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 5), nn.Linear(5, 2))
    flops = [block.forward_flops for block in partition(model, ROWS)]
    assert flops == [2 * 4 * 3 * 5, 2 * 4 * 5 * 5, 2 * 4 * 5 * 2]


def test_a_model_in_bfloat16_is_partitioned_too():
    assert partition(Reversed().bfloat16(), ROWS.bfloat16()).names[0] == "first"


def test_a_model_on_meta_is_partitioned_with_a_real_sample():
    with torch.device("meta"):
        model = Reversed()
    assert partition(model, ROWS).names == ("first", "second", "third")


def test_a_model_in_eval_mode_is_traced_in_train_mode_and_left_in_eval_mode():
    class Auxiliary(Unused):
        def forward(self, rows):
            body = self.body(rows)
            return (self.head(body), self.never(body)) if self.training else self.head(body)

    model = Auxiliary().eval()
    assert partition(model, ROWS).unused == ()
    assert not any(module.training for module in model.modules())


# Optimizer groups


def test_there_is_one_group_a_block_in_order_with_its_options():
    blocks = partition(Reversed(), ROWS)
    groups = blocks.param_groups(weight_decay=0.1, nesterov=False)
    assert [g["block"] for g in groups] == list(blocks.names)
    assert [g["params"] for g in groups] == [list(b.parameters) for b in blocks]
    assert all(g["weight_decay"] == 0.1 and g["nesterov"] is False for g in groups)


def test_parameters_that_the_user_froze_are_left_out_of_the_groups():
    model = Reversed()
    model.first.requires_grad_(False)
    model.second.bias.requires_grad_(False)
    blocks = partition(model, ROWS)
    assert blocks.names == ("first", "second", "third")
    groups = blocks.param_groups()
    assert [g["block"] for g in groups] == ["second", "third"]
    assert groups[0]["params"] == [model.second.weight]


# Errors


class Raises(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, rows):
        raise RuntimeError(f"the model is not amused\nby {rows.shape}")


class LooksAway(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, rows):
        return rows


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.LazyLinear(3)

    def forward(self, rows):
        return self.body(rows)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.Sequential(nn.ReLU()), {}, "Sequential has no parameters"),
        (Raises(), {}, "Raises cannot run forward .*: the model is not amused$"),
        (LooksAway(), {}, "LooksAway uses none of its parameters: linear.weight, linear.bias"),
        (Lazy(), {}, "Lazy has parameters without a shape yet: body.weight, body.bias"),
        (Reversed(), {"granularity": "layer"}, "`granularity` must be block or stage, got 'layer'"),
        (
            Reversed(),
            {"groups": {"first.weight": "a", "first.bias": "a"}},
            "no label for third.weight, third.bias, second.weight, second.bias of Reversed",
        ),
        (
            nn.Sequential(*(nn.Linear(3, 3) for _ in range(4))),
            {"groups": {}},
            "no label for 0.weight, 0.bias, 1.weight, 1.bias, 2.weight and 3 more of Sequential",
        ),
    ],
    ids=["no parameters", "raises", "unused", "lazy", "granularity", "groups", "many"],
)
def test_an_error_names_the_model_and_the_parameters(model, options, message):
    with pytest.raises(PartitionError, match=message):
        partition(model, ROWS, **options)


def test_a_lazy_model_is_fine_once_it_has_run():
    model = Lazy()
    model(ROWS)
    assert len(partition(model, ROWS)) == 1


def test_a_partition_error_is_a_value_error():
    assert issubclass(PartitionError, ValueError)
