"""Wide residual networks for 32x32 images (Zagoruyko & Komodakis 2016, arXiv 1605.07146)."""

from torch import Tensor, nn
from torch.nn import functional

from models.staged import ClassifierHead, StagedNet, check_dropout, dropout_layers, stage


class WideBlock(nn.Module):
    """A pre-activation basic block; dropout, if any, stands between its two convolutions."""

    def __init__(self, in_channels: int, channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.dropout = nn.Sequential(*dropout_layers(dropout))
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.projection: nn.Module | None = None
        if in_channels != channels or stride != 1:
            self.projection = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        activated = functional.relu(self.norm1(features))
        # Where the shape changes, the shortcut starts after the activation, as in the paper's code.
        shortcut: Tensor = features if self.projection is None else self.projection(activated)
        hidden = self.dropout(self.conv1(activated))
        residual: Tensor = self.conv2(functional.relu(self.norm2(hidden)))
        return shortcut + residual


def wide_resnet(
    *, depth: int = 40, width: int = 4, dropout: float = 0.0, num_classes: int = 10
) -> StagedNet:
    """Build WRN-depth-width: three stages of (depth - 4) / 6 residual blocks.

    Blocks: 0 is the first convolution, then one per residual block, the last is the final batch
    norm and linear layer; 20 blocks for WRN-40-4.

    Args:
        depth: layers with weights; (depth - 4) must be a positive multiple of 6.
        width: channels of the stages are 16, 32 and 64 times this.
        dropout: probability between the convolutions of a block.
        num_classes: width of the output.

    Raises:
        ValueError: for a depth, width or dropout out of range.
    """
    _check(depth, width)
    check_dropout(dropout)
    channels, stages = 16, []
    stem = nn.Conv2d(3, channels, 3, padding=1, bias=False)
    for out_channels, first_stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
        children: dict[str, nn.Module] = {}
        for index in range((depth - 4) // 6):
            stride = first_stride if index == 0 else 1
            children[str(index)] = WideBlock(channels, out_channels, stride, dropout)
            channels = out_channels
        stages.append(stage(children))
    return StagedNet(stem=stem, stages=stages, head=ClassifierHead(channels, num_classes))


def _check(depth: int, width: int) -> None:
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(
            "the depth in `wrn_<depth>_<width>` must be 4 plus a multiple of 6 (three stages of "
            f"two-convolution blocks): 10, 16, 22, 28, 34, 40, ...; got {depth}."
        )
    if width < 1:
        raise ValueError(f"the width in `wrn_<depth>_<width>` must be at least 1, got {width}.")
