"""`audit --catalog`: the audit of every model of a library or of a list."""

import argparse
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freezeout.commands.audit_lines import Display, end_lines
from freezeout.commands.audit_worker import COMMAND
from freezeout.commands.choices import models_package
from freezeout.cores import cores
from freezeout.exits import INTERRUPTED, SOME_FAILED
from freezeout.interrupts import sigterm_interrupts
from freezeout.options import option

if TYPE_CHECKING:
    from freezeout.catalog.conduct import Task
    from freezeout.catalog.file import CatalogFile
    from freezeout.catalog.records import AuditSession, ModelRow

LIBRARIES = ("timm", "torchvision")
EPILOG = """\
A whole catalog, on the meta device (shapes without data, real autograd):
  python -m freezeout audit --catalog timm --jobs 2
writes a line for each model as it is done: its blocks, whether they are complete and in the order of
first use by a second trace, and what a backward pass shows at the first, quarter, half, three quarters
and last level; beside it what freezing leaf modules in the order of registration shows at the same
shares of its layers (the baseline). What cannot be audited is a line with its reason. FILE has a model
name a line, as for MODEL; # begins a comment. A model that takes more than 10 min is not audited, nor
the largest where all jobs together take more than 7.5 GiB of memory (with four jobs or more, which have
to be asked for: 1 GiB each and 4 more); a job takes 0.8 GiB for most models.
--resume goes on with the file of the same --catalog and --models: models with a line made by this very
torch, timm, torchvision, freezeout, Python and commit are not audited again, but those that could not be
are tried once more. Code with changes that are not committed takes over nothing.
A report of the file: python -m reports catalog FILE --out DIR
Exit codes: 0 every model proven, 1 some not, 2 bad input, 130 interrupted (nothing measured is lost).
"""


def add_catalog_options(parser: argparse.ArgumentParser) -> None:
    """The options of an audit of many models."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    group = parser.add_argument_group("catalog")
    group.add_argument(
        "--catalog",
        metavar="timm|torchvision|FILE",
        help="audit every model of a library, or of a list, instead of one MODEL",
    )
    group.add_argument(
        "--models",
        metavar="GLOB",
        help="only those whose name fits, such as 'vit_*' or 'timm:vit_*'",
    )
    group.add_argument(
        "--jobs", type=int, metavar="N", help="models at a time (the cores, 3 at most)"
    )
    group.add_argument("--out", type=Path, metavar="FILE", help="(results/catalog_NAME.jsonl)")
    group.add_argument("--resume", action="store_true", help="go on with the file")
    option(group, "--no_baseline", action="store_true", help="leave the rule of leaf modules out")


@dataclass(frozen=True)
class _Plan:
    """What this run of the command has to do."""

    names: list[str]
    """All that was asked for."""
    known: "dict[str, ModelRow]"
    """Rows that are taken over from an earlier run."""
    to_do: "list[Task]"


def run_catalog(args: argparse.Namespace) -> int:
    """Audit the catalog; returns 0 if every model is proven, else 1, or 130 if somebody interrupted.

    Raises:
        ValueError: whatever the user can put right.
    """
    jobs = _jobs(args.jobs)
    models_package()
    names = _names(args.catalog, args.models)
    out = args.out or Path("results") / f"catalog_{Path(args.catalog).name}.jsonl"
    from freezeout.catalog.file import CatalogFile

    with CatalogFile(out, resume=args.resume, note=_say) as file:
        _check_asked(args, file)
        session = _session(args, len(names), jobs)
        plan = _plan(names, file, session.environment, baseline=not args.no_baseline)
        if args.resume:
            print(_taken_over(plan, out, session.environment), flush=True)
        file.append(session)
        return _conduct(plan, file, session, jobs)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _jobs(asked: int | None) -> int:
    if asked is not None and asked < 1:
        raise ValueError(f"`--jobs` must be at least 1, got {asked}.")
    from freezeout.catalog.conduct import MOST_JOBS

    return asked or min(cores(), MOST_JOBS)


def _check_asked(args: argparse.Namespace, file: "CatalogFile") -> None:
    """Refuse a file of other models, for nobody could tell when it is complete."""
    from freezeout.catalog.records import AuditSession

    for each in file.contents.records:
        if isinstance(each, AuditSession) and (each.catalog, each.models_glob) != (
            args.catalog,
            args.models,
        ):
            glob = f" --models {shlex.quote(each.models_glob)}" if each.models_glob else ""
            raise ValueError(
                f"{file.path} is of `--catalog {shlex.quote(each.catalog)}{glob}`: "
                "ask for the same, or name another file with --out."
            )


def _taken_over(plan: _Plan, out: Path, environment: Mapping[str, Any]) -> str:
    from freezeout.catalog.file import has_changes

    if has_changes(environment):
        return f"no model is taken over from {out}: this code has changes that are not committed"
    return f"{len(plan.known)} of {len(plan.names)} models are in {out} already"


def _names(catalog: str, pattern: str | None) -> list[str]:
    """Names of the models asked for, each once."""
    if catalog in LIBRARIES:
        names = models_package().names(f"{catalog}:*")
        if not names:
            raise ValueError(f"{catalog} is not installed: pip install {catalog}")
    else:
        names = _listed(Path(catalog))
    chosen = [name for name in dict.fromkeys(names) if _fits(name, pattern)]
    if not chosen:
        raise ValueError(
            f"`--models` {pattern!r} fits none of the {len(names)} names of {catalog}."
        )
    return chosen


def _listed(file: Path) -> list[str]:
    """Names that a file lists, one a line."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it is no text"
        raise ValueError(
            f"`--catalog` must be {', '.join(LIBRARIES)} or a file of model names; cannot read {file}: {reason}."
        ) from None
    names = [line.partition("#")[0].strip() for line in text.splitlines()]
    if not any(names):
        raise ValueError(f"{file} lists no model.")
    return [name for name in names if name]


