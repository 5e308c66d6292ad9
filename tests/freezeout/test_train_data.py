import pickle
import sys

import numpy
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from freezeout.train.data import load
from freezeout.train.selection import shares

PINNED_TEST_LABELS = [2, 2, 9, 8, 8, 3, 6, 0, 4, 4, 7, 6]
STRATIFIED_LABELS = [8, 4, 5, 5, 1, 1, 9, 2, 3, 0, 7, 6]
PINNED_VALID_LABELS = [6, 1, 6, 0, 6, 4, 0, 1, 8, 2, 2, 3]


def read(dataset, tmp_path, **options):
    settings = {"root": tmp_path, "download": False, "validate": "valid", "device": "cpu"}
    return load(dataset, **(settings | options))


def write_images(folder, count, size=(6, 5), shade=0):
    """`count` PNG files of `size` (width, height), the i-th of shade + i."""
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", size, (shade + i, 0, 255)).save(folder / f"{i:03d}.png")


@pytest.fixture(scope="module")
def small_digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("none")
    return {v: read("digits", folder, validate=v, image_size=8) for v in ("valid", "test", "none")}


@pytest.mark.parametrize(
    ("validate", "train", "held"), [("valid", 1200, 300), ("test", 1500, 297), ("none", 1500, None)]
)
def test_digits_have_their_documented_sizes(small_digits, validate, train, held):
    data = small_digits[validate]
    assert data.train.images.shape == (train, 3, 8, 8)
    assert data.train.images.dtype == torch.uint8
    assert data.train.labels.dtype == torch.int64
    assert (None if data.eval is None else len(data.eval)) == held
    assert data.num_classes == 10
    assert not data.can_flip


def test_digits_splits_share_no_image_and_lose_none(small_digits):
    held, test = small_digits["valid"], small_digits["test"]
    parts = [held.train, held.eval, test.eval]
    together = torch.cat([part.images[:, 0].flatten(1) for part in parts])
    original = torch.from_numpy(load_digits().data * (255 / 16)).round().to(torch.uint8)
    assert torch.equal(_sorted_rows(together), _sorted_rows(original))
    assert torch.equal(torch.cat([held.train.images, held.eval.images]), test.train.images)


def _sorted_rows(table):
    return torch.from_numpy(numpy.array(sorted(map(tuple, table.tolist()))))


def test_the_digits_split_never_changes(small_digits):
    # Written down when the split was defined: published errors are comparable only while it holds.
    assert small_digits["test"].eval.labels[:12].tolist() == PINNED_TEST_LABELS
    assert small_digits["valid"].eval.labels[:12].tolist() == PINNED_VALID_LABELS


def test_digits_are_scaled_up_to_32_by_default(tmp_path):
    data = read("digits", tmp_path)
    assert data.image_shape == (3, 32, 32)
    channels = data.train.images.unbind(1)
    assert torch.equal(channels[0], channels[1])
    assert torch.equal(channels[0], channels[2])


def test_what_is_held_out_is_counted(small_digits):
    assert [small_digits[v].held_out for v in ("valid", "test", "none")] == [300, 0, 0]


def test_as_many_images_as_asked_for_are_held_out(tmp_path, small_digits):
    data = read("digits", tmp_path, image_size=8, holdout=120)
    assert (len(data.train), len(data.eval), data.held_out) == (1380, 120, 120)
    assert torch.equal(data.eval.images, small_digits["none"].train.images[-120:])


@pytest.mark.parametrize(("holdout", "count"), [(None, 300), (150, 150), (7, 7)])
def test_stratified_holds_out_the_same_share_of_every_class(tmp_path, small_digits, holdout, count):
    data = read("digits", tmp_path, image_size=8, holdout=holdout, stratified=True)
    assert data.held_out == len(data.eval) == count
    sizes = torch.bincount(small_digits["none"].train.labels)
    taken = torch.bincount(data.eval.labels, minlength=10)
    assert (taken - count * sizes / 1500).abs().max() < 1
    assert torch.equal(taken + torch.bincount(data.train.labels), sizes)
    together = torch.cat([data.train.images, data.eval.images]).flatten(1)
    whole = small_digits["none"].train.images.flatten(1)
    assert torch.equal(_sorted_rows(together), _sorted_rows(whole))


def test_the_stratified_choice_never_changes(tmp_path):
    # Written down when it was defined: errors of runs are comparable only while it holds.
    torch.manual_seed(1)
    labels = read("digits", tmp_path, image_size=8, holdout=12, stratified=True).eval.labels
    assert labels.tolist() == STRATIFIED_LABELS


