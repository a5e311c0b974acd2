"""Whole-process time of `zoo export onnx` beside torch's exporters, and what int8 does.

A ResNet-50 run with random weights, trained here on drawn photos, exported with its proof; torch's
old and new exporters write the same network from a script, without a proof. All interleaved. Then
int8 beside fp32 in ONNX Runtime and OpenVINO, on one core, in one process: images/s of ResNet-50
with random weights, and images/s and answers of the real networks in $ZOO_SHARED.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import photos
from benchmarks.measure import (
    RESULTS,
    ROOT,
    arguments,
    machine,
    median,
    numbers,
    python,
    run,
    save,
    show,
    summary,
    verdict,
    warn_about_byte_code,
    zoo,
)

REAL = {
    "timm/mobilenetv2_100": "timm-mobilenetv2_100-keras.pth",
    "torchvision/squeezenet1_1": "squeezenet1_1-caffe.pth",
    "googlenet-2014": "googlenet_bvlc.safetensors",
}
CALIBRATED, BATCH, ROUNDS = 50, 8, 5
SCRIPT = """
import sys, warnings, torch
from zoo.models.resnet import resnet50
warnings.simplefilter("ignore")
chain, example, new = resnet50(10).eval(), torch.zeros(2, 3, 224, 224), sys.argv[1] == "new"
free = {"dynamic_shapes": ({0: torch.export.Dim("N")},)} if new else \\
    {"dynamic_axes": {"x": {0: "N"}, "y": {0: "N"}}}
more = {"dynamo": new, "verbose": False, **({"external_data": False} if new else {})}
torch.onnx.export(chain, (example,), sys.argv[2], input_names=["x"], output_names=["y"],
                  **free, **more)
"""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--part", choices=("time", "int8", "all"), default="all")
    flags = parser.parse_args()
    warn_about_byte_code()
    facts = machine()
    result: dict[str, Any] = {}
    if flags.part != "int8":
        result["time"] = times(flags.repeat)
    if flags.part != "time":
        answer = run(python("-m", "benchmarks.export", "--child"))
        result["int8"] = [json.loads(line) for line in answer.out.splitlines()]
        show_int8(result["int8"])
        resnet = result["int8"][0]
        result["bars"] = [
            verdict(f"int8 over fp32, ResNet-50, {name}", resnet["speed"][name], 3, at_most=False)
            for name in resnet["speed"]
        ]
    earlier = RESULTS / "export.json"
    if flags.part != "all" and earlier.exists():  # the other part stays
        result = {**json.loads(earlier.read_text()), **result}
        result.pop("machine", None)
    save("export", facts, result)


def times(repeat: int) -> dict[str, Any]:
    """Wall and CPU seconds of each way, and how many times ours goes into the others'."""
    ways: dict[str, list[str]] = {}
    wall: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways["zoo export onnx"] = [*zoo("export", "onnx", made(folder), "-o", folder / "a.onnx")]
        for which in ("old", "new"):
            ways[f"torch's {which} exporter"] = python("-c", SCRIPT, which, folder / "b.onnx")
        for _ in range(repeat):
            for way, words in ways.items():
                job = run(words)
                wall.setdefault(way, []).append(job.wall)
                cpu.setdefault(way, []).append(job.cpu)
    ours, *others = ways
    ratios = {
        f"{other}, {what}": [b / a for a, b in zip(values[ours], values[other], strict=True)]
        for what, values in (("wall", wall), ("CPU", cpu))
        for other in others
    }
    rows = [[way, *numbers(wall[way]), *numbers(cpu[way])[:3]] for way in ways]
    show(rows, ["seconds", "min", "median", "max", "n", "CPU min", "median", "max"])
    print()
    show([[way, *numbers(each)] for way, each in ratios.items()], ["ours goes in", *HEADER])
    old = median(ratios[f"{others[0]}, wall"])
    return {
        "wall": {way: summary(values) for way, values in wall.items()},
        "cpu": {way: summary(values) for way, values in cpu.items()},
        "ratios": {way: summary(values) for way, values in ratios.items()},
        "bar": verdict("times faster than torch's old exporter, wall", old, 3, at_most=False),
    }


HEADER = ("min", "median", "max", "n")


def made(folder: Path) -> Path:
    """A finished run of ResNet-50."""
    photos.make(folder / "photos", train=40, val=40)
    words = ["--freeze", "--weights", "none", "--epochs", "1", "-o", folder / "run"]
    run(zoo("finetune", "resnet50", folder / "photos", *words), env={"ZOO_CACHE": str(folder)})
    return folder / "run"


