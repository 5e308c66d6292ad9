"""Every family of timm and every classifier of torchvision: blocks complete, and frozen ones free.

All on the meta device: nothing is allocated, but autograd is real.
"""

import importlib.metadata
from collections import defaultdict

import pytest
import timm
import torch
import torchvision

import models
from freezeout.blocks import partition
from freezeout.perf.clock import CpuClock
from freezeout.perf.ledger import BlockHooks
from freezeout.perf.workload import main_output
from freezeout.proof import audit

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
TORCHVISION = torchvision.models.list_models(module=torchvision.models)
SMALLER_INPUT = {"timm:sequencer2d_s": 28}  # LSTMs over rows and columns: one operation a token

KNOWN_FAILURES: dict[str, str] = {}
"""What cannot be partitioned or is not free, by name, with the reason. Must be exact."""
REUSING = {"timm:coat_tiny"}
"""Models that use a parameter of an early block again in a later one."""


def family_of(name):
    return timm.model_entrypoint(name).__module__.rpartition(".")[2]


def installed_families():
    found = defaultdict(list)
    for name in timm.list_models():
        found[family_of(name)].append(name)
    return found


def test_the_list_covers_every_family_of_timm():
    installed = set(installed_families())
    new, gone = sorted(installed - set(TIMM_FAMILIES)), sorted(set(TIMM_FAMILIES) - installed)
    version = importlib.metadata.version("timm")
    if (new or gone) and version != WRITTEN_FOR:
        pytest.xfail(f"timm {version} has families that are not tried: {new}; it has not: {gone}")
    assert (new, gone) == ([], [])


@pytest.mark.parametrize("family", TIMM_FAMILIES)
def test_each_is_of_its_family(family):
    if not timm.is_model(TIMM_FAMILIES[family]):
        pytest.xfail(f"this timm has no {TIMM_FAMILIES[family]}")
    assert family_of(TIMM_FAMILIES[family]) == family


NAMES = [f"timm:{name}" for name in TIMM_FAMILIES.values()] + [
    f"torchvision:{name}" for name in TORCHVISION
]


def test_the_known_failures_are_of_models_that_are_tried():
    assert set(KNOWN_FAILURES) <= set(NAMES)
    assert set(REUSING) <= set(NAMES)


def check(name):
    model = models.create(name, device="meta")
    channels, height, width = model.input_shape
    height, width = SMALLER_INPUT.get(name, height), SMALLER_INPUT.get(name, width)
    sample = torch.empty(2, channels, height, width, device="meta")
    module = model.module
    blocks = partition(module, sample, groups=model.groups())
    check_blocks(name, module, blocks)
    check_free(name, module, sample, blocks)
    if name.startswith("timm:"):
        check_left_in_turn(module, sample, blocks)


def check_left_in_turn(module, sample, blocks):
    """The backward pass leaves one block after the other, so that the stage ledger can time them."""
    hooks = BlockHooks(blocks, CpuClock())
    main_output(module.train()(sample)).sum().backward()
    left = list(hooks.take())
    hooks.remove()
    assert left == list(reversed(range(len(blocks))))


def check_blocks(name, module, blocks):
    """Complete, disjoint, in order, with nothing left over."""
    held = [p for block in blocks for p in block.parameters]
    assert len(held) == len(set(held))
    assert set(held) == set(module.parameters())
    assert len(blocks) > 2
    assert len(set(blocks.names)) == len(blocks)
    assert [block.index for block in blocks] == list(range(len(blocks)))
    assert blocks.traced_on == "meta"
    assert blocks.unused == ()
    assert bool(blocks.reused) == (name in REUSING)


def levels_of(name, module, blocks):
    """First, middle and last; fewer where many models are alike, and fewest where one is huge too."""
    last = len(blocks) - 1
    is_large = len(list(module.modules())) > 400
    if name.startswith("torchvision:"):
        return [last // 2] if is_large else [last // 2, last]
    return [1, last] if is_large else sorted({1, last // 2, last})


def check_free(name, module, sample, blocks):
    for level in levels_of(name, module, blocks):
        report = audit(module, sample, level, blocks=blocks)
        assert report.ok, report
        assert report.where == "meta"
        assert report.active_without_gradient == ()


@pytest.mark.parametrize("name", NAMES)
def test_frozen_blocks_are_free(name):
    library, _, local = name.partition(":")
    if library == "timm" and not timm.is_model(local):
        pytest.xfail(f"this timm has no {local}")
    if name not in KNOWN_FAILURES:
        return check(name)
    with pytest.raises((AssertionError, ValueError)):
        check(name)
    return None
