"""Small networks, where what stands around the arithmetic counts: LeNet on MNIST.

    python -m benchmarks.small MNIST [--epochs 3]

MNIST: the folder of the four IDX files, of which the first 12,000 training and 2,000 test pictures
are taken, so that it is done in two minutes. Training by `zoo train` beside a plain torch loop over
tensors in memory (peers/mnist_torch.py), in turns: seconds of an epoch, the test pictures included,
and CPU seconds of the whole process. Then the microseconds of CPU that a picture takes in the
engine alone and through the pipeline.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import (
    Job,
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
from zoo.data import idx

PEER = Path(__file__).parent / "peers" / "mnist_torch.py"
PICTURES = 20_000  # through the engine
SOME = {"train": 12_000, "t10k": 2000}  # of MNIST
Numbers = dict[str, list[float]]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("mnist", type=Path, help="folder of the four IDX files")
    parser.add_argument("--epochs", type=int, default=3, help="the first is left out (3)")
    flags = parser.parse_args()
    facts, found = machine(), dict[str, Numbers]()
    with tempfile.TemporaryDirectory(prefix="zoo-benchmark-") as scratch:
        mnist = some_of(flags.mnist, Path(scratch) / "mnist")
        for _ in range(flags.repeat):
            for who, figures in trained(mnist, flags.epochs, Path(scratch)).items():
                for name, value in figures.items():
                    found.setdefault(name, {}).setdefault(who, []).append(value)
    rows, bars, kept = [], [], dict[str, Any]()
    for name, values in found.items():
        ratios = [a / b for a, b in zip(values["torch loop"], values["zoo"], strict=True)]
        rows.append([name, *(f"{median(values[who]):.2f}" for who in values), *numbers(ratios)])
        kept[name] = {**{who: summary(each) for who, each in values.items()}, "loop / zoo": ratios}
        bars.append(verdict(f"torch loop / zoo train, {name}", median(ratios), 1, at_most=False))
    show(rows, ["LeNet on MNIST", "zoo", "torch loop", "loop / zoo: min", "median", "max", "n"])
    passes = [through(PICTURES) for _ in range(flags.repeat)]
    each = {who: median([one[who] for one in passes]) for who in passes[0]}
    show([[who, f"{value:.1f}"] for who, value in each.items()], ["us of CPU a picture", ""])
    save("small", facts, {"bars": bars, "training": kept, "microseconds": passes})


def some_of(mnist: Path, place: Path) -> Path:
    """Write the first pictures of each part into a folder of its own; return it."""
    place.mkdir()
    for part, count in SOME.items():
        for kind, read in (("images-idx3", idx.read_images), ("labels-idx1", idx.read_labels)):
            values = read(next(mnist.glob(f"{part}-{kind}-ubyte*")))[:count]
            sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
            content = bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()
            (place / f"{part}-{kind}-ubyte").write_bytes(content)
    return place


def trained(mnist: Path, epochs: int, scratch: Path) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory(dir=scratch) as fresh:
        out, env = Path(fresh) / "run", {"ZOO_CACHE": str(Path(fresh) / "cache")}
        words = ("--solver", "adamw", "--lr", "0.002", "--weight-decay", "0.01", "--batch-size",
                 "100", "--best", "last", "--epochs", str(epochs), "--device", "cpu")  # fmt: skip
        job = run(zoo("train", "lenet", mnist, *words, "-o", out), env=env)
        lines = (out / "metrics.jsonl").read_text().splitlines()
        ours = figures(job, [json.loads(line)["seconds"] for line in lines])
    job = run(python(PEER, mnist, str(epochs)))
    return {"zoo": ours, "torch loop": figures(job, json.loads(job.out)["epochs"])}


def figures(job: Job, epochs: list[float]) -> dict[str, float]:
    return {"s an epoch": median(epochs[1:]), "CPU s": job.cpu, "wall s": job.wall}


def through(count: int) -> dict[str, float]:
    """Microseconds of CPU for a picture: torch's engine called in a loop, and by the pipeline."""
    from zoo import device, network
    from zoo.engine.pipeline import batched, forward
    from zoo.engine.torch import TorchEngine

    net = network.untrained("lenet")
    engine = TorchEngine(net.chain, net.preprocess, device.choose("cpu"))
    channels, height, width = net.preprocess.shape
    random = np.random.default_rng(0)
    pictures = list(random.integers(0, 256, (count, height, width, channels), np.uint8))
    found = {}
    for name in ("engine alone", "pipeline"):
        began = time.process_time()
        if name == "pipeline":
            for _ in forward(pictures, lambda picture: picture, engine):
                pass
        else:
            for some in batched(pictures, engine.batch):
                engine(np.stack(some))
        found[name] = 1e6 * (time.process_time() - began) / count
    return found


if __name__ == "__main__":
    main()