# int8, in a process of its own.


def child() -> None:
    from zoo import network

    shared = Path(os.environ.get("ZOO_SHARED") or ROOT.parent / "shared")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(json.dumps(compared(network.pretrained("resnet50", "none"), None)), flush=True)
    for name, file in REAL.items():
        if (shared / "weights" / file).exists():
            net = network.pretrained(name, str(shared / "weights" / file))
            print(json.dumps(compared(net, shared / "data" / "imagenet150")), flush=True)


def compared(net: Any, folder: Path | None) -> dict[str, Any]:
    """images/s in both precisions and runtimes; with photos also what both answer."""
    import numpy as np

    from zoo.data.preprocess import normalise
    from zoo.data.views import plain_view
    from zoo.engine import graph
    from zoo.engine.quantise import quantise

    size, random = net.preprocess.size, np.random.default_rng(0)
    rows: list[dict[str, str]] = []
    if folder is None:
        pictures = random.standard_normal((16, 3, size, size), np.float32)
    else:
        with (folder / "labels.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        rows = [rows[k] for k in random.permutation(len(rows))]
        views = (plain_view(folder / row["file"], net.preprocess) for row in rows)
        pictures = np.stack([normalise(view, net.preprocess) for view in views])
    exact = graph.to_onnx(net.chain, net.preprocess.shape)
    small = quantise(exact, pictures[:CALIBRATED])
    result: dict[str, Any] = {"model": net.row.name, "bytes": [len(exact), len(small)]}
    result |= speeds(exact, small, pictures[:BATCH])
    if rows:
        labels = np.array([int(row["class_index"]) for row in rows])[CALIBRATED:]
        for name, runner in RUNNERS.items():
            told = [answers(runner(model), pictures[CALIBRATED:]) for model in (exact, small)]
            result[name] = {
                "photos": len(labels),
                "agree": int((told[0] == told[1]).sum()),
                "right_fp32": int((told[0] == labels).sum()),
                "right_int8": int((told[1] == labels).sum()),
            }
    return result


def answers(call: Any, pictures: Any) -> Any:
    import numpy as np

    found = [call(pictures[at : at + BATCH]) for at in range(0, len(pictures), BATCH)]
    return np.concatenate(found).argmax(axis=1)


def speeds(exact: bytes, small: bytes, batch: Any) -> dict[str, Any]:
    """images per CPU second on one core, fp32 and int8 by turns, medians; and their ratio."""
    rates: dict[str, list[float]] = {}
    speed: dict[str, float] = {}
    for name, runner in RUNNERS.items():
        calls = [runner(model) for model in (exact, small)]
        seconds: list[list[float]] = [[], []]
        for call in calls:
            call(batch)
        for _ in range(ROUNDS):
            for call, each in zip(calls, seconds, strict=True):
                began = time.process_time()
                call(batch)
                each.append(time.process_time() - began)
        rates[name] = [round(len(batch) / median(each), 1) for each in seconds]
        speed[name] = round(median([a / b for a, b in zip(*seconds, strict=True)]), 2)
    return {"images_per_cpu_second": rates, "speed": speed}


def by_onnxruntime(model: bytes) -> Any:
    from zoo.engine.graph import session

    opened = session(model, 1)
    return lambda batch: opened.run(None, {"tensor": batch})[0]


def by_openvino(model: bytes) -> Any:
    from zoo.engine.openvino import runtime

    core = runtime().Core()
    settings = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    return lambda batch: request.infer([batch])[0].copy()


RUNNERS = {"onnxruntime": by_onnxruntime, "openvino": by_openvino}


def show_int8(rows: list[dict[str, Any]]) -> None:
    lines = []
    for row in rows:
        for name, (fp32, int8) in row["images_per_cpu_second"].items():
            told = row.get(name, {})
            counts = [str(told.get(key, "")) for key in ("agree", "right_fp32", "right_int8")]
            shown = [f"{fp32:.1f}", f"{int8:.1f}", f"{row['speed'][name]:.2f}", *counts]
            lines.append([f"{row['model']}, {name}", *shown])
    print()
    header = ["images per CPU second", "fp32", "int8", "x", "agree of 100", "fp32 right", "int8"]
    show(lines, header)


if __name__ == "__main__":
    child() if sys.argv[1:2] == ["--child"] else main()
