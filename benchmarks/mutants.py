"""Change one thing in the code, run the tests, see whether one fails: do they hold the promises?

    python -m benchmarks.mutants                  six changes of each file below, drawn by --seed
    python -m benchmarks.mutants --only head      the files whose path begins so
    python -m benchmarks.mutants --hand           those of mutant_hand.py
    python -m benchmarks.mutants --again          those that survived, by tests written since
    python -m benchmarks.mutants --table          what the results have

Each mutant differs from the tree in one place: a comparison, a sign, a number, a condition turned
round, a statement or a value left out. It lives in a copy of the tree, and those tests of its row
run there that execute its line, until the first one fails (the mutant is killed; a run that takes
too long too). Results go to results/mutants.json one by one, and what is there is not run again as
long as its function is the same and the test that failed is one of the short suite. Otherwise it is
named, counts for nothing, and another mutant is drawn in its place; --table refuses to count then.
A survivor is a missing test, or a change that makes no difference; `EQUAL` in mutant_table.py says
of which that was found, and why; docs/evidence.md has the table. Which tests execute a line is
found by a run before, kept in build/.
"""

from __future__ import annotations

import ast
import fcntl
import functools
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import mutant_hand, mutant_runs
from benchmarks.measure import ROOT, machine
from benchmarks.mutant_kinds import Mutant, candidates
from benchmarks.mutant_table import RESULTS, known, table

KEPT = ROOT / "build" / "mutants"  # what the clean runs of the tests showed
_stamps = itertools.count(1_000_000_000)
# The file, and the files of tests that run against each of its mutants.
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
    "features/cache.py": "scale feature_tables cache nothing_lost_lock",
    "features/compute.py": "scale finetune",
    "train/step.py": "training phases",
    "train/recovery.py": "training nothing_lost_guard",
    "data/decode.py": "decode container preprocess values costly_photos",
    "data/limits.py": "decode costly_photos",
    "data/split.py": "index multilabel copies datasets",
    "data/views.py": "views preprocess",
    "engine/open.py": "keys compiled known distill",
    "engine/store.py": "compiled cache",
    "weights/fetch.py": "store_fetch store_pull",
    "weights/header.py": "store_hostile weights",
    "weights/store.py": "store_files store_pull store_fetch weights",
    "scale/plan.py": "jobs made_up job_heads",
    "scale/parts.py": "jobs jobs_elsewhere",
    "scale/work.py": "jobs",
    "serve/intake.py": "serve",
    "serve/desk.py": "serve",
}


def main() -> None:
    flags = parse()
    old = outdated(known())
    for name, why in old.items():
        print(f"outdated: {name}: {why}", flush=True)
    if flags.table and old:
        sys.exit(f"{len(old)} results are of another tree: run it without --table")
    if not flags.table:
        save({}, gone=old)
        mutant_runs.warm()
        with tempfile.TemporaryDirectory() as scratch:
            tree = copied(Path(scratch).resolve())
            for mutant, tests in chosen(tree, flags):
                before = known().get(mutant.name)
                if before and (before["killed_by"] or not flags.again):
                    continue
                now = {"survived_at_first": before is not None, "hand": flags.hand}
                now |= again(tree, mutant, tests) if before else tried(tree, mutant, tests)
                print(now["killed_by"], mutant.name, f"{now['seconds']} s", flush=True)
                save({mutant.name: asdict(mutant) | now})
    save({}, [table(known())])


def outdated(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the results that say nothing about this tree, with why."""
    hand = list(mutant_hand.by_hand(ROOT))
    here = {one.name: one.around for file in ROWS for one in mutants_of(ROOT, file)}
    here |= {one.name: one.around for one, _ in hand}
    names = {f"tests/test_{name}.py" for names in ROWS.values() for name in names.split()}
    files = sorted(names.union(*(tests for _, tests in hand)))
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", *files]
    said = subprocess.run(words, cwd=ROOT, text=True, capture_output=True, check=True)
    tests = {*said.stdout.splitlines()}
    old: dict[str, str] = {}
    for name, row in found.items():
        by = (row["killed_by"] or "").removesuffix(mutant_runs.UNENDING)
        if here.get(name) != row.get("around"):
            old[name] = "it has changed, or is gone"
        elif by.startswith("tests/") and by not in tests:
            old[name] = f"{by} is no test of the short suite"
    return old


def save(
    new: dict[str, dict[str, Any]], bars: Sequence[dict[str, Any]] = (), gone: Container[str] = ()
) -> None:
    """Change the results; several processes can, each with files of its own."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = {name: row for name, row in known().items() if name not in gone}
        result = {"machine": machine(), "bars": bars, "mutants": kept | new}
        (KEPT / "now").write_text(json.dumps(result, indent=1) + "\n")
        shutil.move(KEPT / "now", RESULTS)  # at once: others may be reading


def parse() -> Namespace:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="files whose path begins so")
    parser.add_argument("--each", type=int, default=6, help="mutants of a file (6)")
    parser.add_argument("--hand", action="store_true", help="those of mutant_hand.py")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--again", action="store_true", help="tests written since, against those that survived"
    )
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


def chosen(tree: Path, flags: Namespace) -> Iterator[tuple[Mutant, list[str]]]:
    """Yield the mutants to try, with their files of tests."""
    if not flags.hand:
        yield from drawn(tree, flags)
        return
    for mutant, tests in mutant_hand.by_hand(tree):
        if mutant.file.startswith(flags.only):
            yield mutant, tests


