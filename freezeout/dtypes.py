"""The number formats to compute in, by the names that options and settings have for them."""

from typing import Literal, get_args

Dtype = Literal["fp32", "tf32", "bf16", "fp16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
