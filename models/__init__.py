"""Names to models: the paper's networks, timm, torchvision, and a user's own.

This package alone knows timm and torchvision models; both are imported only when one is asked for.
"""

from models.catalog import create, names
from models.model import Granularity, Model
from models.request import UnknownModelError

__all__ = ["Granularity", "Model", "UnknownModelError", "create", "names"]
