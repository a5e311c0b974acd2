"""What jobs lose when workers, drivers and nodes are killed and a bucket fails: nothing, or what?

    python -m benchmarks.faults [workers|ray|bucket] [--kills 200]

workers: two processes on a folder, killed in turn. ray: a cluster of two nodes on this machine,
whose workers, driver and second node are killed while it works (extra `ray`). Both over 100,000 ids
that are no photos, in 1,000 shards, a millisecond each. bucket: three workers and a server that
speaks S3 (moto) behind a way that refuses, forgets, breaks off or is late in 15 % of the requests,
over 3,000 ids, and over photos and tars that are in the bucket too; three seeds each. At the end of
each the job is verified and its rows are counted. kill -9 everywhere.
"""

from __future__ import annotations

import csv
import logging
import os
import random
import sys
import tarfile
import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.jobs import fitted
from benchmarks.measure import ROOT, arguments, machine, run, save_part, show, verdict, zoo

sys.path.insert(0, str(ROOT / "tests"))
from kit import bucket as s3
from kit import jobs, raylets

from zoo.scale import store

IDS, SHARD = 100_000, 100
DRIVERS, NODES = 0.06, 0.04  # shares of the kills on Ray; the rest are workers
FAULTS, SEEDS, FEW, TARS = 0.15, (5, 6, 7), 3000, 2
Row = dict[str, Any]


def row(what: str, count: int, found: tuple[int, int, int], began: float) -> Row:
    """Return a row of the table. count: of the faults. found: missing, twice, errors."""
    about = dict(zip(("missing", "twice", "errors"), found, strict=True))
    return {"what": what, "faults": count, **about, "seconds": round(time.time() - began, 1)}


def workers(flags: Namespace, place: Path) -> Iterator[Row]:
    began, ids = time.time(), [f"slow{number:06}" for number in range(IDS)]
    hit = jobs.killed(place / "job", ids, SHARD, flags.kills)
    yield row("workers on a folder, killed", hit, jobs.kept(place / "job", ids), began)


def ray(flags: Namespace, place: Path) -> Iterator[Row]:
    began, ids = time.time(), [f"slow{number:06}" for number in range(IDS)]
    kills = flags.kills
    kinds = ["driver"] * round(DRIVERS * kills) + ["node"] * round(NODES * kills)
    kinds += ["worker"] * (kills - len(kinds))
    random.Random(1).shuffle(kinds)
    jobs.planned(place / "job", ids, SHARD)
    with raylets.cluster() as ours:
        ours.start(raylets.OTHER)
        every = int(0.9 * IDS / SHARD / kills)
        hit = raylets.killed(ours, place / "job", kinds, every, 60 * flags.minutes)
    found = jobs.kept(place / "job", ids)
    told = ", ".join(f"{hit[kind]} {kind}s" for kind in ("worker", "driver", "node"))
    yield row(f"Ray on two nodes, killed: {told}", hit.total(), found, began)


def bucket(flags: Namespace, place: Path) -> Iterator[Row]:
    model = fitted(place, "lenet")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    for work in (_ids, _photos):
        began, seen, found = time.time(), Counter[str](), Counter[int]()
        for seed in SEEDS:
            with s3.serving(FAULTS, seed) as (url, environment, here):
                os.environ.update(environment)
                found.update(dict(enumerate(work(url, Path(model)))))
                seen += here
        told = ", ".join(f"{seen[kind]} {kind}" for kind in ("refused", "lost", "closed", "late"))
        what = "ids" if work is _ids else "photos and tars"
        total = seen.total() - seen["fine"]
        counts = found[0], found[1], found[2]
        yield row(f"{what} in a bucket, {seen.total():,} requests: {told}", total, counts, began)


def _ids(url: str, model: Path) -> jobs.Kept:
    """Three workers on the same shards, each from another one on."""
    ids = [f"id{number:05}" for number in range(FEW)]
    many = jobs.planned(f"{url}/job", ids, 50).plan.shards

    def work(first: int) -> None:
        mine = [(first + number) % many for number in range(many)]
        list(jobs.worker(f"{url}/job").work(mine, lambda done, total: None))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(0, many, many // 3)))
    return jobs.kept(f"{url}/job", ids)


def _photos(url: str, model: Path) -> jobs.Kept:
    """The four commands on photos and tars in the bucket; each is typed again if it must be."""
    source, keys = model.parent / "train", []
    there = store.Store(f"{url}/set")
    for place in sorted(source.rglob("*.jpg")):
        keys.append(place.relative_to(source).as_posix())
        there.create(keys[-1], place.read_bytes())
    for number in range(TARS):
        name = f"{number}.tar"
        with tarfile.open(model.parent / name, "w") as archive:
            for place in sorted(source.rglob("*.jpg"))[:50]:
                archive.add(place, place.name)
                keys.append(f"{name}/{place.name}")
        there.create(name, (model.parent / name).read_bytes())
    job, rows = f"{url}/job", model.parent / "rows.csv"
    run(zoo("plan", f"{url}/set", "-o", job, "--model", model, "--per-shard", "20"))
    for words in (["work", job], ["verify", job], ["merge", job, "-o", rows, "--force"]):
        run(zoo(*words))
    with rows.open(newline="") as file:
        found = list(csv.DictReader(file))
    often = Counter(one["path"] for one in found)
    errors = sum(one["status"] != "ok" for one in found)
    return jobs.Kept(len(set(keys) - often.keys()), len(found) - len(often), errors)


PARTS = {"workers": workers, "ray": ray, "bucket": bucket}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("part", nargs="?", choices=PARTS)
    parser.add_argument("--kills", type=int, default=200, help="of workers, and on Ray (200)")
    parser.add_argument("--minutes", type=float, default=60, help="of kills on Ray, at most (60)")
    flags = parser.parse_args()
    for name in PARTS if flags.part is None else [flags.part]:
        with tempfile.TemporaryDirectory() as scratch:
            rows = list(PARTS[name](flags, Path(scratch)))
        header = ("what", "faults", "missing", "twice", "errors", "seconds")
        show([[str(one[key]) for key in header] for one in rows], header)
        bars = [
            verdict(f"{name}: {each['what']}: missing or twice", each["missing"] + each["twice"],
                    0, at_most=True) for each in rows
        ]  # fmt: skip
        save_part("faults", name, {"machine": machine(), "rows": rows, "bars": bars}, PARTS)


if __name__ == "__main__":
    main()
