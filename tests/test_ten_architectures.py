"""Ten architectures of ten families trained for 20 steps while nearly all of their blocks freeze, bit by bit."""

import copy
from functools import partial

import pytest
import timm
import torch
import torchvision
from timm.models.mlp_mixer import MlpMixer
from torch import nn

from freezeout import FreezeOutLR, partition

STEPS = 20
T_0 = 0.2
SHAPE = (4, 3, 64, 64)


def from_timm(name, **options):
    return partial(timm.create_model, name, num_classes=10, **options)


def of_class(kind, **options):
    return partial(kind, num_classes=10, **options)


# Dropout and stochastic depth are on wherever the family has them, so that frozen blocks could differ.
ARCHITECTURES = {
    "resnet": from_timm("test_resnet", drop_path_rate=0.3, drop_rate=0.2),
    "vit": from_timm(
        "vit_tiny_patch16_224",
        img_size=64,
        depth=6,
        drop_path_rate=0.3,
        proj_drop_rate=0.2,
        attn_drop_rate=0.2,
        pos_drop_rate=0.2,
        patch_drop_rate=0.25,
    ),
    "convnext": from_timm("test_convnext", drop_path_rate=0.3),
    "efficientnet": from_timm("test_efficientnet", drop_path_rate=0.3, drop_rate=0.2),
    "mobilenetv3": from_timm("mobilenetv3_small_050", drop_path_rate=0.3, drop_rate=0.2),
    "nfnet": from_timm("test_nfnet", drop_path_rate=0.3),
    "cait": from_timm(
        "cait_xxs24_224",
        img_size=64,
        depth=6,
        drop_path_rate=0.3,
        proj_drop_rate=0.2,
        attn_drop_rate=0.2,
    ),
    "mixer": of_class(
        MlpMixer,
        img_size=64,
        patch_size=16,
        num_blocks=4,
        embed_dim=64,
        drop_path_rate=0.3,
        proj_drop_rate=0.2,
    ),
    "swin of torchvision": of_class(
        torchvision.models.SwinTransformer,
        patch_size=[4, 4],
        embed_dim=24,
        depths=[2, 2, 2],
        num_heads=[1, 2, 4],
        window_size=[4, 4],
        dropout=0.2,
        attention_dropout=0.2,
        stochastic_depth_prob=0.3,
    ),
    "densenet of torchvision": of_class(
        torchvision.models.DenseNet,
        growth_rate=12,
        block_config=(3, 3, 3),
        num_init_features=24,
        drop_rate=0.2,
    ),
}


@pytest.fixture(autouse=True)
def _deterministic():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def run(model, images, labels, step):
    torch.manual_seed(step)  # frozen blocks draw nothing, so both networks draw the same
    loss = nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    return loss


def block_tensors(block):
    buffers = [b for m in block.modules for b in m.buffers(recurse=False)]
    return [t.detach().clone() for t in (*block.parameters, *buffers)]


def equal(before, after):
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_frozen_blocks_stay_bit_equal_and_active_gradients_are_those_of_the_whole_network(name):
    torch.manual_seed(0)
    model = ARCHITECTURES[name]()
    reference = copy.deepcopy(model)
    blocks = partition(model, torch.empty(SHAPE, device="meta"))
    twins = partition(reference, torch.empty(SHAPE, device="meta"))
    optimizer, other = (
        torch.optim.SGD(each.param_groups(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        for each in (blocks, twins)
    )
    scheduler = FreezeOutLR(optimizer, blocks, total_steps=STEPS, t_0=T_0, how_scale="linear")
    frozen = {}
    levels = []
    for step in range(STEPS):
        level = scheduler.level
        levels.append(level)
        for block in blocks[:level]:
            frozen.setdefault(block.index, block_tensors(block))
        images = torch.randn(SHAPE)
        labels = torch.randint(10, SHAPE[:1])

        model.train()
        optimizer.zero_grad()
        loss = run(model, images, labels, step)

        # The same network with all gradients, its frozen blocks merely left out of the optimizer and in eval mode.
        reference.train()
        for block in twins[:level]:
            for module in block.modules:
                module.training = False
        other.zero_grad()
        assert torch.equal(run(reference, images, labels, step), loss)

        for block, twin in zip(blocks, twins, strict=True):
            for p, q in zip(block.parameters, twin.parameters, strict=True):
                if block.index < level:
                    assert p.grad is None
                else:
                    assert (p.grad is None) == (q.grad is None)
                    assert p.grad is None or torch.equal(p.grad, q.grad)
        for group, rates in zip(other.param_groups, optimizer.param_groups, strict=True):
            group["lr"] = rates["lr"]
        optimizer.step()
        for block in twins[:level]:
            for p in block.parameters:
                p.grad = None
        other.step()
        scheduler.step()
    assert levels[0] == 0
    assert levels[-1] >= 0.8 * len(blocks)
    for index, before in frozen.items():
        assert equal(before, block_tensors(blocks[index]))
    assert all(map(equal, map(block_tensors, blocks), map(block_tensors, twins)))
