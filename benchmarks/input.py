"""From files to the engine: decoding whole and smaller JPEGs, and decoding beside the forward pass.

    python -m benchmarks.input [--photos 48] [--shared FOLDER]

1. Milliseconds of CPU for a photo's plain view at 224, and how far its pixels are from those of
   the photo decoded whole; photos of 500 x 375 and of 4000 x 3000.
2. The same distance for real photos (FOLDER/data/imagenet150) enlarged, for networks of several
   sizes.
   And what decoding 12 megapixels at a quarter, not at a half, would save and cost.
3. Decoding and resizing in a thread for each core: the way with two resizes, zoo's, and what Pillow
   alone takes, in turns.
4. Workers that decode for themselves, beside a thread that decodes for them.
5. The pipeline beside its limit. On a CPU that is decode + forward on all cores, with an engine of
   pure C work that lets other threads run, and with zoo's TorchEngine; on a device of its own it is
   the slower of the two, with an engine that only waits. Photos of 4000 x 3000, forward passes of a
   tenth, the same and four times of what decoding takes.
"""

from __future__ import annotations

import hashlib
import io
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import photos
from benchmarks.measure import arguments, machine, median, save, shared, show, verdict
from zoo.catalog import Preprocess
from zoo.data import preprocess as preprocessing
from zoo.data.decode import SCALES, decode
from zoo.data.preprocess import apply, spare
from zoo.data.views import view_of
from zoo.engine.pipeline import forward
from zoo.machine import cores

SMALL, PHONE = (500, 375), (4000, 3000)
SIZES, SIDES = (32, 96, 224, 299, 384), (1800, 2400, 3000, 4500)  # networks', shorter sides
ERROR, SLOWER, QUICKER = 0.2, 1.1, 1.25
Bars = list[dict[str, Any]]
QUARTER = 2.9  # KEEP with which 12 megapixels are decoded at a quarter for 224


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--photos", type=int, default=48, help="of the pipeline (48)")
    parser.add_argument("--shared", type=Path, default=shared(), help="has data/")
    parser.add_argument("--quick", action="store_true", help="without the pipeline (5)")
    flags = parser.parse_args()
    facts = machine()
    drawn = {size: [drawn_jpeg(size, number) for number in range(4)] for size in (SMALL, PHONE)}
    result: dict[str, Any] = {"decode": decoding(drawn, flags.repeat)}
    bars: Bars = []
    if flags.shared.is_dir():
        result["real"] = real(flags.shared, bars)
        result["keeps"] = keeps(flags.shared)
    result["rates"] = rates(drawn[SMALL], max(3, flags.repeat), bars)
    result["threads"] = threads(drawn[SMALL], flags.photos, max(3, flags.repeat))
    print()
    if not flags.quick:
        result["pipeline"] = pipeline(drawn[PHONE], flags.photos, flags.repeat, bars)
    save("input", facts, {**result, "bars": bars})


def drawn_jpeg(size: tuple[int, int], number: int) -> bytes:
    photos.WIDTH, photos.HEIGHT = size
    try:
        image = photos.draw(np.random.default_rng([7, number]), number / 4)
    finally:
        photos.WIDTH, photos.HEIGHT = SMALL
    return encoded(image, photos.QUALITY)


