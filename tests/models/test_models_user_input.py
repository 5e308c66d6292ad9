import sys
import textwrap

import pytest

import models
from freezeout.blocks import partition
from freezeout.proof import audit

SOURCE = """
    import torch
    from torch import nn

    class Pairs(nn.Module):
        def __init__(self, width=8):
            super().__init__()
            self.trunk = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, width), nn.Linear(width, 4))
            self.head = nn.Linear(8, 1)

        def forward(self, left, right):
            return self.head(torch.cat([self.trunk(left), self.trunk(right)], dim=1))

    def pairs():
        return Pairs()

    def zeros(batch_size, device):
        return torch.zeros(batch_size, 6, device=device), torch.zeros(batch_size, 6, device=device)

    pairs.sample_input = zeros

    def counted(num_classes=7):
        return Pairs()

    counted.sample_input = zeros

    class Words(nn.Module):
        num_classes = 3

        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(9, 8)
            self.layers = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(3))
            self.head = nn.Linear(8, 3)

        def forward(self, tokens, extra):
            hidden = self.embed(tokens) + extra["shift"][0]
            for layer in self.layers:
                hidden = layer(hidden)
            return {"scores": self.head(hidden.mean(dim=1)), "hidden": (hidden,)}

        def sample_input(self, batch_size, device):
            # Made on the CPU: it is moved.
            return {"tokens": torch.ones(batch_size, 5, dtype=torch.long), "extra": {"shift": [torch.zeros(8)]}}

    def constant():
        return Pairs()

    constant.sample_input = (2, 6)

    def failing():
        return Pairs()

    failing.sample_input = lambda batch_size, device: 1 / 0

    def text():
        return Pairs()

    text.sample_input = lambda batch_size, device: "images"
"""


@pytest.fixture
def ownnets(tmp_path, monkeypatch):
    (tmp_path / "ownnets.py").write_text(textwrap.dedent(SOURCE))
    monkeypatch.syspath_prepend(tmp_path)
    yield "ownnets"
    sys.modules.pop("ownnets", None)


@pytest.mark.parametrize(
    ("factory", "blocks"),
    [
        ("pairs", ("trunk.0", "trunk.2", "trunk.3", "head")),
        ("Words", ("embed", "layers.0", "layers.1", "layers.2", "head")),
    ],
    ids=["positional", "keywords"],
)
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_model_of_its_own_input_is_cut_and_audited(ownnets, factory, blocks, device):
    model = models.create(f"{ownnets}:{factory}", device=device)
    sample = model.sample(2, device)
    found = partition(model.module, sample)
    assert found.names == blocks
    assert all(audit(model.module, sample, level, blocks=found).ok for level in range(len(found)))


def test_the_factory_says_what_the_model_takes(ownnets):
    left, right = models.create(f"{ownnets}:pairs", device="meta").sample(5, "cpu")
    assert left.shape == right.shape == (5, 6)
    assert left.device.type == "cpu"


def test_what_the_model_says_is_moved_to_the_device(ownnets):
    sample = models.create(f"{ownnets}:Words", device="meta").sample(5)
    assert (sample["tokens"].shape, sample["tokens"].device.type) == ((5, 5), "meta")
    assert sample["extra"]["shift"][0].is_meta


@pytest.mark.parametrize(
    ("factory", "asked", "classes"),
    [("pairs", None, 0), ("Words", None, 3), ("Words", 3, 3), ("counted", 9, 9)],
)
def test_the_number_of_classes_is_told_or_there_is_none(ownnets, factory, asked, classes):
    model = models.create(f"{ownnets}:{factory}", num_classes=asked, device="meta")
    assert (model.num_classes, model.input_shape) == (classes, ())


def test_it_is_not_taken_for_an_image_classifier(ownnets):
    model = models.create(f"{ownnets}:pairs", device="meta")
    with pytest.raises(ValueError, match="`ownnets:pairs` is for a task of its own: only image"):
        model.require_classifier()


@pytest.mark.parametrize(
    ("factory", "given", "message"),
    [
        (
            "constant",
            {},
            r"`sample_input` must be a function of \(batch_size, device\), got a tuple",
        ),
        (
            "pairs",
            {"input_size": 32},
            "`ownnets:pairs` is for a task of its own, .* `input_size` does not",
        ),
        ("pairs", {"num_classes": 5}, "`ownnets:pairs` builds 0 classes, not 5"),
    ],
)
def test_what_does_not_go_together_is_refused(ownnets, factory, given, message):
    with pytest.raises(ValueError, match=message):
        models.create(f"{ownnets}:{factory}", device="meta", **given)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("failing", "`sample_input` of `ownnets:failing` failed: ZeroDivisionError: division by"),
        ("text", "`sample_input` of `ownnets:text` must return a tensor, .* got a str"),
    ],
)
def test_an_input_that_cannot_be_made_is_named(ownnets, factory, message):
    with pytest.raises(ValueError, match=message):
        models.create(f"{ownnets}:{factory}", device="meta").sample()
