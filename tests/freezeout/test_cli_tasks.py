"""Models that are no image classifiers: what proves and counts takes them, what trains says so in one line."""

import sys
import textwrap

import pytest

from freezeout.cli import main

SOURCE = """
    import torch
    from torch import nn

    class Pairs(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 4))
            self.head = nn.Linear(8, 1)

        def forward(self, left, right):
            return self.head(torch.cat([self.trunk(left), self.trunk(right)], dim=1))

    def pairs():
        return Pairs()

    def sample_input(batch_size, device):
        return {side: torch.zeros(batch_size, 6, device=device) for side in ("left", "right")}

    pairs.sample_input = sample_input
"""
STUDY = """
    [train]
    dataset = "digits"

    [[grid]]
    epochs = 1
    model = "torchvision:fcn_resnet50"
"""
DETECTOR = "torchvision:ssdlite320_mobilenet_v3_large"


@pytest.fixture(autouse=True)
def pairnets(tmp_path, monkeypatch):
    (tmp_path / "pairnets.py").write_text(textwrap.dedent(SOURCE))
    (tmp_path / "study.toml").write_text(textwrap.dedent(STUDY))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("pairnets", None)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("measure", "torchvision:raft_small"), "for optical flow: only image classifiers"),
        (("measure", "torchvision:r3d_18"), "for video classification: only image classifiers"),
        (("measure", "pairnets:pairs"), "for a task of its own: only image classifiers"),
        (
            ("train", "--model", "torchvision:fcos_resnet50_fpn", "--dataset", "digits"),
            "for object detection: only image classifiers",
        ),
        (("train", "--model", "torchvision:raft_small", "--dataset", "digits"), "no `num_classes`"),
        (("train", "--model", "pairnets:pairs", "--dataset", "digits"), "`input_size` does not"),
        (("sweep", "study.toml", "--out", "out"), "for semantic segmentation: only image"),
    ],
    ids=lambda each: f"{each[0]}-{each[-1]}" if isinstance(each, tuple) else "",
)
def test_what_trains_refuses_them_in_one_line(capsys, command, said):
    assert main([*command]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error


@pytest.mark.parametrize("model", ["pairnets:pairs", "torchvision:r3d_18", DETECTOR])
def test_audit_proves_them(capsys, model):
    assert main(["audit", model, "--levels", "2"]) == 0
    assert "NOT FREE" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "first"),
    [
        ("torchvision:r3d_18", "torchvision:r3d_18 at 3x16x112x112: "),
        ("torchvision:lraspp_mobilenet_v3_large", "at 3x224x224: "),
        (DETECTOR, "at 3x320x320: "),
        ("pairnets:pairs", "pairnets:pairs: 4 blocks, 173 parameters, 0.000 GFLOP forward"),
    ],
)
def test_predict_counts_them(capsys, model, first):
    assert main(["predict", model]) == 0
    assert first in capsys.readouterr().out.splitlines()[0]
