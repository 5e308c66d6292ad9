"""What a results file holds: one record per finished case, raw samples and all; statistics are derived from them.

Everything here is plain data (no torch), so that reports can be made on a machine that has none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from freezeout.schedule import HowScale, Schedule

PHASES = ("forward", "backward", "optimizer")
Rounds = list[list[list[float]]]
"""Milliseconds by round, measured level and single step."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Identity of a measured case: two records with equal configs on one machine measure the same thing."""

    model: str
    """Name as `models.create` takes it, e.g. `timm:resnet18`."""
    options: Mapping[str, float] = field(default_factory=dict)
    """Resolved options of the model, such as depth and growth_rate."""
    input_shape: tuple[int, int, int]
    """Channels, height, width of one image."""
    num_classes: int
    batch_size: int
    dtype: Literal["fp32", "tf32", "bf16", "fp16"]
    memory_format: Literal["contiguous", "channels_last"]
    device: Literal["cpu", "cuda"]
    mode: Literal["eager", "compile"] = "eager"
    granularity: Literal["block", "stage"] = "block"

    @property
    def title(self) -> str:
        """Short name for tables and plots, such as `densenet_bc (depth 40, growth_rate 12)`."""
        told = self.model.split("_")  # wrn_40_4 needs no depth and width beside it
        shown = ", ".join(
            f"{key} {value:g}"
            for key, value in self.options.items()
            if value and f"{value:g}" not in told
        )
        return f"{self.model} ({shown})" if shown else self.model


@dataclass(frozen=True, kw_only=True)
class ScheduleSpec:
    """The part of a schedule that does not depend on a model or a run's length."""

    t_0: float
    how_scale: HowScale
    scale_lr: bool = True
    pace: float = 1.0
    """Steps the schedule counts on over steps taken: 1; in the published code 1000 / 900 with a validation split."""

    @property
    def title(self) -> str:
        """Short name, such as `cubic t_0=0.5 scaled`; `baseline` where nothing freezes."""
        counted = "" if self.pace == 1 else ", published steps"
        if self.t_0 == 1.0:
            return f"baseline{counted}"
        scaled = "scaled" if self.scale_lr else "unscaled"
        return f"{self.how_scale} t_0={self.t_0:g} {scaled}{counted}"

    def schedule(self, num_blocks: int, total_steps: int) -> Schedule:
        """The schedule for a model of `num_blocks` blocks trained for `total_steps` steps."""
        return Schedule(
            num_blocks=num_blocks,
            total_steps=round(total_steps * self.pace),
            t_0=self.t_0,
            how_scale=self.how_scale,
            scale_lr=self.scale_lr,
        )


@dataclass(frozen=True, kw_only=True)
class Session:
    """One invocation of a measuring command and the machine it ran on."""

    session: str
    started: str
    """UTC, ISO 8601."""
    command: str
    environment: Mapping[str, Any]
    """Device, versions, threads and the like; see `freezeout.perf.environment`."""


@dataclass(frozen=True, kw_only=True)
class FlopCurve:
    """FLOPs of one training step of a model (2 a multiply-add), by block and by freeze level."""

    block_forward_flops: tuple[int, ...]
    """FLOPs of the forward pass, by block."""
    backward_flops: tuple[int, ...]
    """FLOPs of the backward pass, at every freeze level 0..blocks-1."""
    published: Mapping[str, int] | None = None
    """Arguments growth_rate and num_blocks_per_stage of the published calc_speedup; None if it does not apply."""
    gradient_flops: tuple[list[int], ...] = ()
    """[block, last level, FLOPs] of the products that the backward pass makes in a block at all levels up to the last;
    empty in files of schema 1."""


