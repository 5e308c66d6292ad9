import subprocess
import sys
from pathlib import Path

import pytest
import torch

import models


@pytest.mark.parametrize(
    ("name", "given", "options"),
    [
        ("densenet_bc", {}, {"depth": 76, "growth_rate": 12, "dropout": 0.0}),
        ("densenet_bc", {"depth": 40}, {"depth": 40, "growth_rate": 12, "dropout": 0.0}),
        ("wrn_16_2", {"dropout": 0.3}, {"depth": 16, "width": 2, "dropout": 0.3}),
        ("vgg16", {}, {"dropout": 0.5}),
    ],
)
def test_options_are_resolved(name, given, options):
    model = models.create(name, device="meta", **given)
    assert model.options == options
    assert (model.name, model.num_classes, model.input_shape) == (name, 10, (3, 32, 32))


def test_densenet_bc_knows_the_arguments_of_the_published_estimate():
    model = models.create("densenet_bc", depth=40, growth_rate=8, device="meta")
    assert model.published == {"growth_rate": 8, "num_blocks_per_stage": 6}
    assert models.create("wrn_16_1", device="meta").published is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("densenet_bc", {"depth": 77}, r"`depth` .* 4 plus a multiple of 6 .* got 77"),
        ("densenet_bc", {"depth": 4}, r"`depth` .* got 4"),
        ("densenet_bc", {"growth_rate": 0}, r"`growth_rate` must be at least 1, got 0"),
        ("densenet_bc", {"dropout": 1.0}, r"`dropout` must be in \[0, 1\), got 1.0"),
        ("wrn_41_4", {}, r"multiple of 6 .* got 41"),
        ("wrn_40_0", {}, r"width .* must be at least 1, got 0"),
        ("wrn_40_4", {"depth": 40}, r"`depth` does not apply .* takes num_classes, .* dropout"),
        ("wrn_40_4", {"dropout": -0.1}, r"`dropout` must be in"),
        ("vgg16", {"growth_rate": 12}, r"`growth_rate` does not apply to `vgg16`, which takes"),
        ("vgg16", {"dropout": 2.0}, r"`dropout` must be in"),
        ("vgg16", {"input_size": 31}, r"`input_size` of `vgg16` must be at least 32, got 31"),
        ("densenet_bc", {"input_size": 3}, r"must be at least 4, got 3"),
        ("vgg16", {"num_classes": 0}, r"`num_classes` must be at least 1, got 0"),
        ("vgg16", {"input_size": -1}, r"`input_size` must be at least 1, got -1"),
        ("timm:resnet18", {"depth": 3}, r"`depth` does not apply .* takes num_classes, input_size"),
        ("torchvision:resnet18", {"dropout": 0.1}, r"`dropout` does not apply"),
    ],
)
def test_a_wrong_option_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        models.create(name, **{"device": "meta", **options})


@pytest.mark.parametrize("device", ["nowhere", "cuda:9999"])
def test_a_device_that_does_not_exist_is_refused(device):
    with pytest.raises(ValueError, match="`device`"):
        models.create("vgg16", device=device)


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("timm:resnet05", "timm:resnet50"),
        ("torchvision:resnet5", "torchvision:resnet50"),
        ("densnet_bc", "densenet_bc"),
        ("resnet50", "nearest: timm:resnet50, torchvision:resnet50"),
        ("resnet50", "wrn_40_4"),
        ("tim:resnet50", "timm:resnet50"),
        ("wrn_40", "wrn_40_4"),
        ("qqqqq", "densenet_bc, vgg16"),
        ("timm:hf-hub:timm/resnet18", "unknown model"),
        ("", "densenet_bc"),
    ],
)
def test_an_unknown_name_lists_the_nearest(name, suggested):
    with pytest.raises(models.UnknownModelError) as raised:
        models.create(name, device="meta")
    assert f"`{name}`" in str(raised.value)
    assert suggested in str(raised.value)


@pytest.mark.parametrize(
    ("pattern", "included", "excluded"),
    [
        (None, {"densenet_bc", "vgg16", "wrn_40_4", "timm:vgg16", "torchvision:vgg16"}, set()),
        ("timm:resnet*", {"timm:resnet18"}, {"torchvision:resnet18", "timm:vgg16"}),
        ("wrn*", {"wrn_40_4"}, {"vgg16"}),
        ("*resnet18", {"timm:resnet18", "torchvision:resnet18"}, {"timm:resnet50"}),
        ("t*:vgg16", {"timm:vgg16", "torchvision:vgg16"}, {"vgg16"}),
    ],
)
def test_names_are_filtered_by_pattern(pattern, included, excluded):
    found = models.names(pattern)
    assert included <= set(found)
    assert not excluded & set(found)
    assert len(found) == len(set(found))


def test_every_registry_name_can_be_built():
    registry_names = [name for name in models.names() if ":" not in name]
    built = [models.create(name, device="meta").name for name in registry_names]
    assert built == registry_names


def test_one_seed_gives_one_model():
    def weights():
        torch.manual_seed(3)
        return models.create("wrn_10_1").module.state_dict()

    first, second = weights(), weights()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_meta_model_allocates_nothing():
    module = models.create("densenet_bc", device="meta").module
    assert all(tensor.is_meta for tensor in module.state_dict().values())


def test_an_unknown_granularity_is_refused():
    with pytest.raises(ValueError, match="'block' or 'stage', got 'layer'"):
        models.create("wrn_10_1", device="meta").groups("layer")


def test_the_papers_networks_need_neither_timm_nor_torchvision():
    program = (
        "import sys, models; models.create('wrn_10_1', device='meta').groups();"
        "models.names('vgg*:*'); assert not {'timm', 'torchvision'} & set(sys.modules)"
    )
    root = Path(models.__file__).parents[1]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_missing_library_is_named_with_its_remedy(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match=f"{library} is not installed: pip install {library}"):
        models.create(f"{library}:resnet18")
    assert "densenet_bc" in models.names()
    assert not models.names(f"{library}:*")