def _fits(name: str, pattern: str | None) -> bool:
    """Whether a pattern fits a name, with or without the name of its library."""
    bare = (
        name.partition(":")[2] if name.startswith(tuple(f"{each}:" for each in LIBRARIES)) else name
    )
    return pattern is None or fnmatchcase(name, pattern) or fnmatchcase(bare, pattern)


def _session(args: argparse.Namespace, asked: int, jobs: int) -> "AuditSession":
    import torch

    from freezeout.catalog.records import AuditSession
    from freezeout.catalog.row import CUTS
    from freezeout.perf.environment import new_session

    base = new_session(torch.device("cpu"))
    return AuditSession(
        catalog=args.catalog,
        models_glob=args.models,
        asked=asked,
        cuts=CUTS,
        jobs=jobs,
        command=base.command,
        environment={**base.environment, "threads": 1},  # of each worker
        started=base.started,
    )


def _plan(
    names: Sequence[str], file: "CatalogFile", environment: Mapping[str, Any], *, baseline: bool
) -> _Plan:
    """What is left to do, given what the file holds."""
    from freezeout.catalog.conduct import Task
    from models.families import family

    found = file.contents.rows(environment)
    known = {name: found[name] for name in names if name in found}
    known = {
        name: row
        for name, row in known.items()
        if row.verdict != "NOT AUDITED" and (row.leaf_rule is not None or not baseline)
    }
    return _Plan(
        names=list(names),
        known=known,
        to_do=[
            Task(name=name, family=family(name), baseline=baseline)
            for name in names
            if name not in known
        ],
    )


def _conduct(plan: _Plan, file: "CatalogFile", session: "AuditSession", jobs: int) -> int:
    from freezeout.catalog.conduct import Conductor

    conductor = Conductor(COMMAND, jobs=jobs)
    start, done = time.monotonic(), 0
    rows = dict(plan.known)

    def close() -> None:
        file.append(replace(session, wall_s=time.monotonic() - start, done=done))

    try:
        with sigterm_interrupts(), Display(total=len(plan.to_do)) as display:
            for row in conductor.run(plan.to_do):
                file.append(row)
                done += 1
                rows[row.name] = row
                display.count(row)
    except KeyboardInterrupt:
        close()
        print(
            f"interrupted after {done} of {len(plan.to_do)} models; they are in {file.path}, and --resume goes on",
            file=sys.stderr,
        )
        return INTERRUPTED
    finally:
        conductor.close()
    close()
    print(
        end_lines(
            [rows[name] for name in plan.names], time.monotonic() - start, conductor.peak_bytes
        )
    )
    folder = file.path.with_name(f"{file.path.stem}-report")
    report = shlex.join(
        ["python", "-m", "reports", "catalog", str(file.path), "--out", str(folder)]
    )
    print(f"\nfor the report: {report}")
    return 0 if all(row.verdict == "PROVEN" for row in rows.values()) else SOME_FAILED
