"""FreezeOut in Hugging Face's `Trainer`."""

import inspect
from typing import Any

try:
    from transformers import (
        Trainer,
        TrainerCallback,
        TrainerControl,
        TrainerState,
        TrainingArguments,
    )
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"`freezeout.integrations.transformers` needs Transformers and Accelerate ({error}); "
        'pip install "freezeout[transformers]".'
    ) from None
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from freezeout.blocks import Blocks, partition
from freezeout.integrations.ddp import follow_freezing
from freezeout.integrations.groups import split_groups
from freezeout.integrations.samples import first_batch, on_device_of
from freezeout.schedule import HowScale
from freezeout.scheduler import FreezeOutLR
from freezeout.structure import Granularity
from freezeout.trace import Sample


class FreezeOutTrainer(Trainer):
    """A `Trainer` whose optimizer is cut into blocks, each of which is annealed and then frozen.

    The optimizer is what the arguments ask for, or the one that is given, and its groups keep their options. The
    schedule is stepped once an optimizer step, takes its length from the Trainer, and is saved in every checkpoint.
    Works in one process and under DDP. After `train()` the model is thawed; `lr_scheduler` tells how far it was.

    To freeze in a subclass of Trainer, inherit from both, this first: `class Mine(FreezeOutTrainer, Seq2SeqTrainer)`.
    """

    def __init__(
        self,
        *args: Any,
        t_0: float = 0.8,
        how_scale: HowScale = "cubic",
        scale_lr: bool = True,
        keep_dropout: bool = False,
        granularity: Granularity = "block",
        sample: Sample | None = None,
        **kwargs: Any,
    ) -> None:
        """Set up a Trainer with `args` and `kwargs`.

        Args:
            args: as of `Trainer`.
            t_0: as of `freezeout.FreezeOutLR`.
            how_scale: as of `freezeout.FreezeOutLR`.
            scale_lr: as of `freezeout.FreezeOutLR`.
            keep_dropout: as of `freezeout.FreezeOutLR`.
            granularity: as of `freezeout.partition`.
            sample: an input of the model; without it, the first two items of `train_dataset`, collated.
            kwargs: as of `Trainer`, without a scheduler in `optimizers`.

        Raises:
            ValueError: FreezeOut cannot be had with these arguments; says what to do.
        """
        self._schedule: dict[str, Any] = {"t_0": t_0, "how_scale": how_scale, "scale_lr": scale_lr}
        self._schedule["keep_dropout"] = keep_dropout
        self._granularity = granularity
        self._sample = sample
        self._watched: nn.Module | None = None  # for its freezing
        super().__init__(*args, **kwargs)
        _refuse(self)
        self.add_callback(_ThawAtTheEnd())

    @override
    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """Make the Trainer's optimizer, or take the one it was given, with its groups cut into blocks."""
        optimizer: Optimizer = super().create_optimizer(model)
        if isinstance(self.lr_scheduler, FreezeOutLR):
            self.lr_scheduler.remove()  # of a run before, that an exception may have ended
        self._blocks = self._cut()
        split_groups(optimizer, self._blocks)
        return optimizer

    def _cut(self) -> Blocks:
        model = self.model
        assert model is not None, "a Trainer has made or been given its model by now"
        sample = self._first_inputs(model) if self._sample is None else self._sample
        return partition(model, on_device_of(model, sample), granularity=self._granularity)

    def _first_inputs(self, model: nn.Module) -> Any:
        if not self.args.remove_unused_columns:
            return first_batch(self.train_dataset, self.data_collator)
        # As the Trainer does: a collator need not know what to do with the columns that the model does not take.
        collate = self._get_collator_with_removed_columns(self.data_collator, "tracing")
        batch = first_batch(self.train_dataset, collate)
        known = inspect.signature(model.forward).parameters
        return {name: value for name, value in batch.items() if name in known}

    @override
    def create_scheduler(
        self, num_training_steps: int, optimizer: Optimizer | None = None
    ) -> FreezeOutLR:
        """Make the schedule of a run of `num_training_steps` optimizer steps."""
        optimizer = optimizer or self.optimizer
        assert optimizer is not None, "a Trainer makes the optimizer first"
        scheduler = FreezeOutLR(optimizer, self._blocks, num_training_steps, **self._schedule)
        self.lr_scheduler: Any = scheduler
        return scheduler

    @override
    def training_step(self, model: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Take one step; the first one sees to it that DDP follows the freezing."""
        if model is not self._watched:
            follow_freezing(model, self.args.world_size)
            self._watched = model
        loss: Tensor = super().training_step(model, *args, **kwargs)
        return loss


class _ThawAtTheEnd(TrainerCallback):
    @override
    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        kwargs["lr_scheduler"].remove()


def _refuse(trainer: Trainer) -> None:
    args = trainer.args
    if trainer.lr_scheduler is not None:
        raise ValueError(
            f"`optimizers` holds {type(trainer.lr_scheduler).__name__}, and FreezeOut sets the learning rates too; "
            "give (optimizer, None), or give a FreezeOutLR to a plain Trainer."
        )
    if args.lr_scheduler_type != "linear" or args.warmup_steps:
        raise ValueError(
            "FreezeOutTrainer sets the learning rates by FreezeOut alone; leave `lr_scheduler_type` at its default "
            "and `warmup_steps` at 0."
        )
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise ValueError(
            "FreezeOutTrainer runs in one process or under DDP, not under FSDP or DeepSpeed; leave `fsdp` and "
            "`deepspeed` out."
        )
    if args.n_gpu > 1:
        raise ValueError(
            "FreezeOutTrainer does not run under DataParallel, whose copies of frozen blocks would be in train mode; "
            "start one process a GPU with `torchrun` or `accelerate launch`."
        )
