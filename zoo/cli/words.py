"""Words of other tools, answered in ours: their flags, and commands under another name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

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
    "gpu gpus cuda": ("--device cuda",),
    "cpu no-cuda no-gpu": ("--device cpu",),
    "mps": ("--device mps",),
    "amp half fp16 bf16 float16 bfloat16": ("--precision bf16", "--fp16"),
    "p": ("--port",),
    "nodes num-nodes machines": ("--workers",),
    "private": ("what is pushed is private unless you say --public",),
    "token hf-token": ("the Hub's token is that of HF_TOKEN or `hf auth login`: no flag",),
    "dynamic dynamic-axes": ("an exported file takes pictures of any size: no flag",),
    "dtype": ("--precision",),
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
# A command of another tool, or ours in the plural or singular: the first that there is.
_LIKE = {
    "list": "models model ls networks network nets zoo catalog catalogue lists",
    "info": "show describe summary inspect cat stages layers",
    "runs": "run history experiments jobs", "recipes": "recipe presets configs",
    "weights": "weight checkpoints checkpoint store", "cache": "caches",
    "doctor": "env version versions diagnose status", "config": "configure settings setting set",
    "finetune": "fine-tune fine_tune tune fit retrain transfer ft finetuning",
    "train": "training learn", "check": "lint dataset clean audit",
    "evaluate": "val validate validation eval test score accuracy",
    "predict": "classify infer inference detect label predictions prediction",
    "embed": "features feature embeddings embedding extract", "bench": "benchmark speed profile",
    "pull": "download fetch get install", "sweep": "search grid hpo tune-hyperparameters",
    "lr": "lr-find lr_find find-lr lrfinder", "compare": "diff versus",
    "explain": "gradcam grad-cam heatmap saliency cam visualize visualise",
    "export": "convert onnx save exports", "report": "reports page html",
    "rank": "leaderboard select choose ranking", "next": "active-learning query",
    "add-class": "add addclass add_class", "remove": "rm delete del uninstall", "path": "where",
    "verify": "check test", "demo": "example quickstart tutorial init", "unset": "rm delete remove",
}  # fmt: skip
_COMMANDS: dict[str, str] = {}
for _ours, _theirs in _LIKE.items():
    for _word in _theirs.split():
        _COMMANDS[_word] = f"{_COMMANDS.get(_word, '')} {_ours}"
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
        from zoo.export.formats import names

        first = next((word for word in words[1:] if not word.startswith("-")), None)
        if (
            "--all" not in words
            and first not in (None, *names())
            and (os.sep in str(first) or os.path.exists(str(first)))
        ):
            return ["export", "onnx", *words[1:]]
    return words


def command_like(word: str, known: Iterable[str]) -> str | None:
    """Return which of the known commands another tool's word means, or None."""
    ours = _COMMANDS.get(word.lower().replace("_", "-"), "").split()
    return next((one for one in ours if one in known), None)


def flag_like(option: str, ours: Iterable[str]) -> str | None:
    """Return what says the same as another tool's flag: one of ours or a sentence; or None."""
    has = set(ours)
    for said in _KNOWN.get(option.lstrip("-").replace("_", "-").lower(), ()):
        if not said.startswith("-"):
            return said
        if said.split()[0] in has:
            return f"{said} says that here"
    return None
