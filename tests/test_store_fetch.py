"""What is downloaded is right, once, whatever ends it in the middle."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from kit import ROOT, later, names
from kit.serving import Server, serving
from safetensors.numpy import save as to_bytes

from zoo.catalog.spec import Weights
from zoo.errors import CacheError, Interrupted, WeightsError, WriteError
from zoo.weights import Source, fetch, find, partial
from zoo.weights.http import Unreachable, ask_for

DATA = np.random.default_rng(0).bytes(8_000_000)
SHA, MD5 = hashlib.sha256(DATA).hexdigest(), hashlib.md5(DATA).hexdigest()
TENSORS = to_bytes({"a": np.arange(2_000_000, dtype=np.float32)})
NAME = "tiny-12345678.safetensors"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ZOO_WEIGHTS", "ZOO_OFFLINE", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(import_module("zoo.weights.fetch"), "PAUSES", (0.01, 0.01))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(DATA) as it:
        yield it


def row(url: str, data: bytes = TENSORS) -> Weights:
    digest = hashlib.sha256(data).hexdigest()
    return Weights("v1", url, NAME, digest, len(data), licence="MIT")


def parts(folder: Path) -> list[Path]:
    return [folder / name for name in names(folder) if name.endswith(".partial")]


# Going on


def test_a_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    steps: list[int] = []
    target = tmp_path / "x.bin"
    digest = fetch(
        Source(f"{server.url}/breaks", sha256=SHA),
        target,
        progress=lambda done, _: steps.append(done),
    )
    assert digest == SHA
    assert target.read_bytes() == DATA
    assert [asked.range for asked in server.asked] == [
        "", *(f"bytes={n << 21}-" for n in (1, 2, 3))
    ]  # fmt: skip
    assert {asked.if_range for asked in server.asked[1:]} == {server.tag}
    assert steps == sorted(steps)  # never back: no byte twice
    assert names(tmp_path) == ["x.bin"]


def test_tries_are_counted_from_the_last_one_that_brought_something(
    server: Server, tmp_path: Path
) -> None:
    assert fetch(Source(f"{server.url}/stutters", sha256=SHA), tmp_path / "x.bin") == SHA
    assert [asked.range for asked in server.asked] == ["", "bytes=2097152-", "bytes=2097152-"]


def test_a_server_that_names_no_length_is_read_to_its_end_or_to_the_size_known(
    server: Server, tmp_path: Path
) -> None:
    steps: list[tuple[int, int | None]] = []

    def fetched(size: int | None) -> str:
        steps.clear()
        source = Source(f"{server.url}/no-length", sha256=SHA, size=size)
        return fetch(source, tmp_path / "x.bin", progress=lambda *told: steps.append(told))

    assert fetched(None) == SHA
    assert steps[-1] == (len(DATA), None)
    assert fetched(len(DATA)) == SHA
    assert steps[-1] == (len(DATA), len(DATA))
    (tmp_path / "x.bin").unlink()
    for size in (1_000_000, 9_000_000):
        with pytest.raises(WeightsError, match=f"bytes, not {size}\n"):
            fetched(size)
        assert steps[-1][0] <= size + partial.BLOCK
        assert names(tmp_path) == []


@pytest.mark.parametrize("size", [0, 1, len(DATA) - 1, len(DATA) + 1])
def test_a_file_of_another_size_is_refused_before_its_first_byte(
    server: Server, tmp_path: Path, size: int
) -> None:
    steps: list[int] = []
    with pytest.raises(WeightsError, match=f"offers 8000000 bytes, not {size}\n"):
        fetch(
            Source(f"{server.url}/good", size=size),
            tmp_path / "x.bin",
            progress=lambda done, _: steps.append(done),
        )
    assert steps == []
    assert len(server.asked) == 1
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["no-range", "416", "whole-as-part", "other-part"])
def test_servers_that_answer_ranges_wrongly(server: Server, tmp_path: Path, kind: str) -> None:
    """200 in place of 206, 416, and a 206 of another part: fetched again from the start."""
    left = leave_part(tmp_path / "x.bin", DATA[:3_000_000], server.tag)
    assert left.exists()
    if kind == "other-part":
        server.data = DATA
    if kind in ("416", "whole-as-part"):
        what = "answers with other parts than asked for$"
        with pytest.raises(Unreachable, match=what):  # and these break off from the start, too
            fetch(Source(f"{server.url}/{kind}", sha256=SHA), tmp_path / "x.bin")
        assert "x.bin" not in names(tmp_path)
        return
    assert fetch(Source(f"{server.url}/{kind}", sha256=SHA), tmp_path / "x.bin") == SHA
    assert names(tmp_path) == ["x.bin"]


def leave_part(target: Path, data: bytes, tag: str) -> Path:
    """As a process that is gone has left it."""
    part = partial.Partial(target, known=True)
    part.begin(tag)
    part.write(data)
    part.leave()
    assert part.path is not None
    return part.path


def test_a_wrong_part_is_dropped_and_one_clean_try_made(server: Server, tmp_path: Path) -> None:
    leave_part(tmp_path / "x.bin", b"wrong" * 500_000, server.tag)
    assert fetch(Source(f"{server.url}/good", sha256=SHA), tmp_path / "x.bin") == SHA
    assert [asked.range for asked in server.asked] == ["bytes=2500000-", ""]
    assert names(tmp_path) == ["x.bin"]
    leave_part(tmp_path / "y.bin", b"wrong" * 500_000, server.tag)
    with pytest.raises(WeightsError, match=f"sha256 is {SHA}, not 00"):
        fetch(Source(f"{server.url}/good", sha256="0" * 64), tmp_path / "y.bin")
    assert names(tmp_path) == ["x.bin"]


def test_a_part_that_was_whole_needs_no_byte_more(server: Server, tmp_path: Path) -> None:
    leave_part(tmp_path / "x.bin", DATA, server.tag)
    assert (
        fetch(Source(f"{server.url}/good", sha256=SHA, size=len(DATA)), tmp_path / "x.bin") == SHA
    )
    assert server.asked == []


def test_a_changed_file_is_not_mixed_with_the_old_one(server: Server, tmp_path: Path) -> None:
    """Without a known hash the ETag decides, and without an ETag nothing is continued."""
    leave_part(tmp_path / "x.bin", b"old" * 900_000, '"of-yesterday"')
    assert fetch(Source(f"{server.url}/good"), tmp_path / "x.bin") == SHA
    assert server.asked[0].if_range == '"of-yesterday"'
    leave_part(tmp_path / "y.bin", b"old" * 900_000, "")
    assert fetch(Source(f"{server.url}/good"), tmp_path / "y.bin") == SHA
    assert server.asked[-1].range == ""
    with pytest.raises(Unreachable, match="broke after 2097152 of 8000000"):
        fetch(Source(f"{server.url}/breaks-no-tag"), tmp_path / "z.bin")
    assert names(tmp_path) == ["x.bin", "y.bin"]


def test_a_signal_leaves_one_part_that_is_used(server: Server, tmp_path: Path) -> None:
    def stop(done: int, total: int | None) -> None:
        if done > 3_000_000:
            raise Interrupted("interrupted", "", 2)

    server.pause = 0.001
    with pytest.raises(Interrupted):
        fetch(Source(f"{server.url}/slow", sha256=SHA), tmp_path / "x.bin", progress=stop)
    (left,) = parts(tmp_path)
    assert left.stat().st_mode & 0o777 == 0o600
    have = left.stat().st_size
    assert have >= 3_000_000
    assert fetch(Source(f"{server.url}/good", sha256=SHA), tmp_path / "x.bin") == SHA
    assert server.asked[-1].range == f"bytes={have}-"
    assert names(tmp_path) == ["x.bin"]


def test_one_part_is_kept_and_those_of_other_files_stay(server: Server, tmp_path: Path) -> None:
    for name in (".x.bin~~abc.partial", ".x.bin~~host-17-abc.partial", ".y.bin~~abc.partial"):
        (tmp_path / name).write_bytes(b"x" * 10)
    assert fetch(Source(f"{server.url}/good", sha256=SHA), tmp_path / "x.bin") == SHA
    assert server.asked[0].range == ""  # ten bytes are not worth it
    assert names(tmp_path) == [".y.bin~~abc.partial", "x.bin"]


def test_leftovers_of_a_week_are_removed_and_younger_ones_stay(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    for name, days in ((".old.bin~~abc.partial", 7.1), (".young.bin~~abc.partial", 6.9)):
        (cache / name).write_bytes(b"x")
        os.utime(cache / name, (time.time() - days * 86_400,) * 2)
    find(row(f"{server.url}/good", DATA))
    assert names(cache) == [".young.bin~~abc.partial", NAME]


FETCH = """
import sys, time
from pathlib import Path
from zoo.weights import Source, fetch
def step(done, total):
    print(done, flush=True)
