"""What a job adds to a plain `zoo predict`: CPU seconds over 10,000 photos, and memory by count.

    python -m benchmarks.jobs [--count 10000] [--few 1000] [--model RUN]
    python -m benchmarks.jobs memory [--many 200000]

JPEGs of 64 x 64 through a network of 224 x 224 (squeezenet1_1 with random weights, unless RUN is
given), both ways in turn. The job is plan, shards, commits, verify and merge; it has to begin anew
each time. Time is CPU seconds of the whole process. Memory is the peak of a job of few photos
beside one of all; `memory` compares those alone, with rows on stdout and as a job, of many names
for few pictures, by LeNet.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Job, arguments, machine, run, save, show, verdict, zoo
from benchmarks.scale import make

MORE, FLAT = 1.03, 1.10
MODEL = "torchvision/squeezenet1_1"


def main() -> None:
    if sys.argv[1:2] == ["memory"]:
        memory()
        return
    parser = arguments(__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--model", default="")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        for count in (flags.few, flags.count):
            make(place / str(count), 0, count)
        model = flags.model or fitted(place)
        few = _predicted(place, model, flags.few, "few")
        rounds = []
        for number in range(flags.repeat):
            plain = _predicted(place, model, flags.count, "")
            job = _predicted(place, model, flags.count, f"job{number}")
            rounds.append((plain, job))
    ratio = statistics.median(job.cpu / plain.cpu for plain, job in rounds)
    rows = [[f"{p.cpu:.2f}", f"{j.cpu:.2f}", f"{j.cpu / p.cpu:.3f}", f"{p.memory:.0f}",
             f"{j.memory:.0f}"] for p, j in rounds]  # fmt: skip
    show(rows, ("plain, CPU s", "job, CPU s", "ratio", "plain MB", "job MB"))
    growth = rounds[0][1].memory / few.memory
    bars = [
        verdict(
            f"CPU of a job of {flags.count:,} beside the plain pass", ratio, MORE, at_most=True
        ),
        verdict(f"memory at {flags.count:,} beside {flags.few:,}", growth, FLAT, at_most=True),
    ]
    save("jobs", machine(), {"rows": rows, "few_mb": few.memory, "bars": bars})


def memory() -> None:
    """Print the peak memory of `zoo predict` on few and on many photos."""
    parser = arguments(__doc__)
    parser.add_argument("what")
    parser.add_argument("--many", type=int, default=200_000)
    flags = parser.parse_args()
    few = 1000
    with tempfile.TemporaryDirectory() as scratch:
        place, rows, bars = Path(scratch), [], []
        model = fitted(place, "lenet")
        _predicted(place, model, "train", "")  # its graph is compiled once
        for count in (few, flags.many):
            named(place / "train", place / str(count), count)
        for way in ("stdout", "job"):
            peaks = []
            for count in (few, flags.many):
                job = f"job{count}" if way == "job" else None
                done = _predicted(place, model, count, job)
                peaks.append(done.memory)
                rows.append([way, f"{count:,}", f"{done.memory:.0f}", f"{done.cpu:.0f}"])
            name = f"memory at {flags.many:,} beside {few:,}, {way}"
            bars.append(verdict(name, peaks[1] / peaks[0], FLAT, at_most=True))
    show(rows, ("rows to", "photos", "peak MB", "CPU s"))
    save("jobs_memory", machine(), {"rows": rows, "bars": bars})


def named(source: Path, place: Path, count: int) -> None:
    """Make so many names in a folder for the pictures of another: hard links take no room."""
    place.mkdir()
    files = sorted(source.rglob("*.jpg"))
    for number in range(count):
        os.link(files[number % len(files)], place / f"{number:06}.jpg")


def fitted(place: Path, model: str = MODEL) -> str:
    """Return a run of the model with a head for the ten kinds of pictures."""
    make(place / "train", 0, 100)
    words = ["finetune", model, place / "train", "--weights", "none", "--views", "1"]
    run(zoo(*words, "-o", place / "run"), env={"ZOO_CACHE": str(place / "cache")})
    return str(place / "run")


def _predicted(place: Path, model: str, count: int | str, job: str | None) -> Job:
    """Predict a folder. job: its name, "" for none, None for rows on stdout."""
    words = ["predict", model, place / str(count)]
    words += [] if job is None else ["-o", place / "rows.csv", "--force"]
    words += ["--job", place / job] if job else []
    return run(zoo(*words), env={"ZOO_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"})


if __name__ == "__main__":
    main()
