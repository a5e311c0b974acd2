"""Caches of many keys: opened without reading them, right or told however they were damaged."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from kit import ROOT
from kit.features import add, key, opened

from zoo.features import cache as module
from zoo.features import parts, tables
from zoo.features.cache import FeatureCache

COUNT = 60


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of one row and more stay as they are; more than ten keys are put into a table."""
    monkeypatch.setattr(module, "PART_ROWS", 8)
    monkeypatch.setattr(module, "LOOSE", 10)


@pytest.fixture
def folder(tmp_path: Path, few: None) -> Path:
    """Return a cache of COUNT keys in parts of five, of which tables have the first ones."""
    for first in range(0, COUNT, 5):
        add(tmp_path, range(first, first + 5))
    assert opened(tmp_path).tables
    return tmp_path


def found(cache: FeatureCache, numbers: range = range(COUNT)) -> list[float]:
    """Return the numbers in the rows of keys that are there, which must be their own."""
    there = [number for number in numbers if key(number) in cache]
    if not there:
        return []
    rows = cache.rows([key(number) for number in there]).gather(range(len(there)))
    assert rows[:, 1, 2].tolist() == there
    return there


def test_keys_are_found_where_a_table_says_and_none_is_read_before(folder: Path) -> None:
    cache = opened(folder)
    assert len(cache.where) <= 10
    assert sum(map(len, cache.tables)) == COUNT - len(cache.where)
    assert not any(key(number) in cache for number in range(COUNT, 2 * COUNT))
    assert len(cache.parts) == len(cache.where) / 5  # no part was opened to say no
    assert found(cache) == list(range(COUNT))
    assert cache.shape() == opened(folder).shape() == (2, 3)


def test_there_are_few_tables_each_much_larger_than_the_next(tmp_path: Path, few: None) -> None:
    for number in range(0, 300, 3):
        add(tmp_path, range(number, number + 3))
    sizes = sorted(len(table) for table in opened(tmp_path).tables)
    assert len(list(tmp_path.glob("*.table"))) == len(sizes) <= 4
    assert all(large > sum(sizes[:n]) for n, large in enumerate(sizes) if n)
    assert found(opened(tmp_path), range(300)) == list(range(300))


def test_a_cache_of_the_version_before_gets_a_table_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts stay as they were, to the byte."""
    for number in range(0, 40, 4):
        add(tmp_path, range(number, number + 4))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert not any(name.endswith(".table") for name in before)
    monkeypatch.setattr(module, "PART_ROWS", 8)
    monkeypatch.setattr(module, "LOOSE", 10)
    for _ in range(2):
        cache = opened(tmp_path)
        assert (cache.where, [len(table) for table in cache.tables]) == ({}, [40])
        assert found(cache) == list(range(40))
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1


@pytest.mark.parametrize("damage", ["cut", "long", "empty", "text", "names", "entries"])
@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_table_never_gives_a_wrong_row(folder: Path, damage: str, seed: int) -> None:
    path = max(folder.glob("*.table"), key=lambda one: one.stat().st_size)
    whole, chance = bytearray(path.read_bytes()), random.Random(seed)
    if damage == "entries":
        for _ in range(60):
            whole[chance.randrange(whole.index(b"\n") + 1, len(whole))] ^= 1 << chance.randrange(8)
    elif damage == "names":
        whole[whole.index(b'"parts": ["') + 11 + chance.randrange(32)] ^= 2
    else:
        cut = bytes(whole[: -chance.randrange(1, 99)])
        others = {"cut": cut, "long": whole + bytes(16), "empty": b"", "text": b"[1, 2]\n"}
        whole = bytearray(others[damage])
    path.write_bytes(whole)
    there = found(opened(folder))
    assert damage == "entries" or len(there) == COUNT  # parts in no table are read as they are
    for number in set(range(COUNT)) - set(there):  # as a pass would do
        add(folder, range(number, number + 1))
    assert found(opened(folder)) == list(range(COUNT))


@pytest.mark.parametrize("kind", ["rows.npy", "keys.npy", "sha256"])
def test_a_damaged_part_of_a_table_is_told_and_the_others_stay(
    folder: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = opened(folder).tables[0].names[0]
    path = folder / f"{name}.{kind}"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert caplog.text == ""
    assert len(found(opened(folder))) == COUNT - 5
    assert f"{name} is damaged" in caplog.text
    assert not list(folder.glob(f"{name}.*"))
    assert len(found(opened(folder))) == COUNT - 5


def test_parts_that_are_gone_are_computed_anew_and_leave_the_tables(folder: Path) -> None:
    cache = opened(folder)
    held = found(cache, range(5))
    for name in cache.tables[0].names:
        parts.forget(folder / f"{name}.keys.npy")
    assert found(cache, range(5)) == held  # what is open stays so, on any system that zoo runs on
    left = found(opened(folder))
    assert 0 < len(left) < COUNT
    made = tables.made(folder, [], opened(folder).tables)
    assert made is None or all((folder / f"{name}.keys.npy").exists() for name in made.names)
    assert found(opened(folder)) == left


def test_two_keys_that_a_table_cannot_tell_apart_have_their_own_rows(
    tmp_path: Path, few: None
) -> None:
    """As a stranger can make them: photos whose sha256 begin alike."""
    alike = [b"\1" * 8 + bytes([number]) * 24 + bytes(8) for number in range(20)]
    for start in (0, 10):
        cache = opened(tmp_path)
        for number in range(start, start + 10):
            cache.add(alike[number], np.full((2, 3), number, np.float32))
        cache.flush()
    cache = opened(tmp_path)
    assert (cache.where, len(cache.tables)) == ({}, 1)
    assert cache.rows(alike).gather(range(20))[:, 0, 0].tolist() == list(range(20))
    assert b"\1" * 8 + bytes([99]) * 24 + bytes(8) not in cache


def test_a_cache_that_cannot_be_written_has_its_table_in_memory(
    tmp_path: Path, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOSE", 1000)
    for number in range(0, 40, 4):
        add(tmp_path, range(number, number + 4))
    before = sorted(tmp_path.iterdir())
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import resource
from pathlib import Path
from kit.features import key, opened
from zoo.features import cache as module
module.PART_ROWS, module.LOOSE = 8, 10
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no byte can be written
cache = opened(Path({str(tmp_path)!r}))
print(len(cache.tables), all(key(number) in cache for number in range(40)))
"""
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert told.stdout.strip() == "1 True", told.stderr
    assert sorted(tmp_path.iterdir()) == before


