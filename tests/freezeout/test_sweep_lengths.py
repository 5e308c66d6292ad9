"""What decides how long controls and stretched runs are, and that it is settled once."""

import dataclasses
import json

import pytest

from freezeout.perf.records import Config, ScheduleSpec, Session, Training
from freezeout.train.config import TrainConfig
from freezeout.train.sweep.lengths import Lengths, missing
from freezeout.train.sweep.notes import Notes
from freezeout.train.sweep.study import Place
from freezeout.train.sweep.trial import Described

CONFIG = Config(
    model="m",
    options={},
    input_shape=(3, 8, 8),
    num_classes=10,
    batch_size=50,
    dtype="fp32",
    memory_format="contiguous",
    device="cuda",
)


def described(**changes):
    settings = TrainConfig(model="m", dataset="digits", **{"epochs": 10, "t_0": 0.5} | changes)
    return Described(
        config=CONFIG, settings=settings, asked=settings, place=Place(), epoch_steps=24, pace=1.0
    )


GRAPH = described(cuda_graph=True)
BASELINE = described(cuda_graph=True, t_0=1.0)


class Curves:
    """Stands in for the timings."""

    def __init__(self, saved):
        self.value = saved

    def saved(self, config, spec):
        assert (config, spec) == (CONFIG, ScheduleSpec(t_0=0.5, how_scale="cubic"))
        return self.value


def session(name, device_name="a"):
    return Session(
        session=name, started="", command="", environment={"device_name": device_name, "load": 1}
    )


def training(each, step_s, *, of="one", **changes):
    plain = {
        "session": of,
        "config": each.config,
        "schedule": each.spec,
        "dataset": "digits",
        "epochs": 10,
        "const_time": False,
        "seed": each.settings.seed,
        "num_blocks": 5,
        "total_steps": 240,
        "lr": 0.1,
        "eval_error_percent": 5.0,
        "history": (),
        "step_s": step_s,
        "exclusive": True,
        "settings": dataclasses.asdict(each.settings),
    }
    return Training(**plain | changes)


@pytest.fixture
def lengths(tmp_path):
    """Lengths by these trainings, (training, session) each, and by a curve that says 0.4."""

    def make(*trainings, saved=0.4, folder=tmp_path):
        notes = Notes(folder / "results.jsonl", session("one"))
        for each in trainings:
            notes.keep(each, session(each.session, "b" if each.session == "two" else "a"))
        return Lengths(folder / "lengths.json", Curves(saved), notes)

    return make


def test_plain_steps_go_by_the_curve(lengths):
    own = [training(described(), 8.0), training(described(t_0=1.0), 10.0)]
    assert lengths(*own).saved(described()) == 0.4


@pytest.mark.parametrize(
    "settings",
    [{"cuda_graph": True}, {"accumulate": 2}, {"ema_decay": 0.9}, {"deterministic": True}],
    ids=lambda settings: next(iter(settings)),
)
def test_steps_that_no_curve_is_of_go_by_trainings_alone(lengths, settings):
    each, baseline = described(**settings), described(**settings, t_0=1.0)
    found = lengths(training(each, 7.0), training(baseline, 10.0))
    assert found.saved(each) == pytest.approx(0.3)
    stretched = described(**settings, const_time=True, seed=3)
    assert found.saved(stretched) == pytest.approx(0.3)


def test_seeds_are_averaged_and_times_are_those_of_a_step(lengths):
    other = described(cuda_graph=True, seed=1)
    found = lengths(
        training(GRAPH, 7.0),
        training(other, 18.0, total_steps=480),
        training(BASELINE, 10.0),
    )
    assert found.saved(GRAPH) == pytest.approx(0.2)


NO_USE = {
    "shared": {"exclusive": False},
    "diverged": {"eval_error_percent": None},
    "of another model": {"config": dataclasses.replace(CONFIG, model="n")},
    "on another machine": {"of": "two"},
    "otherwise set": {"settings": dataclasses.asdict(described().settings)},
    "a control": {"control_of": ScheduleSpec(t_0=0.3, how_scale="cubic")},
}


@pytest.mark.parametrize("changes", NO_USE.values(), ids=NO_USE.keys())
def test_a_training_whose_time_is_not_to_be_compared_decides_nothing(lengths, changes, tmp_path):
    found = lengths(training(GRAPH, 7.0, **changes), training(BASELINE, 10.0))
    assert found.saved(GRAPH) is None
    assert "each alone on the same machine" in missing(GRAPH)
    assert not (tmp_path / "lengths.json").exists()


def test_each_machine_is_compared_with_itself(lengths):
    found = lengths(
        *(training(GRAPH, 8.0), training(BASELINE, 10.0)),
        *(training(GRAPH, 0.6, of="two"), training(BASELINE, 1.0, of="two")),
    )
    assert found.saved(GRAPH) == pytest.approx(0.3)


def test_what_is_settled_stays_whatever_is_measured_later(lengths):
    assert lengths().saved(described()) == 0.4
    later = lengths(saved=0.1)
    assert later.saved(described(seed=2, const_time=True)) == 0.4
    assert later.measured(described()) == 0.1
    assert later.saved(described(lr=0.01)) == 0.1


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": "b"}', '{"a": 1.5}'])
def test_a_damaged_file_is_named(lengths, tmp_path, text):
    (tmp_path / "lengths.json").write_text(text)
    with pytest.raises(ValueError, match=r"lengths\.json is damaged: remove it"):
        lengths()


def test_the_file_can_be_read_by_people(lengths, tmp_path):
    lengths().saved(described())
    (key,) = json.loads((tmp_path / "lengths.json").read_text())
    assert key.startswith("m, cubic t_0=0.5 scaled, 10 epochs, ")
