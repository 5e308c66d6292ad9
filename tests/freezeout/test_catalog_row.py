"""The row of one model: its blocks, the proof at its cuts, and what it says where there is none."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from freezeout.blocks import partition
from freezeout.catalog import row as row_module
from freezeout.catalog.row import audited, described, levels, model_row
from freezeout.trace import parameter_use


@dataclass
class Own:
    """As `models.create` gives it."""

    module: nn.Module
    shape: tuple = (6,)

    def sample(self, batch_size=2, device="meta"):
        return torch.zeros(batch_size, *self.shape, device=device)


def chain(width=8):
    layers = [
        nn.Linear(6, width),
        *(nn.Linear(width, width) for _ in range(8)),
        nn.Linear(width, 2),
    ]
    return nn.Sequential(*layers)


class ByData(nn.Module):
    """Cannot run on meta: it asks for a value."""

    def __init__(self):
        super().__init__()
        self.layers = chain()

    def forward(self, x):
        return self.layers(x) * (1 if x.sum() > 0 else 2)


class Tied(nn.Module):
    """Uses the weight of its first layer again at its end."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(6, 6) for _ in range(5)))
        self.scale = nn.Linear(6, 6)

    def forward(self, x):
        return self.scale(self.layers(x)) @ self.layers[0].weight


def made(module_of, **options):
    devices = []

    def create(name, device):
        assert name == "own"
        devices.append(device)
        with torch.device(device):
            return Own(module_of(), **options)

    return create, devices


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, []),
        (2, [1]),
        (3, [1, 2]),
        (4, [1, 2, 3]),
        (5, [1, 2, 4]),
        (22, [1, 6, 11, 16, 21]),
        (100, [1, 25, 50, 75, 99]),
    ],
)
def test_levels_are_first_quarter_half_three_quarters_and_last(count, expected):
    assert levels(count) == expected


def test_a_chain_is_proven_in_every_respect():
    create, devices = made(chain)
    row = model_row(create, "own", family="chains")
    assert devices == ["meta"]
    assert (row.name, row.family, row.verdict, row.reason) == ("own", "chains", "PROVEN", "")
    assert (row.complete, row.in_order, row.traced_on) == (True, True, "meta")
    assert row.sample == "float32[2, 6]"
    assert [block.name for block in row.blocks] == [str(i) for i in range(10)]
    assert [block.parameters for block in row.blocks] == [56, *[72] * 8, 18]
    assert row.parameters == 56 + 72 * 8 + 18
    assert row.blocks[1].forward_flops == 2 * 2 * 8 * 8
    assert [cut.level for cut in row.cuts] == [1, 2, 5, 8, 9]
    assert all(cut.ok for cut in row.cuts)
    assert row.cuts[0].backward_nodes > row.cuts[-1].backward_nodes > 0
    assert row.leaf_rule.layers == 10
    assert [cut.level for cut in row.leaf_rule.cuts] == [1, 2, 5, 8, 9]
    assert row.notes == row.unused == ()
    assert row.reused == row.frozen_with == {}
    assert 0 < row.seconds < 60


def test_the_baseline_can_be_left_out():
    assert model_row(made(chain)[0], "own", baseline=False).leaf_rule is None


def test_a_model_that_cannot_run_on_meta_is_audited_for_real():
    create, devices = made(ByData)
    row = model_row(create, "own")
    assert devices == ["meta", "cpu"]
    assert (row.verdict, row.traced_on) == ("PROVEN", "real")


def test_a_large_model_is_not_run_for_real(monkeypatch):
    monkeypatch.setattr(row_module, "MOST_REAL_BYTES", 1000)
    create, devices = made(ByData)
    row = model_row(create, "own")
    assert devices == ["meta"]
    assert row.verdict == "NOT AUDITED"
    assert "too much to run it for real" in row.reason
    assert "\n" not in row.reason


def test_a_reused_parameter_is_listed_with_what_passes_through_its_later_use():
    row = model_row(made(Tied)[0], "own")
    assert row.verdict == "PROVEN"
    assert row.reused == {"layers.0.weight": "scale"}
    assert row.frozen_with == {"layers.0.weight": "layers.0"}
    assert row.cuts[-1].nodes_through_reused > 0


@pytest.mark.parametrize(
    ("fail", "reason"),
    [
        (lambda: (_ for _ in ()).throw(ValueError("cannot\n build")), "cannot build"),
        (lambda: (_ for _ in ()).throw(KeyError("size")), "KeyError: 'size'"),
        (lambda: (_ for _ in ()).throw(RuntimeError), "RuntimeError"),
        (lambda: nn.Sequential(nn.Linear(5, 2), nn.Linear(2, 2)), "cannot run forward"),
        (nn.ReLU, "has no parameters"),
    ],
    ids=["user error", "other error", "no message", "wrong input", "no parameters"],
)
def test_what_cannot_be_audited_has_its_reason_in_one_line(fail, reason):
    row = model_row(made(fail)[0], "own")
    assert row.verdict == "NOT AUDITED"
    assert reason in row.reason
    assert "\n" not in row.reason
    assert row.cuts == ()


