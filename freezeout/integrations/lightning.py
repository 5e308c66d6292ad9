"""FreezeOut as a callback of Lightning's `Trainer` (the package `lightning`; `pytorch_lightning` is another one)."""

from typing import Any

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
    from lightning.pytorch.utilities.types import LRSchedulerConfig
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'`freezeout.integrations.lightning` needs Lightning ({error}); pip install "freezeout[lightning]".'
    ) from None
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from typing_extensions import override

from freezeout.blocks import partition
from freezeout.integrations.ddp import follow_freezing
from freezeout.integrations.groups import split_groups
from freezeout.integrations.samples import first_batch, on_device_of
from freezeout.schedule import HowScale
from freezeout.scheduler import FreezeOutLR
from freezeout.structure import Granularity
from freezeout.trace import Sample


class FreezeOutCallback(Callback):
    """Trains with FreezeOut: the optimizer's groups are cut into blocks, each of which is annealed and then frozen.

    Lightning steps the schedule after every optimizer step, so accumulated gradients count once, and keeps it in its
    checkpoints. Works on one device and under DDP. After the run the model is thawed.
    """

    def __init__(
        self,
        t_0: float = 0.8,
        how_scale: HowScale = "cubic",
        scale_lr: bool = True,
        *,
        keep_dropout: bool = False,
        granularity: Granularity = "block",
        network: str | None = None,
        sample: Sample | None = None,
        total_steps: int | None = None,
    ) -> None:
        """Choose the schedule; it begins with `Trainer.fit`.

        Args:
            t_0: as of `freezeout.FreezeOutLR`.
            how_scale: as of `freezeout.FreezeOutLR`.
            scale_lr: as of `freezeout.FreezeOutLR`.
            keep_dropout: as of `freezeout.FreezeOutLR`.
            granularity: as of `freezeout.partition`.
            network: name of the submodule to cut into blocks. Without it, the LightningModule itself if it has a
                `forward`, or else the one submodule that holds all of its parameters.
            sample: an input of that network. Without it, the LightningModule's `example_input_array`, or else two
                items of the training data: of a batch that is a tuple or list, its first element.
            total_steps: optimizer steps of the whole run; without it, as Lightning estimates them.
        """
        self._schedule: dict[str, Any] = {"t_0": t_0, "how_scale": how_scale, "scale_lr": scale_lr}
        self._keep_dropout = keep_dropout
        self._granularity = granularity
        self._network = network
        self._sample = sample
        self._total_steps = total_steps
        self.scheduler: FreezeOutLR | None = None
        """The schedule of the present or last run; its `level` is the number of frozen blocks."""

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Cut model and optimizer into blocks, before a checkpoint is loaded into them.

        Raises:
            ValueError: FreezeOut cannot be had with this LightningModule or strategy; says what to do.
        """
        optimizer = _the_optimizer(trainer, pl_module)
        total_steps = self._total_steps or _total_steps(trainer)
        network = _network(pl_module, self._network)
        blocks = partition(
            network, self._input(trainer, pl_module, network), granularity=self._granularity
        )
        split_groups(optimizer, blocks)
        follow_freezing(trainer.strategy.model, trainer.world_size)
        self.scheduler = FreezeOutLR(
            optimizer,
            blocks,
            total_steps,
            **self._schedule,
            keep_dropout=self._keep_dropout,
        )
        # From here on Lightning steps it, saves it and loads it, as one that `configure_optimizers` gave.
        trainer.strategy.lr_scheduler_configs.append(
            LRSchedulerConfig(self.scheduler, interval="step")
        )

    def _input(self, trainer: Trainer, pl_module: LightningModule, network: nn.Module) -> Any:
        sample = self._sample
        if sample is None:
            sample = pl_module.example_input_array
        if sample is None:
            sample = _first_inputs(trainer)
        return on_device_of(network, sample)

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See that a checkpoint brought the schedule along.

        Raises:
            ValueError: the run goes on from a checkpoint that was made without this callback.
        """
        done, counted = trainer.global_step, self._running.last_epoch
        if done != counted:
            raise ValueError(
                f"the run goes on at step {done}, but FreezeOut at step {counted}: the checkpoint was made without "
                "FreezeOutCallback, or another optimizer was stepped beside. Begin a new run."
            )

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Thaw the model."""
        if stage == "fit":
            self._thaw()

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Thaw the model, so that it can be fitted again."""
        self._thaw()

    def _thaw(self) -> None:
        if self.scheduler is not None:
            self.scheduler.remove()

    @property
    def _running(self) -> FreezeOutLR:
        assert self.scheduler is not None, "Lightning calls on_fit_start first"
        return self.scheduler


def _the_optimizer(trainer: Trainer, pl_module: LightningModule) -> Optimizer:
    """The one optimizer, if this run is one that can be frozen."""
    if not isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):
        raise ValueError(
            f"FreezeOutCallback runs on one device or under DDP, not with {type(trainer.strategy).__name__}; "
            'use Trainer(strategy="ddp"), or a loop of your own with FreezeOutLR.'
        )
    if not pl_module.automatic_optimization:
        raise ValueError(
            "FreezeOutCallback needs automatic optimization; with manual optimization make a FreezeOutLR yourself "
            "and step it after the optimizer."
        )
    if len(trainer.optimizers) != 1:
        raise ValueError(
            f"`configure_optimizers` must give one optimizer, got {len(trainer.optimizers)}."
        )
    if trainer.lr_scheduler_configs:
        given = type(trainer.lr_scheduler_configs[0].scheduler).__name__
        raise ValueError(
            f"`configure_optimizers` gives {given}, and FreezeOut sets the learning rates too; give the optimizer "
            "alone, or leave out FreezeOutCallback and give a FreezeOutLR there."
        )
    return trainer.optimizers[0]


def _network(pl_module: LightningModule, name: str | None) -> nn.Module:
    if name is not None:
        return pl_module.get_submodule(name)
    if type(pl_module).forward is not LightningModule.forward:
        return pl_module
    children = [child for child in pl_module.children() if any(True for _ in child.parameters())]
    if len(children) != 1:
        raise ValueError(
            f"{type(pl_module).__name__} has no `forward` and {len(children)} submodules with parameters; name the "
            'one to freeze, as in FreezeOutCallback(network="model").'
        )
    return children[0]


def _first_inputs(trainer: Trainer) -> Any:
    trainer.fit_loop.setup_data()  # which is else done later
    loader = trainer.train_dataloader
    if not isinstance(loader, DataLoader):
        raise ValueError(
            f"the training data is a {type(loader).__name__}, not a DataLoader; pass `sample` to FreezeOutCallback, "
            "or set `example_input_array`."
        )
    batch = first_batch(loader.dataset, loader.collate_fn)
    return batch[0] if isinstance(batch, (tuple, list)) else batch


def _total_steps(trainer: Trainer) -> int:
    steps = trainer.estimated_stepping_batches
    if steps == float("inf"):
        raise ValueError(
            "the length of the run is not known; set `max_steps` or `max_epochs` of the Trainer, or `total_steps` of "
            "FreezeOutCallback."
        )
    return int(steps)