WORK = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from pathlib import Path
from kit.features import add, key, opened
from zoo.features import cache as module
module.PART_ROWS, module.LOOSE = 16, 10
folder, own, turns = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for turn in range(turns):
    number = own * 1000 + 2 * turn
    add(folder, range(number, number + 2))
    cache = opened(folder)
    lost = [each for each in range(own * 1000, number + 2) if key(each) not in cache]
    assert not lost, (turn, lost)
    print(turn, flush=True)
"""


def started(folder: Path, own: int, turns: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", WORK, str(folder), str(own), str(turns)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_four_processes_that_add_and_make_tables_lose_nothing(tmp_path: Path) -> None:
    jobs = [started(tmp_path, own, 8) for own in range(4)]
    assert [len(job.communicate(timeout=120)[0].split()) for job in jobs] == [8] * 4
    assert [job.returncode for job in jobs] == [0] * 4
    cache = opened(tmp_path)
    assert cache.tables
    for own in range(4):
        mine = range(own * 1000, own * 1000 + 16)
        assert found(cache, mine) == list(mine)


@pytest.mark.slow
def test_processes_that_are_killed_at_any_moment_lose_nothing_that_was_told(
    tmp_path: Path,
) -> None:
    told = {}
    chance = random.Random(0)
    for own in range(20):
        job = started(tmp_path, own, 500)
        assert job.stdout
        lines = [job.stdout.readline() for _ in range(chance.randrange(3, 15))]
        time.sleep(chance.random() / 50)
        os.kill(job.pid, signal.SIGKILL)
        lines += job.communicate()[0].splitlines()
        told[own] = int(lines[-1])
    cache = opened(tmp_path)
    for own, turns in told.items():
        mine = range(own * 1000, own * 1000 + 2 * turns + 2)
        assert found(cache, mine) == list(mine)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc")
def test_ten_million_keys_are_opened_in_half_a_second_and_100_mb(tmp_path: Path) -> None:
    random_bytes = np.random.default_rng(0)
    some: list[bytes] = []
    for first in range(0, 10_000_000, module.PART_ROWS):
        rows = min(module.PART_ROWS, 10_000_000 - first)
        photos = random_bytes.bytes(32 * rows)
        own = [photos[at : at + 32] + bytes(8) for at in range(0, 32 * rows, 32)]
        parts.write(tmp_path, own, np.full((rows, 2), first, np.float32))
        some += own[:10]
    assert len(opened(tmp_path).tables[0]) == 10_000_000
    code = f"""
import time
from pathlib import Path
from zoo.features.cache import FeatureCache
began, folder = time.process_time(), Path({str(tmp_path)!r})
cache = FeatureCache(folder, {{}})
seconds = time.process_time() - began
(peak,) = [line for line in Path("/proc/self/status").open() if line.startswith("VmHWM")]
print(seconds, int(peak.split()[1]) / 1e3)
"""
    words = [sys.executable, "-c", code]
    seconds, megabytes = map(float, subprocess.check_output(words, cwd=ROOT, text=True).split())
    assert seconds < 0.5
    assert megabytes < 100
    assert all(key in opened(tmp_path) for key in some[:3])
    assert len(tables.read_all(tmp_path)) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc")
def test_rows_that_are_handed_out_are_in_memory_once(tmp_path: Path) -> None:
    rows = 24_000
    cache = opened(tmp_path)
    for number in range(rows):
        cache.add(key(number), np.full((512,), number, np.float32))
    cache.flush()
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from pathlib import Path
from kit.features import key, opened
def resident():
    (now,) = [line for line in Path("/proc/self/status").open() if line.startswith("VmRSS")]
    return int(now.split()[1]) * 1024
keys = [key(number) for number in range({rows})]
before, cache = resident(), opened(Path({str(tmp_path)!r}))
features = cache.rows(keys)
print((resident() - before) / features.flat().nbytes)
"""
    words = [sys.executable, "-c", code]
    assert float(subprocess.check_output(words, cwd=ROOT, text=True)) < 1.4