def encoded(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def whole(data: bytes, preprocess: Preprocess) -> np.ndarray:
    return apply(decode(data), preprocess)


def distance(data: bytes, preprocess: Preprocess) -> float:
    difference = view_of(data, preprocess).astype(int) - whole(data, preprocess)
    return float(np.abs(difference).mean())


# Decoding.


def decoding(drawn: dict[tuple[int, int], list[bytes]], repeat: int) -> list[dict[str, Any]]:
    rows, preprocess = [], Preprocess()
    for (width, height), files in drawn.items():
        for name, load in (("whole", whole), ("as zoo does", view_of)):
            spent = []
            for data in files * repeat:
                began = time.thread_time()
                load(data, preprocess)
                spent.append(1000 * (time.thread_time() - began))
            error = [distance(data, preprocess) if load is view_of else 0.0 for data in files]
            size = f"{width} x {height}"
            rows.append({"photo": size, "kind": name, "ms": median(spent), "error": max(error)})
    cells = [[f"{r['photo']}, {r['kind']}", f"{r['ms']:.1f}", f"{r['error']:.3f}"] for r in rows]
    show(cells, ("plain view at 224", "CPU ms", "mean error of 255"))
    return rows


def real(folder: Path, bars: Bars) -> list[dict[str, Any]]:
    """Mean pixel error by the network's size, of the largest photos enlarged, with grain."""
    files = sorted((folder / "data" / "imagenet150").glob("*/*/*"), key=lambda f: f.stat().st_size)
    random, rows = np.random.default_rng(0), []
    for side in SIDES:
        made = [enlarged(file, side, random) for file in files[-6:]]
        for size in SIZES:
            preprocess = Preprocess(size=size)
            errors = [distance(data, preprocess) for data, shape in made if smaller(shape, size)]
            if errors:
                mean = float(np.mean(errors))
                rows.append({"side": side, "size": size, "mean": mean, "most": max(errors)})
    cells = [[f"{r['side']} -> {r['size']}", f"{r['mean']:.3f}", f"{r['most']:.3f}"] for r in rows]
    print()
    show(cells, ("real photos enlarged", "mean error", "of a photo at most"))
    worst = max(row["mean"] for row in rows)
    bars.append(verdict("mean pixel error of 255, real photos", worst, ERROR, at_most=True))
    return rows


def smaller(shape: tuple[int, int], size: int) -> bool:
    return spare(*shape, Preprocess(size=size)) >= 2


def enlarged(file: Path, side: int, random: np.random.Generator) -> tuple[bytes, tuple[int, int]]:
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    scale = side / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)))
    image = image.crop((0, 0, min(image.width, 6000), image.height))
    grain = random.normal(0, 1.5, (image.height, image.width, 1)).astype(np.float32)
    image = Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
    return encoded(image, 92), image.size


def keeps(folder: Path) -> list[dict[str, Any]]:
    """Photos of 12 megapixels for 224: what is decoded larger than needed by that factor."""
    files = sorted((folder / "data" / "imagenet150").glob("*/*/*"), key=lambda f: f.stat().st_size)
    random, plain, rows = np.random.default_rng(0), Preprocess(), []
    made = [enlarged(file, PHONE[1], random) for file in files[-6:]]
    for keep in (preprocessing.KEEP, QUARTER):
        before, preprocessing.KEEP = preprocessing.KEEP, keep
        try:
            errors = [distance(data, plain) for data, _ in made]
            spent = min(cpu_ms(lambda data: view_of(data, plain), [d for d, _ in made])
                        for _ in range(3))  # fmt: skip
            scale = max(s for s in SCALES if s <= spare(*made[0][1], plain))
        finally:
            preprocessing.KEEP = before
        row = {"keep": keep, "scale": scale, "ms": spent, "mean": float(np.mean(errors))}
        rows.append({**row, "most": max(errors)})
    cells = [[f"{r['keep']:g} times, 1/{r['scale']}", f"{r['ms']:.1f}", f"{r['mean']:.3f}",
              f"{r['most']:.3f}"] for r in rows]  # fmt: skip
    print()
    show(cells, ("12 megapixels for 224", "CPU ms", "mean error", "of a photo at most"))
    return rows


# Ways to decode, and who does it.


def two_resizes(data: bytes, preprocess: Preprocess) -> np.ndarray:
    """The box across, then down, each by a call of its own: until November 2026."""
    image = decode(data)
    left, upper, right, lower = preprocessing.box(*image.size, preprocess)
    margin = math.ceil((lower - upper) / preprocess.size) + 1
    top, bottom = max(0, int(upper) - margin), min(image.height, math.ceil(lower) + margin)
    kind, size = Image.Resampling.BILINEAR, preprocess.size
    across = image.resize((size, bottom - top), kind, box=(left, top, right, bottom))
    down = across.resize((size, size), kind, box=(0, upper - top, size, lower - top))
    return np.asarray(down)


def alone(data: bytes, preprocess: Preprocess) -> np.ndarray:
    """Pillow's decoder and one resize: no check, no limit, no orientation."""
    with Image.open(io.BytesIO(data)) as image:
        part, size = preprocessing.box(*image.size, preprocess), (preprocess.size, preprocess.size)
        return np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=part))


WAYS: dict[str, Callable[[bytes, Preprocess], np.ndarray]] = {
    "two resizes": two_resizes, "zoo": view_of, "Pillow alone": alone
}  # fmt: skip


def rates(files: list[bytes], repeat: int, bars: Bars) -> list[dict[str, Any]]:
    """CPU milliseconds a photo in a thread for each core; ratios to two resizes in a round."""
    upright = [
        encoded(opened.rotate(90, expand=True), photos.QUALITY) for opened in map(image_of, files)
    ]
    plain, rows = Preprocess(), []
    for name, some in (("500 x 375", files), ("375 x 500", upright)):
        spent: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(repeat):
            for way, load in WAYS.items():
                _, cpu = clock(partial(all_of, partial(load, preprocess=plain), some * 40))
                spent[way].append(1000 * cpu / (40 * len(some)))
        apart = np.array([view_of(d, plain).astype(int) - two_resizes(d, plain) for d in some])
        found = {way: [a / b for a, b in zip(spent["two resizes"], spent[way], strict=True)]
                 for way in ("zoo", "Pillow alone")}  # fmt: skip
        ms = {way: median(values) for way, values in spent.items()}
        most, differ = int(np.abs(apart).max()), float((apart != 0).mean())
        rows.append({"photo": name, "ms": ms, **found, "most": most, "differ": differ})
    cells = [[r["photo"], *(f"{r['ms'][way]:.2f}" for way in WAYS), f"{median(r['zoo']):.2f}",
              f"{median(r['Pillow alone']):.2f}", str(r["most"])] for r in rows]  # fmt: skip
    print()
    show(cells, ("CPU ms a photo", *WAYS, "zoo", "at most", "of 255"))
    name = "decode and resize 500 x 375, times quicker than two resizes"
    bars.append(verdict(name, median(rows[0]["zoo"]), QUICKER, at_most=False))
    apart = max(row["most"] for row in rows)
    bars.append(verdict("decode and resize: largest difference of 255", apart, 1, at_most=True))
    return rows