def drawn(tree: Path, flags: Namespace) -> Iterator[tuple[Mutant, list[str]]]:
    """Yield the mutants to try, `flags.each` of each file, with their files of tests.

    Those that the results have are the first; each of the others has a place in the draw of its
    own, whatever else the file has.
    """
    for file, tests in ROWS.items():
        if file.startswith(flags.only):
            found = known()
            every = sorted(
                mutants_of(tree, file),
                key=lambda one: (one.name not in found, place_in_draw(one, flags.seed)),
            )
            names = [f"tests/test_{name}.py" for name in tests.split()]
            yield from ((mutant, names) for mutant in every[: flags.each])


def mutants_of(tree: Path, file: str) -> Iterator[Mutant]:
    return candidates(file, (tree / "zoo" / file).read_text())


def place_in_draw(mutant: Mutant, seed: int) -> str:
    return hashlib.sha256(f"{seed} {mutant.name}".encode()).hexdigest()


def traced() -> list[str]:
    """Return the files of which it is found out which tests execute their lines."""
    return sorted({*ROWS, *(file for file, *_ in mutant_hand.HAND)})


def place_of(tree: Path, name: str) -> Path:
    """Return where the clean run of a file of tests is kept for as long as the code is as it is."""
    digest = hashlib.sha256((tree / name).read_bytes() + repr(traced()).encode())
    for path in sorted((tree / "zoo").rglob("*.py")):
        digest.update(path.read_bytes())
    return KEPT / f"{Path(name).stem}-{digest.hexdigest()[:16]}.json"


def executed(tree: Path, name: str) -> dict[str, Any]:
    """Return what a clean run of a file of tests shows, see `mutant_runs.executed`."""
    kept = place_of(tree, name)
    if not kept.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        kept.write_text(json.dumps(mutant_runs.executed(tree, name, traced())))
        print(f"{name} without a mutant: {time.perf_counter() - began:.0f} s", flush=True)
    found: dict[str, Any] = json.loads(kept.read_text())
    return found


def tried(tree: Path, mutant: Mutant, tests: list[str]) -> dict[str, object]:
    """Run the tests that execute it against a mutant; return the one that failed, and seconds."""
    clean = {name: executed(tree, name) for name in tests}
    chosen = covering(mutant, (tree / "zoo" / mutant.file).read_text(), clean)
    files = list(dict.fromkeys(name.partition("::")[0] for name in chosen))
    return outcome(tree, mutant, files, mutant_runs.Chosen(chosen))


def again(tree: Path, mutant: Mutant, tests: list[str]) -> dict[str, object]:
    """Run the tests against a survivor that were not there when it survived."""
    old: set[str] = set()
    files = []
    for name in tests:
        kept = sorted(KEPT.glob(f"{Path(name).stem}-*.json"), key=lambda path: path.stat().st_mtime)
        if not kept or kept[0] != place_of(tree, name):
            files.append(name)
        old |= json.loads(kept[0].read_text())["seconds"].keys() if kept else set()
    chosen = mutant_runs.Chosen(but=frozenset(old))
    must_pass(tree, tuple(files), chosen.but)
    return outcome(tree, mutant, files, chosen)


@functools.cache
def must_pass(tree: Path, files: tuple[str, ...], old: frozenset[str]) -> None:
    """Refuse tests that fail without a mutant: they would kill any."""
    if files and (wrong := failed(tree, list(files), mutant_runs.Chosen(but=old))):
        sys.exit(f"{wrong} fails without a mutant")


def outcome(
    tree: Path, mutant: Mutant, files: list[str], chosen: mutant_runs.Chosen
) -> dict[str, object]:
    path = tree / "zoo" / mutant.file
    text, began, killed = path.read_text(), time.perf_counter(), None
    if files:
        try:
            written(path, mutant.applied(text))
            killed = failed(tree, files, chosen)
        finally:
            written(path, text)
    return {"killed_by": killed, "seconds": round(time.perf_counter() - began, 1)}


def written(path: Path, text: str) -> None:
    """Write a file with a time of its own: byte code of another mutant is never taken for its."""
    path.write_text(text)
    stamp = next(_stamps)
    os.utime(path, (stamp, stamp))


def covering(mutant: Mutant, text: str, clean: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the tests that execute the mutated line, with their seconds, as they are to run."""
    every: dict[str, float] = {}
    lines = rows_of(mutant, text)
    for one in clean.values():
        found = one["lines"].get(mutant.file, {})
        names = [
            name
            for name in one["seconds"]
            if name not in one["failed"]
            and (lines & set(found.get(name, ())) if lines else name in found)
        ]
        every |= {name: one["seconds"][name] for name in sorted(names, key=one["seconds"].get)}
    return every


def rows_of(mutant: Mutant, text: str) -> set[int]:
    """Return the lines of the statement with the mutant; none for what an import executes."""
    lines, called = {mutant.line}, False
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            body = node.body if isinstance(node.body, list) else [node.body]
            called |= body[0].lineno <= mutant.line <= (body[-1].end_lineno or 0)
        elif isinstance(node, ast.stmt) and not hasattr(node, "body"):
            own = range(node.lineno, (node.end_lineno or 0) + 1)
            lines |= set(own) if mutant.line in own else set()
    return lines if called else set()


def failed(tree: Path, files: list[str], chosen: mutant_runs.Chosen) -> str | None:
    """Return the first test that fails in the copy, or what else ended the run."""
    told = mutant_runs.run(tree, files, chosen)
    if told.failed:
        return told.failed[0]
    if told.under_way:
        return told.under_way + mutant_runs.UNENDING
    if told.code == 0 or (told.code == 5 and not chosen.seconds):
        return None
    if told.code == 5:
        sys.exit("pytest found none of " + " ".join(chosen.seconds))
    return f"import (pytest ended with {told.code})"


if __name__ == "__main__":
    main()
