import os

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, AdamW

import freezeout
from tests.documented import example, lines_of
from tests.gloo import on_ranks
from tests.plain_loop import batches, differences, items, network, state_of, train

os.environ["HF_HUB_OFFLINE"] = "1"  # before it is imported
transformers = pytest.importorskip("transformers", reason="needs the extra `transformers`")
pytest.importorskip("accelerate", reason="needs the extra `transformers`")
from freezeout.integrations.transformers import FreezeOutTrainer  # noqa: E402, after the skips

SCHEDULE = {"t_0": 0.4, "how_scale": "linear"}


def adamw(parameters):
    return AdamW(parameters, lr=0.01, weight_decay=0.1)


class Classifier(nn.Module):
    """A model of any library, with a loss as Trainer asks for it."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, inputs, labels):
        logits = self.net(inputs)
        return {"loss": cross_entropy(logits, labels), "logits": logits}


def data(number=24):
    return [{"inputs": row, "labels": label, "junk": 1} for row, label in items(number)]


class Levels(transformers.TrainerCallback):
    """Notes the level after each step."""

    def __init__(self):
        self.levels = []

    def on_step_end(self, args, state, control, **given):
        del args, state, control
        self.levels.append(given["lr_scheduler"].level)


def arguments(folder, **options):
    quiet = {"use_cpu": True, "disable_tqdm": True, "report_to": [], "logging_strategy": "no"}
    length = {"num_train_epochs": 4, "per_device_train_batch_size": 4, "save_strategy": "no"}
    given = {"train_sampling_strategy": "sequential", "max_grad_norm": 0, "learning_rate": 0.01}
    return transformers.TrainingArguments(str(folder), **{**quiet, **length, **given, **options})


def test_it_trains_as_a_loop_of_ones_own_and_counts_accumulated_gradients_once(tmp_path):
    by_hand, model, seen = network(), Classifier(network()), Levels()
    levels = train(by_hand, adamw, batches(items(24), 4), 2, total_steps=12, **SCHEDULE)
    args = arguments(tmp_path, gradient_accumulation_steps=2)
    given = {"optimizers": (adamw(model.parameters()), None), "callbacks": [seen]}
    trainer = FreezeOutTrainer(model, args, train_dataset=data(), **SCHEDULE, **given)
    trainer.train()
    assert trainer.lr_scheduler.schedule.total_steps == 12
    assert seen.levels == levels
    assert levels[-2] > levels[0] == 0
    assert differences(state_of(model.net), state_of(by_hand)) == []


def bert():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=50, num_hidden_layers=3, num_labels=5, **sizes)
    return transformers.BertForSequenceClassification(config)


def sentences():
    generator = torch.Generator().manual_seed(0)
    return [
        {"input_ids": torch.randint(50, (6,), generator=generator), "labels": index % 5}
        for index in range(24)
    ]


def vit():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    image = {"image_size": 8, "patch_size": 4}
    config = transformers.ViTConfig(num_hidden_layers=3, num_labels=5, **sizes, **image)
    return transformers.ViTForImageClassification(config)


def images():
    generator = torch.Generator().manual_seed(0)
    return [
        {"pixel_values": torch.randn(3, 8, 8, generator=generator), "labels": index % 5}
        for index in range(24)
    ]


def with_subclass(model, args, dataset, callbacks):
    return FreezeOutTrainer(model, args, train_dataset=dataset, callbacks=callbacks, **SCHEDULE)


def with_optimizers(model, args, dataset, callbacks):
    """The way without a Trainer of ours; the length of the run is then the user's to give."""
    items = [{name: each[name] for name in each if name != "junk"} for each in dataset[:2]]
    sample = transformers.default_data_collator(items)
    blocks = freezeout.partition(model, sample)
    optimizer = adamw(blocks.param_groups())
    schedule = freezeout.FreezeOutLR(optimizer, blocks, args.max_steps, **SCHEDULE)
    optimizers = (optimizer, schedule)
    return transformers.Trainer(
        model, args, train_dataset=dataset, callbacks=callbacks, optimizers=optimizers
    )


@pytest.mark.parametrize("made", [with_subclass, with_optimizers])
@pytest.mark.parametrize(
    ("model", "dataset"),
    [(bert, sentences), (lambda: Classifier(network()), data)],
    ids=["bert", "any"],
)
def test_a_run_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path, made, model, dataset):
    options = {"max_steps": 12, "save_strategy": "steps", "save_steps": 5}
    args = arguments(tmp_path, **options, gradient_accumulation_steps=2)
    whole, seen = model(), Levels()
    made(whole, args, dataset(), [seen]).train()
    assert seen.levels[4] > 0
    saved = torch.load(tmp_path / "checkpoint-5" / "scheduler.pt", weights_only=True)
    assert saved["last_epoch"] == 5

    resumed = model()
    with torch.no_grad():
        next(resumed.parameters()).zero_()
    again = Levels()
    runs = made(resumed, args, dataset(), [again])
    runs.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert again.levels == seen.levels[5:]
    assert differences(state_of(resumed), state_of(whole)) == []


def test_the_optimizer_of_the_arguments_is_cut_and_keeps_its_options(tmp_path):
    args = arguments(tmp_path, max_steps=1, weight_decay=0.1)
    trainer = FreezeOutTrainer(vit(), args, train_dataset=images())
    trainer.train()
    groups = trainer.optimizer.param_groups
    names = list(trainer.lr_scheduler.blocks.names)
    assert [(g["block"], g["weight_decay"]) for g in groups] == [
        (name, decay) for decay in (0.1, 0.0) for name in names
    ]
    assert {g["initial_lr"] for g in groups} == {0.01}


