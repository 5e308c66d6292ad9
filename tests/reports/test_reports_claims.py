import pytest

from freezeout.perf.records import ScheduleSpec
from freezeout.perf.saving import measured_saving
from reports.claims import claims_table
from reports.collection import collect
from reports.page import html, tone
from reports.summary import markdown
from tests.reports.study import BASELINE, EPOCHS, STEPS, errors, trial

BLOCKS = 8
LITTLE = ScheduleSpec(t_0=0.9, how_scale="linear")
MUCH = ScheduleSpec(t_0=0.5, how_scale="cubic")
NAMES = {"DenseNet": "densenet_bc", "ResNet": "wrn_40_4", "VGG": "vgg16"}


def found(make, model, arms, *, options=None, **changes):
    """The rows of the table on one network, whose baseline has an error of 20 %."""
    config = make.config(model, options=options or {})
    trials = [
        trial(make, config, BLOCKS, spec, seed, error, **changes)
        for salt, (spec, mean) in enumerate({BASELINE: 20.0, **arms}.items())
        for seed, error in enumerate(errors(mean, 4, salt, 0.001) if mean else [None] * 4)
    ]
    report = collect([make.session(), make.curve(config, BLOCKS), *trials])
    return claims_table(report).rows


def test_the_schedules_here_save_less_and_more_than_is_claimed(make):
    curve = make.curve(make.config("vgg16"), BLOCKS)
    little, much = (measured_saving(curve, spec, STEPS * EPOCHS) for spec in (LITTLE, MUCH))
    assert little.low > 0
    assert little.high < 0.2 < much.low


CASES = {
    "kept": ("DenseNet", {MUCH: 20.4}, "UPHELD"),
    "kept by one of two": ("DenseNet", {LITTLE: 22.0, MUCH: 20.4}, "UPHELD"),
    "lost by what saves less and more": ("DenseNet", {LITTLE: 21.0, MUCH: 22.0}, "REFUTED"),
    "lost by what saves less": ("DenseNet", {LITTLE: 21.0}, "REFUTED"),
    "lost by what saves far more": ("DenseNet", {MUCH: 22.0}, "UNDECIDED"),
    "on the line": ("DenseNet", {MUCH: 20.6}, "UNDECIDED"),
    "diverged": ("DenseNet", {LITTLE: None}, "REFUTED"),
    "little saved": ("DenseNet", {LITTLE: 20.0}, "NOT TRIED"),
    "no loss": ("ResNet", {MUCH: 20.0}, "UPHELD"),
    "some loss": ("ResNet", {LITTLE: 20.4, MUCH: 20.5}, "REFUTED"),
    "an improvement": ("VGG", {LITTLE: 20.0}, "REFUTED"),
    "no improvement": ("VGG", {LITTLE: 20.4, MUCH: 20.5}, "UPHELD"),
    "an improvement beside a loss": ("VGG", {LITTLE: 20.0, MUCH: 20.5}, "REFUTED"),
    "on the line of no loss": ("VGG", {LITTLE: 20.2}, "UNDECIDED"),
}


@pytest.mark.parametrize("case", CASES)
def test_claims_are_judged_by_the_intervals_of_saving_and_error(make, case):
    network, arms, verdict = CASES[case]
    ((says, _, word, because, _),) = found(make, NAMES[network], arms)
    assert says.startswith(network)
    assert word == verdict
    assert "%" in because


def test_of_a_single_seed_nothing_is_upheld(make):
    config = make.config("wrn_40_4")
    trials = [
        trial(make, config, BLOCKS, spec, 0, error)
        for spec, error in ((BASELINE, 20.0), (MUCH, 15.0))
    ]
    report = collect([make.session(), make.curve(config, BLOCKS), *trials])
    assert claims_table(report).rows[0][2] == "UNDECIDED"


def test_a_stretched_run_tests_no_claim(make):
    config = make.config("wrn_40_4")
    trials = [
        trial(make, config, BLOCKS, spec, seed, 20.0 + seed, const_time=spec == MUCH)
        for spec in (BASELINE, MUCH)
        for seed in (0, 1)
    ]
    report = collect([make.session(), make.curve(config, BLOCKS), *trials])
    assert claims_table(report).rows[0][2:4] == ("NOT TRIED", "no saving is known")


@pytest.mark.parametrize(
    ("options", "epochs", "dataset", "said"),
    [
        ({"depth": 40.0, "width": 4.0}, 100, "cifar100", "yes"),
        (
            {"depth": 16.0, "width": 4.0},
            100,
            "cifar100",
            "no, only a HINT: not of depth 40, width 4",
        ),
        ({"depth": 40.0, "width": 4.0}, 20, "cifar100", "no, only a HINT: 20 epochs of 100"),
        ({"depth": 40.0, "width": 4.0}, 100, "imagefolder:data/cifar100", "yes"),
        ({"depth": 40.0, "width": 4.0}, 100, "digits", "no, only a HINT: digits, not CIFAR-100"),
    ],
)
def test_small_trainings_only_hint(make, options, epochs, dataset, said):
    changes = {"options": options, "epochs": epochs, "dataset": dataset}
    (row,) = found(make, "wrn_40_4", {MUCH: 20.0}, **changes)
    assert row[4] == said


def test_small_or_few_images_only_hint(make):
    config = make.config("wrn_40_4", options={"depth": 40.0, "width": 4.0}, input_shape=(3, 16, 16))
    told = {"train_images": 10_000}
    trials = [
        trial(make, config, BLOCKS, spec, 0, 20.0, epochs=100, dataset="cifar100", told=told)
        for spec in (BASELINE, MUCH)
    ]
    report = collect([make.session(), make.curve(config, BLOCKS), *trials])
    said = claims_table(report).rows[0][4]
    assert said == "no, only a HINT: 16 pixels of 32, 10000 training images"


def test_networks_of_which_nothing_was_claimed_have_no_row(make):
    assert found(make, "timm:vit_tiny_patch16_224", {MUCH: 20.0}) == ()


def test_page_and_summary_hold_the_claims(make):
    config = make.config("vgg16")
    trials = [trial(make, config, BLOCKS, spec, 0, 20.0) for spec in (BASELINE, MUCH)]
    report = collect([make.session(), make.curve(config, BLOCKS), *trials])
    for text in (html(report), markdown(report)):
        assert "The published claims" in text
        assert "VGG: no improvement" in text
    tones = {"UPHELD": "good", "REFUTED": "bad", "UNDECIDED": "open", "NOT TRIED": "absent"}
    assert {word: tone(word) for word in tones} == tones
