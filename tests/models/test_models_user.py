import sys
import textwrap

import pytest
import torch

import models

SOURCE = """
    import torch

    class Net(torch.nn.Module):
        def __init__(self, num_classes=4):
            super().__init__()
            self.linear = torch.nn.Linear(3, num_classes)

        def forward(self, images):
            return self.linear(images.mean(dim=(2, 3)))

    class Tiny(Net):
        input_shape = (1, 8, 6)

    class Convolutional(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 6, 1)

    class Says(Convolutional):
        num_classes = 6

    def fixed():
        return Net(4)

    def passes_on(**options):
        return Net(**options)

    def with_shape():
        return Net()

    with_shape.input_shape = (3, 48, 48)

    def bad_shape():
        return Net()

    bad_shape.input_shape = 48

    def fails():
        raise KeyError("no such part")

    def returns_text():
        return "a net"

    constant = 3
"""


@pytest.fixture
def mynets(tmp_path, monkeypatch):
    (tmp_path / "mynets.py").write_text(textwrap.dedent(SOURCE))
    monkeypatch.syspath_prepend(tmp_path)
    yield "mynets"
    sys.modules.pop("mynets", None)


def test_a_factory_builds_a_model(mynets):
    model = models.create(f"{mynets}:Net", num_classes=9)
    assert (model.name, model.num_classes) == ("mynets:Net", 9)
    assert model.input_shape == (3, 224, 224)
    assert model.module(torch.randn(2, 3, 4, 4)).shape == (2, 9)
    assert model.groups() is None


@pytest.mark.parametrize(
    ("factory", "requested", "classes"),
    [
        ("Net", None, 4),
        ("Net", 9, 9),
        ("passes_on", 9, 9),
        ("fixed", None, 4),
        ("fixed", 4, 4),
        ("Says", None, 6),
        ("Convolutional", 6, 6),
    ],
)
def test_the_number_of_classes_is_passed_or_read(mynets, factory, requested, classes):
    assert models.create(f"{mynets}:{factory}", num_classes=requested).num_classes == classes


@pytest.mark.parametrize(
    ("factory", "size", "shape"),
    [
        ("Net", None, (3, 224, 224)),
        ("Net", 64, (3, 64, 64)),
        ("Tiny", None, (1, 8, 6)),
        ("Tiny", 16, (1, 16, 16)),
        ("with_shape", None, (3, 48, 48)),
    ],
)
def test_the_input_shape_is_read_or_given(mynets, factory, size, shape):
    assert models.create(f"{mynets}:{factory}", input_size=size).input_shape == shape


def test_a_factory_runs_on_the_meta_device(mynets):
    assert models.create(f"{mynets}:Net", device="meta").module.linear.weight.is_meta


@pytest.mark.parametrize(
    ("factory", "given", "message"),
    [
        ("absent", {}, r"module `mynets` has no `absent`"),
        ("constant", {}, r"module `mynets` has no callable `constant`"),
        ("fails", {}, r"cannot build `mynets:fails`: KeyError: 'no such part'"),
        ("returns_text", {}, r"cannot build `mynets:returns_text`: .* str, not an nn.Module"),
        ("fixed", {"num_classes": 9}, r"`mynets:fixed` builds 4 classes, not 9"),
        ("Convolutional", {}, r"`mynets:Convolutional` does not tell its number of classes"),
        ("bad_shape", {}, r"`input_shape` must be \(channels, height, width\), got 48"),
        ("Net", {"depth": 3}, r"`depth` does not apply to `mynets:Net`"),
    ],
)
def test_a_wrong_factory_is_named(mynets, factory, given, message):
    with pytest.raises(ValueError, match=message):
        models.create(f"{mynets}:{factory}", **given)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:Net", "no module `no_such_module`"),
        ("no_such_package.nets:Net", "no module `no_such_package`"),
        ("mynets:", "is no model name"),
        (":Net", "is no model name"),
        ("my-nets:Net", "is no model name"),
    ],
)
def test_a_name_that_leads_nowhere_is_unknown(name, message):
    with pytest.raises(models.UnknownModelError, match=message):
        models.create(name)


def test_the_working_directory_is_importable(tmp_path, monkeypatch):
    (tmp_path / "herenets.py").write_text(
        "from torch.nn import Linear\ndef make():\n    return Linear(2, 5)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = list(sys.path)
    assert models.create("herenets:make").num_classes == 5
    assert sys.path == before
    del sys.modules["herenets"]


def test_a_module_that_fails_on_import_is_named(tmp_path, monkeypatch):
    (tmp_path / "brokennets.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"importing `brokennets` failed: .*no_such_dependency"):
        models.create("brokennets:Net")
