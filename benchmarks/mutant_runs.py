"""Tests of a copy of the tree in a process that need not import torch first.

The parent has imported what the tests import of others, and forks; the child puts the copy first on
sys.path, so that `zoo` is the copy's. Which tests execute a line is found by a run in which every
process, the tests' own commands too, writes down the lines of the files asked about.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import resource
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import NO_BYTE_CODE, ROOT

GIB = 1 << 30
# None that is a plugin of pytest, or needs one: pytest rewrites it as it is imported.
WARM = (
    "torch", "torchvision.transforms.v2", "numpy.random", "scipy.special", "scipy.stats",
    "scipy.optimize", "scipy.linalg", "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "onnxruntime",
    "onnx", "pytest", "rich.console", "typer.main", "pyarrow.parquet", "safetensors.numpy",
    "filelock", "jinja2",
)  # fmt: skip
# A test may take so many times what it took, and so many seconds.
FACTOR, LEAST, UNKNOWN = 8, 30, 10
UNENDING = " (never ends, or ends the process)"
# Runs at the start of each Python in the traced run: see `site`.
TRACER = """
import os, sys, threading
_log = os.open(os.environ["TRACE_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_root, _seen = os.environ["TRACE_ROOT"], set()
_files = {os.path.join(_root, name): name for name in os.environ["TRACE_FILES"].split()}

def _line(frame, event, _):
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]
    one = test, _files[frame.f_code.co_filename], frame.f_lineno
    if one not in _seen:
        _seen.add(one)
        try:
            os.write(_log, "\\t".join(map(str, one)).encode() + b"\\n")
        except OSError:
            pass
    return _line

def _call(frame, event, _):
    if frame.f_code.co_filename in _files and frame.f_code.co_name != "<module>":
        return _line(frame, event, _)

sys.settrace(_call)
threading.settrace(_call)
"""


@dataclass
class Told:
    """What a run of tests said: seconds of each, which failed, which was under way at the end."""

    seconds: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    under_way: str = ""
    code: int = 0


@dataclass(frozen=True)
class Chosen:
    """The tests to run: these in this order, with the seconds that each took; else all but some."""

    seconds: dict[str, float] = field(default_factory=dict)
    but: frozenset[str] = frozenset()


@dataclass
class _Teller:
    """A plugin: it writes down each test's start, end and failure, and ends one that hangs."""

    path: Path
    chosen: Chosen | None  # None for all

    def pytest_collection_modifyitems(self, items: list) -> None:  # type: ignore[type-arg]
        if self.chosen is None:
            return
        items[:] = [item for item in items if item.nodeid not in self.chosen.but]
        if self.chosen.seconds:
            ranks = {name: rank for rank, name in enumerate(self.chosen.seconds)}
            mine = [item for item in items if item.nodeid in ranks]
            items[:] = sorted(mine, key=lambda item: ranks[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.tell("start", nodeid)
        if self.chosen is not None:
            limit = LEAST + FACTOR * self.chosen.seconds.get(nodeid, UNKNOWN)
            faulthandler.dump_traceback_later(limit, exit=True, file=sys.__stderr__)

    def pytest_runtest_logreport(self, report) -> None:  # type: ignore[no-untyped-def]
        self.tell("took", report.nodeid, report.duration)
        if report.failed:
            self.tell("failed", report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        faulthandler.cancel_dump_traceback_later()
        self.tell("end", nodeid)

    def tell(self, *words: object) -> None:
        with self.path.open("a") as file:
            file.write("\t".join(map(str, words)) + "\n")


def warm() -> None:
    """Import what the children need, nothing of zoo."""
    for name in WARM:
        try:
            importlib.import_module(name)
        except ImportError:
            print(f"not here: {name}", file=sys.stderr)
    assert "zoo" not in sys.modules


def run(
    tree: Path, tests: Sequence[str], chosen: Chosen | None, *, trace: Sequence[str] = ()
) -> Told:
    """Run files of tests in a copy of the tree, all or those chosen up to the first that fails."""
    told = tree / "told"
    told.write_text("")
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _child(tree, tests, _Teller(told, chosen), trace)
    try:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what a test has left, too
    return _read(told, code)


def _child(tree: Path, tests: Sequence[str], teller: _Teller, trace: Sequence[str]) -> None:
    code = 99
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_DATA, (12 * GIB, 12 * GIB))
        os.chdir(tree)
        for number, how in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
            path = os.devnull if number == 0 else tree / "said"
            os.dup2(os.open(path, how | (os.O_CREAT | os.O_TRUNC if number == 1 else 0)), number)
        os.dup2(1, 2)
        for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
            del sys.modules[name]
        sys.path[:] = [str(tree), *(one for one in sys.path if one not in ("", str(ROOT)))]
        os.environ.pop(NO_BYTE_CODE, None)
        os.environ["PYTHONPATH"] = str(tree)
        os.environ.setdefault("ZOO_SHARED", str(ROOT.parent / "shared"))
        if trace:
            (tree / "lines").unlink(missing_ok=True)
            os.environ |= {
                "TRACE_LOG": str(tree / "lines"),
                "TRACE_ROOT": str(tree / "zoo"),
                "TRACE_FILES": " ".join(trace),
                "PYTHONPATH": f"{tree / 'tracer'}{os.pathsep}{tree}",
            }
            exec(TRACER, {})
        code = _pytest(tree, tests, teller)
    except BaseException as error:
        print(repr(error), flush=True)
    finally:
        os._exit(code)


def _pytest(tree: Path, tests: Sequence[str], teller: _Teller) -> int:
    import pytest

    stop = ["-x"] if teller.chosen is not None else []
    place = ["--rootdir", str(tree), "--basetemp", str(tree / "temporary")]
    words = ["-q", "-n", "0", "-p", "no:cacheprovider", *stop, *place, *tests]
    return int(pytest.main(words, plugins=[teller]))


def _read(path: Path, code: int) -> Told:
    told = Told(code=code)
    for line in path.read_text().splitlines():
        word, name, *rest = line.split("\t")
        if word == "start":
            told.under_way = name
        elif word == "end":
            told.under_way = ""
        elif word == "took":
            told.seconds[name] = told.seconds.get(name, 0) + float(rest[0])
        elif word == "failed" and name not in told.failed:
            told.failed.append(name)
    return told


def executed(tree: Path, tests: str, files: Sequence[str]) -> dict[str, object]:
    """Return what a clean run of a file of tests shows: seconds, failures, lines of each test."""
    site = tree / "tracer" / "sitecustomize.py"
    site.parent.mkdir(exist_ok=True)
    site.write_text(TRACER)
    told = run(tree, [tests], None, trace=files)
    if not told.seconds:
        sys.exit(f"{tests} ended with {told.code}:\n{(tree / 'said').read_text()[-2000:]}")
    lines: dict[str, dict[str, list[int]]] = {}
    path = tree / "lines"
    for row in path.read_text().splitlines() if path.exists() else ():
        test, file, line = row.split("\t")
        lines.setdefault(file, {}).setdefault(test, []).append(int(line))
    return {"seconds": told.seconds, "failed": told.failed, "lines": lines}
