"""The shape shared by the paper's networks: an optional stem, numbered stages, a head."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional

from models.model import Granularity


class StagedNet(nn.Sequential):
    """Runs `stem`, `stage1`, `stage2`, ..., `head` in order.

    A block is the stem, the head, or a child of a stage. Children without parameters (a pooling
    layer) are no block. Convolutions start from a normal distribution scaled by their fan-out
    (He et al. 2015), batch norm from 1 and 0, linear biases from 0.
    """

    def __init__(
        self, *, stem: nn.Module | None, stages: Sequence[nn.Sequential], head: nn.Module
    ) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        if stem is not None:
            parts["stem"] = stem
        parts |= {f"stage{number}": stage for number, stage in enumerate(stages, start=1)}
        parts["head"] = head
        super().__init__(parts)
        self.apply(_initialize)


class ClassifierHead(nn.Module):
    """Batch norm, ReLU, mean over height and width, linear: the end of a pre-activation net."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, num_classes); any H and W will do."""
        activated = functional.relu(self.norm(features))
        scores: Tensor = self.linear(activated.mean(dim=(2, 3)))
        return scores


def stage(children: Mapping[str, nn.Module]) -> nn.Sequential:
    """Make a stage of named children, so that the names appear in the block labels."""
    return nn.Sequential(OrderedDict(children))


def staged_groups(module: nn.Module, granularity: Granularity) -> dict[str, str]:
    """Label every parameter of a `StagedNet` by its stage ("stage1") or block ("stage1.0")."""
    return {name: _label(name, granularity) for name, _ in module.named_parameters()}


def _label(parameter_name: str, granularity: Granularity) -> str:
    part, child, *_ = parameter_name.split(".")
    is_block = granularity == "block" and part not in ("stem", "head")
    return f"{part}.{child}" if is_block else part


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def check_dropout(dropout: float) -> None:
    """Raise ValueError unless the dropout probability is in [0, 1)."""
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be in [0, 1), got {dropout}.")


def dropout_layers(dropout: float) -> tuple[nn.Module, ...]:
    """Return one dropout layer, or none when the probability is 0."""
    return (nn.Dropout(dropout),) if dropout > 0 else ()