@pytest.mark.parametrize("validate", ["valid", "test", "none"])
def test_fewer_training_images_keep_the_share_of_every_class(tmp_path, small_digits, validate):
    data = read("digits", tmp_path, image_size=8, validate=validate, train_images=400)
    whole = small_digits[validate]
    assert len(data.train) == 400
    assert data.held_out == whole.held_out
    assert data.published_count == (500 if validate == "valid" else 400)
    if whole.eval is not None:
        assert torch.equal(data.eval.images, whole.eval.images)
    expected = 400 * torch.bincount(whole.train.labels) / len(whole.train)
    assert (torch.bincount(data.train.labels) - expected).abs().max() < 1
    rows = set(map(tuple, whole.train.images.flatten(1).tolist()))
    assert all(tuple(row) in rows for row in data.train.images.flatten(1).tolist())
    assert data.mean.flatten() == pytest.approx(data.train.images.double().mean((0, 2, 3)))


def test_all_training_images_are_all_of_them(tmp_path, small_digits):
    data = read("digits", tmp_path, image_size=8, train_images=1200)
    assert torch.equal(data.train.images, small_digits["valid"].train.images)


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ([10, 10, 10], 6, [2, 2, 2]),
        ([10, 10, 10], 7, [3, 2, 2]),  # equal remainders: the first
        ([7, 2, 1], 5, [4, 1, 0]),  # 3.5, 1.0, 0.5
        ([5, 0, 15], 6, [2, 0, 4]),  # 1.5, 0, 4.5
        ([3, 3, 94], 10, [0, 0, 10]),  # 0.3, 0.3, 9.4: the largest remainder
        ([4, 4], 8, [4, 4]),
    ],
)
def test_shares_are_rounded_by_the_largest_remainder(sizes, count, expected):
    assert shares(sizes, count) == expected


def test_an_image_folder_holds_out_images_at_equal_distances(tmp_path):
    write_images(tmp_path / "a", 12)
    write_images(tmp_path / "b", 12, shade=100)
    data = read(f"imagefolder:{tmp_path}", tmp_path, holdout=4)
    assert data.eval.images[:, 0, 0, 0].tolist() == [5, 11, 105, 111]


def test_statistics_are_those_of_the_training_images(small_digits):
    data = small_digits["valid"]
    images = data.train.images.double()
    assert data.mean.flatten() == pytest.approx(images.mean((0, 2, 3)), rel=1e-6)
    std = images.transpose(0, 1).flatten(1).std(dim=1, correction=0)
    assert data.std.flatten() == pytest.approx(std, rel=1e-5)
    normal = data.normalise(data.train.images)
    assert normal.mean().item() == pytest.approx(0, abs=1e-5)
    assert normal.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_image_folder_with_a_test_folder(tmp_path):
    for kind, count in (("train", 10), ("test", 3)):
        for name in ("cat", "dog"):
            write_images(tmp_path / kind / name, count)
    data = read(f"imagefolder:{tmp_path}", tmp_path, validate="test")
    assert (len(data.train), len(data.eval), data.num_classes) == (20, 6, 2)
    assert data.image_shape == (3, 5, 6)  # their own size: all agree
    assert data.train.labels.tolist() == [0] * 10 + [1] * 10
    assert data.train.images[3, :, 0, 0].tolist() == [3, 0, 255]
    assert data.can_flip


def test_image_folder_holds_out_every_tenth(tmp_path):
    write_images(tmp_path / "a", 15)
    write_images(tmp_path / "b", 6, shade=100)
    data = read(f"imagefolder:{tmp_path}", tmp_path)
    assert data.eval.images[:, 0, 0, 0].tolist() == [9, 104]
    assert len(data.train) == 19
    whole = read(f"imagefolder:{tmp_path}", tmp_path, validate="none")
    assert (len(whole.train), whole.eval) == (21, None)


@pytest.mark.parametrize(("image_size", "side"), [(None, 32), (4, 4)])
def test_image_folder_of_unequal_sizes_is_resized(tmp_path, image_size, side):
    write_images(tmp_path / "a", 10)
    write_images(tmp_path / "b", 10, size=(9, 9))
    data = read(f"imagefolder:{tmp_path}", tmp_path, image_size=image_size)
    assert data.image_shape == (3, side, side)


def test_a_channel_that_never_varies_is_centred_only(tmp_path):
    write_images(tmp_path / "a", 12)
    data = read(f"imagefolder:{tmp_path}", tmp_path)
    normal = data.normalise(data.train.images)
    assert data.std.flatten().tolist()[1:] == [1.0, 1.0]
    assert normal[:, 1:].abs().max() == 0


