"""What the bench measures when it is not told: models at sizes that fit the machine, and its time budgets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from freezeout.perf.records import ScheduleSpec


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model as the bench measures it."""

    model: str
    batch_size: int
    input_size: int
    num_classes: int | None = None
    options: tuple[tuple[str, int], ...] = ()

    @property
    def id(self) -> str:
        """Name of the case in pytest."""
        return self.model


CPU = (
    Case(
        model="densenet_bc",
        batch_size=8,
        input_size=32,
        options=(("depth", 40), ("growth_rate", 12)),
    ),
    Case(model="wrn_16_4", batch_size=4, input_size=32),
    Case(model="vgg16", batch_size=4, input_size=32),
    Case(model="timm:resnet18", batch_size=8, input_size=64),
    Case(model="timm:vit_tiny_patch16_224", batch_size=4, input_size=96),
    Case(model="torchvision:mobilenet_v3_small", batch_size=8, input_size=96),
)
"""Small batches and images: the whole default run takes 9 minutes on 2 fast cores, 22 on 2 slow ones, and 6 GiB."""

CUDA = (
    Case(
        model="densenet_bc",
        batch_size=128,
        input_size=32,
        options=(("depth", 76), ("growth_rate", 12)),
    ),
    Case(model="wrn_40_4", batch_size=128, input_size=32),
    Case(model="vgg16", batch_size=128, input_size=32),
    Case(model="timm:resnet50", batch_size=128, input_size=224),
    Case(model="timm:vit_small_patch16_224", batch_size=128, input_size=224),
    Case(model="timm:convnext_tiny", batch_size=128, input_size=224),
    Case(model="timm:efficientnet_b0", batch_size=128, input_size=224),
    Case(model="timm:swin_tiny_patch4_window7_224", batch_size=128, input_size=224),
    Case(model="torchvision:densenet121", batch_size=128, input_size=224),
    Case(model="torchvision:regnet_y_3_2gf", batch_size=128, input_size=224),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a kind of device is measured by default."""

    cases: tuple[Case, ...]
    dtype: Literal["fp32", "bf16"]
    memory_format: Literal["contiguous", "channels_last"]
    curve_budget_s: float
    """Seconds of sampling for one model's cost curve."""
    most_levels: int
    """Freeze levels that are measured of a model with more blocks; evenly spread."""
    ledger_budget_s: float
    """Seconds of sampling for one model's stage ledger."""
    frozen_budget_s: float
    """Seconds of sampling for one model's frozen steps beside unfrozen ones; their profiles come on top."""
    run_budget_s: float
    """Seconds of real runs for one model; one pass is made whatever it takes."""


DEVICES: Mapping[str, Settings] = {
    "cpu": Settings(
        cases=CPU,
        dtype="fp32",
        memory_format="contiguous",
        curve_budget_s=26.0,
        most_levels=100,
        ledger_budget_s=12.0,
        frozen_budget_s=12.0,
        run_budget_s=30.0,
    ),
    "cuda": Settings(
        cases=CUDA,
        dtype="bf16",
        memory_format="channels_last",
        curve_budget_s=12.0,
        most_levels=40,
        ledger_budget_s=5.0,
        frozen_budget_s=6.0,
        run_budget_s=20.0,
    ),
}

RUN_SCHEDULE = ScheduleSpec(t_0=0.5, how_scale="cubic")
"""The schedule of the real runs: of the published ones, the one that freezes most, so that an error shows most."""

TRAINED = Case(model="wrn_10_2", batch_size=50, input_size=16, num_classes=10)
TRAINED_EPOCHS = 12
TRAINED_BASELINE = ScheduleSpec(t_0=1.0, how_scale="cubic")
TRAINED_SCHEDULES = (
    TRAINED_BASELINE,
    ScheduleSpec(t_0=0.8, how_scale="cubic"),
    ScheduleSpec(t_0=0.5, how_scale="cubic"),
    ScheduleSpec(t_0=0.5, how_scale="linear", scale_lr=False),
)
"""The baseline and the published schedules whose error the default bench looks at, on the digits."""
TRAINED_SEEDS = (0, 1, 2)
"""With two, equal spreads give intervals almost twice as wide, by Student's t alone."""
