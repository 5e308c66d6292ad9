"""`python -m bench.evidence --out DIR`: tests, default bench, gate and study, unattended and resumable."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.evidence.conduct import Conductor, left
from bench.evidence.journal import Journal, keep_environment
from bench.evidence.parts import PARTS, Job, decoded_folder
from freezeout.commands.choices import device_of
from freezeout.exits import BAD_INPUT, DONE, INTERRUPTED
from freezeout.interrupts import sigterm_interrupts
from freezeout.perf.environment import environment
from freezeout.train.data import load
from freezeout.train.decoded import keeping_decoded

UNFINISHED = 3
CIFAR100 = (100, 50_000, 10_000)
"""Classes, training and test images: an archive that is not unpacked leaves a smaller data set that looks whole."""
MINUTES = 9.0
EPILOG = """\
Run it again with the same --out until it says that all is done, or that the time of what is left
is used up: each run goes on where the one before was cut. Then, on any machine,
`python -m bench.evidence.publish --out DIR` makes folders of it.
Exit codes: 0 all done, 2 bad input, 3 something is left (run it again), 130 interrupted.
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
    names = [part.name for part in PARTS]
    add("--parts", default=",".join(names), help="comma-separated, of [%(default)s]")
    add("--plan", action="store_true", help="print the parts and what is spent of them, and stop")
    return parser.parse_args(arguments)


def run(chosen: argparse.Namespace) -> int:
    """Run what was asked for; the exit code.

    Raises:
        ValueError: an option is out of range, or the images of the study are not there.
    """
    asked = chosen.parts.split(",")
    strange = [name for name in asked if name not in {part.name for part in PARTS}]
    if strange:
        known = ", ".join(part.name for part in PARTS)
        raise ValueError(f"--parts takes {known}, got {strange[0]!r}.")
    if not chosen.minutes > 0:
        raise ValueError(f"--minutes must be above 0, got {chosen.minutes:g}.")
    parts = [part for part in PARTS if part.name in asked]
    device = device_of(chosen.device).type
    journal = Journal(chosen.out / "evidence.json")
    if chosen.plan:
        print("\n".join(left(journal, parts)))
        return DONE
    if device == "cuda" and "study" in asked:
        _check_images(chosen.dataset, chosen.out)
    chosen.out.mkdir(parents=True, exist_ok=True)
    keep_environment(chosen.out, environment(device_of(chosen.device)))
    job = Job(
        out=chosen.out,
        device="cuda" if device == "cuda" else "cpu",
        dataset=chosen.dataset,
        journal=journal,
    )
    with sigterm_interrupts():
        done = Conductor(job=job, minutes=chosen.minutes, say=_say).run(parts)
    print("\n".join(left(journal, parts)))
    _say("all is done" if done else "something is left: run the same command again")
    return DONE if done else UNFINISHED


def _check_images(dataset: str, out: Path) -> None:
    """Find out now, not after all else is measured, whether the study's images are there; they are kept decoded."""
    with keeping_decoded(decoded_folder(out)):
        data = load(dataset, root=Path("data"), download=False, validate="test", device="cpu")
    found = (data.num_classes, len(data.train), len(data.eval or ()))
    if found != CIFAR100:
        raise ValueError(
            f"--dataset {dataset} is not the whole of CIFAR-100: it has classes, training and test images "
            f"{found} instead of {CIFAR100}."
        )


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
