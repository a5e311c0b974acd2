"""A model zoo and transfer-learning tool: a folder of photos in, a checked ONNX file out.

In Python: `run = zoo.finetune("timm/mobilenetv2_100", "photos")`, then `run.predict("new")`. See
docs/python.md. Nothing is imported before it is used; __init__.pyi tells editors what there is.
"""

import sys
from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

_API = {
    "zoo.api": ("evaluate", "finetune", "list_models", "load", "rank", "resume"),
    "zoo.api.model": ("Model",),
    "zoo.api.run": ("Report", "Run"),
    "zoo.api.rows": ("Embedding", "Explanation", "ModelInfo", "Prediction"),
    "zoo.api.watching": ("Progress",),
    "zoo.errors": ("ZooError",),
    "zoo.export.records": ("Exported",),
    "zoo.finetune.describe": ("Line",),
    "zoo.finetune.events": ("FeaturesDone", "Finished", "Note"),
    "zoo.finetune.rank": ("Ranked",),
    "zoo.predict.evaluate": ("Measured",),
    "zoo.train.records": ("Epoch",),
}
_WHERE = {name: module for module, names in _API.items() for name in names}
__all__ = ["__version__", *sorted(_WHERE)]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        here = sys.modules[__name__]  # where Python looks for what was meant
        raise AttributeError(f"module 'zoo' has no attribute {name!r}", name=name, obj=here)
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__doc__", "__file__", "__name__", "__path__"]


class _Package(ModuleType):
    """The package, in which `finetune` is the function whatever of that name is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _WHERE and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
