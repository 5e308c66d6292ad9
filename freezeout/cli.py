"""`python -m freezeout COMMAND`: arguments only; each command's work is in `freezeout.commands`."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from freezeout.exits import BAD_INPUT, INTERRUPTED

COMMANDS = {
    "predict": "what FreezeOut would save by FLOPs: no GPU, no data, seconds",
    "measure": "what it saves on this machine: the cost curve, and the saving of each schedule",
    "audit": "proof that a frozen block costs nothing in the backward pass of a model",
    "train": "train a model with FreezeOut",
    "sweep": "a study from one file: schedules, baselines, equal-time controls and timing",
}


class _Parser(argparse.ArgumentParser):
    """Reports a wrong argument in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"error: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    from freezeout import __version__

    top = _Parser(
        prog="freezeout",
        description="FreezeOut for any timm or torchvision model: what it saves, and training with it.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"freezeout {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        import_module(f"freezeout.commands.{name}").add_arguments(command)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what the user can put right is one line on stderr and exit code 2."""
    args = parser().parse_args(arguments)
    try:
        return int(import_module(f"freezeout.commands.{args.command}").run(args))
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported here
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
