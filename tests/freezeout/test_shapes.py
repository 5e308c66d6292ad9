from contextlib import nullcontext

import pytest
import timm
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from freezeout import shapes, trace
from freezeout.blocks import partition
from freezeout.proof import audit
from freezeout.shapes import KnownShapes


class Counted(TorchDispatchMode):
    """What is really run, below KnownShapes."""

    def __init__(self):
        super().__init__()
        self.ran = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.ran.append(func._overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def meta(*shape, dtype=torch.float32):
    return torch.empty(*shape, device="meta", dtype=dtype)


def form(out):
    if isinstance(out, torch.Tensor):
        return tuple(out.shape), out.stride(), out.dtype, out.device.type
    return tuple(form(each) for each in out)


OPERATIONS = {
    "convolution": lambda: nn.functional.conv2d(meta(2, 3, 8, 8), meta(4, 3, 3, 3), stride=2),
    "channels last": lambda: meta(2, 3, 8, 8).to(memory_format=torch.channels_last) * 2,
    "product": lambda: meta(5, 3) @ meta(3, 7),
    "several results": lambda: torch.var_mean(meta(4, 5), dim=1, keepdim=True),
    "indices": lambda: meta(4, 6).topk(2),
    "another dtype": lambda: meta(4).to(torch.float16),
    "a list of tensors": lambda: torch.cat([meta(2, 3), meta(4, 3)]),
    "no tensor": lambda: torch.arange(6, device="meta", dtype=torch.int64),
    "a view": lambda: meta(4, 6).transpose(0, 1),
    "in place": lambda: meta(4).add_(1),
}


@pytest.mark.parametrize("make", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_a_result_has_the_form_that_torch_gives_it(make):
    expected = form(make())
    with KnownShapes():
        assert form(make()) == expected
        assert form(make()) == expected  # now by what is known


def test_what_is_known_is_not_run_again():
    with Counted() as below, KnownShapes():
        for _ in range(3):
            meta(5, 31) @ meta(31, 7)
    assert below.ran.count("mm") <= 1
    with Counted() as below, KnownShapes():
        meta(5, 33) @ meta(33, 7)
    assert below.ran.count("mm") == 1


def test_results_are_tensors_of_their_own():
    with KnownShapes():
        first, second = (meta(3).exp() for _ in range(2))
        assert first is not second
        assert first.untyped_storage()._cdata != second.untyped_storage()._cdata


def test_views_and_what_writes_in_place_are_always_run():
    with Counted() as below, KnownShapes():
        for _ in range(2):
            base = meta(3, 4)
            assert base.t()._base is base
            base.mul_(2)
    assert below.ran.count("t") == below.ran.count("mul_") == 2


def test_an_integer_is_not_taken_for_a_float_or_a_truth():
    with KnownShapes():
        whole = meta(3, dtype=torch.int64)
        assert [(whole + other).dtype for other in (1, 1.0, True)] == [
            *(torch.int64, torch.float32, torch.int64)
        ]


def test_the_default_dtype_is_asked_anew():
    with KnownShapes():
        whole = meta(3, dtype=torch.int64)
        assert (whole / 2).dtype == torch.float32
        torch.set_default_dtype(torch.float64)
        try:
            assert (whole / 2).dtype == torch.float64
        finally:
            torch.set_default_dtype(torch.float32)


@pytest.mark.filterwarnings("ignore:Sparse")  # torch tells once that they are in beta
def test_sparse_rows_pass():
    with KnownShapes():
        starts, columns = meta(4, dtype=torch.int64), meta(3, dtype=torch.int64)
        rows = torch.sparse_csr_tensor(starts, columns, meta(3), (3, 3))
        assert rows.clone().layout == torch.sparse_csr


def test_tensors_with_data_are_computed():
    rows = torch.ones(2, 3)
    with KnownShapes():
        assert (rows + 1).sum() == 12
        assert (rows + 1).sum() == 12


def test_it_begins_anew_before_it_grows_without_bound(monkeypatch):
    monkeypatch.setattr(shapes, "_MOST_KNOWN", 3)
    monkeypatch.setattr(shapes, "_known", {})
    with KnownShapes():
        for size in range(2, 20):
            meta(size).exp()
    assert 0 < len(shapes._known) <= 3


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "coat_tiny"])
def test_an_audit_finds_the_same_with_it_and_without(name, monkeypatch):
    model = timm.create_model(name)
    images = meta(2, *model.default_cfg["input_size"])

    def reports():
        blocks = partition(model, images)
        return [
            audit(model, images, level, blocks=blocks)
            for level in (0, len(blocks) // 2, len(blocks) - 1)
        ]

    found = [reports(), reports()]
    monkeypatch.setattr(trace, "KnownShapes", nullcontext)
    plain = reports()
    assert found == [plain, plain]
    assert plain[0].saved_tensors > 0
