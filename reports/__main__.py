"""The command line: `write` (may be left out), `gate`, `accept` and `catalog`; user errors as one line.

python -m reports RESULTS [RESULTS ...] [--out DIR] [--error-budgets FILE]
python -m reports gate --baseline FILE_OR_DIR [...] --candidate FILE [...] [--margins FILE ...] [--out DIR] [...]
python -m reports accept FILE [FILE ...] --baseline DIR
python -m reports catalog FILE [FILE ...] --out DIR
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path


def write_command(arguments: Sequence[str]) -> int:
    """Write tables, figures, page and summary for one or more results files."""
    parser = argparse.ArgumentParser(
        prog="python -m reports",
        description=write_command.__doc__,
        epilog="Further commands, each with a --help of its own: `python -m reports gate` holds results against a "
        "baseline, `python -m reports accept` makes results the baseline, `python -m reports catalog` reports on an "
        "audited catalog.",
    )
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help="results file")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder to write to [<results stem>-report beside it]",
    )
    _add_error_budgets(parser)
    options = parser.parse_args(arguments)
    # Plotting takes a second to import, --help should not.
    from freezeout.perf.error_budgets import ERROR_BUDGETS, read_error_budgets
    from reports.write import default_folder, write

    named = options.error_budgets
    folder = options.out or default_folder(options.results)
    write(options.results, folder, read_error_budgets(named) if named else ERROR_BUDGETS)
    print(folder / "index.html")
    return 0


def _add_error_budgets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--error-budgets",
        type=Path,
        metavar="FILE",
        help="TOML file of how much error which saving may cost, instead of the budgets in freezeout/perf",
    )


def gate_command(arguments: Sequence[str]) -> int:
    """Is the candidate worse than the baseline? Exit codes: 0 pass, 1 regression, 2 bad input, 3 undecided."""
    parser = argparse.ArgumentParser(
        prog="python -m reports gate", description=gate_command.__doc__
    )
    add = partial(parser.add_argument, nargs="+", type=Path)
    add("--baseline", required=True, metavar="FILE_OR_DIR", help="results to hold against")
    add("--candidate", required=True, metavar="FILE", help="results that are judged")
    add("--margins", default=[], metavar="FILE", help="repetitions to learn noise margins from")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for gate.md, gate.json and benchmark files"
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="let pass what the baseline has and the candidate has not",
    )
    _add_error_budgets(parser)
    options = parser.parse_args(arguments)
    from reports.gate.command import gate

    text, code = gate(
        options.baseline,
        options.candidate,
        options.margins,
        folder=options.out,
        allow_missing=options.allow_missing,
        error_budgets=options.error_budgets,
    )
    print(text)
    return code


def accept_command(arguments: Sequence[str]) -> int:
    """Make results the baseline of the gate: one results file per machine in a folder."""
    parser = argparse.ArgumentParser(
        prog="python -m reports accept", description=accept_command.__doc__
    )
    parser.add_argument("results", nargs="+", type=Path, metavar="FILE", help="results file")
    parser.add_argument(
        "--baseline", required=True, type=Path, metavar="DIR", help="folder, made if missing"
    )
    options = parser.parse_args(arguments)
    from reports.gate.accept import accept

    print("\n".join(accept(options.results, options.baseline)))
    return 0


def catalog_command(arguments: Sequence[str]) -> int:
    """Report on what `freezeout audit --catalog` wrote: README.md, summary.md, catalog.csv and figures."""
    parser = argparse.ArgumentParser(
        prog="python -m reports catalog", description=catalog_command.__doc__
    )
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="catalog file; where two hold the same model, the later one counts",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write to")
    options = parser.parse_args(arguments)
    from reports.catalog.write import write

    print(write(options.files, options.out)[0])
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "write": write_command,
    "gate": gate_command,
    "accept": accept_command,
    "catalog": catalog_command,
}
"""What the first argument may name; without a name it is `write`."""


def _check_name(name: str) -> None:
    """Refuse what is neither a file nor a command, but nearly a command."""
    near = get_close_matches(name, COMMANDS, n=1)
    if near and not Path(name).exists():
        raise ValueError(f"there is no command or file `{name}`; did you mean `{near[0]}`?")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; user errors become one line on stderr and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    named = bool(arguments) and arguments[0] in COMMANDS
    command = COMMANDS[arguments[0] if named else "write"]
    try:
        if arguments and not named:
            _check_name(arguments[0])
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
