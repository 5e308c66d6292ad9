"""The command `measure`: the cost curve of a model on this machine and what each schedule saves here."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from freezeout.commands.choices import add_measured_model, create_model, device_of
from freezeout.commands.measure_schedules import measured_schedules
from freezeout.commands.schedules import add_schedule
from freezeout.dtypes import DTYPES
from freezeout.options import option

if TYPE_CHECKING:
    import torch

    from freezeout.commands.measure_log import Log
    from freezeout.perf.curve import Progress
    from freezeout.perf.records import Curve, ScheduleSpec, Session
    from freezeout.perf.workload import Subject


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `measure`."""
    add_measured_model(parser)
    add_schedule(parser)
    parser.add_argument(
        "--schedule",
        action="append",
        metavar="TEXT",
        dest="texts",
        help="a schedule in words, such as 'linear 0.5 unscaled', with pace=1.11 where it counts on more "
        "steps than are taken (published: 1000 for 900); may be repeated",
    )
    group = parser.add_argument_group("measurement")
    option(group, "--batch_size", type=int, default=32, help="images a step (%(default)s)")
    option(group, "--device", choices=("cpu", "cuda"), help="(cuda if torch sees one, else cpu)")
    option(group, "--dtype", choices=DTYPES, default="fp32", help="(%(default)s)")
    option(group, "--channels_last", action="store_true", help="channels-last memory format")
    option(group, "--mode", choices=("eager", "compile"), default="eager", help="(%(default)s)")
    option(group, "--levels", help="comma-separated freeze levels (all)")
    option(group, "--budget_s", type=float, default=60.0, help="seconds to sample (%(default)s)")
    option(
        group,
        "--precision",
        type=float,
        default=1.0,
        help="stop once every level is known to ± these percentage points of level 0 (%(default)s)",
    )
    option(
        group,
        "--real_run",
        action="store_true",
        help="also train under each schedule against its unfrozen twin, and hold the saving against it",
    )
    option(
        group,
        "--run_s",
        type=float,
        default=20.0,
        help="with --real-run: seconds a schedule; one pass is made whatever it takes (%(default)s)",
    )
    option(
        group,
        "--blocks",
        action="store_true",
        help="also time each block's backward pass, by stage ledger, differences and profiler, and find "
        "out how much of what freezing could save is saved",
    )
    option(
        group, "--trace", type=Path, metavar="FILE", help="with --blocks: Perfetto trace, .json.gz"
    )
    option(group, "--results", type=Path, metavar="FILE", help="add the raw samples to this file")
    option(
        group,
        "--resume",
        action="store_true",
        help="take over what --results holds already from this machine and code",
    )
    option(group, "--no_progress", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Measure, print, and store if asked to; returns the exit code."""
    from freezeout.commands.measure_lines import curve_lines
    from freezeout.commands.measure_log import Log
    from freezeout.commands.measure_time import time_line
    from freezeout.perf.environment import new_session
    from freezeout.perf.progress import progress_bar

    specs = measured_schedules(args)
    _check(args)
    device = device_of(args.device)
    subject = _subject(args, device)
    log = Log(args, subject.config, new_session(device))
    levels = _levels(args.levels)
    if not log.holds_all(specs):
        print(time_line(subject, args, levels, specs), flush=True)
    with progress_bar(shown=not args.no_progress) as progress:
        curve = log.curve() or log.keep(_curve(args, subject, log.session, levels, progress))
    print(curve_lines(curve, specs, str(log.session.environment["device_name"])), flush=True)
    if args.real_run:
        _real_runs(args, subject, log, curve, specs)
    if args.blocks:
        _blocks(args, subject, log, curve, specs)
    return 0


def _blocks(
    args: argparse.Namespace,
    subject: "Subject",
    log: "Log",
    curve: "Curve",
    specs: "list[ScheduleSpec]",
) -> None:
    from freezeout.commands.measure_lines import block_lines, realised_lines
    from freezeout.commands.measure_time import BLOCKS_SHARE
    from freezeout.perf.frozen import measure_frozen_steps
    from freezeout.perf.ledger import measure_ledger
    from freezeout.perf.profile import profile_step
    from freezeout.perf.progress import progress_bar

    session, budget_s = log.session.session, args.budget_s * BLOCKS_SHARE
    with progress_bar(shown=not args.no_progress) as progress:
        ledger = log.keep(
            measure_ledger(subject, session=session, budget_s=budget_s, progress=progress)
        )
    profile = log.keep(profile_step(subject, session=session, trace=args.trace))
    print(block_lines(curve, ledger, profile), flush=True)
    with progress_bar(shown=not args.no_progress) as progress:
        frozen = log.keep(
            measure_frozen_steps(subject, session=session, budget_s=budget_s, progress=progress)
        )
    print(realised_lines(frozen, specs), flush=True)


def _real_runs(
    args: argparse.Namespace,
    subject: "Subject",
    log: "Log",
    curve: "Curve",
    specs: "list[ScheduleSpec]",
) -> None:
    from freezeout.commands.measure_lines import run_lines
    from freezeout.perf.progress import progress_bar
    from freezeout.perf.real import time_run

    runs = []
    for spec in specs:
        with progress_bar(shown=not args.no_progress) as progress:
            found = log.real_run(spec) or log.keep(
                time_run(
                    subject,
                    spec,
                    curve,
                    session=log.session.session,
                    budget_s=args.run_s,
                    progress=progress,
                )
            )
        runs.append(found)
    print(run_lines(curve, runs), flush=True)


def _check(args: argparse.Namespace) -> None:
    if args.batch_size < 2:
        raise ValueError(f"`--batch-size` must be at least 2, got {args.batch_size}.")
    for name in ("budget_s", "run_s"):
        if not getattr(args, name) > 0:
            raise ValueError(
                f"`--{name.replace('_', '-')}` is a time budget, which must be above 0."
            )
    if args.resume and not args.results:
        raise ValueError("`--resume` needs the file to go on with in `--results`.")
    if args.trace and not args.blocks:
        raise ValueError("`--trace` goes with `--blocks`.")
    if args.trace:
        args.trace.parent.mkdir(parents=True, exist_ok=True)  # found out now, not after measuring
    if args.trace and not args.trace.name.endswith(".json.gz"):
        raise ValueError(f"`--trace` must be a .json.gz file, got {args.trace}.")
    if args.blocks and args.mode == "compile":
        raise ValueError("`--blocks` needs `--mode eager`: compiled blocks cannot be told apart.")


def _subject(args: argparse.Namespace, device: "torch.device") -> "Subject":
    from freezeout.perf.workload import subject_of

    return subject_of(
        partial(create_model, args),
        batch_size=args.batch_size,
        dtype=args.dtype,
        memory_format="channels_last" if args.channels_last else "contiguous",
        device=device.type,
        mode=args.mode,
        granularity=args.granularity,
    )


def _curve(
    args: argparse.Namespace,
    subject: "Subject",
    session: "Session",
    levels: list[int] | None,
    progress: "Progress",
) -> "Curve":
    from freezeout.perf.curve import measure_curve

    return measure_curve(
        subject,
        session=session.session,
        budget_s=args.budget_s,
        levels=levels,
        precision=args.precision / 100,
        progress=progress,
    )


def _levels(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"`--levels` must be whole numbers separated by commas, got {text!r}."
        ) from None
