from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from freezeout.perf.clock import CpuClock
from freezeout.train import train
from freezeout.train.batches import epoch_batches
from freezeout.train.clock import PhaseTimer
from freezeout.train.step import step_sizes
from tests.small_training import (
    assert_same,
    blocks_of,
    dropout_net,
    epochs_of,
    new_run,
    normless_net,
    random_data,
    settings,
    small_net,
    timeless,
)


@pytest.mark.parametrize(
    ("images", "accumulate", "expected"),
    [
        (30, 1, [[10], [10], [10]]),
        (30, 2, [[10, 10], [10]]),
        (34, 2, [[10, 10], [10, 4]]),
        (31, 3, [[10, 10, 11]]),  # batches of one image join the one before
        (45, 9, [[10, 10, 10, 10, 5]]),
    ],
)
def test_a_step_takes_so_many_batches_and_the_last_what_is_left(images, accumulate, expected):
    assert step_sizes(images, 10, accumulate) == expected


def by_hand(data, config, epochs):
    """The gradient of each step is that of the mean loss over all its images at once."""
    module = normless_net()
    optimizer = torch.optim.SGD(
        module.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    sizes = step_sizes(len(data.train), config.batch_size, config.accumulate)
    total = epochs * len(sizes)
    cosine = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda j: 0.5 * (1 + torch.cos(torch.tensor(torch.pi * j / total)).item())
    )
    rng, losses = torch.Generator().manual_seed(0), []
    for _ in range(epochs):
        batches = epoch_batches(data, config.batch_size, rng, True)
        for of_step in sizes:
            parts = [next(batches) for _ in of_step]
            images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(
                module(images), labels, label_smoothing=config.label_smoothing
            )
            loss.backward()
            optimizer.step()
            cosine.step()
            losses.append(loss.item() * len(images) / len(data.train))
    return module, sum(losses[-len(sizes) :])


@pytest.mark.parametrize(("count", "accumulate"), [(30, 3), (34, 2), (34, 3), (36, 5)])
def test_accumulated_batches_make_the_step_of_one_large_batch(count, accumulate):
    data, module = random_data(count), normless_net()
    changes = {"accumulate": accumulate, "t_0": 1.0, "epochs": 2, "label_smoothing": 0.1}
    run = new_run(module, data, **changes)
    record = epochs_of(run)[-1]
    expected, train_loss = by_hand(data, run.config, 2)
    for ours, theirs in zip(module.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert record.train_loss == pytest.approx(train_loss)
    assert record.steps == 2 * run.epoch_steps
    assert run.scheduler.last_epoch == record.steps


def test_labels_are_smoothed_in_training_and_not_in_evaluation():
    data = random_data(20)
    plain, smooth = (
        epochs_of(new_run(normless_net(), data, lr=1e-12, label_smoothing=share, epochs=1))[0]
        for share in (0.0, 0.3)
    )
    assert smooth.eval_loss == pytest.approx(plain.eval_loss, rel=1e-5)
    assert smooth.train_loss != pytest.approx(plain.train_loss, rel=1e-3)


def test_evaluation_is_made_every_so_many_epochs_and_after_the_last():
    records = epochs_of(new_run(small_net(), random_data(), epochs=5, eval_every=2))
    assert [record.eval_error is not None for record in records] == [False, True, False, True, True]
    assert [record.eval_loss is not None for record in records] == [False, True, False, True, True]


def test_published_steps_count_what_was_held_out_as_trained_on():
    """CIFAR as the published code splits it, its pixels aside: 45,000 to train on, 5,000 held out."""
    data = random_data(45_000, 50, held_out=5_000)
    runs = {}
    for published in (False, True):
        changes = {"epochs": 100, "batch_size": 50, "published_steps": published}
        runs[published] = new_run(small_net(), data, **changes)
        assert runs[published].epoch_steps == 900
    totals = {key: run.scheduler.schedule.total_steps for key, run in runs.items()}
    assert totals == {False: 90_000, True: 100_000}
    first = {key: _first_frozen(run.scheduler.schedule) / 90_000 for key, run in runs.items()}
    assert first[True] == pytest.approx(0.569, abs=5e-4)
    assert first[False] == pytest.approx(0.512, abs=5e-4)


def _first_frozen(schedule):
    return next(
        after
        for before, after in pairwise(range(schedule.total_steps))
        if schedule.level(before) == 0 and schedule.level(after) > 0
    )


def test_published_steps_are_counted_in_optimizer_steps():
    data = random_data(45, 10, held_out=5)
    run = new_run(small_net(), data, batch_size=10, accumulate=2, published_steps=True, epochs=3)
    assert run.epoch_steps == 3
    assert run.scheduler.schedule.total_steps == 3 * 3
    whole = new_run(small_net(), data, batch_size=9, accumulate=2, published_steps=True, epochs=3)
    assert (whole.epoch_steps, whole.scheduler.schedule.total_steps) == (3, 9)


@pytest.mark.parametrize(("images", "held_out", "published"), [(31, 0, False), (27, 4, True)])
def test_one_image_left_over_makes_no_step_of_its_own(images, held_out, published):
    """31 images in batches of 10 are three batches, and so one step of three."""
    data = random_data(images, 10, held_out=held_out)
    changes = {"batch_size": 10, "accumulate": 3, "published_steps": published, "epochs": 2}
    run = new_run(small_net(), data, **changes)
    assert [record.steps for record in epochs_of(run)] == [1, 2]
    assert run.scheduler.schedule.total_steps == 2


def test_fp16_computes_in_fp16_and_keeps_weights_in_fp32():
    module, seen = small_net(), []
    run = new_run(module, random_data(), dtype="fp16", epochs=1)
    module[3][1].register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))
    before = module[0][0].weight.detach().clone()
    epochs_of(run)
    assert set(seen) == {torch.float16}
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert not torch.equal(before, module[0][0].weight)


