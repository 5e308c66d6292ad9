"""DenseNet-BC for 32x32 images (Huang et al. 2017, arXiv 1608.06993, sections 3 and 4)."""

import torch
from torch import Tensor, nn

from models.staged import ClassifierHead, StagedNet, check_dropout, dropout_layers, stage


class DenseLayer(nn.Module):
    """A bottleneck layer: 1x1 to 4k channels, 3x3 to k channels, joined to its own input."""

    def __init__(self, in_channels: int, growth_rate: int, dropout: float) -> None:
        super().__init__()
        width = 4 * growth_rate
        self.layers = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(),
            nn.Conv2d(in_channels, width, 1, bias=False),
            *dropout_layers(dropout),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, growth_rate, 3, padding=1, bias=False),
            *dropout_layers(dropout),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C + growth_rate, H, W)."""
        return torch.cat([features, self.layers(features)], dim=1)


class Transition(nn.Sequential):
    """Batch norm, ReLU, 1x1 convolution to fewer channels, 2x2 average pooling."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.AvgPool2d(2),
        )


def densenet_bc(
    *, depth: int = 76, growth_rate: int = 12, dropout: float = 0.0, num_classes: int = 10
) -> StagedNet:
    """Build DenseNet-BC: three dense stages of (depth - 4) / 6 layers, compression 0.5.

    Blocks are numbered as in the published FreezeOut code: 0 is the first convolution, then one
    per dense layer and one per transition, the last is the final batch norm and linear layer; 40
    blocks at depth 76, 22 at depth 40. The published transition applies ReLU before batch norm;
    this one follows the DenseNet paper, batch norm first.

    Args:
        depth: layers with weights; (depth - 4) must be a positive multiple of 6.
        growth_rate: channels each dense layer adds (k).
        dropout: probability after each convolution of a dense layer.
        num_classes: width of the output.

    Raises:
        ValueError: for a depth, growth rate or dropout out of range.
    """
    _check(depth, growth_rate)
    check_dropout(dropout)
    channels = 2 * growth_rate
    stem = nn.Conv2d(3, channels, 3, padding=1, bias=False)
    stages = []
    for number in (1, 2, 3):
        children: dict[str, nn.Module] = {}
        for index in range((depth - 4) // 6):
            children[str(index)] = DenseLayer(channels, growth_rate, dropout)
            channels += growth_rate
        if number < 3:
            children["transition"] = Transition(channels, channels // 2)
            channels //= 2
        stages.append(stage(children))
    return StagedNet(stem=stem, stages=stages, head=ClassifierHead(channels, num_classes))


def _check(depth: int, growth_rate: int) -> None:
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(
            "`depth` of densenet_bc must be 4 plus a multiple of 6 (three stages of two-"
            f"convolution layers): 10, 16, ..., 40, ..., 76, 100; got {depth}."
        )
    if growth_rate < 1:
        raise ValueError(f"`growth_rate` must be at least 1, got {growth_rate}.")
