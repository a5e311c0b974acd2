"""A second fine-tune on many photos whose features are kept: `python -m benchmarks.again`.

    python -m benchmarks.again [--count 20000]

JPEGs of 64 x 64 in ten classes, a frozen ResNet-18 (features of 512 numbers), the head chosen and
solved. What a network would compute the first time is not timed, and its forward passes are made
up: rows with the spectrum of features, around a centre for each class. Each second run is a process
of its own, which finds every feature and every fact.
"""

from __future__ import annotations

import runpy
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import (
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
    zoo,
)
from benchmarks.scale import make
from benchmarks.speed_jobs import features

MODEL, WIDTH, MOST = "torchvision/resnet18", 512, 4.0
FEW = 40


def main() -> None:
    if sys.argv[1:2] == ["made"]:
        made(sys.argv[2:])
        return
    parser = arguments(__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="photos (20000)")
    flags = parser.parse_args()
    figures: dict[str, list[float]] = {"s": [], "CPU s": [], "MB": []}
    with tempfile.TemporaryDirectory(prefix="zoo-benchmark-") as scratch:
        photos, few, out = (Path(scratch) / name for name in ("photos", "few", "run"))
        make(photos, 0, flags.count)
        make(few, flags.count, flags.count + FEW)
        env = {"ZOO_CACHE": str(Path(scratch) / "cache"), "ZOO_OFFLINE": "1"}
        words = ["--weights", "none", "--freeze", "--views", "1", "--device", "cpu", "-o", out]
        tune = ["finetune", MODEL, photos, *words]
        # The network is converted, proved and kept by a run whose forward passes are real.
        run(zoo("finetune", MODEL, few, *words), env=env)
        shutil.rmtree(out)
        run(python("-m", "benchmarks.again", "made", *tune), env=env)
        for _ in range(flags.repeat):
            shutil.rmtree(out)
            job = run(zoo(*tune), env=env)
            computed, cached, _ = features(job)
            assert (computed, cached) == (0, flags.count), f"{computed} computed, {cached} kept"
            for what, value in zip(figures, (job.wall, job.cpu, job.memory), strict=True):
                figures[what].append(value)
    lines = [[what, *numbers(values)] for what, values in figures.items()]
    show(lines, (f"second run of {flags.count:,} photos", "min", "median", "max", "n"))
    name = f"second zoo finetune of {flags.count:,} photos x {WIDTH}, s"
    bar = verdict(name, median(figures["s"]), MOST, at_most=True)
    each = {what: summary(values) for what, values in figures.items()}
    save("again", machine(), {"figures": each, "bars": [bar]})


def made(words: list[str]) -> None:
    """A fine-tune whose engine gives made rows: a centre by the photo's class, and a spectrum."""
    from zoo.engine.openvino import OpenVinoEngine
    from zoo.engine.torch import TorchEngine

    random = np.random.default_rng(0)
    fall = (np.arange(1, WIDTH + 1) ** -0.5 / WIDTH**0.5)[:, None]
    mixing = (random.standard_normal((WIDTH, WIDTH)) * fall).astype(np.float32)
    centres = 0.2 * random.standard_normal((256, WIDTH), np.float32)

    def call(_: object, pixels: np.ndarray) -> np.ndarray:
        seed = int(pixels[:, ::40, ::40].sum()) + len(pixels)
        own = np.random.default_rng(seed).standard_normal((len(pixels), WIDTH), np.float32)
        hidden = own + centres[pixels[:, 100, 100, 0]]  # photos of a class have the same pixels
        return np.maximum(10 * hidden @ mixing + 0.1, 0)

    for engine in (OpenVinoEngine, TorchEngine):
        engine.__call__ = call  # type: ignore[assignment, method-assign]
    sys.argv = ["zoo", *words]
    runpy.run_module("zoo", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
