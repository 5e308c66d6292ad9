"""What was asked for: one model by name, with the options that were given."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch


class UnknownModelError(ValueError):
    """No model has this name; the message lists the nearest names."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One call of `models.create`, checked once and handed to the source of the model."""

    name: str
    # The name as the user wrote it, prefix included.
    num_classes: int | None
    # None: the model's own default.
    input_size: int | None
    # Height and width in pixels. None: the model's own default.
    options: Mapping[str, int | float]
    # depth, growth_rate, dropout: only those that were given.
    device: torch.device
    # Where the parameters are created; may be "meta".

    def __post_init__(self) -> None:
        """Refuse sizes below one; raises ValueError."""
        for label, value in (("num_classes", self.num_classes), ("input_size", self.input_size)):
            if value is not None and value < 1:
                raise ValueError(f"`{label}` must be at least 1, got {value}.")

    @property
    def local_name(self) -> str:
        """The name without its `timm:` or `torchvision:` prefix."""
        return self.name.partition(":")[2]

    def refuse_options_except(self, accepted: Iterable[str]) -> None:
        """Raise ValueError for a given option that this model does not take."""
        accepted = tuple(accepted)
        for option in self.options:
            if option not in accepted:
                takes = ", ".join(("num_classes", "input_size", *accepted))
                raise ValueError(
                    f"`{option}` does not apply to `{self.name}`, which takes {takes}."
                )


def parse_device(device: str | torch.device) -> torch.device:
    """Return the device, or raise ValueError for one that does not exist here."""
    try:
        parsed = torch.device(device)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"`device` must name a torch device, got {device!r}: {reason}") from error
    # device_count is 0 where CUDA is not available at all.
    if parsed.type == "cuda" and (parsed.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"`device` is {str(parsed)!r}, but torch sees {torch.cuda.device_count()} CUDA devices."
        )
    return parsed
