from weakref import ref

import pytest
import torch
from torch import nn

import models
from freezeout.perf.clock import CpuClock
from freezeout.perf.records import Config
from freezeout.perf.workload import NUM_BATCHES, Subject, Workload, batches, subject_of


def config(**changes):
    values = {
        "model": "tiny",
        "input_shape": (3, 8, 8),
        "num_classes": 10,
        "batch_size": 4,
        "dtype": "fp32",
        "memory_format": "contiguous",
        "device": "cpu",
    }
    return Config(**values | changes)


class Tiny(nn.Module):
    def __init__(self, wrap=lambda scores: scores):
        super().__init__()
        self.wrap = wrap
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 10)

    def forward(self, images):
        hidden = self.norm(self.stem(images)).relu()
        return self.wrap(self.head(self.body(hidden).relu().mean((2, 3))))


def workload(build=Tiny, *, seed=0, freezer=True, **changes):
    return Workload(Subject(config=config(**changes), build=build), seed=seed, freezer=freezer)


@pytest.mark.parametrize("size", [8, 20, 32])
def test_batches_are_real_images_of_the_models_size(size):
    found = batches(config(input_shape=(3, size, size), batch_size=6), torch.device("cpu"))
    assert len(found) == NUM_BATCHES
    for images, labels in found:
        assert images.shape == (6, 3, size, size)
        assert images.dtype == torch.float32
        assert -1 <= images.min() < -0.9
        assert images.max() <= 1
        assert torch.equal(images[:, 0], images[:, 2])  # digits are grey
        assert labels.dtype == torch.int64
        assert labels.min() >= 0
        assert labels.max() < 10
    assert not torch.equal(found[0][0], found[1][0])


def test_labels_fit_the_models_classes():
    (_, labels), *_ = batches(config(num_classes=3, batch_size=64), torch.device("cpu"))
    assert set(labels.tolist()) == {0, 1, 2}


def test_a_batch_may_be_larger_than_the_data():
    found = batches(config(batch_size=1600), torch.device("cpu"))
    assert all(len(images) == 1600 for images, _ in found)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"input_shape": (3, 8, 9)}, r"square RGB images, but tiny takes \(3, 8, 9\)"),
        ({"input_shape": (1, 8, 8)}, r"square RGB images, but tiny takes \(1, 8, 8\)"),
        ({"num_classes": 0}, "tiny has no classes"),
    ],
    ids=["oblong", "grey", "no classes"],
)
def test_what_the_bench_cannot_feed_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        batches(config(**wrong), torch.device("cpu"))


def test_channels_last_is_kept_by_model_and_images():
    setup = workload(memory_format="channels_last")
    images, _ = next(setup._batches)
    assert images.is_contiguous(memory_format=torch.channels_last)
    weight = setup.model.body.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert setup.blocks.index_of(weight) is not None  # still the parameter that was partitioned


def weights(setup):
    return torch.cat([p.detach().flatten() for p in setup.model.parameters()])


def test_weights_are_those_of_the_seed():
    one, same, other = workload(), workload(), workload(seed=1)
    assert torch.equal(weights(one), weights(same))
    assert not torch.equal(weights(one), weights(other))
    for setup in (one, same):
        for _ in range(6):
            setup.step(CpuClock())
    assert torch.equal(weights(one), weights(same))


def test_a_step_trains_and_marks_its_phases_in_order():
    setup = workload()
    before = weights(setup)
    marks = setup.step(CpuClock())
    assert list(marks) == sorted(marks)
    assert len(set(marks)) == 4
    assert not torch.equal(before, weights(setup))
    assert all(p.grad is None for p in setup.model.parameters())
    assert setup.model.training


def test_a_step_at_a_level_leaves_frozen_blocks_alone():
    setup = workload()
    setup.freezer.set_level(2)
    before = {key: value.clone() for key, value in setup.model.state_dict().items()}
    for _ in range(3):
        setup.step(CpuClock())
    moved = [k for k, v in setup.model.state_dict().items() if not torch.equal(before[k], v)]
    assert {name.partition(".")[0] for name in moved} == {"head"}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda scores: (scores, scores * 2),
        lambda scores: [scores],
        lambda scores: {"out": scores, "aux": scores * 2},
        lambda scores: ({"out": [scores]},),
    ],
    ids=["tuple", "list", "mapping", "nested"],
)
def test_the_loss_is_of_the_first_of_several_outputs(wrap):
    plain, wrapped = workload(), workload(lambda: Tiny(wrap))
    images, labels = next(plain._batches)
    assert torch.equal(plain.loss(images, labels), wrapped.loss(images, labels))


