import dataclasses

import pytest

from freezeout.train import TrainConfig

PLAIN = {"model": "densenet_bc", "dataset": "digits"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "`epochs` must be a whole number of at least 1, got 0"),
        ({"batch_size": 2.5}, "`batch_size` must be a whole number of at least 1, got 2.5"),
        ({"lr": 0.0}, "`lr` must be above 0"),
        ({"lr": float("nan")}, "`lr` must be above 0"),
        ({"momentum": 1.0}, r"`momentum` must be in \[0, 1\)"),
        ({"momentum": 0.0}, "pass nesterov=False"),
        ({"weight_decay": -1e-4}, "`weight_decay` must be 0 or above"),
        ({"t_0": 1.2}, r"`t_0` must be in \[0, 1\], got 1.2"),
        ({"how_scale": "quartic"}, "`how_scale` must be one of linear, squared, cubic"),
        ({"dtype": "fp8"}, "`dtype` must be one of fp32, tf32, bf16, fp16, got 'fp8'"),
        ({"accumulate": 0}, "`accumulate` must be a whole number of at least 1, got 0"),
        ({"eval_every": True}, "`eval_every` must be a whole number of at least 1, got True"),
        ({"label_smoothing": 1.0}, r"`label_smoothing` must be in \[0, 1\)"),
        ({"ema_decay": 1.0}, r"`ema_decay` must be in \(0, 1\)"),
        ({"train_images": 0}, "`train_images` must be a whole number of at least 1"),
        ({"validate": "all"}, "`validate` must be one of valid, test, none"),
        ({"seed": -1}, "`seed` must be in"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**PLAIN, **settings)


def test_the_defaults_are_the_published_ones():
    config = TrainConfig(**PLAIN)
    assert (config.t_0, config.how_scale, config.scale_lr) == (0.8, "cubic", True)
    assert (config.epochs, config.batch_size, config.lr, config.momentum) == (100, 50, 0.1, 0.9)
    assert (config.weight_decay, config.nesterov, config.augment) == (1e-4, True, True)
    assert (config.accumulate, config.label_smoothing, config.ema_decay) == (1, 0, None)


def test_const_time_stretches_the_run_to_what_the_baseline_costs():
    config = TrainConfig(**PLAIN, const_time=True)
    assert config.run_epochs(0.2) == 125
    assert config.run_epochs(0.0) == 100


def test_a_speedup_without_const_time_is_refused():
    with pytest.raises(ValueError, match="only `const_time` makes use of it"):
        TrainConfig(**PLAIN).run_epochs(0.2)


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig(**PLAIN).lr = 0.2