def stacked(features):
    """A collator that takes nothing but tensors and numbers."""
    return {key: torch.stack([torch.as_tensor(f[key]) for f in features]) for key in features[0]}


def test_columns_that_the_model_does_not_take_never_reach_the_collator(tmp_path):
    model, named = Classifier(network()), [{**item, "file": "a.png"} for item in data()]
    trainer = FreezeOutTrainer(
        model, arguments(tmp_path), train_dataset=named, data_collator=stacked, **SCHEDULE
    )
    trainer.train()
    assert trainer.state.global_step == trainer.lr_scheduler.last_epoch == 24


def test_the_model_is_thawed_afterwards_and_can_be_trained_again(tmp_path):
    model = Classifier(network())
    trainer = FreezeOutTrainer(model, arguments(tmp_path), train_dataset=data(), **SCHEDULE)
    for _ in range(2):
        seen = Levels()
        trainer.add_callback(seen)
        trainer.train()
        trainer.remove_callback(seen)
        assert max(seen.levels) > 0
        assert all(p.requires_grad for p in model.parameters())


class Stops(transformers.TrainerCallback):
    def on_step_end(self, args, state, control, **given):
        del args, control
        if state.global_step == 20:
            assert given["lr_scheduler"].level > 0
            raise RuntimeError("stopped")


def test_a_run_that_an_error_ended_can_be_begun_again(tmp_path):
    model, stops = Classifier(network()), Stops()
    given = {"callbacks": [stops], **SCHEDULE}
    trainer = FreezeOutTrainer(model, arguments(tmp_path), train_dataset=data(), **given)
    with pytest.raises(RuntimeError, match="stopped"):
        trainer.train()
    trainer.remove_callback(stops)
    trainer.train()
    assert all(p.requires_grad for p in model.parameters())


def test_a_checkpoint_made_without_freezeout_is_refused(tmp_path):
    saving = {"max_steps": 2, "save_strategy": "steps", "save_steps": 2}
    args = arguments(tmp_path, **saving)

    def single_groups(model):
        return SGD([{"params": [p]} for p in model.parameters()], lr=0.1), None

    model = Classifier(network())
    transformers.Trainer(model, args, train_dataset=data(), optimizers=single_groups(model)).train()
    model = Classifier(network())
    trainer = FreezeOutTrainer(model, args, train_dataset=data(), optimizers=single_groups(model))
    with pytest.raises(ValueError, match="this FreezeOutLR state is of another run"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(data())


def given_scheduler(model):
    optimizer = SGD(model.parameters(), lr=0.1)
    return {"optimizers": (optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer))}


REFUSED = {
    "a scheduler": ({}, given_scheduler, "`optimizers` holds ConstantLR"),
    "another schedule": ({"lr_scheduler_type": "cosine"}, lambda _: {}, "`lr_scheduler_type`"),
    "a warm-up": ({"warmup_steps": 2}, lambda _: {}, "`warmup_steps` at 0"),
    "a stream": ({"max_steps": 2}, lambda _: {"train_dataset": Stream()}, "pass `sample`"),
}


@pytest.mark.parametrize(("options", "given", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_had_is_an_error_that_says_what_to_do(tmp_path, options, given, message):
    model = Classifier(network())
    chosen = {"train_dataset": data(), **given(model)}
    with pytest.raises(ValueError, match=message):
        FreezeOutTrainer(model, arguments(tmp_path, **options), **chosen).train()


def one_rank(folder):
    rank, ranks = str(dist.get_rank()), str(dist.get_world_size())
    os.environ.update(LOCAL_RANK=rank, RANK=rank, WORLD_SIZE=ranks, LOCAL_WORLD_SIZE=ranks)
    os.environ.update(MASTER_ADDR="localhost")
    model, seen = Classifier(network(nn.LayerNorm)), Levels()
    options = {"gradient_accumulation_steps": 2, "ddp_find_unused_parameters": False}
    args = arguments(folder, ddp_backend="gloo", **options)
    given = {"optimizers": (adamw(model.parameters()), None), "callbacks": [seen]}
    trainer = FreezeOutTrainer(model, args, train_dataset=data(32), **SCHEDULE, **given)
    trainer.train()
    return type(trainer.model_wrapped).__name__, seen.levels, state_of(model.net)


def test_two_processes_train_as_one_does_on_all_data(tmp_path):
    alone = network(nn.LayerNorm)
    levels = train(alone, adamw, batches(items(32), 8), 2, total_steps=8, **SCHEDULE)
    (wrapper, levels_0, state_0), (_, levels_1, state_1) = on_ranks(one_rank, tmp_path)
    assert wrapper == "DistributedDataParallel"
    assert levels_0 == levels_1 == levels
    assert len(set(levels)) > 2
    assert differences(state_0, state_1) == []
    torch.testing.assert_close(state_0, state_of(alone), rtol=0, atol=1e-3)


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")  # Trainer's default
def test_the_documented_example_runs_in_fifteen_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = example("transformers")
    assert lines_of(code) <= 15
    names = {}
    exec(compile(code, "docs/training.md", "exec"), names)
    trainer = names["trainer"]
    assert trainer.lr_scheduler.last_epoch == trainer.state.global_step > 0