fetch(Source(sys.argv[1], sha256=sys.argv[3]), Path(sys.argv[2]), progress=step)
"""


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_a_download_killed_at_random_bytes_goes_on(kills: int, tmp_path: Path) -> None:
    """The next one downloads what is missing, and at most a tenth of that more."""
    draw, size = random.Random(1), 50_000_000 if kills > 10 else 20_000_000
    data = np.random.default_rng(1).bytes(size)
    digest = hashlib.sha256(data).hexdigest()
    worst = 0.0
    with serving(data) as server:
        server.pause = 0.002
        for _ in range(kills):
            place = draw.randrange(2 << 20, size)
            received = killed_at(place, f"{server.url}/slow", tmp_path / "x.bin", digest)
            left = parts(tmp_path)
            assert len(left) <= 1
            server.asked.clear()
            assert fetch(Source(f"{server.url}/good", sha256=digest), tmp_path / "x.bin") == digest
            (asked,) = server.asked
            start = int(asked.range[6:-1] or 0) if asked.range else 0
            missing = size - received
            again = (size - start) - missing
            worst = max(worst, again / max(missing, 1))
            assert again <= 0.1 * missing + (1 << 16), (place, received, start)
            assert names(tmp_path) == ["x.bin"]
            (tmp_path / "x.bin").unlink()
    print(f"re-downloaded at most {worst:.1%} over what was missing")


def killed_at(place: int, url: str, target: Path, digest: str) -> int:
    """Bytes that a downloader had received when it was killed."""
    words = [sys.executable, "-c", FETCH, url, str(target), digest]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        done = 0
        for line in process.stdout:
            done = int(line)
            if done >= place:
                break
        process.send_signal(signal.SIGKILL)
        rest = [int(line) for line in process.stdout if line.strip().isdecimal()]
    return max([done, *rest])


# What is right


def test_100_flipped_bits_are_all_seen(cache: Path) -> None:
    draw = random.Random(2)
    small = to_bytes({"a": np.arange(500, dtype=np.float32)})
    with serving(small) as server:
        weights = row(f"{server.url}/good", small)
        assert find(weights).read_bytes() == small
        for count in range(100):
            damaged = bytearray(small)
            damaged[draw.randrange(len(small))] ^= 1 << draw.randrange(8)
            (cache / NAME).write_bytes(damaged)
            told: list[str] = []
            assert find(weights, say=told.append).read_bytes() == small
            assert len(told) == 1, count
            (aside,) = cache.glob("*.bad*")
            assert aside.read_bytes() == damaged
            aside.unlink()
        assert len(server.asked) == 101


def test_the_hash_of_a_file_is_taken_once_per_process(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(TENSORS)
    old = time.time() - 60
    os.utime(cache / NAME, (old, old))
    later(monkeypatch)  # the time of the inode cannot be set back
    hashes = import_module("zoo.weights.hashes")
    digests = []
    digest = hashes.hashlib.file_digest
    monkeypatch.setattr(hashes.hashlib, "file_digest", lambda *a: digests.append(1) or digest(*a))
    for _ in range(5):
        assert find(row("")) == cache / NAME
    assert len(digests) == 1
    ahead = time.time() + 60
    os.utime(cache / NAME, (ahead, ahead))
    for count in (2, 3):  # as long as a change might not move its times it is read each time
        find(row(""))
        assert len(digests) == count


def test_the_md5_of_a_publisher_is_held_to(server: Server, tmp_path: Path) -> None:
    assert fetch(Source(f"{server.url}/good", md5=MD5.upper()), tmp_path / "x.gz") == SHA
    with pytest.raises(WeightsError, match=f"md5 is {MD5}, not 0"):
        fetch(Source(f"{server.url}/good", md5="0" * 32), tmp_path / "y.gz")
    assert names(tmp_path) == ["x.gz"]


def test_a_server_that_is_busy_three_times_and_then_fine(server: Server, tmp_path: Path) -> None:
    monkey = import_module("zoo.weights.fetch")
    tries = len(monkey.PAUSES) + 1
    assert tries == 3
    with pytest.raises(Unreachable, match=r"503.*3 tries"):
        fetch(Source(f"{server.url}/busy", sha256=SHA), tmp_path / "x.bin")
    assert fetch(Source(f"{server.url}/busy", sha256=SHA), tmp_path / "x.bin") == SHA


def test_no_part_is_taken_that_was_not_asked_for(server: Server) -> None:
    follow = import_module("zoo.weights.http")._next
    with pytest.raises(Unreachable, match="redirects"):
        follow("https://a.example/x", "http://a.example/x", 302)
    answer = ask_for(f"{server.url}/good", start=100)
    assert answer.start == 100
    assert answer.size == len(DATA)
    answer.body.close()


# Several at once

FIND = """
import os, sys
if sys.argv[4] == "no-op":
    import fcntl
    fcntl.flock = lambda *a: None