@pytest.mark.parametrize(("dtype", "expected"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_half_formats_compute_in_theirs_and_keep_weights_in_fp32(dtype, expected):
    setup = workload(dtype=dtype)
    before, seen = weights(setup), []
    setup.model.head.register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))
    setup.step(CpuClock())
    assert seen == [expected]
    assert {p.dtype for p in setup.model.parameters()} == {torch.float32}
    assert not torch.equal(before, weights(setup))


def test_fp16_scales_its_gradients_and_steps_as_fp32_does():
    scaled, plain = workload(dtype="fp16"), workload()
    found = []
    for setup in (scaled, plain):
        weight = setup.model.head.weight
        weight.register_hook(lambda gradient: found.append(gradient.abs().max().item()))
        for _ in range(3):
            setup.step(CpuClock())
    assert found[0] / found[3] == pytest.approx(2**16, rel=0.05)
    torch.testing.assert_close(weights(scaled), weights(plain), rtol=1e-2, atol=1e-3)


def test_what_fp16_thaws_trains_on():
    setup = workload(dtype="fp16")
    for level in (2, 0, 1, 0):
        setup.freezer.set_level(level)
        for _ in range(2):
            setup.step(CpuClock())
    assert weights(setup).isfinite().all()


def test_less_is_saved_for_the_backward_pass_the_more_is_frozen():
    setup = workload()
    saved = []
    for level in range(len(setup.blocks)):
        setup.freezer.set_level(level)
        saved.append(setup.saved_bytes())
    assert saved == sorted(saved, reverse=True)
    assert len(set(saved)) == len(saved) > 2


def test_saved_bytes_are_those_of_activations_each_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(192, 16), nn.Linear(16, 10)

        def forward(self, images):
            hidden = self.first(images.flatten(1))
            return self.second(hidden) * self.second(hidden)

    setup = workload(Twice)
    # Images; `hidden`, used twice; both factors; scores after log_softmax; labels and the loss' weight.
    floats = 4 * (192 + 16 + 10 + 10 + 10)
    assert setup.saved_bytes() == pytest.approx(4 * floats + 4 * 8, abs=64)


def test_a_workload_without_a_freezer_leaves_the_model_to_a_scheduler():
    setup = workload(freezer=False)
    assert setup.freezer is None
    assert not setup.model._forward_pre_hooks


def test_a_subject_describes_the_model_it_builds():
    def create(**settings):
        return models.create("densenet_bc", depth=10, growth_rate=4, **settings)

    found = subject_of(create, batch_size=3, dtype="fp32", memory_format="contiguous", device="cpu")
    assert found.config.model == "densenet_bc"
    assert found.config.options["depth"] == 10
    assert (found.config.input_shape, found.config.num_classes) == ((3, 32, 32), 10)
    assert found.config.batch_size == 3
    assert found.published == {"growth_rate": 4, "num_blocks_per_stage": 1}
    assert {p.device.type for p in found.build().parameters()} == {"cpu"}
    setup = Workload(found)
    assert list(setup.blocks.names) == list(dict.fromkeys(found.groups.values()))
    setup.step(CpuClock())


def test_stages_are_coarser_than_blocks():
    def create(**settings):
        return models.create("wrn_16_1", **settings)

    kinds = ("block", "stage")
    settings = {"dtype": "fp32", "memory_format": "contiguous", "device": "cpu"}
    found = [subject_of(create, batch_size=2, granularity=g, **settings) for g in kinds]
    sizes = [len(set(each.groups.values())) for each in found]
    assert sizes[0] > sizes[1] > 1


def test_counting_saved_bytes_keeps_nothing_alive():
    setup, kept = workload(), []

    def end(_module, _args, out):
        found = out.sigmoid()  # whose backward pass needs its own result
        kept.append(ref(found.untyped_storage()))
        return found

    setup.model.register_forward_hook(end)
    assert setup.saved_bytes() > 0
    assert [each() for each in kept] == [None]
