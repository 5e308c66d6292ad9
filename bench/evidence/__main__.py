"""`python -m bench.evidence --out DIR`: tests, default bench, gate and study, unattended and resumable."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.evidence.conduct import Conductor, Standing, spent
from bench.evidence.journal import Journal, keep_environment
from bench.evidence.parts import PARTS, Job
from freezeout.commands.choices import device_of
from freezeout.exits import BAD_INPUT, DONE, INTERRUPTED
from freezeout.interrupts import sigterm_interrupts
from freezeout.perf.environment import environment

LEFT, STUCK = 3, 4
MINUTES = 9.0
TIMES = {"cuda": 1.0, "cpu": 3.0}
"""How many times its minutes a part may take, by device: they are made for a large GPU."""
EPILOG = """\
Run it again with the same --out until nothing is left: each run goes on where the one before was cut.
Then, on any machine, `python -m bench.evidence.publish --out DIR` makes folders of it.
Exit codes: 0 all is measured, whether or not tests passed, 2 bad input, 3 something is left (run it again),
4 something is not whole and the same command would not change it (its time is used up, or what it needs
is not there), 130 interrupted.
"""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.evidence",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder of all results")
    add("--device", choices=("cpu", "cuda"), help="[cuda if torch sees one, else cpu]")
    add("--minutes", type=float, default=MINUTES, help="of this run [%(default)g]")
    add(
        "--dataset",
        default="cifar100",
        metavar="NAME",
        help="CIFAR-100 as in `freezeout train`: cifar100 in data/, or imagefolder:DIR [%(default)s]",
    )
    add("--times", type=float, help="how many times its minutes each part may take [cuda 1, cpu 3]")
    names = [part.name for part in PARTS]
    add("--parts", default=",".join(names), help="comma-separated, of [%(default)s]")
    add("--plan", action="store_true", help="print the parts and what is spent of them, and stop")
    return parser.parse_args(arguments)


def run(chosen: argparse.Namespace) -> int:
    """Run what was asked for; the exit code.

    Raises:
        ValueError: an option is out of range.
    """
    asked = chosen.parts.split(",")
    strange = [name for name in asked if name not in {part.name for part in PARTS}]
    if strange:
        known = ", ".join(part.name for part in PARTS)
        raise ValueError(f"--parts takes {known}, got {strange[0]!r}.")
    if not chosen.minutes > 0:
        raise ValueError(f"--minutes must be above 0, got {chosen.minutes:g}.")
    if chosen.times is not None and not chosen.times > 0:
        raise ValueError(f"--times must be above 0, got {chosen.times:g}.")
    parts = [part for part in PARTS if part.name in asked]
    device = device_of(chosen.device)
    job = Job(
        out=chosen.out,
        device="cuda" if device.type == "cuda" else "cpu",
        dataset=chosen.dataset,
        times=chosen.times or TIMES[device.type],
        journal=Journal(chosen.out / "evidence.json"),
    )
    if chosen.plan:
        print("\n".join(spent(job, parts)))
        return DONE
    chosen.out.mkdir(parents=True, exist_ok=True)
    keep_environment(chosen.out, environment(device))
    with sigterm_interrupts():
        standings = Conductor(job=job, minutes=chosen.minutes, say=_say).run(parts)
    print("\n".join(spent(job, parts)))
    for name in dict.fromkeys(r.step for r in job.journal if r.done and r.exit_code):
        _say(f"tests FAILED in {name}: see {chosen.out / 'logs'}")
    return _exit_code(standings, job.times)


def _exit_code(standings: Mapping[str, Standing], times: float) -> int:
    """Say how the parts stand; the code for it."""
    left, stuck = ([name for name in standings if standings[name] == s] for s in ("left", "stuck"))
    if stuck:
        _say(
            f"not whole, for the reasons above: {', '.join(stuck)} (--times above {times:g} gives more time)"
        )
    if left:
        _say(f"left, run the same command again: {', '.join(left)}")
    if not left and not stuck:
        _say("all is done")
    return LEFT if left else STUCK if stuck else DONE


def _say(text: str) -> None:
    print(f"evidence: {text}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; what the user can mend becomes one line on stderr and exit code 2."""
    chosen = parse(arguments)
    try:
        return run(chosen)
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
