"""The feature pass over 100 to 100,000 small photos: seconds a photo, memory, again.

    python -m benchmarks.scale [--counts 100 1000 10000 100000]
    python -m benchmarks.scale plot        docs/pictures/scale.png of what the results have

JPEGs of 64 x 64, no two of the same content, through LeNet's frozen part, which takes less time
than decoding them. Each pass is a process of its own: the first with nothing kept, the second with
the same photos, the third with ten more. Time is counted from when the network is there to when
all features are in memory; the first and last also in CPU seconds, which say more on a busy
machine. Photos are made older than they are worth trusting before the first pass (a few seconds).
"""

from __future__ import annotations

import io
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.measure import (
    RESULTS,
    ROOT,
    arguments,
    machine,
    python,
    run,
    save,
    show,
    verdict,
)
from zoo.report.figure import figure_in

CLASSES, MORE = 10, 10
SECOND, LINEAR, LEAST = 1.5, 1.25, 1000  # of fewer photos a pass is mostly its start


def main() -> None:
    if sys.argv[1:2] == ["pass"]:
        print(json.dumps(one_pass(Path(sys.argv[2]))))
        return
    if sys.argv[1:2] == ["plot"]:
        plot(json.loads((RESULTS / "scale.json").read_text()))
        return
    parser = arguments(__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    flags = parser.parse_args()
    facts, rows = machine(), []
    with tempfile.TemporaryDirectory() as scratch:
        for count in flags.counts:
            rows.append(measured(Path(scratch) / str(count), count))
            print(f"{count:,} photos done", file=sys.stderr)
    table = [cells(row) for row in rows]
    header = ("photos", "first, s", "ms a photo", "CPU ms", "MB", "second, s", "us a photo", "MB")
    show(table, (*header, "10 more, s", "computed"))
    some = [row for row in rows if row["count"] >= LEAST]
    per = [row["first"]["cpu"] / row["count"] for row in some]
    bars = [
        verdict("CPU for a photo, last count beside first", per[-1] / per[0], LINEAR, at_most=True),
        verdict("seconds, second pass of the first count", some[0]["second"]["wall"], SECOND,
                at_most=True),
        verdict("computed for ten more", max(r["more"]["computed"] for r in rows), MORE,
                at_most=True),
    ]  # fmt: skip
    save("scale", facts, {"rows": rows, "bars": bars})
    plot({"machine": facts, "rows": rows})


def measured(folder: Path, count: int) -> dict[str, Any]:
    make(folder, 0, count)
    time.sleep(6)
    row: dict[str, Any] = {"count": count}
    env = {"ZOO_CACHE": str(folder.with_name("cache")), "OMP_NUM_THREADS": "1"}
    for name in ("first", "second", "more"):
        if name == "more":
            make(folder, count, count + MORE)
        job = run(python("-m", "benchmarks.scale", "pass", folder), env=env)
        row[name] = {**json.loads(job.out), "memory": job.memory}
    assert row["first"]["computed"] == count
    assert row["second"]["computed"] == 0
    return row


def make(folder: Path, first: int, last: int) -> None:
    """Ten pictures; a comment in each file makes its content another one."""
    random, bases = np.random.default_rng(0), []
    for _ in range(CLASSES):
        image = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).resize((64, 64))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90)
        bases.append(file.getvalue())
    for number in range(first, last):
        path = folder / f"class{number % CLASSES}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        base = bases[number % CLASSES]
        path.write_bytes(base[:2] + b"\xff\xfe\x00\x0a%08d" % number + base[2:])


def one_pass(folder: Path) -> dict[str, Any]:
    """In its own process: the photos of a folder through a frozen part, and all of its features."""
    from zoo import catalog, device, models
    from zoo.data.index import scan
    from zoo.disk import cache_folder
    from zoo.engine.torch import TorchEngine
    from zoo.features.cache import FeatureCache
    from zoo.features.compute import Views, compute
    from zoo.models.cut import cut

    spec = catalog.find("lenet")
    frozen = cut(models.build(spec), spec.cut).frozen
    engine = TorchEngine(frozen, spec.preprocess, device.choose("cpu"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began, cpu = time.perf_counter(), time.process_time()
    index = scan(folder)
    listed = time.perf_counter()
    cache = FeatureCache(cache_folder() / "features" / folder.name, {})
    work = [(sample, Views()) for sample in index.samples]
    found = compute(cache, engine, spec.preprocess, index.root, work, lambda done, total: None)
    features = cache.rows([found.keys[sample.path][0] for sample in index.samples])
    assert len(features) == len(index.samples)
    return {
        "wall": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "listing": listed - began,
        "computed": found.computed,
        "features_mb": len(features) * 4 * int(np.prod(features.shape)) / 1e6,
        "memory_before": before,
        "files": len(os.listdir(cache.folder)),
    }


def plot(found: dict[str, Any]) -> None:
    """Time and memory against photos, as measured."""
    rows = found["rows"]
    with figure_in(ROOT / "docs" / "pictures" / "scale.png", (9, 3.6)) as figure:
        panels = figure.subplots(1, 2)
        kinds = (("first", "nothing kept", "tab:blue"), ("second", "again", "tab:orange"))
        for panel, key, what in zip(panels, ("wall", "memory"), ("seconds", "MB"), strict=True):
            for kind, name, colour in kinds:
                points = [(row["count"], row[kind][key]) for row in rows]
                panel.plot(*zip(*points, strict=True), "o-", label=name, color=colour)
                for count, value in points:
                    place = (0, 6 if kind == "first" else -14)
                    told = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
                    panel.annotate(told, (count, value), place, fontsize=8, color=colour,
                                   textcoords="offset points", ha="center")  # fmt: skip
            panel.set(xscale="log", xlabel="photos of 64 x 64", ylabel=what)
            panel.margins(x=0.12, y=0.15)
            panel.grid(which="major", alpha=0.3)
            panel.legend(fontsize=8)
        panels[0].set_yscale("log")
        panels[0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        for panel in panels:
            panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        panels[0].set_title("time of a feature pass (LeNet)", fontsize=10, loc="left")
        panels[1].set_ylim(0, 1.1 * panels[1].get_ylim()[1])
        panels[1].set_title("most memory of the process", fontsize=10, loc="left")
        told = found["machine"]
        figure.supxlabel(f"{told['cpu']}, {told['cores']} cores, {told['date']}", fontsize=7)


def cells(row: dict[str, Any]) -> list[str]:
    count, first, second, more = row["count"], row["first"], row["second"], row["more"]
    return [
        f"{count:,}", f"{first['wall']:.2f}", f"{1e3 * first['wall'] / count:.3f}",
        f"{1e3 * first['cpu'] / count:.3f}", f"{first['memory']:.0f}", f"{second['wall']:.2f}",
        f"{1e6 * second['wall'] / count:.0f}", f"{second['memory']:.0f}", f"{more['wall']:.2f}",
        str(more["computed"]),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
