"""The command `measure`: the cost curve of a model on this machine and what each schedule saves here."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from freezeout.commands.choices import add_measured_model, create_model, device_of
from freezeout.commands.schedules import add_schedule, named, schedules
from freezeout.options import option

if TYPE_CHECKING:
    from freezeout.perf.records import Curve, ScheduleSpec


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
    option(group, "--results", type=Path, metavar="FILE", help="add the raw samples to this file")
    option(group, "--no_progress", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Measure, print, and store if asked to; returns the exit code."""
    from freezeout.perf.curve import measure_curve
    from freezeout.perf.environment import new_session
    from freezeout.perf.progress import progress_bar
    from freezeout.perf.results import ResultsFile
    from freezeout.perf.workload import subject_of

    specs = schedules(args)
    if args.batch_size < 2:
        raise ValueError(f"`--batch-size` must be at least 2, got {args.batch_size}.")
    device = device_of(args.device)
    levels = _levels(args.levels)
    store = ResultsFile(args.results, resume=True) if args.results else None
    subject = subject_of(
        partial(create_model, args),
        batch_size=args.batch_size,
        dtype=args.dtype,
        memory_format="channels_last" if args.channels_last else "contiguous",
        device=device.type,
        mode=args.mode,
        granularity=args.granularity,
    )
    session = new_session(device)
    with progress_bar(shown=not args.no_progress) as progress:
        curve = measure_curve(
            subject,
            session=session.session,
            budget_s=args.budget_s,
            levels=levels,
            progress=progress,
        )
    print(_report(curve, specs, str(session.environment["device_name"])), flush=True)
    if store:
        store.append(session)
        store.append(curve)
    return 0


def _levels(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"`--levels` must be whole numbers separated by commas, got {text!r}."
        ) from None


def _report(curve: "Curve", specs: "list[ScheduleSpec]", device_name: str) -> str:
    from freezeout.perf.saving import stability, step_ms

    config = curve.config
    return "\n".join(
        [
            f"{config.title} at {'x'.join(map(str, config.input_shape))}, batch {config.batch_size}, "
            f"{config.dtype}, {config.memory_format}, {config.mode}, on {device_name}",
            f"{len(step_ms(curve))} rounds, intervals of 95 % over rounds; {stability(curve)}",
            "",
            _cost_table(curve),
            "",
            _saving_table(curve, specs),
        ]
    )


def _cost_table(curve: "Curve") -> str:
    from freezeout.commands.table import milliseconds, percent, table
    from freezeout.perf.records import PHASES
    from freezeout.perf.saving import level_cost_ms, level_ratio

    phases = [level_cost_ms(curve, phase) for phase in PHASES]
    ratios = level_ratio(curve)
    rows = [
        [
            curve.blocks[level],
            str(level),
            *(milliseconds(phase[i]) for phase in phases),
            percent(ratios[i]),
            f"{curve.saved_bytes[i] / 2**20:.1f}",
            *([f"{curve.peak_bytes[i] / 2**20:.1f}"] if curve.peak_bytes else []),
        ]
        for i, level in enumerate(curve.levels)
    ]
    header = ["first active block", "level", *(f"{phase} ms" for phase in PHASES), "of level 0"]
    header += ["kept MiB", *(["peak MiB"] if curve.peak_bytes else [])]
    return table(header, rows)


def _saving_table(curve: "Curve", specs: "list[ScheduleSpec]") -> str:
    from freezeout.commands.table import percent, table
    from freezeout.perf.comparison import compare
    from freezeout.perf.saving import factor

    found = [compare(curve, spec) for spec in specs]
    rows = [
        [
            named(each.spec),
            percent(each.measured),
            f"x{factor(each.measured.value):.2f}",
            percent(each.sources["FLOPs"]),
            percent(each.sources["calc_speedup"]),
        ]
        for each in found
    ]
    source = "calc_speedup" if curve.published else "its cost model"
    return table(["schedule", "saved here", "factor", "FLOPs said", f"{source} said"], rows)
