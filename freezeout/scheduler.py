"""`FreezeOutLR`: the schedule as a PyTorch learning-rate scheduler."""

from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from freezeout.blocks import Blocks
from freezeout.freezer import Freezer
from freezeout.schedule import HowScale, Schedule


class FreezeOutLR(LRScheduler):
    """Anneals every block's learning rate to zero on its own schedule and freezes it there (Brock et al. 2017).

    Call `step()` once after every optimizer step, not once an epoch. Fits wherever an `LRScheduler` does, also as a
    member of `SequentialLR` behind a warm-up; the freezing itself happens inside `step()`.

    Unlike in the published code, progress is counted in real optimizer steps, not in assumed ones of 1000 an epoch.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        blocks: Blocks,
        total_steps: int,
        t_0: float = 0.8,
        how_scale: HowScale = "cubic",
        scale_lr: bool = True,
        *,
        keep_dropout: bool = False,
        last_epoch: int = -1,
    ) -> None:
        """Schedule the groups of `optimizer`.

        Args:
            optimizer: made from `blocks.param_groups()`, or from groups of your own in which no group mixes blocks.
            blocks: from `freezeout.partition`.
            total_steps: optimizer steps of the whole run, warm-up by another scheduler not counted.
            t_0: freeze time of the first block as a share of the run, in [0, 1], before `how_scale`; 1 freezes nothing.
            how_scale: `linear`, `squared` or `cubic`: the power applied to the freeze times.
            scale_lr: start each block at `lr / t_i`.
            keep_dropout: leave dropout of frozen blocks on.
            last_epoch: index of the last step taken; leave it at -1 and use `load_state_dict` to resume.

        Raises:
            ValueError: an argument is out of range, or a parameter group belongs to no block or to several.
        """
        if not isinstance(blocks, Blocks):
            raise ValueError(
                f"`blocks` must be what freezeout.partition gives, got {type(blocks).__name__}; "
                "the optimizer comes before it."
            )
        self.schedule = Schedule(
            num_blocks=len(blocks),
            total_steps=total_steps,
            t_0=t_0,
            how_scale=how_scale,
            scale_lr=scale_lr,
        )
        self._block_of_group = [_block_of(group, blocks) for group in optimizer.param_groups]
        self._fingerprint = _fingerprint(self.schedule, blocks, self._block_of_group, keep_dropout)
        self._freezer = Freezer(blocks, optimizer, keep_dropout=keep_dropout)
        super().__init__(
            optimizer, last_epoch
        )  # takes the first step, so everything else is set before

    @property
    def level(self) -> int:
        """Number of blocks that are frozen now."""
        return self._freezer.level

    @property
    def blocks(self) -> Blocks:
        """The blocks that are scheduled."""
        return self._freezer.blocks

    def get_lr(self) -> list[Any]:
        """Learning rate of every group at the current step; puts the step's freeze level into effect.

        The level is set here because this is the one method on the way of `step()` and of the private shortcut that
        `SequentialLR` takes at a milestone.
        """
        self._freezer.set_level(self.schedule.level(self.last_epoch))
        return [
            base * self.schedule.lr_factor(block, self.last_epoch)
            for base, block in zip(self.base_lrs, self._block_of_group, strict=True)
        ]

    def remove(self) -> None:
        """Thaw the model and let go of it, so that another run can begin on it."""
        self._freezer.remove()

    def state_dict(self) -> dict[str, Any]:
        """Progress and a fingerprint of schedule and blocks: plain values that load with `weights_only=True`."""
        return {
            "last_epoch": self.last_epoch,
            "step_count": self._step_count,
            "base_lrs": list(self.base_lrs),
            "last_lr": list(self._last_lr),
            "fingerprint": dict(self._fingerprint),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken: sets the step and freezes what was frozen.

        Raises:
            ValueError: the state is of another schedule or another model; says in what it differs.
        """
        saved = state_dict.get("fingerprint", {})
        for key, here in self._fingerprint.items():
            if saved.get(key) != here:
                raise ValueError(
                    f"this FreezeOutLR state is of another run: `{key}` was {saved.get(key)!r}, is {here!r} here."
                )
        self.last_epoch = state_dict["last_epoch"]
        self._step_count = state_dict["step_count"]
        self.base_lrs = list(state_dict["base_lrs"])
        self._last_lr = list(state_dict["last_lr"])
        self._freezer.set_level(self.schedule.level(self.last_epoch))
        if self.last_epoch >= 0:  # below, a warm-up is in charge of the learning rates
            # Making this scheduler set those of step 0, maybe after the optimizer's state was loaded.
            for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
                _set_lr(group, lr)


def _set_lr(group: dict[str, Any], lr: Any) -> None:
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)  # in place, as a captured graph needs it
    else:
        group["lr"] = lr


def _block_of(group: dict[str, Any], blocks: Blocks) -> int:
    found = {blocks.index_of(parameter) for parameter in group["params"]}
    if len(found) != 1 or None in found:
        what = "a parameter of no block" if None in found else "parameters of several blocks"
        what = what if found else "no parameter"
        raise ValueError(
            f"an optimizer group holds {what}; build the optimizer from blocks.param_groups(), "
            "or from groups that each stay inside one block."
        )
    return int(next(index for index in found if index is not None))


def _fingerprint(
    schedule: Schedule, blocks: Blocks, groups: list[int], keep_dropout: bool
) -> dict[str, Any]:
    return {
        "total_steps": schedule.total_steps,
        "t_0": schedule.t_0,
        "how_scale": schedule.how_scale,
        "scale_lr": schedule.scale_lr,
        "blocks": [f"{block.name} ({block.num_parameters} parameters)" for block in blocks],
        "groups": groups,  # the block of each optimizer group
        "keep_dropout": keep_dropout,
    }
