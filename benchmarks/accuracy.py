"""Accuracy, time and parity on real photos with real weights: the evidence table of README.

    python -m benchmarks.accuracy FOLDER

FOLDER has data/{hymenoptera,clothing10,imagenet150} and the two weights files. Every step is the
command a user types, in a process of its own, with an empty cache.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import machine, run, save, zoo

MODELS = {
    "timm/mobilenetv2_100": "timm-mobilenetv2_100-keras.pth",
    "torchvision/squeezenet1_1": "squeezenet1_1-caffe.pth",
}
OWN = {"googlenet-2014": "googlenet_bvlc.safetensors"}  # ImageNet classes only
ALL = MODELS | OWN
SETS = ("hymenoptera", "clothing10")
PROBE = {  # a plain regularised probe on the same features, best over its regularisation
    ("timm/mobilenetv2_100", "hymenoptera"): 95.4,
    ("timm/mobilenetv2_100", "clothing10"): 75.0,
    ("torchvision/squeezenet1_1", "hymenoptera"): 89.5,
    ("torchvision/squeezenet1_1", "clothing10"): 66.7,
}


def seconds(*words: str, cache: Path) -> float:
    """Return those of one command, imports and all."""
    return run(zoo(*words), env={"ZOO_CACHE": str(cache)}).wall


def transfer(shared: Path, model: str, data: str, scratch: Path) -> dict[str, Any]:
    """Fine-tune twice (cold and warm cache) and export."""
    out, cache = scratch / "run", scratch / "cache"
    words = ["finetune", model, str(shared / "data" / data)]
    words += ["--weights", str(shared / "weights" / MODELS[model])]
    words += ["--recipe", "recipes/frozen-head.toml"]
    cold = seconds(*words, "-o", str(out), cache=cache)
    warm = seconds(*words, "-o", str(scratch / "again"), cache=cache)
    export = seconds("export", "onnx", str(out), cache=cache)
    record = json.loads((out / "run.json").read_text())
    proof = record["exported"]["image"]
    return {
        "model": model,
        "photos": data,
        "train": record["data"]["train"],
        "val": record["data"]["val"],
        "accuracy": 100 * record["results"]["accuracy"],
        "macro_f1": 100 * record["results"]["macro_f1"],
        "probe": PROBE[model, data],
        "cold_s": cold,
        "warm_s": warm,
        "export_s": export,
        "max_diff": proof["max_diff"],
        "agree": f"{proof['agree']}/{proof['photos']}",
    }


def imagenet(shared: Path, model: str, scratch: Path) -> dict[str, Any]:
    """Top-1 and top-5 hits on 150 photos with the model's own ImageNet classes."""
    folder = shared / "data" / "imagenet150"
    out = scratch / "predictions.csv"
    weights = str(shared / "weights" / ALL[model])
    words = ["--weights", weights, "--top", "5", "-o", str(out)]
    wall = seconds("predict", model, str(folder), *words, cache=scratch)
    with open(folder / "labels.csv", newline="") as file:
        truth = {row["file"]: row["torchvision_category"] for row in csv.DictReader(file)}
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    hits = sum(truth[row["path"]] == row["label"] for row in rows)
    names = ["label", *(f"label_{place}" for place in range(2, 6))]
    top5 = sum(truth[row["path"]] in [row[name] for name in names] for row in rows)
    return {"model": model, "photos": len(rows), "hits": hits, "top5": top5, "seconds": wall}


def main() -> None:
    shared = Path(sys.argv[1]).absolute()
    results: dict[str, Any] = {"transfer": [], "imagenet150": []}
    for model in MODELS:
        for data in SETS:
            with tempfile.TemporaryDirectory() as scratch:
                results["transfer"].append(transfer(shared, model, data, Path(scratch)))
                print(results["transfer"][-1])
    for model in ALL:
        with tempfile.TemporaryDirectory() as scratch:
            results["imagenet150"].append(imagenet(shared, model, Path(scratch)))
            print(results["imagenet150"][-1])
    save("accuracy", machine(), results)


if __name__ == "__main__":
    main()
