"""`python -m bench.evidence.images DATASET`: whether all of CIFAR-100 is there.

Its images are kept decoded for the trainings that follow, in the folder that FREEZEOUT_DECODED names.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from freezeout.exits import BAD_INPUT, DONE
from freezeout.train.data import load

CIFAR100 = (100, 50_000, 10_000)
"""Classes, training and test images: an archive that is not unpacked leaves a smaller data set that looks whole."""


def check_images(dataset: str) -> None:
    """Find out before any training whether all images are there.

    Args:
        dataset: as `freezeout train` names it.

    Raises:
        ValueError: they are not.
    """
    data = load(dataset, root=Path("data"), download=False, validate="test", device="cpu")
    found = (data.num_classes, len(data.train), len(data.eval or ()))
    if found != CIFAR100:
        raise ValueError(
            f"--dataset {dataset} is not the whole of CIFAR-100: it has classes, training and test images "
            f"{found} instead of {CIFAR100}."
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Check; what is missing becomes one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m bench.evidence.images", description=__doc__)
    parser.add_argument("dataset", metavar="DATASET", help="as `freezeout train` names it")
    try:
        check_images(parser.parse_args(arguments).dataset)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    print("all images are there")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