@dataclass(frozen=True, kw_only=True)
class Curve(FlopCurve):
    """A cost curve: one training step at every freeze level, measured, and the same in FLOPs."""

    session: str
    config: Config
    optimizer: str
    blocks: tuple[str, ...]
    """Name of every block, in execution order."""
    parameters: tuple[int, ...]
    """Number of parameter elements in every block."""
    levels: tuple[int, ...]
    """Freeze levels that were measured, ascending, starting at 0."""
    samples_ms: Mapping[str, Rounds]
    """For each phase of `PHASES`: milliseconds by round, measured level and single step."""
    warmup_s: float
    """Seconds spent before the first sample: first steps, autotuning, compilation."""
    saved_bytes: tuple[int, ...]
    """Bytes that autograd keeps for the backward pass at every measured level, parameters excluded."""
    peak_bytes: tuple[int, ...] | None = None
    """Peak allocated device memory at every measured level; None where the device does not tell (a CPU)."""
    conditions: tuple[Mapping[str, Any], ...] = ()
    """What the machine was like around each round, see `freezeout.perf.conditions`; empty in files of schema 1."""
    redone_rounds: int = 0
    """Rounds thrown away and made again because the device was throttled by heat or by its power brake."""
    repeat: int = 0
    """0 for the measurement itself; 1, 2, ... for repetitions that show how much equal measurements differ (A/A)."""


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The stage ledger: the unfrozen backward pass split over the blocks by marks that hooks set on the way."""

    session: str
    config: Config
    blocks: tuple[str, ...]
    parameters: tuple[int, ...]
    """Number of parameter elements in every block."""
    block_ms: Rounds
    """Milliseconds by round, step and block (in execution order) of the backward pass with hooks."""
    hooked_ms: list[list[float]]
    """Milliseconds by round and step of the same backward passes as a whole."""
    plain_ms: Mapping[str, list[list[float]]]
    """For each phase of `PHASES`: milliseconds by round and step without hooks, in alternation with those."""
    gradient_flops: tuple[list[int], ...]
    """As in `FlopCurve`: what part of a block's backward pass is left at which level."""
    step_ms: list[float]
    """Device milliseconds of a whole step without hooks, mean of each round."""
    wall_ms: list[float]
    """Wall-clock milliseconds of a whole step without hooks, mean of each round, the wait for the device included."""
    queue_ms: list[float]
    """The same until the host had queued the round's work and began to wait; equal to `wall_ms` on a CPU."""
    conditions: tuple[Mapping[str, Any], ...] = ()
    """What the machine was like around each round."""
    redone_rounds: int = 0
    """As in `Curve`."""
    repeat: int = 0
    """As in `Curve`."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One training step as torch.profiler saw it, attributed to blocks."""

    session: str
    config: Config
    blocks: tuple[str, ...]
    unit: Literal["kernels", "operators"]
    """Whose time is summed: that of device kernels, or on a CPU of operators."""
    phase_ms: Mapping[str, list[list[float]]]
    """For each phase of `PHASES`: summed milliseconds by profiled step and block."""
    kind_ms: Mapping[str, list[dict[str, float]]]
    """For each phase, by block: mean milliseconds a step by kind of work, such as convolution or norm."""
    unattributed_ms: list[float]
    """Summed milliseconds by step of what belongs to no block."""
    launches: list[int]
    """Kernels (operators) by step; unequal numbers mean that the profiler dropped some."""
    streams: int
    """Device streams (threads) that the work of the backward pass was spread over."""
    level: int = 0
    """Freeze level of the steps; forward operators of frozen blocks build no graph and are booked to the first active
    one."""


