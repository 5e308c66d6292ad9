from pathlib import Path

import pytest

from freezeout.train.files import replace_file


def old_file(folder):
    path = folder / "file"
    path.write_text("old")
    return path, folder / "kept"


def interrupting(monkeypatch, destination, *, before):
    """Let a signal arrive just before or just after the renaming to `destination`."""

    def replace(self, target, original=Path.replace):
        interrupts = target == destination
        if interrupts:
            monkeypatch.undo()
        if interrupts and before:
            raise KeyboardInterrupt
        original(self, target)
        if interrupts:
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", replace)


@pytest.mark.parametrize(
    ("renaming", "before"),
    [("kept", False), ("file", True), ("file", False)],
    ids=["after the first", "before the second", "after the second"],
)
def test_interrupted_after_the_first_renaming_it_does_the_second(
    tmp_path, monkeypatch, renaming, before
):
    path, kept = old_file(tmp_path)
    interrupting(monkeypatch, tmp_path / renaming, before=before)
    with pytest.raises(KeyboardInterrupt):
        replace_file(path, lambda file: file.write(b"new"), keep_as=kept)
    assert (path.read_text(), kept.read_text()) == ("new", "old")
    assert sorted(tmp_path.iterdir()) == [path, kept]


@pytest.mark.parametrize("is_written", [False, True], ids=["while written", "before the first"])
def test_interrupted_before_the_first_renaming_it_leaves_the_old_file(
    tmp_path, monkeypatch, is_written
):
    path, kept = old_file(tmp_path)
    interrupting(monkeypatch, kept, before=True)

    def write(file):
        file.write(b"ne")
        if not is_written:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(path, write, keep_as=kept)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_renamed_is_said(tmp_path):
    """A folder stands where the old file should be kept."""
    path, kept = old_file(tmp_path)
    (kept / "inside").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"file cannot be written: .*directory"):
        replace_file(path, lambda file: file.write(b"new"), keep_as=kept)
    assert path.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [path, kept]
