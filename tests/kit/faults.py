"""Commands that write, and whether what one has left is whole: for kills, full disks and the like.

Each is run in a folder of its own, as `kit.warm` runs it; all its words are in one line, where RUN,
SOLVED, PHOTOS, NEW and JOB stand for what is made once, and OUT for the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from kit import EACH, csv_rows, picture, sha256
from kit.warm import Warm
from zoo import cache
from zoo.cli import main
from zoo.run import Run

FIT = "--weights none --no-freeze --views 1 --batch-size 6"
COMMANDS = {
    "predict": "predict RUN PHOTOS -o OUT/x.csv",
    "embed": "embed RUN PHOTOS -o OUT/x.npz",
    "export": "export onnx RUN -o OUT/x.onnx",
    "report": "report RUN -o OUT/x.html",
    "check": "check PHOTOS --model lenet/mnist --html OUT/x.html -o OUT/x.csv",
    "rank": "rank PHOTOS --models lenet/mnist --html OUT/x.html -o OUT/x.csv",
    "merge": "merge JOB -o OUT/x.csv",
    "plan": "plan PHOTOS --model RUN --per-shard 5 -o OUT/job",
    "work": "work OUT/job",
    "finetune": "finetune lenet/mnist PHOTOS -o OUT/run",
    "train": "train lenet PHOTOS --epochs 2 --batch-size 6 -o OUT/run",
    "lr": f"lr lenet PHOTOS {FIT} -o OUT/x.csv",
    "explain": "explain RUN PHOTOS -o OUT/why",
    "add-class": "add-class SOLVED more=NEW -o OUT/run",
    "distill": "distill RUN PHOTOS --student lenet --epochs 2 --batch-size 6 -o OUT/run",
}
# Whose outcome has a date in it, or a duration: known by its end and its length, and no more.
DATED = (".html",)
FORCED = ("embed", "check", "rank", "lr")  # they replace no file unless that is said


def listed(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def content(path: Path) -> object:
    """Return what a command has written, as far as it is the same each time."""
    if path.suffix in DATED:
        text = path.read_text()
        return text.rstrip().endswith("</html>"), text.count("<img")
    if path.suffix == ".onnx":
        from zoo.engine.onnx import OnnxModel

        model = OnnxModel(path)
        return model.classes, model.run(np.zeros((1, 40, 50, 3), np.uint8)).tobytes()
    if path.suffix == ".npz":
        with np.load(path) as found:
            return {name: found[name].tobytes() for name in found}
    if path.name == "run":
        run = Run.open(path)
        return sha256(path) if run.record["status"] == "finished" else "unfinished"
    if path.name == "job":
        return {
            name: hashlib.sha256((path / name).read_bytes()).hexdigest()
            for name in listed(path)
            if name.endswith((".json", ".parquet")) and "started" not in name
        }
    if path.is_dir():
        return {n: sha256(path / n) for n in listed(path) if not n.endswith(".partial")}
    if path.suffix == ".csv" and "seconds" in path.read_text().partition("\n")[0]:
        return len(csv_rows(path))
    return path.read_bytes()


@dataclass
class Commands:
    """What the words stand for, and who runs them."""

    warm: Warm
    names: dict[str, Path]

    def words(self, name: str, out: Path, again: bool = False) -> list[str]:
        """again: after a fault. What is unfinished of a run is gone on with."""
        if again and (out / "run").exists():
            return ["finetune", "--resume", str(out / "run")]
        place = {name: str(path) for name, path in {**self.names, "OUT": out}.items()}
        names = re.compile(rf"\b({'|'.join(place)})\b")
        words = [names.sub(lambda found: place[found[1]], word) for word in COMMANDS[name].split()]
        return [*words, "--force"] if again and name in FORCED else words

    def prepare(self, name: str, out: Path) -> None:
        """Make the folder, with what the command needs there to be."""
        out.mkdir(parents=True)
        if name == "work":
            talk = out.with_suffix(".plan.txt")
            assert self.warm.run(*self.words("plan", out), talk=talk) == 0, talk.read_text()

    def outcome(self, out: Path) -> dict[str, object]:
        """Return what has a final name in the folder."""
        found = [path for path in sorted(out.iterdir()) if ".partial" not in path.name]
        return {path.name: content(path) for path in found}

    def expected(self, name: str, folder: Path) -> dict[str, object]:
        """Return the outcome without a fault, which is the same twice."""
        outcomes = []
        for time in ("first", "second"):
            self.prepare(name, folder / time)
            talk = folder / f"{time}.txt"
            own = {"ZOO_CACHE": str(folder / "cache")}
            code = self.warm.run(*self.words(name, folder / time), talk=talk, environment=own)
            assert code == 0, talk.read_text()
            outcomes.append(self.outcome(folder / time))
        assert outcomes[0] == outcomes[1]
        return outcomes[0]


def commands_of(warm: Warm, run: Path, photos: Path, folder: Path) -> Commands:
    """Make in a folder what the words stand for. run: LeNet's on the photos."""
    names = {name: folder / name.lower() for name in ("SOLVED", "NEW", "JOB")}
    names["NEW"].mkdir()
    for number in range(EACH, EACH + 4):  # that are no photos of the runs
        picture("disc", number).save(names["NEW"] / f"{number}.png")
    for words in (
        ["finetune", "lenet/mnist", photos, "--head", "prototype", "-o", names["SOLVED"]],
        ["plan", photos, "--model", run, "-o", names["JOB"]],
        ["work", names["JOB"]],
    ):
        assert main([*map(str, words)]) == 0
    return Commands(warm, {**names, "RUN": run, "PHOTOS": photos})


def strange(folder: Path) -> set[str]:
    """Return what is in a cache and in none of the entries that `zoo cache` counts and removes.

    But what is noted for ever: whose weights are whose, which programs are ours; and folders.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(folder))
        known = [entry.path for entry in cache.entries()]
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if not path.is_dir() and not {path, *path.parents} & {*known}
        if path.relative_to(folder).parts[0] not in ("about", "programs")
    }


def must_be_whole(commands: Commands, out: Path, right: dict[str, object], name: str) -> None:
    """Fail where something that is not whole, or is wrong, has a final name.

    A run may be unfinished, and say so, a job half done, and a folder have some of its pictures.
    """
    for each, found in commands.outcome(out).items():
        if name in ("work", "explain"):
            assert isinstance(found, dict)
            assert isinstance(right[each], dict)
            assert found.items() <= right[each].items()
        elif name == "plan" and "plan.json" not in str(found):
            continue  # no job yet
        else:
            assert found == right[each] or (each == "run" and found == "unfinished"), each


# Disks of their own.


@contextlib.contextmanager
def mounted(place: Path) -> Iterator[Path]:
    """Yield a file system of its own, whose size `resized` changes; skip where none is allowed."""
    place.mkdir()
    allowed = os.geteuid() == 0 and shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], capture_output=True
    ).returncode == 0  # fmt: skip
    if not allowed:
        pytest.skip("mounting a small file system is not allowed here")
    (place / "other").write_bytes(bytes(4096))  # a size of 0 is any
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def resized(disk: Path, size: int) -> None:
    """Give a disk so many bytes, rounded up to pages."""
    remount(disk, f"size={-(-size // 4096) * 4}k")


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def taken(disk: Path) -> int:
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize
