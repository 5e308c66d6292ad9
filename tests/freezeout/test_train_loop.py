import json

import pytest
import torch
from torch import nn

from freezeout.blocks import partition
from freezeout.train import DivergedError, load, train
from freezeout.train.data import Data
from tests.small_training import blocks_of, normless_net, random_data, settings, small_net


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("none")
    return load("digits", root=root, download=False, validate="valid", device="cpu", image_size=8)


@pytest.fixture(scope="module")
def digits_run(digits):
    """A run with freezing, the weights after each epoch, and the blocks."""
    module = small_net()
    blocks = blocks_of(module)
    weights = []
    result = train(
        module,
        blocks,
        digits,
        # No block freezes between two epochs: its last step would be one at a rate of exactly 0.
        # No crops: shifts by up to 4 pixels are too much for images of 8.
        settings(epochs=6, t_0=0.4, how_scale="linear", augment=False),
        on_epoch=lambda _: weights.append({k: v.clone() for k, v in module.state_dict().items()}),
    )
    return result, weights, blocks


def test_a_small_net_learns_the_digits(digits_run):
    result, _, _ = digits_run
    assert result.eval_error < 25  # chance is 90 %
    assert result.epochs[-1].train_loss < 0.7 * result.epochs[0].train_loss


def test_levels_rise_to_the_last_but_the_head(digits_run):
    result, _, blocks = digits_run
    levels = [record.level for record in result.epochs]
    assert levels == sorted(levels)
    assert levels[0] == 0
    assert result.levels_reached == tuple(range(len(blocks)))
    for before, record in zip(result.epochs, result.epochs[1:], strict=False):
        assert record.levels[0] == before.level


def test_frozen_blocks_stay_bit_equal_and_others_move(digits_run):
    result, weights, blocks = digits_run
    for record, before, after in zip(result.epochs, weights, weights[1:], strict=False):
        for block in blocks:
            names = block.parameter_names
            same = all(torch.equal(before[name], after[name]) for name in names)
            assert same == (block.index < record.level), (record.epoch, block.name)


def test_norm_statistics_freeze_with_their_block(digits_run):
    result, weights, _ = digits_run
    first = next(i for i, record in enumerate(result.epochs) if record.level >= 1)
    means = [state["0.1.running_mean"] for state in weights]
    assert not torch.equal(means[first - 1], means[first])
    assert all(torch.equal(means[first], mean) for mean in means[first:])


def test_the_records_add_up(digits_run):
    result, _, _ = digits_run
    assert [record.epoch for record in result.epochs] == [1, 2, 3, 4, 5, 6]
    assert [record.steps for record in result.epochs] == [24, 48, 72, 96, 120, 144]
    assert result.eval_error == result.epochs[-1].eval_error
    assert result.best_eval_error == min(record.eval_error for record in result.epochs)
    assert result.step_s == pytest.approx(sum(record.step_s for record in result.epochs))
    assert result.wall_s == pytest.approx(sum(record.wall_s for record in result.epochs))
    for record in result.epochs:
        assert min(record.step_s, record.eval_s, record.data_s) > 0
        assert record.step_s + record.eval_s + record.data_s <= record.wall_s
        parts = (record.forward_s, record.backward_s, record.optimizer_s)
        assert min(parts) > 0
        assert record.step_s == pytest.approx(sum(parts))
        assert record.capture_s == 0
    assert result.epochs[-1].head_lr == pytest.approx(0)
    assert result.epochs[2].head_lr == pytest.approx(0.05 / 2)  # halfway down the cosine


def test_the_baseline_never_freezes():
    module = small_net()
    result = train(module, blocks_of(module), random_data(), settings(t_0=1.0, batch_size=10))
    assert result.levels_reached == (0,)
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_the_loop_is_plain_sgd_with_one_cosine_when_nothing_freezes():
    data, config = random_data(held=0), settings(t_0=1.0, batch_size=10, validate="none", epochs=2)
    module = small_net()
    result = train(module, blocks_of(module), data, config)

    by_hand = small_net()
    optimizer = torch.optim.SGD(
        by_hand.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    cosine = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda j: 0.5 * (1 + torch.cos(torch.tensor(torch.pi * j / 6)).item())
    )
    from freezeout.train.batches import epoch_batches

    rng, losses = torch.Generator().manual_seed(0), []
    for _ in range(2):
        for images, labels in epoch_batches(data, 10, rng, True):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(by_hand(images), labels)
            loss.backward()
            optimizer.step()
            cosine.step()
            losses.append(loss.item())
    for ours, theirs in zip(module.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert result.epochs[1].train_loss == pytest.approx(sum(losses[3:]) / 3)


def test_without_images_to_evaluate_there_is_no_error():
    module = small_net()
    config = settings(validate="none", batch_size=10, epochs=1)
    result = train(module, blocks_of(module), random_data(held=0), config)
    assert (result.eval_error, result.best_eval_error) == (None, None)
    assert result.epochs[0].eval_loss is None


def test_losses_and_errors_are_means_over_images_not_batches():
    """31 images in batches of 15 and 16; at a rate of nearly 0 the whole is one evaluation."""
    module = normless_net()
    data = random_data(31, 31)
    same = Data(**{**vars(data), "eval": data.train})
    config = settings(batch_size=15, lr=1e-12, augment=False, epochs=1, eval_batch_size=7)
    record = train(module, blocks_of(module), same, config).epochs[0]
    assert record.steps == 2
    assert record.train_loss == pytest.approx(record.eval_loss, rel=1e-5)
    assert record.train_error == pytest.approx(record.eval_error)
    expected = nn.functional.cross_entropy(
        module(same.normalise(same.train.images)), same.train.labels
    )
    assert record.eval_loss == pytest.approx(expected.item(), rel=1e-5)


def test_const_time_trains_for_longer():
    module = small_net()
    config = settings(const_time=True, batch_size=10, epochs=2)
    result = train(module, blocks_of(module), random_data(), config, speedup=0.5)
    assert len(result.epochs) == 4


def test_bf16_and_channels_last_train_the_same_parameters():
    module = small_net()
    blocks = blocks_of(module)
    before = [parameter.clone() for parameter in module.parameters()]
    config = settings(dtype="bf16", channels_last=True, batch_size=10, epochs=1)
    train(module, blocks, random_data(), config)
    assert module[1][0].weight.is_contiguous(memory_format=torch.channels_last)
    assert module[0][0].weight.dtype == torch.float32
    assert blocks[0].parameters[0] is module[0][0].weight
    assert not any(
        torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True)
    )


