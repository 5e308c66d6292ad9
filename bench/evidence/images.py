"""`python -m bench.evidence.images DATASET`: whether all of CIFAR-100 is there.

Its images are kept decoded for the trainings that follow, in the folder that FREEZEOUT_DECODED names.
"""

import sys
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


def main(dataset: str) -> int:
    """Check; what is missing becomes one line on stderr and exit code 2."""
    try:
        check_images(dataset)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    print("all images are there")
    return DONE


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