def test_one_block_proves_nothing():
    row = model_row(made(lambda: nn.Linear(6, 2))[0], "own")
    assert row.verdict == "NOT PROVEN"
    assert row.reason == "there is one block, so nothing can be frozen"
    assert row.notes[0] == "1 block: its modules give no finer cut"


class Drawing(nn.Linear):
    """Draws, in train mode or not, and counts in a buffer."""

    def __init__(self):
        super().__init__(6, 6)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        return super().forward(x) + torch.rand(6, device=x.device)


def test_what_still_draws_or_changes_in_the_frozen_half_is_noted_and_decides_nothing():
    layers = [Drawing(), *(nn.Linear(6, 6) for _ in range(3)), Drawing(), nn.Linear(6, 2)]
    row = model_row(made(lambda: nn.Sequential(*layers))[0], "own")
    assert row.verdict == "PROVEN"
    assert row.notes == ("in the frozen half still random: 0; still changing: 0.count",)


def test_a_check_of_the_frozen_half_that_fails_is_noted(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of order")

    monkeypatch.setattr(row_module, "check_determinism", fail)
    row = model_row(made(chain)[0], "own")
    assert row.verdict == "PROVEN"
    assert row.notes == (
        "whether the frozen half still draws or changes anything is unknown: RuntimeError: out of order",
    )


def test_most_of_the_work_in_one_layer_is_noted():
    lopsided = nn.Sequential(
        *(nn.Linear(6, 6) for _ in range(4)), nn.Linear(6, 900), nn.Linear(900, 1)
    )
    row = model_row(made(lambda: lopsided)[0], "own")
    assert row.verdict == "PROVEN"
    assert row.notes == ("4 has 84% of the forward FLOPs, and no module in it gives a finer cut",)


def faults_of(change):
    """What is found wrong with the blocks of a chain after `change`."""
    model, sample = chain(), torch.zeros(2, 6)
    blocks = partition(model, sample)
    return row_module._faults(model, change(blocks), parameter_use(model, sample))


def test_blocks_that_are_right_have_no_faults():
    assert faults_of(lambda blocks: blocks) == {}


def test_a_missing_parameter_is_a_fault():
    assert "complete" in faults_of(lambda blocks: replace(blocks, blocks=blocks[1:]))


def test_a_parameter_held_twice_is_a_fault():
    assert "complete" in faults_of(lambda blocks: replace(blocks, blocks=(*blocks, blocks[0])))


def test_a_parameter_under_another_name_is_a_fault():
    def swapped(blocks):
        one = replace(blocks[1], parameters=blocks[2].parameters)
        other = replace(blocks[2], parameters=blocks[1].parameters)
        return replace(blocks, blocks=(blocks[0], one, other, *blocks[3:]))

    assert list(faults_of(swapped)) == ["complete"]


def test_blocks_out_of_the_order_of_use_are_a_fault():
    def swapped(blocks):
        return replace(blocks, blocks=(blocks[1], blocks[0], *blocks[2:]))

    assert list(faults_of(swapped)) == ["in order"]


def test_an_unused_parameter_before_the_last_block_is_a_fault():
    model, sample = chain(), torch.zeros(2, 6)
    model[3].register_parameter("spare", nn.Parameter(torch.zeros(3)))
    blocks = partition(model, sample)
    use = parameter_use(model, sample)
    assert row_module._faults(model, blocks, use) == {}
    early = replace(
        blocks[0],
        parameter_names=("3.spare", *blocks[0].parameter_names),
        parameters=(model[3].spare, *blocks[0].parameters),
    )
    last = replace(
        blocks[-1],
        parameter_names=blocks[-1].parameter_names[:-1],
        parameters=blocks[-1].parameters[:-1],
    )
    moved = replace(blocks, blocks=(early, *blocks[1:-1], last))
    assert list(row_module._faults(model, moved, use)) == ["in order"]


def test_an_audit_can_be_looked_at_more_closely():
    found = audited(made(chain)[0], "own", baseline=False)
    assert [report.level for report in found.reports] == [cut.level for cut in found.row.cuts]
    assert found.blocks.model is found.module


@pytest.mark.parametrize(
    ("sample", "text"),
    [
        (torch.zeros(2, 3), "float32[2, 3]"),
        ((torch.zeros(1), torch.zeros(1)), "(2 x float32[1])"),
        (
            ([torch.zeros(3), torch.zeros(3), torch.zeros(4)], 7),
            "([2 x float32[3], float32[4]], int)",
        ),
        ({"x": torch.zeros(2, dtype=torch.long), "y": None}, "{x: int64[2], y: NoneType}"),
    ],
)
def test_a_sample_is_described_in_short(sample, text):
    assert described(sample) == text
