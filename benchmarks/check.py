"""Faults that are planted in copies of real photos: how many of them `zoo check` finds.

    python -m benchmarks.check FOLDER

FOLDER has data/{hymenoptera,clothing10} and the two weights files. Near duplicates: 20 photos are
added, five each encoded anew (JPEG, quality 60), resized to 60 %, with 5 % of each side cropped off
at a place by chance, and mirrored. Labels: 5 % of the photos are moved to another class by chance,
five times; what counts is how many are among the first twice as many that are named. Last, 10,000
photos, which are the same ones cut otherwise: seconds of everything but the look at the photos.
Their features are those of the whole photos with noise, kept as a pass keeps them.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from benchmarks.accuracy import MODELS, SETS
from benchmarks.measure import machine, save
from zoo.catalog import Preprocess
from zoo.check import copies, files, labels
from zoo.check.features import PLAIN, Source, opened
from zoo.check.look import Looked, Photo, look
from zoo.data.index import scan
from zoo.features.cache import FeatureCache
from zoo.metrics import Array

KINDS = ("encoded", "resized", "cropped", "mirrored")
EACH, SHARE, TIMES, MANY = 5, 0.05, 5, 10_000
ROUNDS = 3  # of duplicates, each with other photos


def changed(image: Image.Image, kind: str, random: np.random.Generator) -> Image.Image:
    """Return a near duplicate."""
    width, height = image.size
    if kind == "resized":
        return image.resize((round(0.6 * width), round(0.6 * height)), Image.Resampling.BICUBIC)
    if kind == "cropped":
        wide, high = round(0.95 * width), round(0.95 * height)
        left, upper = random.integers(width - wide + 1), random.integers(height - high + 1)
        return image.crop((left, upper, left + wide, upper + high))
    return ImageOps.mirror(image) if kind == "mirrored" else image


def duplicates(photos: Path, seed: int) -> dict[str, Any]:
    """Return how many of 20 planted duplicates are found, and how many pairs that are none."""
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(shutil.copytree(photos, Path(scratch) / "photos"))
        before = _pairs(root)
        files = sorted(each for each in (root / "train").rglob("*") if each.suffix in (".jpg",))
        planted = set()
        chosen = random.choice(len(files), EACH * len(KINDS), replace=False)
        for number, place in enumerate(chosen):
            file, kind = files[place], KINDS[number % len(KINDS)]
            image = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
            target = file.with_name(f"planted{number}.jpg")
            changed(image, kind, random).save(target, quality=60 if kind == "encoded" else 90)
            planted.add(frozenset((file.name, target.name)))
        found = _pairs(root)
    right = found & planted
    return {
        "recall": len(right) / len(planted),
        "precision": len(right) / max(1, len(found - before)),
        "there_before": len(before),
    }


def _pairs(root: Path) -> set[frozenset[str]]:
    index = scan(root, keep_copies=True)
    found = copies.alike(look(root, index.samples, lambda done, total: None), None)
    return {frozenset((Path(a.path).name, Path(b.path).name)) for a, b, _ in found}


def wrong_labels(looked: Looked, source: Source, classes: tuple[str, ...]) -> list[float]:
    """Return the recall of planted wrong labels, for each of several draws."""
    photos = looked.differ()
    places, rows = source.rows(
        looked.root, [p.sample for p in photos], [p.digest for p in photos], lambda d, n: None
    )
    photos = [photos[place] for place in places]
    recalls = []
    for seed in range(TIMES):
        random = np.random.default_rng(seed)
        wrong = random.choice(len(photos), round(SHARE * len(photos)), replace=False).tolist()
        planted = list(photos)
        for row in wrong:
            sample = photos[row].sample
            other = (sample.label + random.integers(1, len(classes))) % len(classes)
            planted[row] = replace(photos[row], sample=replace(sample, label=int(other)))
        groups = labels.groups_of(planted, [])
        judged = labels.judge(planted, rows, groups, classes, seed=0)
        first = set(labels.ranked(judged).order[: 2 * len(wrong)].tolist())
        recalls.append(len(first & set(wrong)) / len(wrong))
    return recalls


def many(photos: Path, rows: Array) -> dict[str, float]:
    """Return seconds of each part of a check of 10,000 photos whose features are kept.

    rows: features of some photos.
    """
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "photos"
        _fill(photos, root)
        index = scan(root, keep_copies=True)
        seconds: dict[str, float] = {}
        began = time.process_time()
        looked = look(root, index.samples, lambda done, total: None)
        seconds["the pass, CPU"] = time.process_time() - began
        different = looked.differ()
        given = root, [p.sample for p in different], [p.digest for p in different]
        source = _kept(Path(scratch) / "features", different, rows)

        def timed(name: str, began: tuple[float, float]) -> tuple[float, float]:
            now = time.perf_counter(), time.process_time()
            seconds[name], seconds[f"{name}, CPU"] = now[0] - began[0], now[1] - began[1]
            return time.perf_counter(), time.process_time()

        at = time.perf_counter(), time.process_time()
        _, rows = source.rows(*given, lambda done, total: None)
        at = timed("features read", at)
        files.findings(looked, (), Preprocess())
        at = timed("files", at)
        near = copies.alike(looked, rows)
        copies.findings(looked, near, True, lambda photo: index.named(photo.sample))
        at = timed("duplicates", at)
        groups = labels.groups_of(different, near)
        labels.of_labels(labels.judge(different, rows, groups, index.classes, seed=0))
        timed("labels", at)
    return seconds


def _kept(folder: Path, photos: list[Photo], rows: Array) -> Source:
    """Keep features for all photos: those of the photo that each is cut from, with noise."""
    cache, random = FeatureCache(folder, {}), np.random.default_rng(0)
    for photo in photos:
        row = rows[int(Path(photo.path).stem) % len(rows)]
        noisy = row + random.normal(0, 0.5, row.shape) * rows.std(axis=0)
        cache.add(PLAIN.key(photo.digest, 0), noisy.astype(np.float32))
    cache.flush()
    return Source("", Preprocess(), FeatureCache(folder, {}))


def _fill(photos: Path, root: Path) -> None:
    """Write 10,000 photos: the same ones cut at places by chance, far too small to be near."""
    root.mkdir()
    sources = sorted((photos / "train").rglob("*.jpg"))
    random = np.random.default_rng(0)
    opened = [Image.open(file).convert("RGB") for file in sources]
    for number in range(MANY):
        place = number % len(sources)
        image = opened[place]
        side = int(min(image.size) * random.uniform(0.4, 0.6))
        left, upper = (int(random.integers(length - side)) for length in image.size)
        folder = root / sources[place].parent.name
        folder.mkdir(exist_ok=True)
        crop = image.crop((left, upper, left + side, upper + side)).resize((128, 128))
        crop.save(folder / f"{number}.jpg", quality=85)


def rows_of(shared: Path) -> Iterator[dict[str, Any]]:
    for data in SETS:
        photos = shared / "data" / data
        found = [duplicates(photos, seed) for seed in range(ROUNDS)]
        copied = {name: min(row[name] for row in found) for name in ("recall", "precision")}
        copied["there_before"] = found[0]["there_before"]
        index = scan(photos, keep_copies=True)
        looked = look(photos, index.samples, lambda done, total: None)
        for model, file in MODELS.items():
            weights = str(shared / "weights" / file)
            source = opened(model, weights, len(index.classes), "auto", lambda d, n: None)
            recalls = wrong_labels(looked, source, index.classes)
            yield {"photos": data, "model": model, "duplicates": copied, "labels": recalls}


def _features(shared: Path) -> Array:
    """Return those of the training photos of the first set, by the first network."""
    model, file = next(iter(MODELS.items()))
    photos = shared / "data" / SETS[0]
    index = scan(photos, keep_copies=True)
    train = [s for s in index.of("train") if s.path.endswith(".jpg")]
    source = opened(model, str(shared / "weights" / file), 2, "auto", lambda d, n: None)
    _, rows = source.rows(photos, train, [b""] * len(train), lambda d, n: None)
    return rows


def main() -> None:
    shared, rows = Path(sys.argv[1]), []
    for row in rows_of(shared):
        rows.append(row)
        print(row, flush=True)
    seconds = many(shared / "data" / SETS[0], _features(shared))
    print(seconds)
    save("check", machine(), {"rows": rows, "photos": MANY, "seconds": seconds})


if __name__ == "__main__":
    main()
