"""VGG-16 with batch norm for 32x32 images (Simonyan & Zisserman 2015, arXiv 1409.1556)."""

from torch import Tensor, nn

from models.staged import StagedNet, check_dropout, stage

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# Output channels of each convolution; every stage ends in a 2x2 max-pool.


class VggHead(nn.Module):
    """Two hidden linear layers with batch norm and dropout, then the classifier.

    In train mode its 1d batch norms need a batch of at least two images.
    """

    def __init__(self, channels: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, channels),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(channels, channels),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(channels, num_classes),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, num_classes); H and W are 1 for 32x32 images."""
        scores: Tensor = self.layers(features.mean(dim=(2, 3)))
        return scores


def vgg16(*, dropout: float = 0.5, num_classes: int = 10) -> StagedNet:
    """Build VGG-16: 13 convolutions, five max-pools, three linear layers.

    Blocks: one per convolution with its batch norm, then the whole classifier; 14 blocks.

    Args:
        dropout: probability after each hidden linear layer.
        num_classes: width of the output.

    Raises:
        ValueError: for a dropout out of range.
    """
    check_dropout(dropout)
    channels, stages = 3, []
    for widths in _STAGES:
        children: dict[str, nn.Module] = {}
        for index, width in enumerate(widths):
            children[str(index)] = _conv(channels, width)
            channels = width
        children["pool"] = nn.MaxPool2d(2)
        stages.append(stage(children))
    return StagedNet(stem=None, stages=stages, head=VggHead(channels, num_classes, dropout))


def _conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )
