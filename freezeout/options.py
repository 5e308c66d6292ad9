"""Command-line options that are accepted in both spellings, `--how-scale` and `--how_scale`.

The published code spells its options with underscores; the help of this project shows hyphens.
Build the parser with `allow_abbrev=False`: a shortened option would match both spellings.
"""

import argparse
from typing import Any

Parser = argparse.ArgumentParser | argparse._ArgumentGroup


def option(parser: Parser, name: str, **settings: Any) -> None:
    """Add the option `name` in both spellings; the help shows the one with hyphens.

    Args:
        parser: a parser or a group of one.
        name: the option in either spelling, with its leading `--`.
        **settings: as for `add_argument`, without `required`, which would ask for both spellings.
    """
    shown = _hyphens(name)
    action = parser.add_argument(shown, **settings)
    _add_hidden(parser, {_underscores(shown)} - {shown}, action.dest, settings)


def switch(
    parser: Parser,
    name: str,
    *,
    default: bool,
    help: str,  # noqa: A002 - named as in add_argument
) -> None:
    """Add an on/off option, `name` and its opposite `--no-...`, in both spellings."""
    on = _hyphens(name)
    off = f"--no-{on[2:]}"
    dest = on[2:].replace("-", "_")
    parser.add_argument(on, dest=dest, action="store_true", default=default, help=help)
    parser.add_argument(off, dest=dest, action="store_false", help=f"the opposite of {on}")
    parser.set_defaults(**{dest: default})
    _add_hidden(parser, {_underscores(on)} - {on}, dest, {"action": "store_true"})
    offs = {_underscores(off), f"--no-{dest}"} - {off}  # the published spelling is --no-scale_lr
    _add_hidden(parser, offs, dest, {"action": "store_false"})


def _hyphens(name: str) -> str:
    return "--" + name[2:].replace("_", "-")


def _underscores(name: str) -> str:
    return "--" + name[2:].replace("-", "_")


def _add_hidden(parser: Parser, names: set[str], dest: str, settings: dict[str, Any]) -> None:
    """Further spellings set the same field, have no default of their own and no line of help."""
    unseen = {"dest": dest, "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    if names:
        parser.add_argument(*sorted(names), **(settings | unseen))
