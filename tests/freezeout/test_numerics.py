import pytest
import torch
from torch import nn

from freezeout.dtypes import DTYPES
from freezeout.numerics import autocast, grad_scaler, no_half_missing, numerics

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_a_forward_pass_computes_in_the_format_asked_for(dtype, expected):
    with numerics(dtype, CPU), autocast(dtype, CPU):
        assert nn.Linear(4, 4)(torch.zeros(2, 4)).dtype == expected


def test_only_fp16_scales_its_gradients():
    assert [dtype for dtype in DTYPES if grad_scaler(dtype, CPU) is not None] == ["fp16"]


def test_an_unknown_format_is_refused():
    message = "`dtype` must be one of fp32, tf32, bf16, fp16, got 'fp8'"
    with pytest.raises(ValueError, match=message), numerics("fp8", CPU):
        pass


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("\"cdist\" not implemented for 'Half'\nand a long trace"),
        NotImplementedError("inv: Low precision dtypes not supported. Got Half"),
    ],
)
def test_an_operation_without_fp16_is_named(error):
    message = r"no fp16 for an operation of this model on cpu \(.*Half.*\); use bf16 or fp32\.$"
    with pytest.raises(ValueError, match=message), no_half_missing("fp16", CPU):
        raise error


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_other_errors_pass_as_they_are(dtype):
    with pytest.raises(RuntimeError, match="out of luck"), no_half_missing(dtype, CPU):
        raise RuntimeError("out of luck")
