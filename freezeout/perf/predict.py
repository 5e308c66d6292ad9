"""What a schedule would save by FLOPs alone: no GPU, no data, no training."""

from torch import nn

from freezeout.blocks import Blocks
from freezeout.perf.flops import count_flops
from freezeout.perf.prediction import flops_saving
from freezeout.perf.records import ScheduleSpec
from freezeout.schedule import HowScale
from freezeout.trace import Sample


def predicted_saving(
    model: nn.Module, blocks: Blocks, sample: Sample, *, t_0: float, how_scale: HowScale
) -> float:
    """Share of the forward and backward FLOPs of a run that freezing saves, 0 to 1."""
    spec = ScheduleSpec(t_0=t_0, how_scale=how_scale)
    return flops_saving(count_flops(model, blocks, sample), spec)
