"""The config.json with which timm and transformers load the weights of one of timm's networks.

It names the architecture, its classes and how pictures are prepared, as `timm.models.save_for_hf`
writes it; transformers' wrapper of timm reads the same. A run folder has one beside its
model.safetensors, so it is such a folder itself. `repository` reads what others have written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from zoo.catalog import library_name
from zoo.catalog.spec import Preprocess
from zoo.disk import write_json
from zoo.errors import UsageError
from zoo.weights.repository import CONFIG

_MODES = {"crop": "center", "squash": "squash"}  # timm's `border` pads otherwise


def config_of(record: Mapping[str, Any]) -> dict[str, object]:
    """Return the config of a run, by its run.json. Raises UsageError with the reason for none."""
    name, preprocess = record["model"], Preprocess.from_dict(record["preprocess"])
    if why := _obstacle(record, preprocess):
        raise UsageError(
            f"timm has no equivalent of this run: {why}",
            "`zoo export onnx RUN` writes any run; `zoo export torch-export RUN` for torch",
        )
    architecture, _, tag = library_name(name)[1].partition(".")
    classes = list(record["classes"])
    about: dict[str, object] = {
        "tag": tag,
        "custom_load": False,
        "input_size": list(preprocess.shape),
        "interpolation": preprocess.interpolation,
        "crop_pct": _fraction(preprocess),
        "crop_mode": _MODES[preprocess.fit],
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "num_classes": len(classes),
        "first_conv": None,
        "classifier": record["spec"]["head"],
    }
    config: dict[str, object] = {
        "architecture": architecture,
        "num_classes": len(classes),
        "label_names": classes,
        "pretrained_cfg": about,
    }
    spec = record["spec"]
    if "patch_embed" in spec["stages"] and spec["preprocess"]["size"] != preprocess.size:
        config["model_args"] = {"img_size": preprocess.size}
    return config


def keep_beside(file: Path, record: Mapping[str, Any]) -> None:
    """Write the config of a run beside its weights, where timm has an equivalent of it."""
    with suppress(UsageError):
        write_json(file.with_name(CONFIG), config_of(record))


def _obstacle(record: Mapping[str, Any], preprocess: Preprocess) -> str:
    """Return why timm cannot load it, or nothing."""
    name = record["model"]
    if not name.startswith("timm/"):
        return f"{name} is no network of timm's"
    if record.get("head", "linear") != "linear":
        return f"its head is {record['head']}, timm's is one linear layer"
    if record.get("threshold") is not None:
        return "it gives several labels a picture, and transformers' pipeline takes a softmax"
    if record.get("variant"):
        return "the network is a variant of its own"
    if preprocess.fit not in _MODES:
        return f"pictures are prepared by fit {preprocess.fit}, which timm pads otherwise"
    if preprocess.channels != 3:
        return "it takes grey pictures, and timm's transforms give RGB"
    if preprocess.fit == "crop" and preprocess.height != preprocess.width:
        return "it sees the middle of two sides, and timm resizes the shorter one"
    return ""


def _fraction(preprocess: Preprocess) -> float:
    """Return timm's crop_pct, of which it takes floor(size / crop_pct) as what to resize to."""
    if preprocess.fit != "crop":
        return 1.0
    full = max(preprocess.width, round(preprocess.width / preprocess.crop))
    fraction = preprocess.width / full
    return fraction if math.floor(preprocess.width / fraction) == full else fraction - 1e-9
