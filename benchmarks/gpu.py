"""Every row on one NVIDIA card, within eight minutes: passes, fine-tunes, predicting, training.

    python -m benchmarks gpu [--limit 480] [--train 960] [--val 320] [--model resnet50]

Set-up is `pip install` of zoo's wheel and nothing else: torch's wheel for Linux has CUDA in it; the
photos are drawn. Each row is a process of its own. A row that would begin after --limit seconds
(of this program, drawing included) is left out and named, one that fails is named, and the others
go on. Weights are random: speeds are real, accuracies mean nothing.

Where there is no card it says "not measured on a GPU" and runs each row once on the CPU with a few
photos, to see that the code is right; no results are kept then.

The forward passes: torchvision's model as it comes, with channels last and bf16 by autocast, the
same as a CUDA graph of a fixed shape, and by torch.compile; zoo's engine, with pinned memory and a
stream for each of its two workers. The head: a fine-tune in steps, whose features stay on the card.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import photos, speed_jobs
from benchmarks.measure import arguments, machine, numbers, python, run, save, show, summary, zoo

NOWHERE = "not measured on a GPU"
BATCH, FEW, SECONDS = 64, 2, 3.0  # pictures of a call; on a CPU
WAYS = ("as it comes", "channels last, bf16", "CUDA graph, bf16", "torch.compile, bf16", "zoo fp32",
        "zoo bf16")  # fmt: skip
PREDICT = Path(__file__).parent / "peers" / "predict_torchvision.py"


def main() -> None:
    if sys.argv[1:2] == ["pass"]:
        print(json.dumps(forward(*sys.argv[2:])))
        return
    flags = parse()
    began, card = time.perf_counter(), name_of_card()
    facts = machine() | {"gpu": card or NOWHERE}
    print(card or f"{NOWHERE}: no CUDA device here; each row once on the CPU, on few photos")
    if not card:
        flags.train, flags.val, flags.repeat = 20, 10, 1
    found: dict[str, list[float]] = {}
    left_out: list[str] = []
    with tempfile.TemporaryDirectory(prefix="zoo-gpu-") as scratch:
        folder = Path(scratch)
        photos.make(folder / "photos", train=flags.train, val=flags.val)
        for number in range(flags.repeat):
            for name, measure in rows(folder, flags, "cuda" if card else "cpu"):
                if time.perf_counter() - began > flags.limit:
                    left_out.append(f"{name}, round {number + 1}: no time left")
                    continue
                try:
                    found.setdefault(name, []).append(measure())
                except (SystemExit, OSError, ValueError) as error:
                    if isinstance(error, SystemExit) and not isinstance(error.code, str):
                        raise  # asked to stop
                    left_out.append(f"{name}, round {number + 1}: {str(error)[-300:]}")
    show([[name, *numbers(values)] for name, values in found.items() if values],
         ["", "min", "median", "max", "n"])  # fmt: skip
    for line in left_out:
        print(f"left out: {line}")
    print(f"{time.perf_counter() - began:.0f} s in all")
    if card:
        kept = {name: summary(values) for name, values in found.items() if values}
        save("gpu", facts, {"rows": kept, "left_out": left_out})
    else:
        print(NOWHERE)


def parse() -> Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--limit", type=float, default=480, help="seconds (480)")
    parser.add_argument("--model", default="resnet50", help="one that torchvision has (resnet50)")
    parser.add_argument("--train", type=int, default=960, help="photos to train on (960)")
    parser.add_argument("--val", type=int, default=320, help="photos to validate on (320)")
    return parser.parse_args()


def name_of_card() -> str:
    """The name of the first card, empty where there is none; asked in another process."""
    ask = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    return run(python("-c", ask)).out.strip()


def rows(folder: Path, flags: Namespace, where: str) -> Iterator[tuple[str, Callable[[], float]]]:
    """Each row's name and what measures it, in the order of a round."""
    for way in WAYS:
        words = ("-m", "benchmarks.gpu", "pass", flags.model, way, where)
        yield f"images/s, {way}", lambda words=words: float(run(python(*words)).out)  # type: ignore[misc]
    best = "best" if where == "cuda" else speed_jobs.best()
    data, env = folder / "photos", {"ZOO_CACHE": str(folder / "cache"), "ZOO_OFFLINE": "1"}
    for epochs in (1, 10) if where == "cuda" else (1,):
        loop = python("-m", "benchmarks.tutorial_loop", data, str(epochs), best)
        yield f"s, tutorial loop, best settings, E={epochs}", wall(loop)
    shared = ("finetune", flags.model, data, "--weights", "none", "--device", where, "--force")
    bf16 = ("--precision", "bf16") if where == "cuda" or speed_jobs.bf16() else ()
    jobs = {
        "frozen, solved": ("--freeze", *bf16),
        "frozen, solved, fp32": ("--freeze",),
        "frozen, in steps": ("--freeze", *bf16, "--solver", "adamw", "--epochs", "10"),
        "all of it, E=1": ("--no-freeze", *bf16, "--epochs", "1", "--solver", "adamw"),
    }
    for name, words in jobs.items():
        out = folder / "-".join([name.split(",")[0], str(time.perf_counter_ns())])
        yield f"s, zoo finetune, {name}", wall(zoo(*shared, *words, "-o", out), env)
    naive = python(PREDICT, data / "train", folder / "naive.csv", best)
    yield "s, naive loop predicts, best settings", wall(naive)
    out = folder / f"zoo-{time.perf_counter_ns()}.csv"
    told = ("predict", flags.model, data / "train", "--weights", "none", "--device", where)
    yield "s, zoo predict", wall(zoo(*told, *bf16, "--force", "-o", out), env)


def wall(command: list[str], env: dict[str, str] | None = None) -> Callable[[], float]:
    return lambda: run(command, env=env).wall


# In the process of one forward pass.


def forward(model: str, way: str, where: str) -> float:
    """Images/s over batches that are on the host as uint8, from a first call on that is warm."""
    call, batch = maker(way)(model, where)
    call()
    call()
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < (SECONDS if where == "cuda" else 0):
        call()
        done += batch
    if not done:
        call()
        done = batch
    return done / (time.perf_counter() - began)


Made = tuple[Callable[[], object], int]


def maker(way: str) -> Callable[[str, str], Made]:
    if way.startswith("zoo"):
        return lambda model, where: engine(model, where, way.split()[1])
    return lambda model, where: eager(model, where, way)


def eager(name: str, where: str, way: str) -> Made:
    """Pixels are copied, normalised and run; the answer is copied back."""
    import torch
    import torchvision

    plain, cuda = way == "as it comes", where == "cuda"
    layout = torch.preserve_format if plain else torch.channels_last
    model = torchvision.models.get_model(name, weights=None).eval()
    model = model.to(where, memory_format=layout)
    count = BATCH if cuda else FEW
    pixels = torch.randint(0, 256, (count, 3, 224, 224), dtype=torch.uint8)
    pixels = pixels.to(memory_format=layout)
    pixels = pixels.pin_memory() if cuda and not plain else pixels
    if way.startswith("torch.compile"):
        model.compile()

    def network(given: torch.Tensor) -> torch.Tensor:
        with torch.autocast(where, torch.bfloat16, enabled=not plain):
            return model(given.float().div(255).sub(0.45).div(0.225))

    with torch.inference_mode():
        run_it = graphed(network, pixels) if way.startswith("CUDA graph") and cuda else None

    def call() -> object:
        with torch.inference_mode():
            if run_it is not None:
                return run_it().float().cpu()
            return network(pixels.to(where, non_blocking=True)).float().cpu()

    return call, count


def graphed(network: Any, pixels: Any) -> Callable[[], Any]:
    """The same kernels on the same addresses, launched at once, as torch's manual has it."""
    import torch

    given = pixels.to("cuda")
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            network(given)
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = network(given)

    def replay() -> Any:
        given.copy_(pixels, non_blocking=True)
        graph.replay()
        return answer

    return replay


def engine(name: str, where: str, precision: str) -> Made:
    """zoo's torch engine through its pipeline, by two workers."""
    import numpy as np

    from zoo import device, network
    from zoo.engine.pipeline import forward as through
    from zoo.engine.torch import TorchEngine

    net = network.pretrained(name, "none")
    ours = TorchEngine(net.chain, net.preprocess, device.choose(where, precision))
    batches = 8 if where == "cuda" else 1
    random = np.random.default_rng(0)
    pictures = list(random.integers(0, 256, (ours.batch, *net.preprocess.shape[1:], 3), np.uint8))
    items = pictures * batches

    def call() -> object:
        return [None for _ in through(items, lambda pixels: pixels, ours)]

    return call, len(items)


if __name__ == "__main__":
    main()
