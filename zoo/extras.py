"""Which packages come with which extra of zoo-transfer, and what is said where one is missing.

A base install answers with exported files. What trains, exports and draws comes with `[train]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.util import find_spec

from zoo.errors import MissingPackage

NAME = "zoo-transfer"
# What each is for, as docs/install.md says it.
PURPOSES = {
    "train": "fine-tuning, training, runs and models by name, export; has `plots`",
    "plots": "`zoo evaluate --plot`, the letters of `zoo demo`",
    "serve": "`zoo serve`",
    "parquet": "tables, answers and photos in Parquet",
    "scale": "`zoo plan`, `estimate`, `work`, `verify`, `merge`; s3://, gs://, az://",
    "ray": "`zoo work --ray`, `zoo finetune --ray`; has `scale`",
    "tensorboard": "`--log tensorboard`",
    "mlflow": "`--log mlflow`",
    "wandb": "`--log wandb`",
    "text": "a head from class names: `zoo finetune MODEL PHOTOS --text FOLDER`",
    "tsne": "`zoo embed --map tsne`",
}
# By extra: the modules that are imported, as pyproject.toml's packages have them.
EXTRAS = {
    "train": ("torch", "torchvision", "timm", "onnx", "onnxscript", "openvino"),
    "plots": ("matplotlib",),
    "serve": ("fastapi", "uvicorn", "python_multipart"),
    "parquet": ("pyarrow",),
    "scale": ("obstore", "pyarrow"),
    "ray": ("obstore", "pyarrow", "ray"),
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow",),
    "wandb": ("wandb",),
    "text": ("open_clip", "tokenizers"),
    "tsne": ("sklearn",),
}
_PACKAGES = {"python_multipart": "python-multipart", "open_clip": "open_clip_torch",
             "sklearn": "scikit-learn", "mlflow": "mlflow-skinny"}  # fmt: skip
_FILES = "`zoo predict FILE.onnx PHOTOS` does without it, on an exported file"


def install(extra: str) -> str:
    """Return `pip install 'zoo-transfer[train]'`, the same in every message."""
    return f"pip install '{NAME}[{extra}]'"


def package(module: str) -> str:
    """Return what a module's package is called where it is installed from."""
    return _PACKAGES.get(module, module)


def extra_of(module: str) -> str:
    """Return the extra that brings a module; empty where none does."""
    return next((extra for extra, modules in EXTRAS.items() if module in modules), "")


def has(*modules: str) -> bool:
    """Return whether all of these are installed; none is imported."""
    return not _absent(modules)


def need(what: str, *modules: str, extra: str = "", instead: str = "") -> None:
    """Raise MissingPackage where a module is not installed that something cannot do without.

    what: that something, as "`zoo serve`". extra: where a module is in several, the one to name.
    instead: what can be done without them.
    """
    if absent := _absent(modules):
        raise _missing(what, absent, extra, instead)


def told(error: ModuleNotFoundError, what: str) -> MissingPackage | None:
    """Return what to say of an import that failed; None where the module is of no extra."""
    module = (error.name or "").partition(".")[0]
    return _missing(what, [module]) if extra_of(module) else None


def _absent(modules: Iterable[str]) -> list[str]:
    return [module for module in modules if find_spec(module) is None]


def _missing(what: str, modules: list[str], extra: str = "", instead: str = "") -> MissingPackage:
    extra = extra or extra_of(modules[0])
    instead = instead or (_FILES if extra == "train" else "")
    names = re.sub(", ([^,]*)$", r" and \1", ", ".join(map(package, modules)))
    is_not = "is not" if len(modules) == 1 else "are not"
    hint = f"`{install(extra)}` installs {'it' if len(modules) == 1 else 'them'}"
    return MissingPackage(f"{what} needs {names}, which {is_not} installed",
                          "; ".join(filter(None, (hint, instead))))  # fmt: skip
