"""What may stand in a run folder, in the metadata of an exported file, and in the plan of a job.

All may come from a stranger: every value that a command goes by is checked here, types, bounds and
lengths, before it is used. Fields of a newer version that are not named here are passed over.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from zoo import __version__, extras
from zoo.disk import opened
from zoo.errors import RunError
from zoo.head.kinds import PATTERN, WANTED
from zoo.records.checks import (
    Check,
    Wrong,
    both,
    fields,
    items,
    maybe,
    measured,
    names,
    number,
    shown,
    text,
    whole,
    word,
)

__all__ = [
    "Check",
    "Wrong",
    "fields",
    "from_json",
    "is_newer",
    "other_format",
    "read_json",
    "shown",
]

MOST = 256_000_000  # bytes of a JSON file: the record of a million classes
DEEPEST = 20  # levels of nesting in it
CLASSES = 1_000_000
OUTPUTS = 30_000  # of a library's network: the largest list of classes (ImageNet-21k) has 21,843
SIDE = 4096  # pixels of a network's input
HEAD = re.compile(PATTERN)


def other_format(place: object, said: object, expected: int) -> RunError:
    """Return the error for a file that another version of zoo has written, in a format `said`."""
    what = f"{place} has format {shown(said)}, expected {expected}"
    if isinstance(said, int) and said > expected:
        return RunError(f"{what}: a newer zoo has written it", f"`{extras.update()}`")
    return RunError(what, "use the version of zoo that wrote it")


def is_newer(version: str) -> bool:
    """Return whether a version such as 0.2.0 is one after this."""
    ours, theirs = ([int(part) for part in re.findall(r"\d+", one[:50])] for one in (
        __version__, version))  # fmt: skip
    return theirs > ours


def _preprocess(value: object, where: str) -> None:
    """Check what the fields say together."""
    assert isinstance(value, dict)
    channels = value.get("channels", 3)
    if channels not in (1, 3):
        raise Wrong(f"{where}.channels", channels, "1 or 3")
    for name in ("mean", "std"):
        if len(value[name]) != channels:
            raise Wrong(f"the length of {where}.{name}", len(value[name]), f"{channels} channels")
    side = value["size"] if isinstance(value["size"], int) else max(value["size"])
    if side / value["crop"] > 2 * SIDE:
        wanted = f"a share of which {side} pixels are at most {2 * SIDE:,}"
        raise Wrong(f"{where}.crop", value["crop"], wanted)


def _size(value: object, where: str) -> None:
    """Take the side of a square, or height and width."""
    side = whole(1, SIDE)
    if isinstance(value, list | tuple):
        items(side, 2, 2)(value, where)
    else:
        side(value, where)


PREPROCESS = both(
    fields(
        {
            "size": _size,
            "crop": number(1e-3, 10),
            "fit": word("crop", "pad", "squash"),
            "interpolation": word("nearest", "bilinear", "bicubic", "lanczos"),
            "mean": items(number(-1e4, 1e4), 1, 4),
            "std": items(number(1e-6, 1e6), 1, 4),
            "channels": whole(1, 3),
        },
        ("size", "crop", "mean", "std"),
    ),
    _preprocess,
)

NAME, NOTE, PLACE = text(300), text(10_000), text(8192)
COUNT, BYTES, SHA256 = whole(0, 2**48), whole(0, 2**62), text(64, re.compile("[0-9a-f]{64}"))
SHARE = number(0, 1)
CLASS_NAMES = items(text(4000), 1, CLASSES, once=True)

SPEC = fields(
    {
        "name": text(220),
        "family": NAME,
        "builder": NAME,
        "paper": NOTE,
        "year": whole(0, 9999),
        "params": COUNT,
        "macs": COUNT,
        "stages": items(NAME, 0, 10_000, once=True),
        "cut": NAME,
        "head": NAME,
        "num_classes": whole(0, OUTPUTS),
        "preprocess": PREPROCESS,
        "ignore": items(NAME),
        "published": items(items(NAME, 2, 2), 0, 16),
        "note": NOTE,
        "task": word("classify", "reconstruct"),
        "code": NAME,
        "auxiliary": NAME,
        "activations": BYTES,
    },
    ("name", "builder", "stages", "cut", "head", "preprocess"),
)


def _variant(value: object, where: str) -> None:
    if isinstance(value, str):
        NAME(value, where)
    else:
        number(-1e6, 1e6)(value, where)


EVIDENCE = fields(
    {
        "kind": NAME,
        "mean": measured,
        "low": measured,
        "high": measured,
        "deviation": measured,
        "macro_f1": items(measured, 1, 1001),
    },
    ("kind", "mean", "low", "high", "deviation", "macro_f1"),
)
TRIED = fields(
    dict.fromkeys(("penalty", "loss", "error", "accuracy"), measured),
    ("penalty", "loss", "error", "accuracy"),
)
EXPORTED = fields(
    {
        "path": PLACE,
        "input": NAME,
        "bytes": BYTES,
        "photos": COUNT,
        "agree": maybe(COUNT),
        "sha256": SHA256,
        "model_sha256": SHA256,
    }
)
RESULTS = ("accuracy", "map", "macro_f1", "exact", "mse", "mae", "pca_mse", "pca_components")
RUN = fields(
    {
        "status": word("started", "finished", "failed"),
        "reason": NOTE,
        "zoo": NAME,
        "launch": NOTE,
        "model": text(1000),
        "spec": SPEC,
        "weights": fields(
            {
                "tag": text(1000),
                "file": PLACE,
                "licence": NOTE,
                "seed": whole(0, 2**64),
            },
            ("tag",),
        ),
        "weights_sha256": SHA256,
        "model_sha256": SHA256,
        "distance_sha256": SHA256,
        "classes": CLASS_NAMES,
        "task": word("classify", "multilabel", "reconstruct"),
        "threshold": maybe(SHARE),
        "best_by": NAME,
        "best_epoch": maybe(COUNT),
        "variant": names(_variant),
        "head": text(30, HEAD, WANTED),
        "linear_head": NAME,
        "views": whole(0, 1000),
        "view_seed": whole(0, 2**64),
        "penalty": number(0, 1e6),
        "penalties": items(TRIED, 0, 100),
        "text": fields({"from": PLACE, "share": SHARE}, ("from", "share")),
        "suspicious": COUNT,
        "train_accuracy": maybe(SHARE),
        "made_from": fields({"run": PLACE, "model_sha256": SHA256, "class": text(4000)}),
        "cut": maybe(NAME),
        "boundary": maybe(NAME),
        "phases": items(
            fields({"cut": maybe(NAME), "first": COUNT, "last": COUNT}, ("first", "cut"))
        ),
        "feature_bytes": maybe(BYTES),
        "preprocess": PREPROCESS,
        "precision": word("fp32", "bf16"),
        "engine": NAME,
        "device": NAME,
        "data": fields(
            {"name": PLACE, "root": PLACE, "fingerprint": NAME, "train": COUNT, "val": COUNT},
            ("root", "fingerprint", "train", "val"),
        ),
        "results": fields(dict.fromkeys(RESULTS, maybe(measured))),
        "evidence": names(EVIDENCE),
        "exported": names(EXPORTED),
        "agreement_with_fp32": maybe(SHARE),
        "seconds": measured,
        "cpu_seconds": measured,
    },
    ("status",),
)
# What a run has before a photo is looked at, and all that is asked of one that is finished.
BEGUN = ("model", "classes", "preprocess", "head", "data")
RESUMED = (*BEGUN, "weights_sha256")

EPOCH = fields({"epoch": whole(0, 10**6)}, ("epoch",))
PROGRESS = fields(
    {
        **dict.fromkeys(("epoch", "step", "rows", "phase", "skipped", "in_a_row"), COUNT),
        **dict.fromkeys(("retreats", "at_once", "best_epoch"), COUNT),
        **dict.fromkeys(("loss_sum", "seconds", "cpu_seconds", "trained"), measured),
        "best_score": items(measured, 2, 2),
    },
    ("epoch", "step", "best_score"),
)
ONNX = fields(
    {
        "zoo.classes": items(text(4000), 0, CLASSES, once=True),
        "zoo.preprocess": PREPROCESS,
        "zoo.input": word("image", "tensor"),
        "zoo.threshold": SHARE,
        "zoo.distance_limit": number(0, 1e9),
        "zoo.task": word("classify", "multilabel", "reconstruct"),
        "zoo.model": text(1000),
        "zoo.version": NAME,
    },
    ("zoo.preprocess", "zoo.input"),
)


def _flag(value: object, where: str) -> None:
    if not isinstance(value, bool):
        raise Wrong(where, value, "true or false")


PLAN_FILE = re.compile(r"plan/[0-9]{6}-[0-9a-f]{16}\.parquet")
PLAN = fields(
    {
        "plan_id": text(16, re.compile("[0-9a-f]{16}")),
        "settings": fields(
            {
                "what": word("predict", "features"),
                "model": text(8192),
                "model_sha256": SHA256,
                "preprocess": names(lambda value, where: None),
                "weights": maybe(PLACE),
                "trusts": _flag,
                "engine": NAME,
                "precision": maybe(NAME),
                "views": whole(1, 1000),
                "top": whole(1, CLASSES),
                "several": _flag,
                "below": SHARE,
                "limit": maybe(number(0, 1e9)),
                "unknown": maybe(SHARE),
                "stage": maybe(NAME),
                "flat": _flag,
                "width": whole(0, 2**31),
                "half": _flag,
            },
            ("what", "model", "model_sha256", "preprocess"),
        ),
        "photos": whole(1, 2**48),
        "shards": whole(1, 2**40),
        "files": items(text(100, PLAN_FILE), 1, 2**30, once=True),
    },
    ("plan_id", "settings", "photos", "shards", "files"),
)


def _shard(value: object, where: str) -> None:
    """Take how many photos a shard has, and the hash of their keys."""
    items(lambda value, where: None, 2, 2)(value, where)
    assert isinstance(value, list)
    COUNT(value[0], where)
    SHA256(value[1], where)


SHARDS = items(_shard, 1, 100)


def from_json(data: str | bytes) -> Any:
    """Return what a JSON text says. Raises ValueError, also for one that is nested too deeply."""
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        inside = (each.values() if isinstance(each, dict) else each for each in level)
        level = [one for each in inside for one in each if isinstance(one, dict | list)]
        if not level:
            return value
    raise ValueError(f"it is nested more than {DEEPEST} levels deep")


def read_json(path: Path) -> Any:
    """Return what a JSON file says. Raises OSError for what is no file, ValueError."""
    with opened(path, MOST) as file:
        return from_json(file.read().decode("utf-8", "surrogateescape"))


EDITED = "was it edited? Restore the file, or train anew: features are kept"