def image_of(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def threads(files: list[bytes], count: int, repeat: int) -> list[dict[str, Any]]:
    """Seconds of all photos: where each worker decodes for itself, and where one thread does."""
    items, view, rows = (files * count)[:count], partial(view_of, preprocess=Preprocess()), []
    one = cpu_ms(view, files * 4) / 1000
    for forward_passes in (4.0, 9.0):
        found: dict[str, list[float]] = {"shared": [], "own thread": []}
        for _ in range(repeat):
            for how, decoders in (("shared", 0), ("own thread", 1)):
                engine = Work(one * forward_passes)
                engine.decoders = decoders
                wall, _ = clock(lambda e=engine: list(forward(items, view, e)))
                found[how].append(wall)
        rows.append({"share": 1 / (1 + forward_passes), **found})
    cells = [[f"{r['share']:.0%}", f"{median(r['shared']):.2f}", f"{median(r['own thread']):.2f}"]
             for r in rows]  # fmt: skip
    print()
    show(cells, ("decoding's share", "each worker decodes, s", "a thread of its own, s"))
    return rows


def cpu_ms(load: Callable[[bytes], object], files: list[bytes]) -> float:
    began = time.thread_time()
    for data in files:
        load(data)
    return 1000 * (time.thread_time() - began) / len(files)


# The pipeline.


class Work:
    """An engine of pure C work, seconds of one core for a picture; other threads run beside it."""

    batch, decoders, name = 8, 0, "work"

    def __init__(self, seconds: float) -> None:
        self.workers, self.block = cores(), bytes(1 << 20)
        began = time.thread_time()
        for _ in range(20):
            hashlib.sha256(self.block)
        self.rounds = round(seconds / ((time.thread_time() - began) / 20))

    def start_worker(self) -> None:
        pass

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        for _ in range(self.rounds * len(pixels)):
            hashlib.sha256(self.block)
        return np.zeros((len(pixels), 1), np.float32)


class Waiting(Work):
    """A device: one call at a time, seconds for a picture, no core of this machine."""

    batch, workers, name = 8, 2, "waiting"

    def __init__(self, seconds: float) -> None:
        self.seconds, self.decoders, self.lock = seconds, cores(), threading.Lock()
        self.workers = 2

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        with self.lock:
            time.sleep(self.seconds * len(pixels))
        return np.zeros((len(pixels), 1), np.float32)


def pipeline(files: list[bytes], count: int, repeat: int, bars: Bars) -> list[dict[str, Any]]:
    items = (files * count)[:count]
    preprocess, rows = Preprocess(), []
    began = time.thread_time()
    for data in files:
        view_of(data, preprocess)
    one = (time.thread_time() - began) / len(files)
    makers: dict[str, Callable[[float], Any]] = {"work": Work, "device": Waiting}
    for name, make in makers.items():
        for share in (0.1, 1.0, 4.0):
            rows.append(
                beside(f"{name}, forward {share:g} x decode", make(one * share), items, repeat)
            )
    rows.append(beside("TorchEngine, ResNet-18", torch_engine(), items, repeat))
    cells = [
        [
            r["engine"],
            *(f"{r[k]:.2f}" for k in ("decode", "forward", "both", "limit", "ratio", "cpu")),
        ]
        for r in rows
    ]
    show(cells, ("seconds of all photos", "decode", "forward", "both", "limit", "ratio", "of CPU"))
    slowest = max(r["ratio"] for r in rows)
    bars.append(verdict("pipeline beside its limit", slowest, SLOWER, at_most=True))
    return rows


def beside(name: str, engine: Any, items: list[bytes], repeat: int) -> dict[str, Any]:
    """Decoding alone, forward alone and both, taking turns; the repetition of the median ratio.

    cpu: CPU seconds of both over those of the two alone, which a busy machine does not change.
    """
    preprocess, found = Preprocess(), []
    picture = view_of(items[0], preprocess)
    for _ in range(repeat):
        alone = clock(lambda: all_of(lambda data: view_of(data, preprocess), items))
        passed = clock(lambda: list(forward(items, lambda _: picture, engine)))
        both = clock(lambda: list(forward(items, lambda data: view_of(data, preprocess), engine)))
        limit = max(alone[0], passed[0]) if engine.decoders else alone[0] + passed[0]
        cpu = both[1] / (alone[1] + passed[1])
        found.append((both[0] / limit, alone[0], passed[0], both[0], limit, cpu))
    middle = sorted(found)[len(found) // 2]
    names = ("ratio", "decode", "forward", "both", "limit", "cpu")
    return {"engine": name, **dict(zip(names, middle, strict=True)), "all": [r[0] for r in found]}


def all_of(load: Callable[[bytes], Any], items: list[bytes]) -> None:
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(load, items))


def clock(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - cpu


def torch_engine() -> Any:
    from zoo import catalog, device, models
    from zoo.engine.torch import TorchEngine

    spec = catalog.find("resnet18")
    return TorchEngine(models.build(spec), spec.preprocess, device.choose("cpu"))


if __name__ == "__main__":
    main()