from zoo.catalog.spec import Weights
from zoo.weights import find
print(find(Weights("v1", sys.argv[1], sys.argv[2], sys.argv[3])))
"""


@pytest.mark.parametrize("locks", ["locks", pytest.param("no-op", marks=pytest.mark.slow)])
def test_eight_processes_with_one_empty_cache_download_once(locks: str, cache: Path) -> None:
    digest = hashlib.sha256(TENSORS).hexdigest()
    with serving(TENSORS) as server:
        server.pause = 0.003
        words = [sys.executable, "-c", FIND, f"{server.url}/slow", NAME, digest, locks]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        all8 = [subprocess.Popen(words, cwd=ROOT, **pipes) for _ in range(8)]
        said = [process.communicate(timeout=100) for process in all8]
        assert [process.returncode for process in all8] == [0] * 8, said
        assert len(server.asked) == 1
    assert (cache / NAME).read_bytes() == TENSORS
    assert names(cache) == [NAME]


TURN = """
import sys
from pathlib import Path
from zoo import lock
with lock.in_turn(Path(sys.argv[1])):
    print("mine", flush=True)
    sys.stdin.read()
"""


def test_who_waits_says_so_and_follows_one_that_was_killed(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    words = [sys.executable, "-c", TURN, str(cache / NAME)]
    told: list[str] = []

    def say(text: str) -> None:
        told.append(text)
        other.kill()
        other.wait()

    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, cwd=ROOT, **pipes) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        assert find(row(f"{server.url}/good", DATA), say=say).read_bytes() == DATA
    assert told == [f"another process is fetching {NAME}: waiting for it"]
    assert names(cache) == [NAME]


# The disk


def test_a_full_disk_is_told_before_the_first_byte(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = namedtuple("usage", "total used free")(10**9, 10**9, 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(CacheError, match="8 MB wanted, 1 MB free") as refused:
        find(row(f"{server.url}/good", DATA))
    assert refused.value.exit_code == 4
    assert names(cache) == []
    with pytest.raises(WriteError, match="MB wanted"):
        fetch(Source(f"{server.url}/good"), cache / "x")
    assert names(cache) == []


def test_no_downloaded_file_is_open_to_the_world(server: Server, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        find(row(f"{server.url}/good", DATA))
        (tmp_path / "cache" / "weights" / NAME).write_bytes(b"damaged")
        find(row(f"{server.url}/good", DATA))
    finally:
        os.umask(old)
    paths = [tmp_path / "cache", *(tmp_path / "cache").rglob("*")]
    assert len(paths) >= 6
    for path in paths:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, (path, oct(mode))