@pytest.fixture
def cifar_files(tmp_path, monkeypatch):
    """CIFAR-100 files of 5,100 training and 20 test images, without the checksums of the real."""
    from torchvision.datasets import CIFAR100

    folder = tmp_path / CIFAR100.base_folder
    folder.mkdir()
    for name, count in (("train", 5100), ("test", 20)):
        pixels = numpy.zeros((count, 3, 32, 32), dtype=numpy.uint8)
        pixels[:, :, 0, 0] = numpy.arange(count)[:, None] % 251
        entry = {"data": pixels.reshape(count, -1), "fine_labels": [i % 100 for i in range(count)]}
        (folder / name).write_bytes(pickle.dumps(entry))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(i) for i in range(100)]}))
    monkeypatch.setattr(CIFAR100, "train_list", [["train", None]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", None]])
    monkeypatch.setattr(CIFAR100, "meta", CIFAR100.meta | {"md5": None})
    return tmp_path


def test_cifar_holds_out_the_last_5000(cifar_files):
    data = read("cifar100", cifar_files)
    assert (len(data.train), len(data.eval), data.num_classes) == (100, 5000, 100)
    assert data.train.images[:, 0, 0, 0].tolist() == list(range(100))
    assert data.eval.images[0, :, 0, 0].tolist() == [100, 100, 100]
    test = read("cifar100", cifar_files, validate="test")
    assert (len(test.train), len(test.eval)) == (5100, 20)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_absent_cifar_names_the_folder_and_the_remedy(tmp_path, name):
    with pytest.raises(ValueError, match=rf"{name} is not complete in {tmp_path}; .*--download"):
        read(name, tmp_path)


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        (
            "mnist",
            {},
            "`dataset` must be digits, cifar10, cifar100 or imagefolder:DIR, got 'mnist'",
        ),
        ("imagefolder:", {}, "`dataset` must be"),
        ("digits", {"validate": "some"}, "`validate` must be one of valid, test, none"),
        ("digits", {"image_size": 0}, "`image_size` must be at least 1"),
        ("digits", {"holdout": 1500}, "1,500 training images, too few to hold 1,500 out"),
        ("digits", {"holdout": 9, "validate": "test"}, "`holdout` says what .* not test"),
        ("digits", {"stratified": True, "validate": "none"}, "`stratified` says what .* not none"),
        ("digits", {"train_images": 1201}, "`train_images` is 1,201, but digits has 1,200 images"),
        ("digits", {"train_images": 0}, "`train_images` is 0, but"),
        ("imagefolder:/nowhere", {}, "/nowhere is no folder of class folders"),
    ],
)
def test_what_cannot_be_loaded_is_refused(tmp_path, dataset, options, message):
    with pytest.raises(ValueError, match=message):
        read(dataset, tmp_path, **options)


def test_image_folders_that_cannot_serve_are_refused(tmp_path):
    write_images(tmp_path / "few" / "a", 9)
    with pytest.raises(ValueError, match="9 training images, too few to hold some out"):
        read(f"imagefolder:{tmp_path / 'few'}", tmp_path)
    with pytest.raises(ValueError, match="has no test images"):
        read(f"imagefolder:{tmp_path / 'few'}", tmp_path, validate="test")
    write_images(tmp_path / "odd" / "test" / "a", 1)
    with pytest.raises(ValueError, match="a folder `test` but no folder `train`"):
        read(f"imagefolder:{tmp_path / 'odd'}", tmp_path)
    write_images(tmp_path / "odd" / "train" / "b", 1)
    with pytest.raises(ValueError, match="train and test differ in their classes"):
        read(f"imagefolder:{tmp_path / 'odd'}", tmp_path)
    (tmp_path / "few" / "a" / "000.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"000\.png cannot be read as an image"):
        read(f"imagefolder:{tmp_path / 'few'}", tmp_path, validate="none", image_size=4)
    with pytest.raises(ValueError, match=r"000\.png cannot be read as an image"):
        read(f"imagefolder:{tmp_path / 'few'}", tmp_path, validate="none")


def test_an_image_damaged_anywhere_is_named(tmp_path):
    write_images(tmp_path / "a", 3, size=(9, 9))
    path = tmp_path / "a" / "001.png"
    content = path.read_bytes()
    for cut in range(0, len(content) - 24, 3):  # up to the checksums behind the pixels
        path.write_bytes(content[:cut])
        with pytest.raises(ValueError, match=r"001\.png cannot be read as an image"):
            read(f"imagefolder:{tmp_path}", tmp_path, validate="none")


@pytest.mark.parametrize(
    ("dataset", "package"), [("digits", "sklearn.datasets"), ("cifar10", "torchvision")]
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, dataset, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=f"{dataset} needs .*pip install"):
        read(dataset, tmp_path)
