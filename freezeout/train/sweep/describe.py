"""What is known of a training before it is run: the images that it gets and the model that is built for them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from freezeout.perf.records import Config
from freezeout.train.config import BUILT, TrainConfig, Validate
from freezeout.train.data import load
from freezeout.train.step import step_sizes
from freezeout.train.sweep.study import Point
from freezeout.train.sweep.trial import Described


@dataclass(frozen=True, kw_only=True)
class _Images:
    """The images of a training, in numbers."""

    train: int
    published_count: int
    num_classes: int
    size: int
    """Height and width in pixels."""


class Describer:
    """Describes trainings; every data set is read once and every model is built once, on the meta device."""

    def __init__(
        self, create: Callable[..., Any], choose: Callable[[str | None], Literal["cpu", "cuda"]]
    ) -> None:
        """Prepare.

        Args:
            create: makes a model, as `models.create` does.
            choose: the kind of device for the one that is asked for, or for None.
        """
        self._create = cache(create)
        self._choose = choose
        self._images = cache(_images)

    def __call__(self, point: Point) -> Described:
        """Describe the training of `point`.

        Raises:
            ValueError: the data set or the model cannot be had as asked for.
        """
        asked, place = point.config, point.place
        chosen = (asked.validate, asked.holdout, asked.stratified, asked.train_images)
        images = self._images(asked.dataset, place.data_dir, place.image_size, *chosen)
        device = self._choose(place.device)
        _refuse(asked, device, images.train)
        model = self._model(asked, images)
        steps = epoch_steps(images.train, asked)
        counted = epoch_steps(images.published_count, asked)
        return Described(
            config=Config(
                model=model.name,
                options=dict(model.options),
                input_shape=model.input_shape,
                num_classes=model.num_classes,
                batch_size=asked.batch_size,
                dtype=asked.dtype,
                memory_format="channels_last" if asked.channels_last else "contiguous",
                device=device,
            ),
            settings=replace(asked, **{name: model.options.get(name) for name in BUILT}),
            asked=asked,
            place=place,
            epoch_steps=steps,
            pace=counted / steps if asked.published_steps else 1.0,
        )

    def _model(self, asked: TrainConfig, images: _Images) -> Any:
        model = self._create(
            asked.model,
            num_classes=images.num_classes,
            input_size=images.size,
            **{name: getattr(asked, name) for name in BUILT},
            device="meta",
        )
        model.require_classifier()
        return model


def _images(
    dataset: str,
    root: Path,
    image_size: int | None,
    validate: Validate,
    holdout: int | None,
    stratified: bool,
    train_images: int | None,
) -> _Images:
    data = load(
        dataset,
        root=root,
        download=False,
        validate=validate,
        device="cpu",
        image_size=image_size,
        holdout=holdout,
        stratified=stratified,
        train_images=train_images,
    )
    _, height, width = data.image_shape
    if height != width:
        raise ValueError(
            f"The images of {dataset} are {height} x {width} pixels, but models take squares; "
            "give `train.image_size`."
        )
    return _Images(
        train=len(data.train),
        published_count=data.published_count,
        num_classes=data.num_classes,
        size=height,
    )


def epoch_steps(images: int, config: TrainConfig) -> int:
    """Optimizer steps of an epoch of that many images."""
    return len(step_sizes(images, config.batch_size, config.accumulate))


def _refuse(config: TrainConfig, device: Literal["cpu", "cuda"], images: int) -> None:
    """Refuse now what every single training would refuse when it starts."""
    if config.dtype == "tf32" and device == "cpu":
        raise ValueError("`train.dtype` tf32 exists on CUDA only; use fp32 or bf16 on a CPU.")
    if not config.cuda_graph:
        return
    if device == "cpu":
        raise ValueError(
            "`train.cuda_graph` needs a CUDA device, and the trainings are to run on a CPU; "
            "leave it out: `--set train.cuda_graph=false`."
        )
    if config.accumulate > 1:
        raise ValueError(
            f"`train.cuda_graph` captures steps of one batch, and `train.accumulate` is "
            f"{config.accumulate}; leave one of the two out."
        )
    if config.batch_size > images:
        raise ValueError(
            f"`train.cuda_graph` captures steps of `batch_size` images, and of {config.batch_size} "
            f"there are only {images} to train on; use smaller batches."
        )
