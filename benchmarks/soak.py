"""Memory, descriptors, threads, children and temporary files of a long use: do they stay flat?

    python -m benchmarks.soak [predict|serve|api|cycles] [--share 1]
    python -m benchmarks.soak plot         docs/pictures/soak.png of what the results have

predict: 200,000 photos of 64 x 64 in one `zoo predict`, whose peak is also compared with that of
1,000 photos; serve: as many sent to one `zoo serve`, 16 a form, one by one, and broken ones among
them; api: 50 fine-tunes by `zoo.finetune` in one process, solved and in steps; cycles: 200 times
fine-tune, predict and export in one process. LeNet, random weights, another seed each time. What is
flat is judged from a quarter of the way on: before that things are opened and kept. --share 0.1
does a tenth of it and keeps nothing. The parts may be run at the same time.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.jobs import fitted, named
from benchmarks.measure import (
    ROOT,
    arguments,
    machine,
    parts,
    python,
    run,
    save_part,
    show,
    verdict,
    zoo,
)
from benchmarks.scale import make
from benchmarks.serve import Server

COUNTS = {"predict": 200_000, "serve": 200_000, "api": 50, "cycles": 200}
UNITS = {"predict": "photos", "serve": "photos", "api": "fine-tunes", "cycles": "cycles"}
GROWTH = 0.05  # of the memory, over the three quarters that are judged
FEW, FLAT = 1000, 1.10  # photos, and the peak of many beside theirs
COUNTED = ("descriptors", "threads", "children", "files")
KINDS: tuple[dict[str, Any], ...] = ({"cut": "act4"}, {"epochs": 2}, {"cut": "act4", "epochs": 2})
EVERY = 120.0  # seconds after which what was found so far is kept
CONNECTIONS, FORM, ROUND = 4, 16, 2000  # a round of photos, and a sample
BORDER = "a-border-of-parts"


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process has after so many. memory, peak: MB. files: temporary ones."""

    done: int
    cpu: float
    memory: float
    peak: float
    descriptors: int
    threads: int
    children: int
    files: int


def sample(pid: int, done: int, temporary: Path) -> Sample:
    own = Path(f"/proc/{pid}")
    server = Server(("", 0), pid)
    tasks = list((own / "task").iterdir())
    children = [(task / "children").read_text().split() for task in tasks if task.exists()]
    files = sum(path.is_file() for path in temporary.rglob("*"))
    counts = len(os.listdir(own / "fd")), len(tasks), sum(map(len, children)), files
    return Sample(done, server.cpu(), server.memory(), server.memory("VmHWM"), *counts)


# What is soaked: each yields samples of a process.


