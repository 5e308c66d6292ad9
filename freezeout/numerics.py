"""The number formats and kernels a run computes with, set for its duration."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from freezeout.dtypes import DTYPES

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
CUBLAS_WORKSPACE = ":4096:8"
"""A value of CUBLAS_WORKSPACE_CONFIG under which cuBLAS is deterministic."""


@contextmanager
def numerics(dtype: str, device: torch.device, *, deterministic: bool = False) -> Iterator[None]:
    """Set precision and determinism for a run, and put both back afterwards.

    Args:
        dtype: fp32 (no tf32 anywhere), tf32, bf16 or fp16.
        device: that the run is on.
        deterministic: use deterministic kernels only, and no autotuning.

    Raises:
        ValueError: tf32 off CUDA, or deterministic on CUDA without the cuBLAS setting it needs.
    """
    _check(dtype, device, deterministic)
    was_strict = torch.are_deterministic_algorithms_enabled()
    was_warning = torch.is_deterministic_algorithms_warn_only_enabled()
    was_benchmarking = torch.backends.cudnn.benchmark
    precisions = [(owner, owner.fp32_precision) for owner in _precision_owners(device)]
    try:
        torch.use_deterministic_algorithms(
            deterministic or was_strict, warn_only=was_warning and not deterministic
        )
        torch.backends.cudnn.benchmark = not deterministic
        for owner, _ in precisions:
            owner.fp32_precision = "tf32" if dtype == "tf32" else "ieee"
        yield
    finally:
        torch.use_deterministic_algorithms(was_strict, warn_only=was_warning)
        torch.backends.cudnn.benchmark = was_benchmarking
        for owner, precision in precisions:
            owner.fp32_precision = precision


def autocast(dtype: str, device: torch.device) -> AbstractContextManager[Any]:
    """The context of a forward pass: bf16 and fp16 by autocast, everything else as it is."""
    if dtype in _AUTOCAST:
        return torch.autocast(device.type, dtype=_AUTOCAST[dtype])
    return nullcontext()


def grad_scaler(dtype: str, device: torch.device) -> torch.amp.GradScaler | None:
    """What keeps the gradients of fp16 within its range; None for the other formats, which need none.

    It goes with a fused optimizer, which skips an overflowing step on the device; with others the scaler asks the
    device at every step and so waits for it.
    """
    return torch.amp.GradScaler(device.type) if dtype == "fp16" else None


@contextmanager
def no_half_missing(dtype: str, device: torch.device) -> Iterator[None]:
    """Say plainly what torch lacks where an operation of fp16 is not there, as happens on a CPU.

    Raises:
        ValueError: an operation inside has no fp16 on `device`.
    """
    try:
        yield
    except RuntimeError as error:
        is_missing = isinstance(error, NotImplementedError) or "not implemented" in str(error)
        if dtype != "fp16" or not is_missing or "Half" not in str(error):
            raise
        raise ValueError(
            f"`dtype` fp16: torch has no fp16 for an operation of this model on {device.type} "
            f"({str(error).splitlines()[0]}); use bf16 or fp32."
        ) from error


def _check(dtype: str, device: torch.device, deterministic: bool) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    if dtype == "tf32" and device.type != "cuda":
        raise ValueError(f"`dtype` tf32 exists on CUDA only, and the data are on {device}.")
    needs_cublas = deterministic and device.type == "cuda"
    if needs_cublas and "CUBLAS_WORKSPACE_CONFIG" not in os.environ:
        raise ValueError(
            "`deterministic` on CUDA needs the environment variable "
            f"CUBLAS_WORKSPACE_CONFIG={CUBLAS_WORKSPACE} before the program starts."
        )


def _precision_owners(device: torch.device) -> list[Any]:
    """Where torch >= 2.9 keeps the precision of fp32; the older flags must not be mixed with it."""
    if device.type != "cuda":
        return []
    cudnn: Any = torch.backends.cudnn
    return [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]
