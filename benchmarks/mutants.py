"""Change one thing in the code, run the tests, see whether one fails: do they hold the promises?

    python -m benchmarks.mutants                  six changes of each file below, drawn by --seed
    python -m benchmarks.mutants --only head      the files whose path begins so
    python -m benchmarks.mutants --table          what the results have

Each mutant differs from the tree in one place: a comparison, a sign, a number, a condition turned
round, a statement or a value left out. It lives in a copy of the tree, and the tests of its row
run there until the first one fails (the mutant is killed; a run that takes too long too). Results
go to results/mutants.json one by one, and what is there is not run again. A survivor is a missing
test, or a change that makes no difference; `EQUAL` says of which that was found, and why.
"""

from __future__ import annotations

import ast
import copy
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.measure import NO_BYTE_CODE, ROOT, machine

RESULTS = ROOT / "benchmarks" / "results" / "mutants.json"
GIB = 1 << 30
# The file, and the tests that run against each of its mutants, the quickest first.
ROWS = {
    "head/solver.py": "solver job_heads",
    "head/scores.py": "solver job_heads",
    "head/softmax_regression.py": "solver job_heads",
    "head/cross_validation.py": "solver",
    "head/penalty.py": "solver heads",
    "head/folds.py": "solver copies heads",
    "head/temperature.py": "calibrate",
    "head/prototype.py": "heads",
    "head/conformal.py": "doubt",
    "features/cache.py": "scale cache nothing_lost_lock",
    "features/compute.py": "scale finetune",
    "train/step.py": "training phases",
    "train/recovery.py": "training nothing_lost_guard",
    "data/decode.py": "decode container preprocess values costly_photos",
    "data/limits.py": "decode costly_photos",
    "data/split.py": "index multilabel copies datasets",
    "data/views.py": "views preprocess",
    "engine/open.py": "keys compiled known",
    "engine/store.py": "compiled cache",
    "weights/fetch.py": "store_fetch store_pull",
    "weights/header.py": "store_hostile weights",
    "weights/store.py": "store_files store_pull store_fetch",
    "scale/plan.py": "jobs",
    "scale/parts.py": "jobs jobs_elsewhere",
    "scale/work.py": "jobs",
    "serve/intake.py": "serve",
    "serve/desk.py": "serve",
}
# Survivors that change no answer: the file, the words of the change, and why.
EQUAL: dict[tuple[str, str], str] = {}

SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: the file below zoo/, its line, what stood there and what stands there now."""

    file: str
    line: int
    was: str
    now: str
    start: int  # the place in the file's text
    stop: int

    @property
    def name(self) -> str:
        return f"{self.file}:{self.line} {self.was} -> {self.now}"

    def applied(self, text: str) -> str:
        """Return the file's text with the change."""
        return text[: self.start] + self.now + text[self.stop :]


def main() -> None:
    flags = parse()
    found: dict[str, dict[str, object]] = {}
    if RESULTS.exists():
        found = json.loads(RESULTS.read_text())["mutants"]
    if not flags.table:
        with tempfile.TemporaryDirectory() as scratch:
            tree = copied(Path(scratch))
            for mutant, tests in drawn(tree, flags):
                if mutant.name not in found:
                    found[mutant.name] = asdict(mutant) | verdict(tree, mutant, tests)
                    print(found[mutant.name]["killed_by"], mutant.name, flush=True)
                    RESULTS.write_text(
                        json.dumps({"machine": machine(), "mutants": found}, indent=1) + "\n"
                    )
    table(found)


