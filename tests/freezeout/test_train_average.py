import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from freezeout import FreezeOutLR
from freezeout.train import train
from freezeout.train.average import MovingAverage
from freezeout.train.evaluation import evaluate
from tests.small_training import (
    assert_same,
    blocks_of,
    epochs_of,
    new_run,
    random_data,
    settings,
    small_net,
)


def averaged_steps(average, module, count=5):
    rng = torch.Generator().manual_seed(0)
    for _ in range(count):
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                if tensor.is_floating_point():
                    tensor += torch.randn(tensor.shape, generator=rng)
                else:
                    tensor += 1
        average.update_parameters(module)
    return average.state_dict()


def test_it_averages_as_torch_does():
    module = small_net()
    theirs = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    ours = MovingAverage(module, 0.9)
    expected = averaged_steps(theirs, copy.deepcopy(module))
    found = averaged_steps(ours, copy.deepcopy(module))
    assert_same(found, expected)
    assert found["n_averaged"] == 5


def test_the_average_is_of_the_weights_after_every_step():
    module, data = small_net(), random_data()
    run = new_run(module, data, ema_decay=0.5, epochs=1, t_0=1.0)
    seen = []
    step = run.optimizer.register_step_post_hook(
        lambda *_: seen.append(module[3][1].weight.detach().clone())
    )
    epochs_of(run)
    step.remove()
    first, second, third = seen
    expected = 0.5 * (0.5 * first + 0.5 * second) + 0.5 * third
    torch.testing.assert_close(run.average.module[3][1].weight, expected)
    assert torch.equal(run.average.module[0][1].running_mean, module[0][1].running_mean)


def test_the_average_follows_frozen_blocks_to_their_last_weights():
    module = small_net()
    run = new_run(module, random_data(), ema_decay=0.5, epochs=12, t_0=0.1, how_scale="linear")
    epochs_of(run)
    assert run.scheduler.level == 3
    frozen, averaged = module[0][0].weight, run.average.module[0][0].weight
    torch.testing.assert_close(frozen, averaged, rtol=0, atol=1e-7)
    assert not torch.equal(module[3][1].weight, run.average.module[3][1].weight)


def test_evaluation_is_of_the_average():
    module, data = small_net(), random_data()
    run = new_run(module, data, ema_decay=0.9, epochs=2)
    records = epochs_of(run)
    held = data.eval
    with torch.no_grad():
        logits = run.average.module.eval()(data.normalise(held.images))
    expected = nn.functional.cross_entropy(logits, held.labels).item()
    assert records[-1].eval_loss == pytest.approx(expected)
    module.eval()
    own = nn.functional.cross_entropy(module(data.normalise(held.images)), held.labels).item()
    assert records[-1].eval_loss != pytest.approx(own)


def test_evaluating_the_average_leaves_the_model_as_it_was():
    module, data = small_net(), random_data()
    run = new_run(module, data, ema_decay=0.9, epochs=4, t_0=0.2)
    epochs_of(run, last=2)
    assert run.scheduler.level > 0
    module.train()
    module(data.normalise(data.train.images[:4]))  # now frozen blocks are held in eval mode
    modes = [part.training for part in module.modules()]
    before = copy.deepcopy(module.state_dict())
    evaluate(run, data.eval)
    assert [part.training for part in module.modules()] == modes
    assert_same(module.state_dict(), before)


def test_the_copy_has_no_hook_and_trains_nothing():
    run = new_run(small_net(), random_data(), ema_decay=0.9)
    assert not run.average.module._forward_pre_hooks
    assert run.module._forward_pre_hooks
    assert not any(parameter.requires_grad for parameter in run.average.parameters())


def test_a_copy_of_a_model_that_is_frozen_already_acts_on_itself_alone():
    module = small_net()
    optimizer = torch.optim.SGD(blocks_of(module).param_groups(), lr=0.1)
    blocks = blocks_of(module)
    scheduler = FreezeOutLR(optimizer, blocks, total_steps=10, t_0=0.1, how_scale="linear")
    average = MovingAverage(module, 0.9)
    for _ in range(8):
        optimizer.step()
        scheduler.step()
    assert scheduler.level == 3
    module.train()
    average.train()
    images = torch.zeros(4, 3, 8, 8)
    average(images)
    assert not module[0][1].training
    assert average.module[0][1].training  # frozen in the model, not in the copy


def test_a_run_with_an_average_resumes_to_the_same_bits(tmp_path):
    def go(folder, seed=0, resume=False, on_epoch=None):
        module = small_net(seed)
        config = settings(batch_size=10, ema_decay=0.8, t_0=0.4)
        options = {"save": folder, "resume": resume, "on_epoch": on_epoch}
        train(module, blocks_of(module), random_data(), config, **options)
        return torch.load(folder / "last.pt", weights_only=True)

    def stop(record):
        if record.epoch == 2:
            raise KeyboardInterrupt

    whole = go(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", on_epoch=stop)
    resumed = go(tmp_path / "cut", seed=99, resume=True)
    assert whole["ema"]["n_averaged"] == 12
    for key in ("ema", "model", "optimizer"):
        assert_same(resumed[key], whole[key])
    errors = [[r["eval_error"] for r in state["records"]] for state in (resumed, whole)]
    assert errors[0] == errors[1]
