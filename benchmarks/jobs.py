"""What a job adds to a plain `zoo predict`: CPU seconds over 10,000 photos, and memory by count.

    python -m benchmarks.jobs [--count 10000] [--few 1000] [--model RUN]

JPEGs of 64 x 64 through a network of 224 x 224 (squeezenet1_1 with random weights, unless RUN is
given), both ways in turn. The job is plan, shards, commits, verify and merge; it has to begin anew
each time. Time is CPU seconds of the whole process. Memory is the peak of a job of few photos
beside one of all.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from benchmarks.measure import Job, arguments, machine, run, save, show, verdict, zoo
from benchmarks.scale import make

MORE, FLAT = 1.03, 1.10
MODEL = "torchvision/squeezenet1_1"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--model", default="")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        for count in (flags.few, flags.count):
            make(place / str(count), 0, count)
        model = flags.model or _run(place)
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


def _run(place: Path) -> str:
    """Return a run of the model with a head for the ten kinds of pictures."""
    make(place / "train", 0, 100)
    words = ["finetune", MODEL, place / "train", "--weights", "none", "--views", "1"]
    run(zoo(*words, "-o", place / "run"), env={"ZOO_CACHE": str(place / "cache")})
    return str(place / "run")


def _predicted(place: Path, model: str, count: int, job: str) -> Job:
    words = ["predict", model, place / str(count), "-o", place / "rows.csv"]
    words += ["--job", place / job] if job else []
    return run(zoo(*words), env={"ZOO_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"})


if __name__ == "__main__":
    main()
