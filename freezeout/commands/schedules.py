"""The schedules a command speaks of: the one the user gives, or a table of them."""

import argparse
from typing import TYPE_CHECKING

from freezeout.options import option, switch
from freezeout.schedule import HOW_SCALES

if TYPE_CHECKING:
    from freezeout.perf.records import ScheduleSpec

TABLE_T_0 = (0.3, 0.5, 0.7, 0.8, 0.9)


def add_schedule(parser: argparse.ArgumentParser) -> None:
    """Options of one schedule; leaving both t_0 and how_scale out asks for a table."""
    group = parser.add_argument_group("schedule (a table of schedules when none is given)")
    option(group, "--t_0", type=float, help="freeze time of the first block, 0 to 1 (0.8)")
    option(group, "--how_scale", choices=HOW_SCALES, help="power on the freeze times (cubic)")
    switch(group, "--scale_lr", default=True, help="start each block at lr / t_i (default)")


def schedules(args: argparse.Namespace) -> "list[ScheduleSpec]":
    """The schedule asked for, or the table.

    Raises:
        ValueError: t_0 is out of range.
    """
    from freezeout.perf.records import ScheduleSpec

    if args.t_0 is None and args.how_scale is None:
        return [
            ScheduleSpec(t_0=t_0, how_scale=how_scale, scale_lr=args.scale_lr)
            for how_scale in HOW_SCALES
            for t_0 in TABLE_T_0
        ]
    spec = ScheduleSpec(
        t_0=0.8 if args.t_0 is None else args.t_0,
        how_scale=args.how_scale or "cubic",
        scale_lr=args.scale_lr,
    )
    spec.schedule(num_blocks=2, total_steps=1)  # checks the values
    return [spec]


def named(spec: "ScheduleSpec") -> str:
    """A schedule without its learning-rate scaling, which no cost depends on."""
    counted = "" if spec.pace == 1 else ", published steps"
    return f"{spec.how_scale} t_0={spec.t_0:g}{counted}"