@dataclass(frozen=True, kw_only=True)
class FrozenSteps:
    """Steps at a few freeze levels in alternation with unfrozen ones that are split by block, and a profile of both.

    What freezing could save at a level is what its frozen blocks take in the unfrozen step of the same round.
    """

    session: str
    config: Config
    blocks: tuple[str, ...]
    levels: tuple[int, ...]
    """Freeze levels of the plain steps, ascending, starting at 0."""
    level_ms: Mapping[str, Rounds]
    """For each phase of `PHASES`: milliseconds by round, level and plain step."""
    block_ms: Rounds
    """Milliseconds by round, step and block of unfrozen backward passes with the hooks of a stage ledger."""
    optimizer_ms: Rounds
    """Milliseconds by round, step and block of unfrozen optimizer steps, one parameter group at a time."""
    gradient_flops: tuple[list[int], ...]
    """As in `FlopCurve`: how much of a block's backward pass is left at the frontier."""
    allocations: list[list[int]]
    """By round and level: how often memory was asked for during the plain steps, see `freezeout.perf.allocations`."""
    profiles: tuple[Profile, ...] = ()
    """Of level 0 and of one frozen level; empty where the profiler failed."""
    unprofiled: str = ""
    """Why there are no profiles."""
    conditions: tuple[Mapping[str, Any], ...] = ()
    """What the machine was like around each round."""
    redone_rounds: int = 0
    """As in `Curve`."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one training step at level 0 has to do, operation by operation, counted without running it."""

    session: str
    config: Config
    blocks: tuple[str, ...]
    operations: Mapping[str, list[list[list[int]]]]
    """For each phase of `PHASES`, by block: [FLOPs, bytes read and written] of every operation."""


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """What the device can do at most, measured: the flat and the sloping part of its roofline."""

    session: str
    device: Literal["cpu", "cuda"]
    dtype: Literal["fp32", "tf32", "bf16", "fp16"]
    matmul_flops_per_s: list[float]
    """One value a repetition of a large square matrix product, at the best of the sizes tried."""
    matmul_size: int
    """Rows and columns of that product."""
    copy_bytes_per_s: list[float]
    """One value a repetition of a large copy on the device: bytes read plus bytes written."""
    copy_bytes: int
    """Size of what was copied."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One FreezeOut run and its unfrozen twin, timed a few steps each in alternation."""

    frozen_ms: list[float]
    """Milliseconds of each step of the run that freezes."""
    twin_ms: list[float]
    """Milliseconds of each step of its twin that does not."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Real training runs under a schedule against an unfrozen twin."""

    session: str
    config: Config
    schedule: ScheduleSpec
    num_blocks: int
    total_steps: int
    """Steps of one pass."""
    passes: tuple[Pass, ...]
    conditions: tuple[Mapping[str, Any], ...] = ()
    """What the machine was like around each pass; empty in files of schema 1."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """A model trained to the end for its error."""

    session: str
    config: Config
    schedule: ScheduleSpec
    dataset: str
    epochs: int
    """Epochs that were trained, stretched ones included."""
    const_time: bool
    """Whether the run was stretched to cost what the baseline costs."""
    seed: int
    num_blocks: int
    total_steps: int
    lr: float
    eval_error_percent: float | None
    """Share of evaluation images misclassified after the last epoch, in percent; None if the run diverged."""
    history: tuple[Mapping[str, Any], ...]
    """One mapping per epoch, as the trainer logged it."""
    step_s: float
    """Seconds spent in training steps; comparable only where `exclusive`."""
    wall_s: float | None = None
    """Seconds of all epochs, data and evaluation included; None in files of schema 2."""
    asked_epochs: int | None = None
    """Epochs before a `const_time` run was stretched; None in files of schema 2, and as `epochs` where it was not."""
    control_of: ScheduleSpec | None = None
    """Of an equal-time control (unfrozen, with fewer epochs): the schedule whose step time it was given."""
    exclusive: bool = False
    """Whether nothing else was run beside it, so that its times can be compared."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Everything the trainer was told, see `freezeout.train.config`; empty in files of schema 2."""


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A case that could not run, with its reason: a visible row, not a silent gap."""

    session: str
    config: Config
    case: str
    """What was tried, such as curve, ledger, profile, run or training."""
    reason: str


Record = Session | Ceiling | Work | Curve | Ledger | Profile | FrozenSteps | Run | Training | Failed
KINDS: Mapping[str, type[Record]] = {
    "session": Session,
    "ceiling": Ceiling,
    "work": Work,
    "curve": Curve,
    "ledger": Ledger,
    "profile": Profile,
    "frozen_steps": FrozenSteps,
    "run": Run,
    "training": Training,
    "failed": Failed,
}
KIND_OF: Mapping[type[Record], str] = {cls: kind for kind, cls in KINDS.items()}