@contextmanager
def started(words: Sequence[str], place: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Start a process that has folders of its own; yield it, and that of its temporary files."""
    temporary = place / "tmp"
    temporary.mkdir()
    own = {"TMPDIR": str(temporary), "ZOO_CACHE": str(place / "cache")}
    pipe = subprocess.PIPE
    with (place / "said").open("w") as said:
        process = subprocess.Popen(
            words, stdin=pipe, stdout=pipe, stderr=said, text=True, env=os.environ | own, cwd=ROOT
        )
        try:
            yield process, temporary
        finally:
            process.terminate()
            process.communicate()


def ended(process: subprocess.Popen[str], place: Path) -> None:
    """Raise SystemExit with what a process said, where it failed."""
    if process.wait():
        raise SystemExit((place / "said").read_text()[-3000:])


def predict(count: int, place: Path) -> Iterator[Sample]:
    model = fitted(place, "lenet")
    words = zoo("predict", model, place / "photos", "-o", place / "rows.csv", "--job", place / "j")
    named(place / "train", place / "photos", count)
    with started(words, place) as (process, temporary):
        before = 0
        while process.poll() is None:
            done = 1000 * len(list((place / "j" / "parts").glob("*.parquet")))
            if done > before:
                before = done
                try:
                    yield sample(process.pid, min(done, count), temporary)
                except OSError:  # it has just ended
                    break
            time.sleep(0.2)
        ended(process, place)
    rows = sum(1 for _ in (place / "rows.csv").open()) - 1
    assert rows == count, f"{rows} rows of {count} photos"


def beside_few(samples: Sequence[Sample], place: Path) -> dict[str, Any]:
    """Compare the peak with that of few photos, by the same run."""
    named(place / "train", place / "few", FEW)
    words = zoo(
        "predict", place / "run", place / "few", "-o", place / "few.csv", "--job", place / "f"
    )
    few = run(words, env={"ZOO_CACHE": str(place / "cache")})
    ratio = max(one.peak for one in samples) / few.memory
    what = f"predict: peak memory at {samples[-1].done:,} photos beside {FEW:,}"
    return verdict(what, ratio, FLAT, at_most=True)


def serve(count: int, place: Path) -> Iterator[Sample]:
    model = fitted(place, "lenet")
    bases = [file.read_bytes() for file in sorted((place / "train").rglob("*0[0-9].jpg"))]
    with started(zoo("serve", model, "--port", "0"), place) as (process, temporary):
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        host, _, port = url.partition("://")[2].strip("/").partition(":")
        server, right = Server((host, int(port)), process.pid), dict[int, str]()
        for first in range(0, count, ROUND):
            in_turn(server, range(first, min(first + ROUND, count)), bases, right)
            time.sleep(0.2)  # until the server has closed what was closed here
            yield sample(process.pid, min(first + ROUND, count), temporary)


def in_turn(server: Server, numbers: range, bases: list[bytes], right: dict[int, str]) -> None:
    """Send photos by several connections; every answer must be the one that it had at first."""
    wrong: list[str] = []

    def some(mine: range) -> None:
        line, left = server.line(), list(mine)
        while left:
            size = 1 if left[0] % 5 == 0 else FORM
            asked, left = left[:size], left[size:]
            wrong.extend(unlike(line, asked, bases, right))
        line.close()

    step = -(-len(numbers) // CONNECTIONS)
    parts = [numbers[first : first + step] for first in range(0, len(numbers), step)]
    threads = [threading.Thread(target=some, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:3]


def unlike(
    line: http.client.HTTPConnection, asked: list[int], bases: list[bytes], right: dict[int, str]
) -> list[str]:
    """Ask for some photos, every 500th of them cut short; return what is unlike it was before."""
    photos = []
    for number in asked:
        base = bases[number % len(bases)]  # a comment makes its content another one
        photo = base[:2] + b"\xff\xfe\x00\x0a%08d" % number + base[2:]
        photos.append(photo[:60] if number % 500 == 0 else photo)
    kind, body = "image/jpeg", photos[0]
    if len(photos) > 1:
        kind = f"multipart/form-data; boundary={BORDER}"
        head = '--%s\r\nContent-Disposition: form-data; name="files"; filename="%d.jpg"\r\n\r\n'
        pieces = [(head % (BORDER, n)).encode() + p for n, p in zip(asked, photos, strict=True)]
        body = b"\r\n".join([*pieces, f"--{BORDER}--\r\n".encode()])
    line.request("POST", "/predict", body, {"Content-Type": kind})
    answer = json.loads(line.getresponse().read())
    rows = answer if isinstance(answer, list) else answer.get("rows", [])
    if len(rows) != len(asked):
        return [f"{len(rows)} rows for {len(asked)} photos: {answer}"]
    found = []
    for number, row in zip(asked, rows, strict=True):
        told = row["label"] if row["status"] == "ok" else "an error"
        first = "an error" if number % 500 == 0 else right.setdefault(number % len(bases), told)
        found += [f"photo {number}: {told}, not {first}"] * (told != first)
    return found


def api(count: int, place: Path) -> Iterator[Sample]:
    return repeated("api", count, place)


def cycles(count: int, place: Path) -> Iterator[Sample]:
    return repeated("cycles", count, place)


def repeated(what: str, count: int, place: Path) -> Iterator[Sample]:
    """Have another process do it so often; it waits for each sample."""
    make(place / "train", 0, 60)
    words = python("-m", "benchmarks.soak", "work", what, str(count), str(place))
    with started(words, place) as (process, temporary):
        assert process.stdout is not None
        assert process.stdin is not None
        for line in process.stdout:
            yield sample(process.pid, int(line), temporary)
            process.stdin.write("\n")
            process.stdin.flush()
        ended(process, place)


def work(what: str, count: int, place: Path) -> None:
    """Fine-tune so many times in this process, and more with each; say a number after each."""
    import zoo

    photos = sorted(map(str, (place / "train").rglob("*.jpg")))
    for number in range(count):
        settings: dict[str, Any] = {
            "weights": "none",
            "views": 1,
            "val_fraction": 0.3,
            "seed": number,
        }
        settings |= KINDS[number % len(KINDS)]
        ours = zoo.finetune("lenet", place / "train", output=place / "run", **settings)
        if what == "cycles":
            rows = ours.predict(photos)
            assert [row.status for row in rows] == ["ok"] * len(photos)
            ours.export("onnx")
        shutil.rmtree(place / "run")
        print(number + 1, flush=True)
        sys.stdin.readline()


# What is told of them.


def judged(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples from a quarter of the way on."""
    return [one for one in samples if one.done >= samples[-1].done / 4]


def slope(samples: Sequence[Sample]) -> float:
    """Return MB for each one done, by least squares."""
    done, memory = [one.done for one in samples], [one.memory for one in samples]
    return statistics.linear_regression(done, memory).slope


def growth(samples: Sequence[Sample]) -> float:
    """Return by what share the memory grows over the samples, along the line through them."""
    span = samples[-1].done - samples[0].done
    return slope(samples) * span / statistics.median(one.memory for one in samples)


def more(samples: Sequence[Sample], what: str) -> float:
    """Return how many more there are in the last third than in the first one."""
    third, counts = max(1, len(samples) // 3), [getattr(one, what) for one in samples]
    return float(statistics.median(counts[-third:]) - statistics.median(counts[:third]))


def bars(name: str, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    about = f"{name}, {samples[-1].done:,} {UNITS[name]}"
    found = [verdict(f"{about}: growth of memory", growth(samples), GROWTH, at_most=True)]
    for what in COUNTED:
        found.append(verdict(f"{about}: more {what}", more(samples, what), 0, at_most=True))
    return found


def measured(name: str, flags: Namespace) -> None:
    """Do a part. What it has found so far is kept every few minutes, in case it ends early."""
    count = max(8, int(COUNTS[name] * flags.share))
    began, samples = time.perf_counter(), list[Sample]()
    whole = flags.share == 1
    with tempfile.TemporaryDirectory() as scratch:
        until = began + EVERY
        for one in PARTS[name](count, Path(scratch)):
            samples.append(one)
            if whole and time.perf_counter() > until and len(judged(samples)) > 3:
                until += EVERY
                keep(name, told(name, samples, []))
        more = [beside_few(samples, Path(scratch))] if name == "predict" else []
    found = told(name, samples, more)
    some = [name, f"{found['done']:,}", f"{found['mb']:.0f}", f"{found['mb_per_1000']:.3g}",
            f"{100 * found['growth']:+.1f} %", f"{found['cpu_s']:.0f}"]  # fmt: skip
    header = ("", "done", "MB", "MB per 1,000", "growth", "CPU s", "s")
    show([[*some, f"{time.perf_counter() - began:.0f}"]], header)
    if whole:
        keep(name, found)


def told(name: str, samples: Sequence[Sample], more: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is kept of a part. more: bars beside those that all parts have."""
    some = judged(samples)
    middle = statistics.median(one.memory for one in some)
    shown = samples[:: -1 - len(samples) // 200][::-1]  # the last one is among them
    return {"machine": machine(), "done": samples[-1].done, "of": COUNTS[name],
            "mb": round(middle, 1), "mb_per_1000": round(1000 * slope(some), 5),
            "growth": round(growth(some), 4), "cpu_s": round(samples[-1].cpu, 1),
            "bars": more + bars(name, some),
            "samples": [list(asdict(one).values()) for one in shown]}  # fmt: skip


def keep(name: str, one: dict[str, Any]) -> None:
    """Keep what a part has found, and draw all."""
    save_part("soak", name, one, COUNTS)
    plot(parts("soak"))


PARTS = {"predict": predict, "serve": serve, "api": api, "cycles": cycles}


def main() -> None:
    if sys.argv[1:2] == ["work"]:
        work(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
        return
    parser = arguments(__doc__)
    parser.add_argument("part", nargs="?", choices=(*PARTS, "plot"))
    parser.add_argument("--share", type=float, default=1.0, help="of what there is to do (1)")
    flags = parser.parse_args()
    if flags.part == "plot":
        plot(parts("soak"))
    for name in PARTS if flags.part is None else PARTS.keys() & {flags.part}:
        measured(name, flags)


def plot(found: dict[str, Any]) -> None:
    """Draw the memory of each part, with what else was counted at the first and last sample."""
    from zoo.report.figure import figure_in

    with ExitStack() as stack:
        place = ROOT / "docs" / "pictures" / "soak.png"
        figure = stack.enter_context(figure_in(place, (9.6, 5.4)))
        panels = figure.subplots(2, 2).flat
        for panel, (name, one) in zip(panels, found.items(), strict=False):
            samples = [Sample(*values) for values in one["samples"]]
            memory = [one.memory for one in samples]
            panel.plot([one.done for one in samples], memory, lw=1.2)
            panel.axvline(samples[-1].done / 4, color="grey", lw=0.6, ls=":")
            panel.set(ylabel="MB", ylim=(0, 1.35 * max(memory)))
            panel.set_title(
                f"{name}, {UNITS[name]}: {100 * one['growth']:+.1f} %", fontsize=10, loc="left"
            )
            panel.locator_params(axis="x", nbins=5)
            first, last = judged(samples)[0], samples[-1]
            told = ", ".join(f"{what} {getattr(first, what)} → {getattr(last, what)}"
                             for what in COUNTED)  # fmt: skip
            panel.text(0.02, 0.96, told, transform=panel.transAxes, fontsize=7.5, va="top")
            panel.grid(alpha=0.3)


if __name__ == "__main__":
    main()
