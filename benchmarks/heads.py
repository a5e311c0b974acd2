"""Accuracy and time of a frozen fine-tune beside scikit-learn, timm-style training and fastai.

    python -m benchmarks.heads setup ENVS          make the peers' environments with uv
    python -m benchmarks.heads peers --envs ENVS   run the peers; what is there already is kept
                    peers --envs ENVS --untimed    accuracy only, in less time
    python -m benchmarks.heads times --envs ENVS   time 1 and 3 epochs of timm's 30, extrapolate
    python -m benchmarks.heads ours                run zoo, with an empty and with a full cache
    python -m benchmarks.heads table               print what results/heads.json has

All have the same photos, split, weights and frozen trunk, and one torch thread: threads that wait
for each other on a busy machine cost seconds that nobody's work needs. Untimed trainings are the
same ones with memory kept (glibc's settings) and, in timm's, a compiled trunk; see peers/.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from benchmarks import accuracy
from benchmarks.accuracy import SETS
from benchmarks.heads_table import table
from benchmarks.measure import Job, environments, machine, run, shared, write, zoo

RESULTS = Path(__file__).parent / "results" / "heads.json"
PEERS = Path(__file__).parent / "peers"
MODELS = {name.partition("/")[2]: (name, file) for name, file in accuracy.MODELS.items()}
JOBS = [(model, photos) for photos in SETS for model in MODELS]
SCRIPTS = {  # name: environment, script and its flags
    "probe": ("timm", "probe.py"),
    "probe, CV": ("timm", "probe.py", "--cross-validate"),
    "timm, 30 epochs": ("timm", "timm_style.py"),
    "fastai, 10 epochs": ("fastai", "fastai_cycle.py"),
}
PACKAGES = {  # timm 1.0.31's RandAugment asks posterize for 0 bits, which Pillow 13 refuses
    "timm": ("timm", "torch", "torchvision", "scikit-learn", "pillow<13"),
    "fastai": ("fastai", "timm", "torch", "torchvision"),
}
TIMM = "timm, 30 epochs"
COLD, WARM = "zoo, empty cache", "zoo, full cache"
OUR_OWN = ("ZOO_MALLOC", "ZOO_WEIGHTS")  # settings of the caller that would change the outcome
KEPT_MEMORY = {  # what ZOO_MALLOC=tuned sets
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**28),
}
NOT_TIMED = {"wall": None, "cpu": None}
SAME = {"OMP_NUM_THREADS": "1", "ZOO_OFFLINE": "1"}
Row = dict[str, Any]


def main() -> None:
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # ends the job too
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=("setup", "peers", "times", "ours", "table"))
    parser.add_argument("folder", nargs="?", type=Path, help="setup: where environments go")
    parser.add_argument("--envs", type=Path, help="the folder that setup made")
    parser.add_argument("--untimed", action="store_true", help="peers: accuracy only, sooner")
    parser.add_argument("--shared", type=Path, default=shared(), help="has data/ and weights/")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)), help="(0 to 4)")
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    flags = parser.parse_args()
    if flags.part == "setup":
        setup(flags.folder or parser.error("setup needs the folder of the environments"))
    elif flags.part in ("peers", "times"):
        part = peers if flags.part == "peers" else times
        part(flags if flags.envs else parser.error(f"{flags.part} needs --envs, see setup"))
    elif flags.part == "ours":
        ours(flags)
    table(read(), JOBS, (COLD, WARM))


def setup(folder: Path) -> None:
    environments(folder, PACKAGES)
    sys.exit()


def peers(flags: Namespace) -> None:
    """Every seed of all before the next one: an interrupted run compares like with like."""
    done = {(row.get("peer", row["who"]), *key(row)[1:]) for row in read()["rows"]}
    for seed in flags.seeds:
        for model, photos in JOBS:
            for who in flags.only:
                if (who, model, photos, seed) not in done:
                    for row in one_peer(flags, who, model, photos, seed):
                        add(row, "peers")


def one_peer(flags: Namespace, who: str, model: str, photos: str, seed: int) -> list[Row]:
    """One row for each line that the script prints; timm's has one for each rate."""
    more = ["--untimed"] if flags.untimed and who == TIMM else []
    env = {**SAME, **KEPT_MEMORY} if flags.untimed else SAME
    job = start(flags, who, model, photos, seed, *more, env=env)
    cost = NOT_TIMED if flags.untimed else seconds(job)
    found = [json.loads(line) for line in job.out.splitlines() if line.startswith("{")]
    names = [f"{who}, lr {row['settings']['lr']:g}" if len(found) > 1 else who for row in found]
    return [
        {"who": name, "peer": who, **row, **cost} for name, row in zip(names, found, strict=True)
    ]


