"""What all benchmarks share: run a process and measure it, sum up, print a table, keep a JSON."""

from __future__ import annotations

import datetime
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
NO_BYTE_CODE = "PYTHONDONTWRITEBYTECODE"


@dataclass(frozen=True, slots=True)
class Job:
    """One finished process: wall and CPU seconds (user + system, its children's too), peak MB."""

    wall: float
    cpu: float
    memory: float
    out: str
    err: str


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    unset: Sequence[str] = (),
    code: int = 0,
) -> Job:
    """Runs a command from the root of the repository; one that does not exit with `code` raises."""
    around = {k: v for k, v in os.environ.items() if k not in (NO_BYTE_CODE, *unset)}
    around |= env or {}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        child = subprocess.Popen(command, stdout=out, stderr=err, env=around, cwd=ROOT)
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:  # interrupted: nothing may go on running and disturb what comes next
            child.kill()
            child.wait()
            raise
        wall = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        texts = out.read().decode(errors="replace"), err.read().decode(errors="replace")
    if child.returncode != code:
        shown = " ".join(str(part) for part in command)
        raise SystemExit(
            f"{shown}\nexited with {child.returncode}, not {code}:\n{texts[1][-3000:]}"
        )
    return Job(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, *texts)


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return this process's seconds of CPU, seconds of a clock, and what came of the work."""
    began, clock = time.process_time(), time.perf_counter()
    found = work()
    return time.process_time() - began, time.perf_counter() - clock, found


def python(*arguments: str | Path) -> list[str]:
    return [sys.executable, *(str(argument) for argument in arguments)]


def zoo(*arguments: str | Path) -> list[str]:
    """The console script beside this interpreter, as a user starts it."""
    script = Path(sys.executable).with_name("zoo")
    start = [str(script)] if script.exists() else python("-m", "zoo")
    return [*start, *(str(argument) for argument in arguments)]


def shared() -> Path:
    """Return the folder of real photos and weights: $ZOO_SHARED, else beside this repository."""
    return Path(os.environ.get("ZOO_SHARED") or ROOT.parent / "shared")


def environments(folder: Path, packages: Mapping[str, Sequence[str]]) -> None:
    """Make an environment for each peer, away from this project's settings, with byte code."""
    for name, several in packages.items():
        own = folder.resolve() / name
        subprocess.run(["uv", "venv", "--no-config", "--allow-existing", str(own)], check=True)
        install = ["uv", "pip", "install", "--no-config", "--compile-bytecode", "--python"]
        subprocess.run([*install, str(own / "bin" / "python"), *several], check=True)


def summary(values: Sequence[float]) -> dict[str, Any]:
    return {
        "min": round(min(values), 4),
        "median": round(statistics.median(values), 4),
        "max": round(max(values), 4),
        "n": len(values),
        "all": [round(value, 4) for value in values],
    }


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def arguments(text: str | None) -> ArgumentParser:
    """A parser with the flag that every benchmark has; text: the benchmark's docstring."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # cleans up on the way
    parser = ArgumentParser(description=(text or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions (3)")
    return parser


def warn_about_byte_code() -> None:
    """The jobs run without the variable in any case; byte code of what they import is then kept."""
    if os.environ.get(NO_BYTE_CODE):
        print(f"warning: {NO_BYTE_CODE} is set; the jobs run without it", file=sys.stderr)


def machine() -> dict[str, Any]:
    """The facts that a number means nothing without."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_at_start": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version_of(name) for name in ("torch", "torchvision", "numpy", "pillow")},
        "zoo": version_of("zoo-transfer"),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    features = next((line.split() for line in lines if line.startswith("flags")), [])
    wanted = [name for name in ("avx2", "avx512f", "avx512_bf16") if name in features]
    return f"{names[0] if names else platform.processor()} ({', '.join(wanted)})"


def version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "-"


def show(rows: Sequence[Sequence[str]], header: Sequence[str]) -> None:
    """An aligned table on stdout; all columns but the first are numbers and go to the right."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    for row in cells:
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *rest]).rstrip())


def numbers(values: Sequence[float], digits: int = 2) -> list[str]:
    """The cells min, median, max, n."""
    shown = (min(values), median(values), max(values))
    return [*(f"{value:.{digits}f}" for value in shown), str(len(values))]


def verdict(name: str, value: float, bar: float, *, at_most: bool) -> dict[str, Any]:
    """Compares with a bar, prints a line and returns the record."""
    met = value <= bar if at_most else value >= bar
    word = "at most" if at_most else "at least"
    print(f"{'met   ' if met else 'MISSED'}  {name}: {value:.3g}, bar: {word} {bar:g}")
    return {"what": name, "value": round(value, 4), "bar": f"{word} {bar:g}", "met": met}


def save(name: str, facts: dict[str, Any], result: dict[str, Any]) -> None:
    """Writes results/NAME.json. Whether all bars are met is in the file, not in the exit code."""
    path = RESULTS / f"{name}.json"
    write(path, {"machine": facts, **result})
    print(f"\n{facts['cpu']}, {facts['cores']} cores, torch {facts['torch']}, {facts['date']}")
    print(path.relative_to(ROOT))


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    fresh.replace(path)


def parts(name: str) -> dict[str, Any]:
    """Return the parts that the results of a benchmark have, which is run part by part."""
    file = RESULTS / f"{name}.json"
    return dict(json.loads(file.read_text())["parts"]) if file.exists() else {}


def save_part(name: str, part: str, one: dict[str, Any], order: Iterable[str]) -> None:
    """Keep one part, beside what the others have."""
    found = parts(name) | {part: one}
    save(name, machine(), {"parts": {each: found[each] for each in order if each in found}})
