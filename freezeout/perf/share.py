"""How much of a block's backward pass is left at which freeze level, by the FLOPs of its products."""

from collections.abc import Sequence

import numpy as np

from freezeout.perf.statistics import Array


def backward_share(gradient_flops: Sequence[Sequence[int]], num_blocks: int) -> Array:
    """Share of its unfrozen backward pass that each block still makes at each level.

    The first active block need not pass a gradient on to its input, so it makes less than it did unfrozen; blocks
    above it make all of theirs, but for products with parameters or activations of frozen blocks.

    Args:
        gradient_flops: as in `FlopCurve`: [block, last level, FLOPs] of products that are made in `block` at all levels
            up to the last.
        num_blocks: number of blocks of the model.

    Returns:
        Shape (levels, blocks), as many levels as blocks; 0 for frozen blocks, 1 for active ones without any products.
    """
    made = np.zeros((num_blocks, num_blocks))
    for block, last_level, flops in gradient_flops:
        made[: last_level + 1, block] += flops
    share = np.divide(made, made[:1], out=np.ones_like(made), where=made[:1] > 0)
    return np.triu(share)
