import pytest
import torch
from torch import nn

from freezeout.structure import finer, labels


class Residual(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(Residual(), Residual())
        self.layer2 = nn.Sequential(Residual(), Residual())
        self.fc = nn.Linear(4, 2)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Residual(), Residual()])
        self.norm = nn.LayerNorm(4)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 3, 4))
        self.patches = nn.Conv2d(3, 4, 2)
        self.encoder = Encoder()
        self.head = nn.Linear(4, 2)


class Vgg(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
        )
        self.classifier = nn.Linear(4, 2)


class ConvNormPairs(nn.Module):
    """Pairs of one convolution and its norm are blocks by themselves, not stacks."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.body = nn.ModuleDict({"left": Residual(), "right": Residual()})


def found(model):
    """Labels in order of first mention, None left out."""
    return [each for each in dict.fromkeys(labels(model).values()) if each]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (ResNet(), ["conv", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "fc"]),
        (Transformer(), ["patches", "encoder.layers.0", "encoder.layers.1", "head"]),
        (Vgg(), ["features.0", "features.2", "features.4", "classifier"]),
        (ConvNormPairs(), ["stem", "body.left", "body.right"]),
        (nn.Linear(2, 2), []),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), ["0", "2"]),
    ],
    ids=["resnet", "transformer", "vgg", "pairs", "a layer", "two layers"],
)
def test_blocks_are_named_by_the_modules_that_a_person_would_name(model, expected):
    assert found(model) == expected


@pytest.mark.parametrize("kind", [ResNet, Transformer, Vgg, ConvNormPairs])
def test_every_parameter_has_an_entry(kind):
    model = kind()
    assert list(labels(model)) == [name for name, _ in model.named_parameters()]


def test_a_block_is_taken_apart_with_those_of_its_class():
    model = ResNet()
    of = finer(model, labels(model), "layer1.0", down_to_layers=True)
    assert [each for each in dict.fromkeys(of.values()) if each] == [
        *("conv", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "layer1.1.conv2"),
        *("layer2.0.conv1", "layer2.0.conv2", "layer2.1.conv1", "layer2.1.conv2", "fc"),
    ]
    assert of["layer1.0.norm1.weight"] is None


def test_a_container_is_like_no_other():
    pairs = nn.Sequential(*(nn.Sequential(Residual(), nn.Conv2d(4, 4, 3)) for _ in range(2)))
    assert finer(pairs, _whole(pairs), "0", down_to_layers=False) is None
    of = finer(pairs, _whole(pairs), "0", down_to_layers=True)
    assert [each for each in dict.fromkeys(of.values()) if each] == ["0.0", "0.1", "1"]


def _whole(model):
    return {name: name.split(".")[0] for name, _ in model.named_parameters()}


@pytest.mark.parametrize(("path", "down_to_layers"), [("conv", True), ("layer1.0", False)])
def test_what_has_no_such_parts_stays_whole(path, down_to_layers):
    model = ResNet()
    assert finer(model, labels(model), path, down_to_layers=down_to_layers) is None


def test_norms_and_parameters_of_a_stack_begin_no_block():
    of = labels(Transformer())
    assert of["position"] is None
    assert of["encoder.norm.weight"] is None
    assert labels(ResNet())["norm.bias"] is None


def test_a_label_is_a_module_path_and_holds_all_of_its_parameters():
    for model in (ResNet(), Transformer(), Vgg()):
        of = labels(model)
        for label in filter(None, set(of.values())):
            inside = [name for name, _ in model.get_submodule(label).named_parameters(label)]
            assert all(of[name] == label for name in inside)
