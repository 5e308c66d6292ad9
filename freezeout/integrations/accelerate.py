"""FreezeOut in a loop of one's own under Hugging Face's Accelerate."""

from typing import Any

try:
    from accelerate import Accelerator, DistributedType
    from accelerate.optimizer import AcceleratedOptimizer
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'`freezeout.integrations.accelerate` needs Accelerate ({error}); pip install "freezeout[accelerate]".'
    ) from None
from torch import nn

from freezeout.blocks import partition
from freezeout.integrations.ddp import follow_freezing
from freezeout.integrations.groups import split_groups
from freezeout.integrations.samples import on_device_of
from freezeout.schedule import HowScale
from freezeout.scheduler import FreezeOutLR
from freezeout.structure import Granularity
from freezeout.trace import Sample

_KINDS = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)


class FreezeOutScheduler:
    """A FreezeOutLR that is stepped as Accelerate's examples step a scheduler: after every `optimizer.step()`.

    It counts an optimizer step once, whatever the number of processes, and none while gradients accumulate or where a
    step is skipped for an overflow. A scheduler that goes through `accelerator.prepare` is stepped once a process
    instead, so that on two processes blocks would freeze after half their time.

    `accelerator.save_state` and `load_state` take it along. Under DDP the prepared model follows the freezing.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: AcceleratedOptimizer,
        sample: Sample,
        total_steps: int,
        t_0: float = 0.8,
        how_scale: HowScale = "cubic",
        scale_lr: bool = True,
        *,
        keep_dropout: bool = False,
        granularity: Granularity = "block",
    ) -> None:
        """Cut `model` and the groups of `optimizer` into blocks, and schedule them.

        Args:
            accelerator: that prepared the two.
            model: as `accelerator.prepare` returned it.
            optimizer: as `accelerator.prepare` returned it, before its first step.
            sample: one input of the model, as of `freezeout.partition`.
            total_steps: optimizer steps of the whole run.
            t_0: as of `freezeout.FreezeOutLR`.
            how_scale: as of `freezeout.FreezeOutLR`.
            scale_lr: as of `freezeout.FreezeOutLR`.
            keep_dropout: as of `freezeout.FreezeOutLR`.
            granularity: as of `freezeout.partition`.

        Raises:
            ValueError: FreezeOut cannot be had with these; says what to do.
        """
        _refuse(accelerator, optimizer)
        self._accelerator = accelerator
        self._optimizer = optimizer
        network = accelerator.unwrap_model(model, keep_torch_compile=False)
        blocks = partition(network, on_device_of(network, sample), granularity=granularity)
        split_groups(optimizer, blocks)
        self.freeze_out = FreezeOutLR(
            optimizer, blocks, total_steps, t_0, how_scale, scale_lr, keep_dropout=keep_dropout
        )
        """The schedule itself; its `level` is the number of frozen blocks."""
        follow_freezing(model, accelerator.num_processes)
        accelerator.register_for_checkpointing(self)

    def step(self) -> None:
        """Count one optimizer step, if `optimizer.step()` has just made one."""
        if self._accelerator.sync_gradients and not self._optimizer.step_was_skipped:
            self.freeze_out.step()

    def get_last_lr(self) -> list[Any]:
        """Learning rate of every optimizer group."""
        return self.freeze_out.get_last_lr()

    def remove(self) -> None:
        """Thaw the model, when the run is over."""
        self.freeze_out.remove()

    def state_dict(self) -> dict[str, Any]:
        """As of `FreezeOutLR`."""
        return self.freeze_out.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As of `FreezeOutLR`."""
        self.freeze_out.load_state_dict(state_dict)


def _refuse(accelerator: Accelerator, optimizer: Any) -> None:
    if accelerator.distributed_type not in _KINDS:
        raise ValueError(
            f"FreezeOutScheduler runs in one process or under DDP, not with {accelerator.distributed_type}; "
            "use DDP, or for FSDP2 a loop of your own with FreezeOutLR (see freezeout.distributed)."
        )
    if not isinstance(optimizer, AcceleratedOptimizer):
        raise ValueError(
            f"`optimizer` must come from accelerator.prepare, got {type(optimizer).__name__}."
        )