def test_deterministic_is_put_back():
    module = small_net()
    config = settings(deterministic=True, batch_size=10, epochs=1)
    train(module, blocks_of(module), random_data(), config)
    assert not torch.are_deterministic_algorithms_enabled()


class Poisoned(nn.Module):
    """Returns NaN from the given training step on."""

    def __init__(self, step):
        super().__init__()
        self.body, self.step, self.calls = small_net(), step, 0

    def forward(self, images):
        poison = self.training and self.calls >= self.step
        self.calls += self.training and not images.is_meta
        return self.body(images) * (float("nan") if poison else 1.0)


def test_divergence_names_the_step_and_keeps_the_metrics(tmp_path):
    module = Poisoned(step=4)
    blocks = blocks_of(module)
    module.calls = 0
    with pytest.raises(DivergedError, match=r"from step 4 on, in epoch 2 \(steps 3 to 5\)"):
        train(module, blocks, random_data(), settings(batch_size=10), save=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("epoch") for line in lines] == [None, 1, 2]
    assert lines[1]["train_loss"] > 0
    assert lines[2]["train_loss"] is None
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 1


def test_a_rate_far_too_high_is_reported_as_divergence():
    module = small_net()
    with pytest.raises(DivergedError, match=r"try a lower `lr` than 1e\+20"):
        train(module, blocks_of(module), random_data(), settings(lr=1e20, batch_size=10))


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        ({"resume": True}, {}, "`resume` needs the folder"),
        ({"resume_if_any": True}, {}, "`resume_if_any` needs the folder"),
        ({"speedup": 0.2}, {}, "only `const_time` makes use of it"),
        ({}, {"validate": "none"}, "loaded with images to evaluate on"),
        ({}, {"dtype": "tf32"}, "tf32 exists on CUDA only"),
        ({}, {"cuda_graph": True}, "`cuda_graph` needs a CUDA device, and the data are on cpu"),
    ],
)
def test_what_does_not_go_together_is_refused(options, changes, message):
    module = small_net()
    with pytest.raises(ValueError, match=message):
        train(module, blocks_of(module), random_data(), settings(**changes), **options)


def test_a_module_elsewhere_than_the_data_is_refused():
    module = small_net()
    blocks = blocks_of(module)
    with pytest.raises(ValueError, match="The module is on meta, the data are on cpu"):
        train(module.to("meta"), blocks, random_data(), settings())


def test_logits_of_a_wrong_shape_are_refused():
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    with pytest.raises(ValueError, match=r"logits of shape \(10, 10\), got \(10, 5\)"):
        train(module, blocks_of(module), random_data(), settings(batch_size=10))


def test_the_progress_bar_shows_the_level(capfd):
    module = small_net()
    config = settings(batch_size=10, t_0=0.3)
    train(module, blocks_of(module), random_data(), config, progress=True)
    assert "level=0" in capfd.readouterr().err


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["fp32", "tf32", "bf16", "fp16"])
def test_training_on_cuda_learns_the_digits(dtype, tmp_path):
    data = load(
        "digits", root=tmp_path, download=False, validate="valid", device="cuda", image_size=8
    )
    module = small_net().cuda()
    blocks = partition(module, torch.zeros(2, 3, 8, 8, device="cuda"))
    result = train(
        module, blocks, data, settings(epochs=6, dtype=dtype, channels_last=True, augment=False)
    )
    assert result.eval_error < 25
    for record in result.epochs:
        booked = record.step_s + record.eval_s + record.data_s
        assert booked == pytest.approx(record.wall_s, rel=0.2, abs=0.005)
