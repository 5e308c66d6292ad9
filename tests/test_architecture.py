"""Imports go one way: reports -> freezeout.perf; bench -> freezeout, models; the command line -> anything, late."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import freezeout

ROOT = Path(__file__).parents[1]
PACKAGES = ("bench", "freezeout", "models", "reports")
COMMAND_LINE = ("freezeout.__main__", "freezeout.cli", "freezeout.commands")
CORE = (
    *("freezeout.schedule", "freezeout.structure", "freezeout.shapes", "freezeout.trace"),
    *("freezeout.runs", "freezeout.blocks", "freezeout.hold", "freezeout.freezer"),
    *("freezeout.scheduler", "freezeout.proof", "freezeout.determinism", "freezeout.numerics"),
)
MAY_NOT_IMPORT = {
    # The core, from the bottom up; nothing of it knows what is built on it.
    **dict.fromkeys(
        CORE, ("freezeout.perf", "freezeout.train", "numpy", "pandas", "timm", "torchvision")
    ),
    "freezeout.schedule": ("torch", "numpy", "freezeout"),
    "freezeout.structure": ("freezeout",),
    "freezeout.shapes": ("freezeout",),
    "freezeout.trace": ("freezeout.schedule", "freezeout.structure", "freezeout.blocks"),
    "freezeout.runs": ("freezeout.schedule", "freezeout.blocks"),
    "freezeout.blocks": ("freezeout.schedule", "timm", "torchvision"),
    "freezeout.freezer": ("freezeout.schedule",),
    "freezeout.scheduler": ("freezeout.perf", "freezeout.train", "models"),
    "freezeout.proof": ("freezeout.schedule", "timm", "torchvision"),
    "freezeout.perf": ("models", "bench", "reports"),
    "freezeout.train": ("models", "bench", "reports"),
    "freezeout": ("timm", "torchvision.models", "models", "bench", "reports", *COMMAND_LINE),
    "models": ("freezeout.perf", "freezeout.train", "bench", "reports"),
    "reports": ("torch", "torchvision", "timm", "models", "bench", "freezeout.train"),
    "bench": ("reports",),
}
"""By module or package: what neither it nor a function in it imports. The command line may, late."""


def is_within(module, packages):
    return any(module == each or module.startswith(f"{each}.") for each in packages)


def modules_of(root, packages):
    """Path of every module, by its dotted name."""
    found = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            if "published" in path.parts:  # evidence, and no module of ours
                continue
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(path, known):
    """Modules that a file imports: (when it is itself imported, or later)."""
    at_once, late = set(), set()

    def visit(node, found):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                visit(other, found)
            return
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            ours = {each if each in known else node.module for each in full}
            found |= ours if node.module.split(".")[0] in PACKAGES else full | {node.module}
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            found = late
        for child in ast.iter_child_nodes(node):
            visit(child, found)

    visit(ast.parse(path.read_text(encoding="utf-8")), at_once)
    return at_once, late


MODULES = modules_of(ROOT, PACKAGES)
IMPORTS = {name: imports_of(path, MODULES) for name, path in MODULES.items()}


def test_all_packages_are_looked_at():
    assert {name.split(".")[0] for name in MODULES} == set(PACKAGES)
    assert set(CORE) <= set(MODULES)
    assert all(any(is_within(name, [rule]) for name in MODULES) for rule in MAY_NOT_IMPORT)


@pytest.mark.parametrize("place", MAY_NOT_IMPORT)
def test_a_place_does_not_import_what_it_may_not_know(place):
    forbidden = MAY_NOT_IMPORT[place]
    broken = [
        f"{name} imports {other}"
        for name, (at_once, late) in IMPORTS.items()
        if is_within(name, [place]) and (place != "freezeout" or not is_within(name, COMMAND_LINE))
        for other in sorted(at_once | late)
        if is_within(other, forbidden) and other != place
    ]
    assert broken == []


def test_nothing_imports_the_bench():
    users = [n for n, (a, b) in IMPORTS.items() if any(is_within(i, ["bench"]) for i in a | b)]
    assert [name for name in users if not is_within(name, ["bench"])] == []


def test_only_the_models_know_timm_and_torchvision_models():
    users = {
        name
        for name, (at_once, late) in IMPORTS.items()
        if any(is_within(each, ["timm", "torchvision.models"]) for each in at_once | late)
    }
    assert all(is_within(name, ["models"]) for name in users)


def cycle_in(imports, known):
    """A cycle of modules that import each other while they are being imported; None where there is none."""
    graph = {
        name: {each for each in at_once if each in known} for name, (at_once, _) in imports.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_no_module_is_needed_for_its_own_import():
    assert cycle_in(IMPORTS, MODULES) is None


SOURCES = {
    "straight": ({"a": "from models import b", "b": "import torch"}, None),
    "cycle": ({"a": "from models import b", "b": "import models.a"}, {"models.a", "models.b"}),
    "from": (
        {"a": "from models.b import x", "b": "from models.a import y"},
        {"models.a", "models.b"},
    ),
    "late": ({"a": "from models import b", "b": "def f():\n    import models.a"}, None),
    "types": (
        {
            "a": "from models import b",
            "b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import models.a",
        },
        None,
    ),
    "in a class": (
        {"a": "class A:\n    import models.b", "b": "if True:\n    import models.a"},
        {"models.a", "models.b"},
    ),
}


@pytest.mark.parametrize(("sources", "expected"), SOURCES.values(), ids=SOURCES.keys())
def test_a_cycle_would_be_found(tmp_path, sources, expected):
    (tmp_path / "models").mkdir()
    for name, source in sources.items():
        (tmp_path / "models" / f"{name}.py").write_text(source, encoding="utf-8")
    known = modules_of(tmp_path, ["models"])
    found = cycle_in({name: imports_of(path, known) for name, path in known.items()}, known)
    assert (found and set(found)) == expected


def loaded_by(statement):
    """Packages that a fresh interpreter holds after `statement`."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import freezeout.schedule", {"torch", "numpy"}),
        ("from freezeout import Schedule, calc_speedup", {"torch", "numpy"}),
        (
            "import freezeout.perf.results, freezeout.perf.error_budgets, freezeout.perf.usage",
            {"torch"},
        ),
        ("import freezeout.perf.machine, freezeout.perf.attribution", {"torch"}),
        ("import freezeout.cli", {"torch", "numpy", "timm", "torchvision", "models"}),
        (
            "from freezeout.commands import audit, measure, predict, sweep, train",
            {"torch", "numpy"},
        ),
        ("import reports.page, reports.write, reports.__main__", {"torch", "timm", "torchvision"}),
        ("import models", {"timm", "torchvision", "reports", "bench"}),
        (
            "from freezeout import FreezeOutLR, audit, partition",
            {"timm", "torchvision", "models", "pandas", "matplotlib", "sklearn"},
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "heavy",
)
def test_light_things_stay_light(statement, heavy):
    assert loaded_by(statement) & heavy == set()


@pytest.mark.parametrize("name", freezeout.__all__)
def test_every_public_name_is_there(name):
    assert getattr(freezeout, name).__name__ == name
    assert name in dir(freezeout)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'freeze'"):
        _ = freezeout.freeze


def test_modules_are_named_for_what_they_hold():
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager"}
    assert [name for name in MODULES if name.split(".")[-1] in vague] == []
