"""Weights as they are published: a folder, or a repository of the Hub, with a config.json of timm.

transformers' wrapper of timm's models has the same, under the same names, and a prefix before the
tensors'. The config is data: it names an architecture and says how pictures were prepared and
what the outputs are called. Nothing in it is called, imported or run, and what is not understood
is refused. https://huggingface.co/docs/timm/en/hf_hub
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from zoo.catalog.spec import Weights
from zoo.disk import opened
from zoo.errors import WeightsError
from zoo.text import printable
from zoo.watch import Progress
from zoo.weights.store import HUB, find, held

PREFIX = "hf-hub:"
CONFIG = "config.json"
FILES = ("model.safetensors", "pytorch_model.bin")  # the first is taken where both are there
MOST = 16 << 20  # bytes of a config; the names of 21,843 classes take 1 MB
WIDEST = 4096  # pixels
# Arguments of a model that change nothing of what is built for use.
_HARMLESS = ("drop_rate", "drop_path_rate", "proj_drop_rate", "attn_drop_rate", "pos_drop_rate",
             "patch_drop_rate", "init_values")  # fmt: skip
HINT = "give a folder or a repository that timm has written, or the weights file alone"
Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Repository:
    """Where weights were published. name: ORG/NAME of the Hub; or folder, on this disk."""

    name: str = ""
    folder: Path | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}" if self.folder is None else str(self.folder)

    def weights(self, file: str = FILES[0]) -> Weights:
        """Return a file of the Hub, as the store keeps it."""
        local = f"hf--{self.name.replace('/', '--')}"
        suffix = ".pth" if file == FILES[1] else f".{file.rpartition('.')[2]}"
        url = f"{HUB}/{self.name}"
        return Weights(f"{self}", f"{url}/resolve/main/{file}", local + suffix, source=url)


@dataclass(frozen=True, slots=True)
class Config:
    """What a config.json says, checked; None or empty where it says nothing.

    classes: 0 for features alone. pooling: what timm calls global_pool. The rest as in timm's
    pretrained_cfg.
    """

    architecture: str
    tag: str = ""
    classes: int | None = None
    labels: tuple[str, ...] = ()
    pooling: str = ""
    input_size: tuple[int, int, int] | None = None
    crop_pct: float | None = None
    crop_mode: str | None = None
    interpolation: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    license: str = ""


def repository(choice: str) -> Repository | None:
    """Return the repository that `--weights CHOICE` names, if it names one. Raises WeightsError."""
    if choice.startswith(PREFIX):
        name = choice.removeprefix(PREFIX)
        if not re.fullmatch(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", name, re.ASCII):
            raise WeightsError(
                f"{printable(choice)!r} is no repository", f"{PREFIX}ORG/NAME, as on {HUB}"
            )
        return Repository(name)
    folder = Path(os.path.expanduser(choice))
    # Unlike Path's own, these are False for a name too long to be one.
    if os.path.isfile(folder / CONFIG) and not os.path.exists(folder / "run.json"):
        return Repository(folder=folder)
    return None


def fetched(source: Repository, progress: Progress | None = None) -> tuple[Config, Path]:
    """Return the config and the verified file of the weights, downloaded if need be.

    Raises WeightsError.
    """
    config = read_config(config_of(source, progress))
    if source.folder is None:
        first, second = (source.weights(file) for file in FILES)
        if held(second) and not held(first):
            return config, find(second, progress=progress)
        try:
            return config, find(first, progress=progress)
        except WeightsError as error:
            try:
                return config, find(second, progress=progress)
            except WeightsError:
                raise error from None
    return config, file_in(source.folder)


def file_in(folder: Path) -> Path:
    """Return the file of weights in a folder: a run, or what timm has written."""
    for name in FILES:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"{folder} holds neither {' nor '.join(FILES)}", HINT)


def config_of(source: Repository, progress: Progress | None = None) -> Path:
    """Return the file of the config, downloaded if need be."""
    if source.folder is not None:
        return source.folder / CONFIG
    return find(source.weights(CONFIG), progress=progress)


def config_beside(file: Path) -> Path | None:
    """Return the config that is kept beside a weights file, if there is one."""
    own = file.with_name(CONFIG)
    if file.name.startswith("hf--"):
        own = file.with_suffix(".json")
    return own if own.is_file() else None


def read_config(path: Path) -> Config:
    """Return what a config says. Raises WeightsError for code, and for what is not understood."""
    try:
        with opened(path, MOST) as file:
            said = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        why = getattr(error, "strerror", None) or "it is no JSON"
        raise WeightsError(f"cannot read {path}: {why}", HINT) from error
    if not isinstance(said, dict):
        raise WeightsError(f"{path} is a list or a value, not a config", HINT)
    if "auto_map" in said or "custom_pipelines" in said:
        raise WeightsError(f"{path} asks for code of its own, which is never run", HINT)
    try:
        return _config(said)
    except _Wrong as error:
        raise WeightsError(f"{path}: {error}", HINT) from error


class _Wrong(Exception):
    """What is wrong with a config."""


def _config(said: Json) -> Config:
    inner = said.get("pretrained_cfg", {})
    if not isinstance(inner, dict):
        raise _Wrong("pretrained_cfg is no table")
    both: Json = {**inner, **said}
    arch = both.get("architecture")
    if not isinstance(arch, str) or not re.fullmatch(r"\w[\w-]{0,99}", arch, re.ASCII):
        kind = both.get("model_type")
        other = f"; it is transformers' {shown(kind)}" if isinstance(kind, str) else ""
        raise _Wrong("it names no model of timm" + (other if arch is None else f": {shown(arch)}"))
    size = _size(inner.get("input_size"))
    pooling = both.get("global_pool")
    _check_arguments(both.get("model_args"), size, pooling)
    classes = both.get("num_classes")
    if classes is not None and (type(classes) is not int or not 0 <= classes <= 1_000_000):
        raise _Wrong(f"num_classes is {shown(classes)}")
    return Config(
        architecture=arch,
        tag=_word(both, "tag") or "",
        classes=classes,
        labels=_labels(both.get("label_names"), classes),
        pooling=pooling if isinstance(pooling, str) else "",
        input_size=size,
        crop_pct=_crop(inner.get("crop_pct")),
        crop_mode=_word(both, "crop_mode"),
        interpolation=_word(both, "interpolation"),
        mean=_channels("mean", inner.get("mean")),
        std=_channels("std", inner.get("std")),
        license=_word(both, "license") or "",
    )


def _word(said: Json, name: str) -> str | None:
    value = said.get(name)
    if value is not None and not isinstance(value, str):
        raise _Wrong(f"{name} is {shown(value)}, not a word")
    return value


def _check_arguments(given: object, size: tuple[int, int, int] | None, pooling: object) -> None:
    """Raises _Wrong for arguments by which another model would have to be built."""
    if given is None:
        return
    if not isinstance(given, dict):
        raise _Wrong("model_args is no table")
    sides = list(size[1:]) if size else [None]
    square = sides[:1] * (len(set(sides)) == 1)
    same = {"in_chans": (3,), "img_size": (*square, sides), "global_pool": (pooling,)}
    for name, value in given.items():
        known = name in _HARMLESS or name == "num_classes"
        if not known and value is not None and value not in same.get(name, ()):
            allowed = ", ".join(("num_classes", *same, *_HARMLESS))
            raise _Wrong(
                f"model_args has {shown(name)} = {shown(value)}, and only {allowed} are read, "
                "as timm has them by itself"
            )


def _size(given: object) -> tuple[int, int, int] | None:
    if given is None:
        return None
    numbers = given if isinstance(given, list) else []
    if not (len(numbers) == 3 and all(type(n) is int and 1 <= n <= WIDEST for n in numbers)):
        raise _Wrong(f"input_size is {shown(given)}, not [3, HEIGHT, WIDTH]")
    channels, height, width = numbers
    if channels != 3:
        raise _Wrong(f"pictures of {channels} channels, and only 3 are read")
    return 3, height, width


def _crop(given: object) -> float | None:
    if given is None:
        return None
    if not isinstance(given, int | float) or not 0.1 <= given <= 2:
        raise _Wrong(f"crop_pct is {shown(given)}, not a number up to 1")
    return float(given)


def _channels(name: str, given: object) -> tuple[float, ...] | None:
    if given is None:
        return None
    numbers = given if isinstance(given, list) else []
    if len(numbers) != 3 or not all(
        isinstance(n, int | float) and math.isfinite(n) and (n > 0 or name == "mean")
        for n in numbers
    ):
        raise _Wrong(f"{name} is {shown(given)}, not three numbers")
    return tuple(map(float, numbers))


def _labels(given: object, classes: int | None) -> tuple[str, ...]:
    if given is None or given == []:
        return ()
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise _Wrong("label_names is no list of words")
    if classes is not None and len(given) != classes:
        raise _Wrong(f"label_names lists {len(given)} classes, num_classes is {classes}")
    if len(set(given)) != len(given):
        raise _Wrong("label_names has a name twice")
    return tuple(given)


def shown(value: object) -> str:
    """Return a stranger's value, fit for one line."""
    return printable(repr(value)[:80])
