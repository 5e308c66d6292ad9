"""`python -m reports RESULTS [RESULTS...] [--out DIR]`: the arguments, and errors as one line."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def write_command(arguments: Sequence[str]) -> int:
    """Write tables, figures, page and summary for one or more results files."""
    parser = argparse.ArgumentParser(prog="python -m reports", description=write_command.__doc__)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help="results file")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder to write to [<results stem>-report beside it]",
    )
    options = parser.parse_args(arguments)
    # Plotting takes a second to import, --help should not.
    from reports.write import default_folder, write

    folder = options.out or default_folder(options.results)
    write(options.results, folder)
    print(folder / "index.html")
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {"write": write_command}
"""What the first argument may name; without a name it is `write`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; user errors become one line on stderr and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    named = bool(arguments) and arguments[0] in COMMANDS
    command = COMMANDS[arguments[0] if named else "write"]
    try:
        return command(arguments[1:] if named else arguments)
    except OSError as error:
        reason = (
            f"cannot write {error.filename}: {error.strerror}" if error.filename else str(error)
        )
        print(f"error: {' '.join(reason.split())}", file=sys.stderr)
    except ValueError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