def start(
    flags: Namespace, who: str, model: str, photos: str, seed: int, *more: str, env: dict[str, str]
) -> Job:
    """A peer's script in its environment."""
    head(who, model, photos, seed)
    environment, script, *its_own = SCRIPTS[who]
    python = flags.envs / environment / "bin" / "python"
    data, weights = paths(flags, model, photos)
    words = [python, PEERS / script, model, weights, data, "--seed", str(seed), *its_own, *more]
    return run(words, env=env)


def times(flags: Namespace) -> None:
    """CPU seconds of timm's 30 epochs, in a straight line from those of 1 and of 3."""
    for model, photos in JOBS:
        jobs = {
            epochs: start(
                flags, TIMM, model, photos, 0, "--lr", "3e-3", "--epochs", str(epochs), env=SAME
            )
            for epochs in (1, 3)
        }
        cpu = {epochs: job.cpu for epochs, job in jobs.items()}
        line = cpu[1] + 29 * (cpu[3] - cpu[1]) / 2
        measured = {str(epochs): round(value, 2) for epochs, value in cpu.items()}
        row = {**head(TIMM, model, photos, 0), "cpu": round(line, 1), "measured": measured}
        add({**row, "load": load()}, "peers", "extrapolated")


def ours(flags: Namespace) -> None:
    """The command that a user types, its defaults, twice with one cache."""
    with tempfile.TemporaryDirectory(prefix="zoo-benchmark-") as name:
        for model, photos in JOBS:  # compiles byte code
            run([*command(flags, model, photos, 0), "--dry-run"], env=SAME, unset=OUR_OWN)
        for seed in flags.seeds:
            for model, photos in JOBS:
                scratch = Path(name) / f"{model}-{photos}-{seed}"
                for who in (COLD, WARM):
                    add(one_of_ours(flags, who, model, photos, seed, scratch), "ours")


def one_of_ours(
    flags: Namespace, who: str, model: str, photos: str, seed: int, scratch: Path
) -> Row:
    folder = scratch / ("cold" if who == COLD else "warm")
    first = head(who, model, photos, seed)
    words = [*command(flags, model, photos, seed), "-o", str(folder)]
    job = run(words, env={**SAME, "ZOO_CACHE": str(scratch / "cache")}, unset=OUR_OWN)
    record = json.loads((folder / "run.json").read_text())
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    accuracies = [json.loads(line)["accuracy"] for line in lines]
    plan = {what: value for what, value, _ in record["plan"]}
    return {
        **first,
        "kept": round(record["results"]["accuracy"], 6),
        "last": round(accuracies[-1], 6),
        "best": round(max(accuracies), 6),
        **seconds(job),
        "settings": {name: plan[name] for name in ("views", "training", "kept") if name in plan},
        "accuracies": [round(value, 6) for value in accuracies],
    }


def command(flags: Namespace, model: str, photos: str, seed: int) -> list[str]:
    data, weights = paths(flags, model, photos)
    words = ("finetune", MODELS[model][0], data, "--weights", weights, "--freeze")
    return zoo(*words, "--seed", str(seed))


def paths(flags: Namespace, model: str, photos: str) -> tuple[Path, Path]:
    """The photos and the weights."""
    return flags.shared / "data" / photos, flags.shared / "weights" / MODELS[model][1]


def head(who: str, model: str, photos: str, seed: int) -> Row:
    print(f"{who}: {model}, {photos}, seed {seed}", file=sys.stderr, flush=True)
    return {"who": who, "model": model, "photos": photos, "seed": seed}


def seconds(job: Job) -> Row:
    """Measured from outside, imports and the workers' share included."""
    return {"wall": round(job.wall, 2), "cpu": round(job.cpu, 2), "load": load()}


def load() -> float:
    """Of the machine, just after a job."""
    return round(os.getloadavg()[0], 2)


def key(row: Row) -> tuple[str, str, str, int]:
    return row["who"], row["model"], row["photos"], row["seed"]


def read() -> dict[str, Any]:
    """What was measured so far."""
    empty: dict[str, Any] = {"machine": {}, "rows": [], "extrapolated": []}
    return {**empty, **json.loads(RESULTS.read_text())} if RESULTS.exists() else empty


def add(row: Row, part: str, where: str = "rows") -> None:
    """One more row, in place of an older one; two parts may run at once."""
    RESULTS.parent.mkdir(exist_ok=True)
    folder = os.open(RESULTS.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        result = read()
        rows = {key(one): one for one in [*result[where], row]}
        result[where] = [rows[name] for name in sorted(rows)]
        result["machine"][part] = machine()
        write(RESULTS, result)
    finally:
        os.close(folder)


if __name__ == "__main__":
    main()
