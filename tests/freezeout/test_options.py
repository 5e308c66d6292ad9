import argparse

import pytest

from freezeout.options import option, switch


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    option(parser, "--how_scale", default="cubic", help="the power")
    option(parser, "--t_0", type=float, default=0.8)
    option(parser, "--no_progress", action="store_true")
    switch(parser, "--scale_lr", default=True, help="the scaling")
    switch(parser, "--const_time", default=False, help="the stretching")
    switch(parser.add_argument_group("more"), "--augment", default=True, help="the crops")
    return parser


def test_defaults_hold_where_nothing_is_given(parser):
    assert vars(parser.parse_args([])) == {
        "how_scale": "cubic",
        "t_0": 0.8,
        "no_progress": False,
        "scale_lr": True,
        "const_time": False,
        "augment": True,
    }


@pytest.mark.parametrize(
    ("argument", "field", "value"),
    [
        ("--how-scale=linear", "how_scale", "linear"),
        ("--how_scale=linear", "how_scale", "linear"),
        ("--t-0=0.5", "t_0", 0.5),
        ("--t_0=0.5", "t_0", 0.5),
        ("--no-progress", "no_progress", True),
        ("--no_progress", "no_progress", True),
        ("--no-scale-lr", "scale_lr", False),
        ("--no-scale_lr", "scale_lr", False),
        ("--no_scale_lr", "scale_lr", False),
        ("--const-time", "const_time", True),
        ("--const_time", "const_time", True),
        ("--no-augment", "augment", False),
        ("--no_augment", "augment", False),
    ],
)
def test_both_spellings_set_the_field(parser, argument, field, value):
    assert getattr(parser.parse_args([argument]), field) == value


@pytest.mark.parametrize("on", ["--scale-lr", "--scale_lr"])
def test_the_last_word_on_a_switch_counts(parser, on):
    assert parser.parse_args(["--no_scale_lr", on]).scale_lr is True
    assert parser.parse_args([on, "--no_scale_lr"]).scale_lr is False


def test_the_help_shows_hyphens_only(parser):
    text = parser.format_help()
    assert "--how-scale" in text
    assert "--no-scale-lr" in text
    assert "--how_scale" not in text
    assert "--t_0" not in text
    assert "scale_lr" not in text
