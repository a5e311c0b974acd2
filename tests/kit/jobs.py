"""A job over ids that are no files, computed by nothing but their names; a worker as a program.

    python -m kit.jobs JOB I/N

An id with `poison` in it kills the process that answers it, one with `hang` keeps it, one with
`slow` a millisecond.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import multiprocessing.process
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kit import ROOT
from zoo.predict import writers
from zoo.scale import answers, parts, plan, store
from zoo.scale.answers import Answers
from zoo.scale.parts import Cells
from zoo.scale.plan import Photo, Settings, Shards
from zoo.scale.work import Worker, share

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["kit.jobs", "obstore", "pyarrow.parquet"])
SETTINGS = Settings("predict", "synthetic", "0" * 64, {})


def opened() -> Answers:
    form = answers.form_of(SETTINGS)

    def rows(photos: Sequence[Photo], apart: bool) -> Iterator[Cells]:
        for photo in photos:
            if "poison" in photo.key:
                os.kill(os.getpid(), signal.SIGKILL)
            if "hang" in photo.key:
                time.sleep(1000)
            if "slow" in photo.key:
                time.sleep(0.001)
            digest = hashlib.sha256(photo.key.encode()).digest()
            cells = dict.fromkeys(form.columns) | {"path": photo.key, "status": "ok"}
            yield cells | {"label": f"class {digest[0]}", "probability": digest[1] / 255}

    def error(photo: Photo, why: str) -> Cells:
        cells = dict.fromkeys(form.columns)
        return cells | {"path": photo.key, "status": "error", "error": why}

    return Answers(writers.parquet_schema(form), rows, "synthetic", error)


def planned(place: Path | str, keys: Sequence[str], most: int) -> Shards:
    """Return the shards of a job with these ids."""
    folder = store.Store(str(place), make=True)
    return Shards(folder, plan.make(folder, SETTINGS, (Photo(key, key) for key in keys), most))


def made_features(place: Path, stage: str, rows: int) -> Path:
    """Make a finished job of what leaves a stage of a lenet: of no photos, but chance and class."""
    asked = Settings("features", "lenet", "", {}, "none", stage=stage, flat=True)
    settings = answers.completed(asked, "cpu")
    schema = answers.open_answers(settings, "cpu").schema
    folder = store.Store(str(place), make=True)
    keys = sorted(f"{'ab'[number % 2]}/{number:06d}.png" for number in range(rows))
    photos = (Photo(key, f"/made/{key}", label=key[0]) for key in keys)
    shards = Shards(folder, plan.make(folder, settings, photos, 500))
    random = np.random.default_rng(0)
    for shard in range(shards.plan.shards):
        found: list[Cells] = []
        for photo in shards.photos(shard):
            values = random.random(settings.width, np.float32) + (photo.label == "a")
            same = {"path": photo.key, "status": "ok", "label": photo.label}
            found.append({**same, "error": None, "view": 0, "features": values})
        about = {"plan_id": shards.plan.plan_id, "shard": str(shard), "engine": "made"}
        folder.create(parts.name_of(shard), parts.written(found, schema, about))
    return place


def worker(place: Path | str, opener: Callable[[], Answers] = opened) -> Worker:
    folder = store.Store(str(place))
    return Worker(Shards(folder, plan.read(folder)), opener)


def start(place: Path | str, shard: str = "0/1") -> subprocess.Popen[str]:
    """Return a worker as a process of its own."""
    words = [sys.executable, "-m", "kit.jobs", str(place), shard]
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    pipe = subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(words, env=environment, stdout=pipe, text=True)


def forked(place: Path | str, shard: str = "0/1") -> multiprocessing.process.BaseProcess:
    """Return the same from a process that has imported all of it: in a moment."""
    one = _FORKS.Process(target=done_by, args=(str(place), shard))
    one.start()
    return one


def done_by(place: str, text: str) -> int:
    """Do a share of the shards; return how many it was the first to finish."""
    one = worker(place)
    mine = share(one.shards.plan.shards, text)
    receipts = one.work(mine, lambda done, total: None)
    return sum(bool(receipt.rows) and not receipt.quicker for receipt in receipts)


class Kept(NamedTuple):
    """What a job has in the end: ids without a row, with two or more, with an error."""

    missing: int
    twice: int
    errors: int


def kept(place: Path | str, keys: Sequence[str]) -> Kept:
    """Verify a job, and count its rows. Raises IncompleteError."""
    shards = worker(place).shards
    parts.verify(shards, lambda done, total: None).check(str(place))
    rows = list(parts.merged(shards))
    often = Counter(row["path"] for row in rows)
    errors = sum(row["status"] != "ok" for row in rows)
    return Kept(len(set(keys) - often.keys()), len(rows) - len(often), errors)


def killed(place: Path, keys: Sequence[str], most: int, kills: int) -> int:
    """Do a job by two workers that are killed in turn, at moments that differ, and begun anew.

    most: ids in a shard. Returns how many kills found their worker at work.
    """
    planned(place, keys, most)
    chance = random.Random(7)
    running = [forked(place, f"{number}/2") for number in range(2)]
    hit = 0
    for kill in range(kills):
        time.sleep(chance.random() * 0.3)
        running[kill % 2].kill()
        running[kill % 2].join(60)
        hit += running[kill % 2].exitcode == -signal.SIGKILL
        running[kill % 2] = forked(place, f"{kill % 2}/2")
    for one in running:
        one.join(300)
        assert one.exitcode == 0
    return hit


def main() -> None:
    print(done_by(*sys.argv[1:]))


if __name__ == "__main__":
    main()
