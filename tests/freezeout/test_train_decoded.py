import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from freezeout.train.decoded import VARIABLE, decoded, keeping_decoded
from freezeout.train.sources import read


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def paths(tmp_path):
    found = [tmp_path / name for name in ("a.png", "b.png")]
    for path in found:
        path.write_bytes(b"image")
    return [str(path) for path in found]


class Decoder:
    """Notes how often it was called."""

    def __init__(self):
        self.calls = 0

    def __call__(self, paths, image_size):
        self.calls += 1
        return torch.full((len(paths), 3, image_size or 4, 4), self.calls, dtype=torch.uint8)


def test_nothing_is_kept_unless_a_folder_is_named(paths):
    decode = Decoder()
    for _ in range(2):
        decoded(paths, None, decode)
    assert decode.calls == 2


def test_images_are_decoded_once_for_all_processes(paths, tmp_path):
    decode = Decoder()
    with keeping_decoded(tmp_path / "images"):
        assert os.environ[VARIABLE] == str(tmp_path / "images")
        first, again = (decoded(paths, 4, decode) for _ in range(2))
    assert torch.equal(first, again)
    assert decode.calls == 1
    assert VARIABLE not in os.environ


def changed_time(path):
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    "change", [lambda path: path.write_bytes(b"another"), changed_time], ids=["size", "time"]
)
def test_a_changed_file_is_decoded_again(paths, tmp_path, change):
    decode = Decoder()
    with keeping_decoded(tmp_path / "images"):
        decoded(paths, 4, decode)
        change(Path(paths[1]))
        decoded(paths, 4, decode)
        decoded(paths, 8, decode)  # so is another size
        decoded(paths[::-1], 4, decode)  # and another order
    assert decode.calls == 4


def test_a_folder_that_the_user_named_is_kept_to(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "own"))
    with keeping_decoded(tmp_path / "other"):
        assert os.environ[VARIABLE] == str(tmp_path / "own")
    assert os.environ[VARIABLE] == str(tmp_path / "own")


def test_a_folder_that_cannot_be_written_is_said_in_one_line(paths, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
    with pytest.raises(ValueError, match="cannot be"):
        decoded(paths, 4, Decoder())


def test_an_image_folder_is_the_same_from_what_was_kept(tmp_path):
    for index, name in enumerate(("cat", "dog")):
        folder = tmp_path / "set" / "train" / name
        folder.mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (4, 4), (index, number, 7)).save(folder / f"{number}.png")
    arguments = {"root": Path(), "download": False, "image_size": None}
    name = f"imagefolder:{tmp_path / 'set'}"
    with keeping_decoded(tmp_path / "images"):
        one, other = (read(name, **arguments) for _ in range(2))
    assert len(list((tmp_path / "images").iterdir())) == 1
    assert torch.equal(one.train.images, other.train.images)
    assert torch.equal(one.train.labels, other.train.labels)
    assert torch.equal(one.train.images, read(name, **arguments).train.images)
