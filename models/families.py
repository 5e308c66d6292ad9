"""The family of a model: the module of its library that defines it."""

from models.construction import import_library

CLASSIFICATION = "classification"


def family(name: str) -> str:
    """Family of the model of that name, as for `models.create`.

    Returns:
        timm: the module that defines it, such as "vision_transformer". torchvision: kind and module, such as
        "classification/resnet", "detection/faster_rcnn" or "quantization/mobilenetv2". Empty for others, and for names
        that the libraries do not know.
    """
    library, _, local = name.partition(":")
    if library == "timm":
        return _timm(local)
    return _torchvision(local) if library == "torchvision" else ""


def _timm(name: str) -> str:
    timm = import_library("timm")
    bare = name.partition(".")[0]
    if not timm.is_model(bare):
        return ""
    return str(timm.model_entrypoint(bare).__module__).rpartition(".")[2]


def _torchvision(name: str) -> str:
    library = import_library("torchvision").models
    if name not in library.list_models():
        return ""
    place = library.get_model_builder(name).__module__.removeprefix("torchvision.models.")
    kind, _, module = place.rpartition(".")
    return f"{kind or CLASSIFICATION}/{module}"
