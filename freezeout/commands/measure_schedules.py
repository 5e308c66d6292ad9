"""The schedules that `measure` is asked about: by options, in words, or a table of them."""

import argparse
from typing import TYPE_CHECKING

from freezeout.commands.schedules import schedules
from freezeout.schedule import HOW_SCALES

if TYPE_CHECKING:
    from freezeout.perf.records import ScheduleSpec


def measured_schedules(args: argparse.Namespace) -> "list[ScheduleSpec]":
    """The schedules asked for, or the table.

    Raises:
        ValueError: one is out of range, or not understood.
    """
    if not args.texts:
        return schedules(args)
    if args.t_0 is not None or args.how_scale is not None:
        raise ValueError("`--schedule` takes the place of `--t-0` and `--how-scale`.")
    return list(dict.fromkeys(schedule_from(text) for text in args.texts))


def schedule_from(text: str) -> "ScheduleSpec":
    """The schedule that a text such as `cubic 0.8`, `linear 0.5 unscaled` or `cubic 0.8 pace=1.11` names.

    Raises:
        ValueError: the text is not like that.
    """
    from freezeout.perf.records import ScheduleSpec

    try:
        how_scale, t_0, *others = text.split()
        pace = [word.removeprefix("pace=") for word in others if word.startswith("pace=")]
        scaling = [word for word in others if not word.startswith("pace=")]
        if how_scale not in HOW_SCALES or scaling not in ([], ["scaled"], ["unscaled"]):
            raise ValueError
        spec = ScheduleSpec(
            t_0=float(t_0),
            how_scale=how_scale,
            scale_lr=scaling != ["unscaled"],
            pace=float(pace[0]) if pace else 1.0,
        )
        if not 1 <= spec.pace < 1000 or len(pace) > 1:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"`--schedule` is like 'cubic 0.8', 'linear 0.5 unscaled' or 'cubic 0.8 pace=1.11', got "
            f"{text!r}; the first word is one of {', '.join(HOW_SCALES)}, and pace, at least 1, is the "
            "steps that the schedule counts on over those that are taken."
        ) from None
    spec.schedule(num_blocks=2, total_steps=1)  # checks the values
    return spec
