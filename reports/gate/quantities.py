"""What the gate compares: the quantities, how their changes are told, and their margins where nothing was repeated."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

LEAST_BLOCKS = 3
"""Blocks that a model needs before one of them can be told from the others."""
LEAST_SHARE = 0.0002
"""Change of one block that matters, as a share of the model's backward pass, however large it is for that block."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One kind of row."""

    name: str
    before_part: str
    """Joins name and part."""
    unit: Literal["%", "pp", "ms"]
    """Of the values."""
    relative: bool
    """Whether changes are in per cent of the baseline; else they are in percentage points."""
    absolute: bool
    """Whether it means something on this machine alone."""
    bigger_is_better: bool = False
    paced: bool = False
    """Whether only what parts do relative to each other counts."""
    by_block: bool = False
    """Whether the parts are blocks that add up to the backward pass."""
    default_margin: Mapping[str, float]
    """By kind of device, in the unit of the changes: the margin where no repetitions tell, and the most that SAME may
    hide however restless the machine."""
    least_margin: float
    """Changes up to this do not matter, however quiet the machine."""

    @property
    def change_unit(self) -> str:
        """Unit of changes and margins."""
        return "%" if self.relative else "pp"


SAVING = Quantity(
    name="saving",
    before_part=" at ",
    unit="%",
    relative=False,
    absolute=False,
    bigger_is_better=True,
    default_margin={"cpu": 4.0, "cuda": 2.0},
    least_margin=0.5,
)
PREDICTION = Quantity(
    name="prediction error",
    before_part=" of ",
    unit="pp",
    relative=False,
    absolute=False,
    default_margin={"cpu": 5.0, "cuda": 2.0},
    least_margin=0.5,
)
BLOCK = Quantity(
    name="block",
    before_part=" ",
    unit="ms",
    relative=True,
    absolute=False,
    paced=True,
    by_block=True,
    default_margin={"cpu": 10.0, "cuda": 3.0},
    least_margin=1.0,
)
STEP = Quantity(
    name="step",
    before_part=" at ",
    unit="ms",
    relative=True,
    absolute=True,
    default_margin={"cpu": 25.0, "cuda": 10.0},
    least_margin=2.0,
)
BACKWARD = Quantity(
    name="backward",
    before_part=" of ",
    unit="ms",
    relative=True,
    absolute=True,
    by_block=True,
    default_margin={"cpu": 25.0, "cuda": 10.0},
    least_margin=2.0,
)
QUANTITIES = (SAVING, PREDICTION, BLOCK, STEP, BACKWARD)
"""Dimensionless ones first."""