def test_fp16_trains_about_as_fp32_does():
    data = random_data()
    losses = [
        epochs_of(new_run(small_net(), data, dtype=dtype))[-1].train_loss
        for dtype in ("fp32", "fp16")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_a_step_skipped_for_an_overflow_advances_the_schedule_and_nothing_else():
    module = normless_net()
    run = new_run(module, random_data(), dtype="fp16", epochs=2, t_0=1.0)
    run.scaler.load_state_dict(run.scaler.state_dict() | {"scale": 1e30})
    before = [parameter.detach().clone() for parameter in module.parameters()]
    record = epochs_of(run, last=1)[0]
    assert_same(before, [parameter.detach() for parameter in module.parameters()])
    assert run.scheduler.last_epoch == record.steps == 3
    assert run.scaler.get_scale() == pytest.approx(1e30 / 2**3)
    assert record.head_lr == pytest.approx(0.05 / 2)


class Asked(TorchDispatchMode):
    """Counts how often a tensor's value is asked for, which on a GPU waits until it is there."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "changes",
    [{}, {"dtype": "fp16"}, {"accumulate": 2, "label_smoothing": 0.1, "dtype": "bf16"}],
    ids=lambda changes: " ".join(map(str, changes)) or "plain",
)
def test_a_step_asks_for_no_value_of_the_device(changes):
    run = new_run(small_net(), random_data(), **changes)
    batches = epoch_batches(run.data, 10, run.generator, True)
    sizes = [10] * run.config.accumulate
    run.module.train()
    with Asked() as asked:
        taken = run.step.take(batches, sizes, PhaseTimer(CpuClock()))
        assert asked.count == 0
        taken.loss.item()
    assert asked.count == 1


def test_an_operation_without_fp16_is_one_clear_error():
    class Exotic(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = normless_net()

        def forward(self, images):
            logits = self.body(images)
            return logits + torch.special.zeta(logits.detach(), 2.0)

    run = new_run(Exotic(), random_data(), dtype="fp16")
    message = r"`dtype` fp16: torch has no fp16 .*zeta.* use bf16 or fp32"
    with pytest.raises(ValueError, match=message):
        epochs_of(run, last=1)


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "fp16"},
        {"dtype": "bf16", "accumulate": 2},
        {"dtype": "fp16", "accumulate": 3, "ema_decay": 0.9, "label_smoothing": 0.1},
        {"eval_every": 2, "published_steps": True},
    ],
    ids=lambda changes: " ".join(map(str, changes)),
)
def test_a_run_resumes_to_the_same_bits(tmp_path, changes):
    def go(folder, seed=0, resume=False, on_epoch=None):
        module = dropout_net(seed)
        config = settings(batch_size=10, t_0=0.4, **changes)
        options = {"save": folder, "resume": resume, "on_epoch": on_epoch}
        train(module, blocks_of(module), random_data(34), config, **options)
        return timeless(torch.load(folder / "last.pt", weights_only=True))

    def stop(record):
        if record.epoch == 3:
            raise KeyboardInterrupt

    whole = go(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", on_epoch=stop)
    assert_same(go(tmp_path / "cut", seed=99, resume=True), whole)
