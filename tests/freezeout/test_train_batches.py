import pytest
import torch

from freezeout.train.batches import (
    PADDING,
    batch_bounds,
    crop_and_flip,
    epoch_batches,
    eval_batches,
)
from freezeout.train.data import Data
from freezeout.train.sources import Split


def numbered(count, *, side=6, can_flip=True):
    """Images whose pixels are all different from 0 and whose label is their number."""
    images = torch.arange(1, 1 + 3 * side * side, dtype=torch.uint8).reshape(1, 3, side, side)
    split = Split(images=images.repeat(count, 1, 1, 1), labels=torch.arange(count))
    return Data(
        train=split,
        eval=split,
        num_classes=count,
        can_flip=can_flip,
        mean=torch.zeros(3, 1, 1),
        std=torch.ones(3, 1, 1),
    )


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [
        (10, 5, [5, 5]),
        (12, 5, [5, 5, 2]),
        (11, 5, [5, 6]),
        (3, 5, [3]),
        (1, 5, [1]),
        (3, 1, [1, 1, 1]),
        (45_000, 50, [50] * 900),
    ],
)
def test_batch_sizes(count, batch_size, sizes):
    bounds = batch_bounds(count, batch_size)
    assert [end - start for start, end in bounds] == sizes
    assert [start for start, _ in bounds] == [0, *(end for _, end in bounds[:-1])]


def test_an_epoch_is_every_image_once_in_a_new_order_each_time():
    data, rng = numbered(53), generator()
    epochs = [torch.cat([y for _, y in epoch_batches(data, 10, rng, True)]) for _ in range(2)]
    for labels in epochs:
        assert labels.sort().values.tolist() == list(range(53))
    assert not torch.equal(*epochs)


def test_the_generator_alone_decides():
    data = numbered(20)
    torch.manual_seed(1)
    first = list(epoch_batches(data, 6, generator(3), True))
    torch.manual_seed(2)
    second = list(epoch_batches(data, 6, generator(3), True))
    for (images, labels), (same_images, same_labels) in zip(first, second, strict=True):
        assert torch.equal(images, same_images)
        assert torch.equal(labels, same_labels)


def test_without_augmentation_images_stay_as_they_are():
    data = numbered(9)
    for images, _ in epoch_batches(data, 4, generator(), augment=False):
        assert images.dtype == torch.float32
        assert torch.equal(images, data.train.images[: len(images)].float())


def by_hand(image, top, left, flip):
    """The same crop and flip, pixel by pixel."""
    height, width = image.shape[1:]
    out = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            y = row + top - PADDING
            x = (width - 1 - column if flip else column) + left - PADDING
            if 0 <= y < height and 0 <= x < width:
                out[:, row, column] = image[:, y, x]
    return out


def test_crops_and_flips_equal_those_made_by_hand():
    images = torch.randint(1, 256, (40, 3, 5, 7), dtype=torch.uint8, generator=generator())
    moves = torch.randint(0, 2 * PADDING + 1, (40, 3), generator=generator(1))
    moves[:, 2] %= 2
    moved = crop_and_flip(images, moves)
    assert moved.dtype == torch.uint8
    for image, result, (top, left, flip) in zip(images, moved, moves.tolist(), strict=True):
        assert torch.equal(result, by_hand(image, top, left, bool(flip)))


def moves_seen(data, count):
    """Which (top, left, flip) each augmented image was made with, found by comparison."""
    image = data.train.images[0]
    places = 2 * PADDING + 1
    known = {
        tuple(by_hand(image, top, left, flip).flatten().tolist()): (top, left, flip)
        for top in range(places)
        for left in range(places)
        for flip in (False, True)
    }
    assert len(known) == places * places * 2
    batches = list(epoch_batches(data, count, generator(), True))
    return [known[tuple(x.flatten().int().tolist())] for images, _ in batches for x in images]


def test_every_shift_comes_up_and_half_of_the_images_are_flipped():
    seen = moves_seen(numbered(3000), 3000)
    tops, lefts, flips = zip(*seen, strict=True)
    for shifts in (tops, lefts):
        shares = torch.bincount(torch.tensor(shifts), minlength=9) / len(seen)
        assert shares.tolist() == pytest.approx([1 / 9] * 9, abs=0.03)  # 5 standard deviations
    assert sum(flips) / len(flips) == pytest.approx(0.5, abs=0.05)


def test_digits_are_shifted_but_never_flipped():
    seen = moves_seen(numbered(300, can_flip=False), 300)
    assert not any(flip for _, _, flip in seen)
    assert len({(top, left) for top, left, _ in seen}) > 60


def test_evaluation_keeps_order_and_images():
    data = numbered(11)
    batches = list(eval_batches(data, data.eval, 5))
    assert [len(images) for images, _ in batches] == [5, 5, 1]
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(11))
    assert torch.equal(batches[2][0], data.train.images[:1].float())