def parse() -> Namespace:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="files whose path begins so")
    parser.add_argument("--each", type=int, default=6, help="mutants of a file (6)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="print what the results have")
    return parser.parse_args()


def copied(folder: Path) -> Path:
    """Return a copy of the tree that the mutants may change."""
    for name in ("zoo", "tests", "recipes", "benchmarks", "docs", ".ci"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.glob("*.*"):
        if path.is_file():
            shutil.copy(path, folder)
    return folder


def drawn(tree: Path, flags: Namespace) -> Iterator[tuple[Mutant, list[str]]]:
    """Yield the mutants to try, `flags.each` of each file, with their files of tests."""
    for file, tests in ROWS.items():
        path = tree / "zoo" / file
        if file.startswith(flags.only) and path.exists():
            every = sorted(candidates(file, path.read_text()), key=lambda m: m.name)
            draw = random.Random(f"{flags.seed} {file}").sample(every, min(flags.each, len(every)))
            names = [f"tests/test_{name}.py" for name in tests.split()]
            yield from ((mutant, names) for mutant in draw)


def candidates(file: str, text: str) -> Iterator[Mutant]:
    """Yield every mutant of a file; annotations, docstrings, messages and decorators stay."""
    starts = [0]
    for row in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(row.encode()))
    raw = text.encode()

    def place(line: int, column: int) -> int:
        return len(raw[: starts[line - 1] + column].decode())

    for node in nodes(ast.parse(text)):
        for changed in changes(node):
            start = place(node.lineno, node.col_offset)  # type: ignore[attr-defined]
            stop = place(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
            now = ast.unparse(changed)
            if isinstance(node, ast.expr):
                now = f"({now})"
            line: int = node.lineno  # type: ignore[attr-defined]
            yield Mutant(file, line, " ".join(text[start:stop].split()), now, start, stop)


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes whose change can change what the program does."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list", "type_params", "bases", "exc"):
            continue
        for child in value if isinstance(value, list) else [value]:
            words = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if isinstance(child, ast.AST) and not words and not isinstance(child, ast.JoinedStr):
                yield child
                yield from nodes(child)


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in a node's place."""
    other = copy.deepcopy(node)
    match other:
        case ast.Compare(ops=[op]) if type(op) in SWAPS:
            other.ops = [SWAPS[type(op)]()]
            yield other
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in SWAPS:
            other.op = SWAPS[type(op)]()
            yield other
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(value * 2 + 1)
        case ast.UnaryOp(op=ast.Not()):
            yield other.operand
        case ast.IfExp():
            yield ast.IfExp(ast.UnaryOp(ast.Not(), other.test), other.body, other.orelse)
        case ast.Raise() | ast.AugAssign() | ast.Expr(value=ast.Call()) | ast.Continue():
            yield ast.Pass()
        case ast.Return(value=ast.expr()) if not isinstance(other.value, ast.Constant):
            yield ast.Return(ast.Constant(None))


def verdict(tree: Path, mutant: Mutant, tests: list[str]) -> dict[str, object]:
    """Run the tests against a mutant; return the test that failed (or None) and the seconds."""
    path = tree / "zoo" / mutant.file
    text = path.read_text()
    began = time.perf_counter()
    try:
        path.write_text(mutant.applied(text))
        killed = next(filter(None, (failed(tree, name) for name in tests)), None)
    finally:
        path.write_text(text)
    return {"killed_by": killed, "seconds": round(time.perf_counter() - began, 1)}


def failed(tree: Path, tests: str) -> str | None:
    """Return the first test of a file that fails in the copy, or "too long"."""
    around = {k: v for k, v in os.environ.items() if k != NO_BYTE_CODE} | {"PYTHONPATH": str(tree)}
    around.setdefault("ZOO_SHARED", str(ROOT.parent / "shared"))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        tests,
    ]
    with subprocess.Popen(
        command, cwd=tree, env=around, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True, preexec_fn=_limited,
    ) as child:  # fmt: skip
        try:
            out, _ = child.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, 9)
            return "too long"
    if child.returncode == 0:
        return None
    if child.returncode not in (1, 2, 4) and child.returncode > 0:
        sys.exit(f"pytest ended with {child.returncode}:\n{out[-2000:]}")
    lines = [line.split()[1] for line in out.splitlines() if line.startswith(("FAILED", "ERROR "))]
    return lines[0] if lines else f"exit code {child.returncode}"


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (12 * GIB, 12 * GIB))


def table(found: dict[str, dict[str, object]]) -> None:
    """Print the score of each file, and the survivors."""
    files = {str(row["file"]) for row in found.values()}
    for file in sorted(files):
        rows = [row for row in found.values() if row["file"] == file]
        killed = sum(row["killed_by"] is not None for row in rows)
        print(f"{killed:3} of {len(rows):3}  {file}")
    alive = [row for row in found.values() if row["killed_by"] is None]
    equal = [r for r in alive if (r["file"], f"{r['was']} -> {r['now']}") in EQUAL]
    print(f"{len(found) - len(alive)} of {len(found)} killed, {len(equal)} of the others are equal")
    for row in alive:
        why = EQUAL.get((str(row["file"]), f"{row['was']} -> {row['now']}"), "")
        print(f"  {row['file']}:{row['line']} {row['was']} -> {row['now']}  {why}")


if __name__ == "__main__":
    main()
