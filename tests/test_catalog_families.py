"""Every family of timm, every classifier of torchvision and a random part of both catalogs: proven as `audit` does.

All by the very row of the catalog audit, and so on the meta device wherever a model runs there: nothing is allocated,
but autograd is real.
"""

import datetime
import importlib.metadata
import os
import random
from collections import defaultdict

import pytest
import timm
import torchvision

import models
from freezeout.catalog.row import audited
from freezeout.perf.clock import CpuClock
from freezeout.perf.ledger import BlockHooks
from freezeout.perf.workload import main_output
from freezeout.shapes import KnownShapes
from models.families import family

WRITTEN_FOR = "1.0.31"
# The smallest model of each module of timm.models, by parameters.
TIMM_FAMILIES = {
    "beit": "beit_base_patch16_224",
    "byoanet": "halonet_h1",
    "byobnet": "test_byobnet",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32",
    "convnext": "test_convnext",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "cspnet": "cs3darknet_focus_s",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224",
    "densenet": "densenet121",
    "dla": "dla46x_c",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "test_efficientnet",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "vit_tiny_patch16_dinov3_qkvb",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "gemma4_vit": "gemma4_vit_167m_enc",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_b",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128s",
    "lowformer": "lowformer_b0",
    "mambaout": "test_mambaout",
    "maxxvit": "test_coatnet",
    "metaformer": "poolformerv2_s12",
    "mlp_mixer": "gmlp_ti16_224",
    "mobilenetv3": "mobilenetv3_small_050",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_parfac_gap",
    "nasnet": "nasnetalarge",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small",
    "nfnet": "test_nfnet",
    "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_002",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1",
    "res2net": "res2next50",
    "resnest": "resnest14d",
    "resnet": "test_resnet",
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window16_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224",
    "tresnet": "tresnet_m",
    "twins": "twins_svt_small",
    "vgg": "vgg11",
    "visformer": "visformer_tiny",
    "vision_transformer": "test_vit",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "test_vit_relpos",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41p",
    "xcit": "xcit_nano_12_p8_224",
}
TOO_LARGE = {"regnet_y_128gf"}  # built for real, as all RegNets: 2.6 GB for one model of a family
TORCHVISION = [
    name
    for name in torchvision.models.list_models(module=torchvision.models)
    if name not in TOO_LARGE
]
SMALLER_INPUT = {"timm:sequencer2d_s": 28}  # LSTMs over rows and columns: one operation a token

REUSING = {"timm:coat_tiny", "timm:cait_xxs24_224", "timm:efficientvim_m1"}
"""Models that use a parameter of an early block again in a later one."""

SEED = os.environ.get("FREEZEOUT_SAMPLE_SEED") or datetime.date.today().isoformat()
"""Of the random part: another one every day, or the one asked for. It stands in the name of each test."""
SHARE = 0.05
TOO_SLOW = {name for name in timm.list_models() if name.startswith("sequencer2d")}
"""Half a minute and more each; the smallest is tried on a smaller input as a family."""


def installed_families():
    found = defaultdict(list)
    for name in timm.list_models():
        found[family(f"timm:{name}")].append(name)
    return found


def test_the_list_covers_every_family_of_timm():
    installed = set(installed_families())
    new, gone = sorted(installed - set(TIMM_FAMILIES)), sorted(set(TIMM_FAMILIES) - installed)
    version = importlib.metadata.version("timm")
    if (new or gone) and version != WRITTEN_FOR:
        pytest.xfail(f"timm {version} has families that are not tried: {new}; it has not: {gone}")
    assert (new, gone) == ([], [])


@pytest.mark.parametrize("family_name", TIMM_FAMILIES)
def test_each_is_of_its_family(family_name):
    if not timm.is_model(TIMM_FAMILIES[family_name]):
        pytest.xfail(f"this timm has no {TIMM_FAMILIES[family_name]}")
    assert family(f"timm:{TIMM_FAMILIES[family_name]}") == family_name


NAMES = [f"timm:{name}" for name in TIMM_FAMILIES.values()] + [
    f"torchvision:{name}" for name in TORCHVISION
]


def test_the_reusing_models_are_tried():
    assert set(REUSING) <= set(NAMES)


def create(name, device):
    return models.create(name, device=device, input_size=SMALLER_INPUT.get(name))


def check(name):
    """A model that has everything: its blocks hold all, all of it is used, and every cut is free."""
    found = audited(create, name, baseline=False)
    row, blocks = found.row, found.blocks
    assert (row.verdict, row.reason) == ("PROVEN", "")
    assert (row.complete, row.in_order, row.traced_on) == (True, True, "meta")
    assert len(row.blocks) >= 4
    assert len(row.cuts) >= 3
    assert len(set(blocks.names)) == len(blocks)
    assert [block.index for block in blocks] == list(range(len(blocks)))
    assert row.unused == ()
    assert bool(row.reused) == (name in REUSING)
    for report in found.reports:
        assert report.where == "meta"
        assert report.active_without_gradient == ()
    if name.startswith("timm:"):
        check_left_in_turn(found)


def check_left_in_turn(found):
    """The backward pass leaves one block after the other, so that the stage ledger can time them."""
    hooks = BlockHooks(found.blocks, CpuClock())
    with KnownShapes():
        main_output(found.module.train()(found.sample)).sum().backward()
    left = list(hooks.take())
    hooks.remove()
    assert left == list(reversed(range(len(found.blocks))))


@pytest.mark.parametrize("name", NAMES)
def test_frozen_blocks_are_free(name):
    library, _, local = name.partition(":")
    if library == "timm" and not timm.is_model(local):
        pytest.xfail(f"this timm has no {local}")
    check(name)


def sample_of(names, seed):
    """A twentieth of the names, rounded up, without those that are tried as families."""
    others = sorted(set(names) - set(NAMES))
    count = -(-len(names) // round(1 / SHARE))
    return random.Random(seed).sample(others, min(count, len(others)))


SAMPLE = sample_of([f"timm:{name}" for name in timm.list_models() if name not in TOO_SLOW], SEED)
SAMPLE += sample_of(
    [f"torchvision:{name}" for name in torchvision.models.list_models() if name not in TOO_LARGE],
    SEED,
)


def test_the_sample_is_a_twentieth_of_the_catalog_and_drawn_by_its_seed():
    names = [f"timm:{name}" for name in timm.list_models()]
    assert len(SAMPLE) >= SHARE * (len(names) + len(torchvision.models.list_models())) - 1
    assert sample_of(names, "a") == sample_of(names, "a")
    assert set(sample_of(names, "a")) != set(sample_of(names, "b"))
    assert not set(SAMPLE) & set(NAMES)


@pytest.mark.parametrize("name", SAMPLE, ids=lambda name: f"{name}, seed {SEED}")
def test_a_random_part_of_the_catalog_is_proven(name):
    row = audited(create, name, baseline=False).row
    again = f"FREEZEOUT_SAMPLE_SEED={SEED} draws the same sample again"
    assert (row.verdict, row.reason) == ("PROVEN", ""), again
    assert all(cut.ok for cut in row.cuts), again
