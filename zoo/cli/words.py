"""Words of other tools, answered in ours: their flags, and commands under another name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

FORMATS = ("onnx",)  # of `zoo export`; the first is what `zoo export RUN` writes
# A flag of timm, ultralytics, fastai, Keras, torch's examples: what says the same here. Of several
# the first that the command has; a text that begins with no - is said as it is.
_FLAGS: dict[str, tuple[str, ...]] = {
    "wd weight-decay l2": ("--weight-decay", "--penalty"),
    "imgsz img-size image-size input-size img": ("--size", "a run has its size"),
    "b batch bs batch-size batchsize": ("--batch-size", "zoo finds the batch size by itself"),
    "e epoch num-epochs n-epochs nb-epochs": ("--epochs",),
    "j num-workers num-threads threads n-jobs jobs": (
        "--workers", "zoo uses all cores; OMP_NUM_THREADS=N takes fewer",
    ),
    "workers": ("--workers", "zoo uses all cores; OMP_NUM_THREADS=N takes fewer"),
    "threshold thresh conf confidence": ("--reject-below",),
    "topk top-k k": ("--top",),
    "pretrained": ("published weights are the default; --weights none starts from random ones",),
    "name project out outdir out-dir output-dir save-dir save dest": ("--output",),
    "learning-rate lr0 base-lr blr": ("--lr",),
    "opt optim optimizer optimiser": ("--solver",),
    "sched scheduler lr-scheduler": ("--schedule",),
    "model arch a net network": ("the network is the command's first word: no flag",),
    "data data-dir dataset source src images input input-dir folder": (
        "the photos are a word of the command: no flag",
    ),
    "freeze-layers frozen freeze-backbone freeze-at": ("--cut",),
    "gpu gpus cuda cpu mps": ("--device",),
    "amp half fp16 bf16 float16 bfloat16 dtype": ("--precision",),
    "dropout drop drop-rate": ("--variant dropout=P",),
    "val-split valid-pct val-size val validation-split test-size": ("--val-fraction",),
    "smoothing ls": ("--label-smoothing",),
    "clip-grad grad-clip max-grad-norm": ("--clip",),
    "model-ema ema-decay": ("--ema",),
    "accum grad-accum grad-accum-steps accumulation-steps": ("--accumulate",),
    "checkpoint ckpt checkpoint-path initial-checkpoint": ("--weights",),
    "exist-ok overwrite y yes": ("--force",),
    "hflip fliplr mirror": ("--flip",),
    "aa auto-augment randaugment": ("--augment",),
    "random-state random-seed": ("--seed",),
    "config cfg": ("--recipe",),
    "labels class-map names": ("`zoo info RUN --classes` lists the classes of a run",),
    "format fmt": ("the suffix of -o is the format: .csv, .jsonl or .parquet",),
    "v verbose q quiet": ("what is said goes to stderr: 2>/dev/null is silent",),
}  # fmt: skip
_COMMANDS = {
    "models": "list", "ls": "list", "networks": "list", "show": "info", "describe": "info",
    "run": "runs", "recipe": "recipes", "weight": "weights", "fine-tune": "finetune",
    "tune": "finetune", "fit": "finetune", "retrain": "finetune", "val": "evaluate",
    "validate": "evaluate", "eval": "evaluate", "test": "evaluate", "classify": "predict",
    "infer": "predict", "features": "embed", "embeddings": "embed", "benchmark": "bench",
    "download": "pull", "fetch": "pull", "search": "sweep", "lr-find": "lr", "diff": "compare",
}  # fmt: skip
_KNOWN = {name: said for names, said in _FLAGS.items() for name in names.split()}


def in_ours(words: Sequence[str]) -> list[str]:
    """Return the words of a command line as zoo takes them.

    `help X` is `X --help`, `-V` is `--version`, and `export RUN` is `export onnx RUN`.
    """
    words = list(words)
    if words[:1] == ["-V"]:
        return ["--version", *words[1:]]
    if words[:1] == ["help"]:
        return [*words[1:], "--help"]
    if words[:1] == ["export"] and len(words) > 1:
        first = next((word for word in words[1:] if not word.startswith("-")), None)
        if first not in (None, *FORMATS) and (os.sep in str(first) or os.path.exists(str(first))):
            return ["export", "onnx", *words[1:]]
    return words


def command_like(word: str) -> str | None:
    """Return the command that another tool's word means, or None."""
    return _COMMANDS.get(word.lower())


def flag_like(option: str, ours: Iterable[str]) -> str | None:
    """Return what says the same as another tool's flag: one of ours or a sentence; or None."""
    has = set(ours)
    for said in _KNOWN.get(option.lstrip("-").replace("_", "-").lower(), ()):
        if not said.startswith("-"):
            return said
        if said.split()[0] in has:
            return f"{said} says that here"
    return None
