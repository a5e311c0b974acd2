"""What commands cost before they do anything, and those whose work is kept: CPU seconds.

    python -m benchmarks.startup [--repeat N] [--photos FOLDER]

With byte code cached. The jobs on what is kept are of ResNet-50 with random weights in a file of
their own, and 380 photos of clothing10: a run, its features and graphs, made first and not counted.
Then what a first fine-tune of 40 photos costs with nothing kept, less what one costs whose network
is known and compiled, both without features: what it takes does not depend on the photos, and each
of them would only add noise. (`benchmarks.again` has a second run on many photos.) Two minutes and
a half on two cores; bars by the clock mean nothing on a machine that does something else besides.
"""

from __future__ import annotations

import compileall
import json
import os
import shutil
import tempfile
from pathlib import Path

from benchmarks.measure import (
    ROOT,
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
    warn_about_byte_code,
    zoo,
)

MODEL = "resnet50"
Jobs = dict[str, tuple[list[str], int]]  # name -> (command, its exit code)
PLAIN: Jobs = {
    "python -c pass": (python("-c", "pass"), 0),
    "zoo --help": (zoo("--help"), 0),
    "zoo list": (zoo("list"), 0),
    f"zoo info {MODEL}": (zoo("info", MODEL), 0),
    "zoo finetune --bad-flag": (zoo("finetune", "--bad-flag"), 2),
    "python -c 'import torch'": (python("-c", "import torch"), 0),
}
RANK, AGAIN = "zoo rank", "zoo finetune, again"
LESS = "zoo rank, less its solver"
BARS = {"zoo --help": 0.12, "zoo list": 0.12, f"zoo info {MODEL}": 0.4}  # CPU seconds
CLOCK = {LESS: 1.5, "zoo export onnx": 0.8, AGAIN: 1.3}  # seconds
FIRST, KNOWN = "nothing kept", "network known"
MANY, FEW = (30, 8), (3, 1)  # photos of each class, for training and for val
PLAIN_EACH = 3  # times in a round: they are short
BEYOND = 1.5  # seconds that a first fine-tune may take longer than one whose network is known
WEIGHTS = """if True:
    import sys
    from pathlib import Path
    from zoo import network, weights
    weights.save(network.untrained(sys.argv[1]).chain.state_dict(), Path(sys.argv[2]))
"""


def kept(photos: Path, work: Path) -> Jobs:
    """Commands whose features, graphs and facts are kept; they are made here."""
    file, one = work / f"{MODEL}.safetensors", next(photos.glob("*/*/*.jpg"))
    run(python("-c", WEIGHTS, MODEL, file))
    tune = ["finetune", MODEL, photos, "--weights", file, "-o"]
    ranking = ["rank", photos, "--models", f"{MODEL}={file}"]
    for words in ([*tune, work / "a"], [*tune, work / "b"], ranking):
        run(zoo(*words), env=around(work / "cache"))
    return {
        "zoo rank": (zoo(*ranking, "--json"), 0),
        "zoo predict RUN PHOTO": (zoo("predict", work / "a", one), 0),
        "zoo embed RUN PHOTO": (zoo("embed", work / "a", one), 0),
        "zoo compare": (zoo("compare", work / "a", work / "b"), 0),
        "zoo export onnx": (zoo("export", "onnx", work / "a", "-o", work / "a.onnx", "--force"), 0),
        AGAIN: (zoo(*tune, work / "c"), 0),
    }


def some_of(photos: Path, place: Path, each: tuple[int, int]) -> Path:
    """Copy the first photos of each class into a folder of their own; return it."""
    for part, count in zip(("train", "val"), each, strict=True):
        for folder in sorted((photos / part).iterdir()):
            (place / part / folder.name).mkdir(parents=True)
            for photo in sorted(folder.glob("*.jpg"))[:count]:
                shutil.copy(photo, place / part / folder.name)
    return place


def around(cache: Path) -> dict[str, str]:
    return {"ZOO_CACHE": str(cache), "ZOO_OFFLINE": "1"}


