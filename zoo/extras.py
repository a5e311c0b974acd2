"""Which packages come with which extra of zoo-transfer, and what is said where one is missing.

A base install answers with exported files. What trains, exports and draws comes with `[train]`.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

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
    """Return the command that adds an extra where zoo is installed: by pip, uv, or as a uv tool."""
    source, edit = _source()
    if source is None:  # it was made from a folder that is gone
        return f"{pip()} {' '.join(map(package, EXTRAS[extra]))}"
    tool = _tool()
    if tool is None:
        return f"{pip()}{edit} {shlex.quote(_with(source, [extra]))}"
    # That makes the tool anew: what it was asked for before is asked for again.
    before: list[str] = next((one.get("extras", []) for one in tool if one["name"] == NAME), [])
    more = [f" --with {shlex.quote(one['name'])}" for one in tool if one["name"] != NAME]
    wanted = shlex.quote(_with(source, [*dict.fromkeys([*before, extra])]))
    return f"uv tool install{_backend()}{edit} {wanted}{''.join(more)}"


def _backend() -> str:
    """Return the flag by which uv takes the CPU build of torch again, where it is here."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return " --torch-backend cpu" * version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return ""


def update() -> str:
    """Return the command that brings a newer zoo to where this one is installed."""
    source, edit = _source()
    tool = _tool() is not None
    by = "uv tool upgrade" if tool else pip()
    if not source or not os.path.isdir(source):
        return f"{by} {NAME}" if tool else f"{by} -U {NAME}"
    pull = f"git -C {shlex.quote(source)} pull"
    what = NAME if tool else shlex.quote(source)
    anew = f" --reinstall-package {NAME}" if by.startswith("uv") else ""  # uv keeps what it built
    return pull if edit else f"{pull} && {by}{anew} {what}"


def pip() -> str:
    """Return the words that add packages to this environment: pip's, or uv's where it has none."""
    import shutil

    if find_spec("pip") is None:
        here = Path(sys.prefix).parent == Path.cwd()
        place = Path(sys.prefix).name if here else sys.prefix
        return f"uv pip install --python {shlex.quote(place)}"
    found = shutil.which("pip")
    ours = found is not None and Path(found).parent == Path(sys.executable).parent
    return "pip install" if ours else f"{shlex.quote(sys.executable)} -m pip install"


def _source() -> tuple[str | None, str]:
    """Return what zoo was installed from, and ` -e` where that folder is what runs.

    A folder, a wheel or an address; empty for a package index, None for what is not there now.
    """
    import json
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:  # PEP 610
        said = json.loads(distribution(NAME).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        said = {}
    url = str(said.get("url", ""))
    edit = " -e" if said.get("dir_info", {}).get("editable") else ""
    if not url.startswith("file:"):
        return ("git+" if "vcs_info" in said else "") + url, edit
    place = url2pathname(urlsplit(url).path)
    return (place if os.path.exists(place) else None), edit


def _tool() -> list[dict[str, Any]] | None:
    """Return what a uv tool was asked to consist of; None where this environment is none."""
    import tomllib

    try:
        said = tomllib.loads(Path(sys.prefix, "uv-receipt.toml").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return list(said.get("tool", {}).get("requirements", []))


def _with(source: str, wanted: list[str]) -> str:
    """Return a requirement: `zoo-transfer[train]`, `/a/folder[train]`, or of an address."""
    address = "://" in source
    found = f"{NAME if address or not source else source}[{','.join(wanted)}]"
    return f"{found} @ {source}" if address else found


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
