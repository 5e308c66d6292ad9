"""The command `predict`: what FreezeOut would save by FLOPs, without a GPU, data or training."""

import argparse
from dataclasses import replace

from freezeout.commands.choices import TRACED_INPUTS, add_measured_model, traced_model
from freezeout.commands.schedules import add_schedule, named, schedules
from freezeout.options import option
from freezeout.schedule import PUBLISHED_PACE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `predict`."""
    add_measured_model(parser)
    add_schedule(parser)
    option(
        parser,
        "--published_steps",
        action="store_true",
        help="with the steps counted as in the published code: 1000 an epoch where its loader gives 900",
    )


_AN_INPUT = {"image classification": "an image", "semantic segmentation": "an image"}


def run(args: argparse.Namespace) -> int:
    """Print the share of FLOPs that freezing saves under each schedule; returns the exit code."""
    from freezeout.commands.table import table
    from freezeout.perf.flops import count_flops
    from freezeout.perf.prediction import flops_saving, forward_flops, published_saving
    from freezeout.perf.saving import NOMINAL_STEPS, factor

    pace = PUBLISHED_PACE if args.published_steps else 1.0
    specs = [replace(spec, pace=pace) for spec in schedules(args)]
    model, sample, blocks = traced_model(args)
    flops = replace(count_flops(model.module, blocks, sample), published=model.published)
    # A model that makes its own input has no shape of one image.
    shape = f" at {'x'.join(map(str, model.input_shape))}" if model.input_shape else ""
    print(
        f"{model.name}{shape}: {len(blocks)} blocks, "
        f"{sum(block.num_parameters for block in blocks):,} parameters, "
        f"{forward_flops(flops) / TRACED_INPUTS / 1e9:.3f} GFLOP forward and "
        f"{flops.backward_flops[0] / TRACED_INPUTS / 1e9:.3f} backward "
        f"{_AN_INPUT.get(model.task, 'an input')}"
    )
    rows = []
    for spec in specs:
        saved = flops_saving(flops, spec)
        times = spec.schedule(len(blocks), NOMINAL_STEPS).freeze_times
        rows.append(
            [
                named(spec),
                f"{100 * pace * times[0]:.1f} %",
                f"{sum(pace * t >= 1 for t in times)} of {len(times)}",
                f"{100 * saved:.1f} %",
                f"x{factor(saved):.2f}",
                f"{100 * published_saving(flops, spec):.1f} %",
            ]
        )
    source = "calc_speedup" if model.published else "its cost model"
    print(
        table(["schedule", "first freeze", "never frozen", "FLOPs saved", "factor", source], rows)
    )
    print(
        "Counted, not measured: FLOPs leave out norms, activations and launches. "
        "`measure` gives this machine's saving."
    )
    return 0
