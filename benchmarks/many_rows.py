"""A head on the features of very many photos: peak memory by their number, and seconds.

    python -m benchmarks.many_rows [--few 10000] [--many 1000000] [--classes 100]

Made features of 512 numbers, written as the parts of a job; then `zoo finetune` on it, a process of
its own, whose record says how long the solver took. Bars: memory at most 1.5 times that of few
rows, and 3 minutes on 2 cores.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import arguments, machine, run, save, show, verdict, zoo
from zoo.scale import answers, parts, plan, store
from zoo.scale.plan import Photo, Settings, Shards

MODEL, WIDTH = "torchvision/resnet18", 512
FLAT, SECONDS = 1.5, 180.0
Array = Any


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--few", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--place", default="", help="keep the jobs in this folder")
    flags = parser.parse_args()
    rows, memory, seconds = [], {}, 0.0
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(flags.place or scratch)
        settings = Settings("features", MODEL, "", {}, "none")
        settings = answers.completed(settings, "cpu")
        for count in (flags.few, flags.many):
            job, folder = place / f"job{count}", place / f"run{count}"
            if not (job / "done").exists():
                write(job, settings, count, flags.classes)
            words = ["finetune", MODEL, job, "--weights", "none", "--no-report", "-o", folder]
            done = run(zoo(*words))
            record = json.loads((folder / "run.json").read_text())
            epoch = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
            memory[count], seconds = done.memory, epoch["seconds"]
            told = [f"{done.wall:.0f}", f"{done.cpu:.0f}", f"{seconds:.0f}", f"{done.memory:.0f}"]
            rows.append([f"{count:,}", *told, f"{epoch['train_loss']:.4f}",
                         f"{record['penalty']:.2g}"])  # fmt: skip
    head = ("rows", "s", "CPU s", "solver s", "peak MB", "train loss", "penalty")
    show(rows, head)
    bars = [
        verdict(
            f"memory of a head on {flags.many:,} rows beside {flags.few:,}",
            memory[flags.many] / memory[flags.few],
            FLAT,
            at_most=True,
        ),
        verdict(
            f"choose and solve {flags.many:,} x {WIDTH} x {flags.classes} from a job, s",
            seconds,
            SECONDS,
            at_most=True,
        ),
    ]
    save("many_rows", machine(), {"rows": rows, "bars": bars})


def write(place: Path, settings: Settings, count: int, classes: int) -> None:
    """Write a job of features with all of its parts."""
    folder = store.Store(str(place), make=True)
    shards = Shards(folder, plan.make(folder, settings, photos(count, classes), 5000))
    random = np.random.default_rng(0)
    fall = (np.arange(1, WIDTH + 1) ** -0.5 / WIDTH**0.5)[:, None]
    mixing = (random.standard_normal((WIDTH, WIDTH)) * fall).astype(np.float32)
    centres = 0.2 * random.standard_normal((classes, WIDTH), np.float32)
    about = {"plan_id": shards.plan.plan_id, "engine": "made"}
    for shard in range(shards.plan.shards):
        mine = shards.photos(shard)
        labels = [int(photo.label[1:]) for photo in mine]
        hidden = random.standard_normal((len(mine), WIDTH), np.float32) + centres[labels]
        features = np.maximum(10 * hidden @ mixing + 0.1, 0)
        folder.create(parts.name_of(shard), part(mine, features, about))
    (place / "done").touch()


def photos(count: int, classes: int) -> Iterator[Photo]:
    for number in range(count):
        label = f"c{number * classes // count:04}"
        key = f"{label}/{number:08}.jpg"
        yield Photo(key, f"/nowhere/{key}", label=label)


def part(mine: list[Photo], features: Array, about: dict[str, str]) -> bytes:
    many = len(mine)
    columns = {
        "path": pa.array([photo.key for photo in mine]),
        "status": pa.array(["ok"] * many),
        "label": pa.array([photo.label for photo in mine]),
        "error": pa.nulls(many, pa.string()),
        "view": pa.array([0] * many, pa.int32()),
        "features": pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), WIDTH),
    }
    buffer = io.BytesIO()
    table = pa.table(columns).replace_schema_metadata(about)
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
