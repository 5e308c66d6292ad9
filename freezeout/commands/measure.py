"""The command `measure`: the cost curve of a model on this machine and what each schedule saves here."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from freezeout.commands.choices import add_measured_model, create_model, device_of
from freezeout.commands.schedules import add_schedule, schedules
from freezeout.options import option

if TYPE_CHECKING:
    import torch

    from freezeout.perf.curve import Progress
    from freezeout.perf.records import Curve, Ledger, Record, Session
    from freezeout.perf.workload import Subject


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `measure`."""
    add_measured_model(parser)
    add_schedule(parser)
    group = parser.add_argument_group("measurement")
    option(group, "--batch_size", type=int, default=32, help="images a step (%(default)s)")
    option(group, "--device", choices=("cpu", "cuda"), help="(cuda if torch sees one, else cpu)")
    option(group, "--dtype", choices=("fp32", "tf32", "bf16"), default="fp32", help="(%(default)s)")
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
        "--blocks",
        action="store_true",
        help="also time each block's backward pass, by stage ledger, differences and profiler",
    )
    option(
        group, "--trace", type=Path, metavar="FILE", help="with --blocks: Perfetto trace, .json.gz"
    )
    option(group, "--results", type=Path, metavar="FILE", help="add the raw samples to this file")
    option(group, "--no_progress", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Measure, print, and store if asked to; returns the exit code."""
    from freezeout.commands.measure_lines import block_lines, curve_lines
    from freezeout.perf.environment import new_session
    from freezeout.perf.profile import profile_step
    from freezeout.perf.progress import progress_bar
    from freezeout.perf.results import ResultsFile

    specs = schedules(args)
    _check(args)
    device = device_of(args.device)
    store = ResultsFile(args.results, resume=True) if args.results else None
    subject = _subject(args, device)
    session = new_session(device)

    def keep(record: "Record") -> None:
        if store:
            store.append(record)

    with progress_bar(shown=not args.no_progress) as progress:
        curve = _curve(args, subject, session, progress)
    keep(session)
    keep(curve)
    print(curve_lines(curve, specs, str(session.environment["device_name"])), flush=True)
    if args.blocks:
        with progress_bar(shown=not args.no_progress) as progress:
            ledger = _ledger(args, subject, session, progress)
        keep(ledger)
        profile = profile_step(subject, session=session.session, trace=args.trace)
        keep(profile)
        print(block_lines(curve, ledger, profile), flush=True)
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.batch_size < 2:
        raise ValueError(f"`--batch-size` must be at least 2, got {args.batch_size}.")
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
    args: argparse.Namespace, subject: "Subject", session: "Session", progress: "Progress"
) -> "Curve":
    from freezeout.perf.curve import measure_curve

    return measure_curve(
        subject,
        session=session.session,
        budget_s=args.budget_s,
        levels=_levels(args.levels),
        precision=args.precision / 100,
        progress=progress,
    )


def _ledger(
    args: argparse.Namespace, subject: "Subject", session: "Session", progress: "Progress"
) -> "Ledger":
    from freezeout.perf.ledger import measure_ledger

    return measure_ledger(
        subject, session=session.session, budget_s=args.budget_s / 4, progress=progress
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