def first(photos: Path, work: Path) -> tuple[Job, Job]:
    """A fine-tune with nothing kept, and one whose network is known and compiled."""
    cache, file = work / "empty", work / f"{MODEL}.safetensors"
    tune = ["finetune", MODEL, photos, "--weights", file, "--views", "1", "-o", work / "first"]
    jobs = []
    shutil.rmtree(cache, ignore_errors=True)
    for _ in range(2):
        shutil.rmtree(cache / "features", ignore_errors=True)
        shutil.rmtree(work / "first", ignore_errors=True)
        jobs.append(run(zoo(*tune), env=around(cache)))
    return jobs[0], jobs[1]


def main() -> None:
    parser = arguments(__doc__)
    folder = Path(os.environ.get("ZOO_SHARED") or ROOT.parent / "shared") / "data" / "clothing10"
    parser.add_argument("--photos", type=Path, default=folder, help="clothing10")
    flags = parser.parse_args()
    warn_about_byte_code()
    facts = machine()
    compileall.compile_dir(ROOT / "zoo", quiet=1)
    with tempfile.TemporaryDirectory(prefix="zoo-benchmark-") as place:
        jobs, work = dict(PLAIN), Path(place)
        if flags.photos.is_dir():
            jobs |= kept(some_of(flags.photos, work / "many", MANY), work)
        measured: dict[str, list[Job]] = {name: [] for name in jobs}
        for number in range(flags.repeat + 1):  # the first keeps byte code, and is not counted
            for name, (command, code) in jobs.items():
                shutil.rmtree(work / "c", ignore_errors=True)
                for _ in range(PLAIN_EACH if name in PLAIN else 1):
                    job = run(command, code=code, env=around(work / "cache"))
                    measured[name] += [job] * (number > 0)
        pairs = []
        if flags.photos.is_dir():
            few = some_of(flags.photos, work / "few", FEW)
            pairs = [first(few, work) for _ in range(flags.repeat)]
    report(facts, measured, pairs)


def report(
    facts: dict[str, object], measured: dict[str, list[Job]], pairs: list[tuple[Job, Job]]
) -> None:
    """Print the table and the bars, and keep them."""
    cpu = {name: [job.cpu for job in each] for name, each in measured.items()}
    wall = {name: [job.wall for job in each] for name, each in measured.items()}
    for number, name in enumerate((FIRST, KNOWN)):
        if pairs:
            cpu[name] = [pair[number].cpu for pair in pairs]
            wall[name] = [pair[number].wall for pair in pairs]
    empty = median(cpu["python -c pass"])
    rows = [
        [
            name,
            *numbers(cpu[name], 3),
            f"{median(wall[name]):.3f}",
            f"{median(cpu[name]) / empty:.1f}",
        ]
        for name in cpu
    ]
    show(rows, ["job", "CPU s min", "median", "max", "n", "wall s", "x pass"])
    print()
    if RANK in measured:
        solved = [json.loads(job.out)["models"][0]["solve_seconds"] for job in measured[RANK]]
        wall[LESS] = [job.wall - each for job, each in zip(measured[RANK], solved, strict=True)]
    kinds = (("CPU s", cpu, BARS), ("seconds", wall, CLOCK))
    bars = [
        verdict(f"{what} of {name}", median(values[name]), bar, at_most=True)
        for what, values, each in kinds
        for name, bar in each.items()
        if name in values
    ]
    if pairs:
        beyond = [one.cpu - other.cpu for one, other in pairs]
        said = f"CPU s of {FIRST} beyond {KNOWN}"
        bars.append(verdict(said, median(beyond), BEYOND, at_most=True))
    result = {
        "bars": bars,
        "cpu_seconds": {name: summary(values) for name, values in cpu.items()},
        "wall_seconds": {name: summary(values) for name, values in wall.items()},
        "ratio_to_python_pass": {name: round(median(cpu[name]) / empty, 2) for name in cpu},
    }
    save("startup", facts, result)


if __name__ == "__main__":
    main()
