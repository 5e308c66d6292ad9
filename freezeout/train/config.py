"""What one training run was asked to do."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from freezeout.dtypes import DTYPES, Dtype
from freezeout.schedule import HowScale, Schedule, const_time_epochs

Validate = Literal["valid", "test", "none"]
VALIDATES: tuple[Validate, ...] = get_args(Validate)
BUILT = ("depth", "growth_rate", "dropout")
"""Settings that a model may choose for itself: the run has those that it was really built with."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of one run; the defaults are the published ones.

    Two runs with equal settings on one kind of device are the same run: a checkpoint is resumed
    only under the settings it was made with.

    Raises:
        ValueError: a setting is out of its range.
    """

    model: str
    """Name of the model, for the record; `train` is given the module itself."""
    dataset: str
    """`digits`, `cifar10`, `cifar100` or `imagefolder:DIR`."""
    depth: int | None = None
    """Depth the model was built with, None for the model's own."""
    growth_rate: int | None = None
    """Growth rate the model was built with, None for the model's own."""
    dropout: float | None = None
    """Dropout rate the model was built with, None for the model's own."""
    epochs: int = 100
    """Passes over the training images, before `const_time` stretches them."""
    batch_size: int = 50
    """Training images in a batch; the last batch of an epoch takes what is left."""
    accumulate: int = 1
    """Batches whose gradients make one optimizer step; the last step of an epoch takes what is left."""
    eval_batch_size: int = 250
    """Images in a step of the evaluation, where nothing is kept for a backward pass."""
    lr: float = 0.1
    """Base learning rate; each block's own follows from the schedule."""
    momentum: float = 0.9
    """Momentum of SGD, in [0, 1)."""
    nesterov: bool = True
    """Nesterov's form of momentum."""
    weight_decay: float = 1e-4
    """L2 penalty on every trained parameter."""
    label_smoothing: float = 0.0
    """Share of each training label that is spread over all classes, in [0, 1)."""
    ema_decay: float | None = None
    """Evaluate an exponential moving average of the weights that keeps this share at each step; None for none."""
    t_0: float = 0.8
    """Freeze time of the first block as a share of the run; 1 is the baseline without freezing."""
    how_scale: HowScale = "cubic"
    """`linear`, `squared` or `cubic`: the power applied to the interpolated freeze times."""
    scale_lr: bool = True
    """Start each block at lr / t_i, so that every block travels about the same distance."""
    const_time: bool = False
    """Stretch the run to epochs / (1 - speedup), so that it costs what the baseline costs."""
    published_steps: bool = False
    """Let the schedule count as the published code does: as if the images held out for validation were trained on."""
    augment: bool = True
    """Random crops with 4 pixels of black padding, and mirroring where a mirror image is valid."""
    validate: Validate = "valid"
    """Evaluate on held-out training images (`valid`), on the test images (`test`) or not at all."""
    holdout: int | None = None
    """Training images that `valid` holds out; None for the data set's own number (CIFAR: the last 5,000)."""
    stratified: bool = False
    """Hold out the same share of every class instead of the data set's own images."""
    train_images: int | None = None
    """Train on this many images only, the same share of every class; None for all."""
    eval_every: int = 1
    """Epochs between two evaluations; after the last epoch there always is one."""
    seed: int = 0
    """Seed of the order of the images and of their augmentation."""
    dtype: Dtype = "fp32"
    """`fp32` (IEEE throughout), `tf32` (CUDA only), `bf16` (autocast) or `fp16` (autocast with a gradient scaler)."""
    channels_last: bool = False
    """Keep images and convolution weights in the channels-last memory format."""
    cuda_graph: bool = False
    """Capture the training step as a CUDA graph, again at each freeze level."""
    deterministic: bool = False
    """Allow deterministic kernels only; on CUDA a resumed run is bit-exact only with this."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "eval_batch_size", "accumulate", "eval_every"):
            _require(
                _is_int(getattr(self, name)) and getattr(self, name) >= 1,
                self,
                name,
                "a whole number of at least 1",
            )
        _require(math.isfinite(self.lr) and self.lr > 0, self, "lr", "above 0")
        _require(0 <= self.momentum < 1, self, "momentum", "in [0, 1)")
        _require(0 <= self.weight_decay < math.inf, self, "weight_decay", "0 or above")
        _require(0 <= self.label_smoothing < 1, self, "label_smoothing", "in [0, 1)")
        _require(self.ema_decay is None or 0 < self.ema_decay < 1, self, "ema_decay", "in (0, 1)")
        for name in ("holdout", "train_images"):
            value = getattr(self, name)
            whole = value is None or (_is_int(value) and value >= 1)
            _require(whole, self, name, "a whole number of at least 1")
        _require(_is_int(self.seed) and 0 <= self.seed < 2**63, self, "seed", "in [0, 2**63)")
        _require(self.dtype in DTYPES, self, "dtype", f"one of {', '.join(DTYPES)}")
        _require(self.validate in VALIDATES, self, "validate", f"one of {', '.join(VALIDATES)}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("`nesterov` needs a `momentum` above 0; pass nesterov=False.")
        Schedule(num_blocks=1, total_steps=1, t_0=self.t_0, how_scale=self.how_scale)

    def run_epochs(self, speedup: float = 0.0) -> int:
        """Epochs the run really takes, given the share of time that freezing is predicted to save.

        Raises:
            ValueError: a speedup is given though the run is not to be stretched, or is no share.
        """
        if self.const_time:
            return const_time_epochs(self.epochs, speedup)
        if speedup != 0:
            raise ValueError(f"`speedup` is {speedup}, but only `const_time` makes use of it.")
        return self.epochs


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(holds: bool, config: TrainConfig, name: str, rule: str) -> None:
    if not holds:
        raise ValueError(f"`{name}` must be {rule}, got {getattr(config, name)!r}.")
