"""Commits of a repository as folders of their own, for as long as they are needed."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PACKAGES = ("bench", "freezeout", "models", "reports")
LOCAL_TO_A_REPOSITORY = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE")
"""Set by git while it runs a hook; they would lead every git below to another repository than its folder's."""
ORIGINS = """
import importlib.util, sys
for name in sys.argv[1:]:
    spec = importlib.util.find_spec(name)
    print((spec and (spec.origin or next(iter(spec.submodule_search_locations)))) or "nowhere")
"""


def repository_of(folder: Path) -> Path:
    """Root of the checkout that `folder` is in."""
    if shutil.which("git") is None:
        raise ValueError("git is not installed, and commits are compared by it: install it.")
    done = _git(folder, "rev-parse", "--show-toplevel")
    if done.returncode:
        raise ValueError(f"{folder} is in no git checkout: {_last_line(done.stderr)}")
    return Path(done.stdout.strip())


def commit_of(repository: Path, name: str) -> str:
    """Full hash of the commit that a branch, tag or hash names."""
    # A leading dash would be read as an option.
    known = not name.startswith("-") and _git(
        repository, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"
    )
    if not known or known.returncode:
        raise ValueError(
            f"{name!r} names no commit here; fetch it first (git fetch origin) or name another."
        )
    return known.stdout.strip()


def check_committed(repository: Path) -> None:
    """Refuse a checkout that holds what no commit holds.

    Raises:
        ValueError: a file is changed, or is new and not ignored; names the first.
    """
    done = _git(repository, "status", "--porcelain")
    if done.returncode:
        raise ValueError(f"git status failed: {_last_line(done.stderr)}")
    if done.stdout:
        first, *others = done.stdout.splitlines()
        more = f" and {len(others)} more" if others else ""
        raise ValueError(
            f"not committed: {first[3:]}{more}; commits are measured, so commit or stash it "
            "(git stash -u), or name a commit by --candidate."
        )


@contextmanager
def worktrees(repository: Path, commits: Mapping[str, str]) -> Iterator[dict[str, Path]]:
    """A folder for each of `commits` (by name), gone when the context is left, in whatever way."""
    folder = Path(tempfile.mkdtemp(prefix="freezeout-pair-")).resolve()
    trees = {name: folder / name for name in commits}
    try:
        for name, tree in trees.items():
            _add(repository, tree, commits[name])
        yield trees
    finally:
        for tree in trees.values():
            _git(repository, "worktree", "remove", "--force", str(tree))
        shutil.rmtree(folder, ignore_errors=True)  # what an interrupted `add` left


def _add(repository: Path, tree: Path, commit: str) -> None:
    # Without hooks: a post-checkout of the user's is for the user's own checkout.
    quiet = ("-c", f"core.hooksPath={os.devnull}")
    done = _git(repository, *quiet, "worktree", "add", "--detach", str(tree), commit)
    if done.returncode:
        raise ValueError(f"git cannot check out {commit[:12]}: {_last_line(done.stderr)}")


def environment_of(tree: Path) -> dict[str, str]:
    """The environment in which Python, started in `tree`, imports the code of `tree`.

    An editable install of another checkout comes after PYTHONPATH, whatever made it.
    """
    paths = [str(tree), *filter(None, [os.environ.get("PYTHONPATH")])]
    return _environment() | {"PYTHONPATH": os.pathsep.join(paths)}


def check_own_code(tree: Path) -> None:
    """Ask a Python started in `tree` where it would import our packages from.

    Raises:
        ValueError: one of them would come from elsewhere, so that something else would be measured.
    """
    names = [name for name in PACKAGES if (tree / name).is_dir()]
    done = subprocess.run(
        [sys.executable, "-c", ORIGINS, *names],
        cwd=tree,
        env=environment_of(tree),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(f"Python does not start in {tree}: {_last_line(done.stderr)}")
    for name, origin in zip(names, done.stdout.splitlines(), strict=True):
        if not Path(origin).resolve().is_relative_to(tree):
            raise ValueError(
                f"{name} would be imported from {origin} instead of from the commit in {tree}; "
                "uninstall it there, or use another environment."
            )


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in LOCAL_TO_A_REPOSITORY}


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
