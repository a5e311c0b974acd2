"""Many photos: what is known is not read again, what is new alone is computed, parts are merged."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kit import ROOT
from kit.features import SMALL, Pixels, add, jpeg, key, opened, passed, write
from PIL import Image

from zoo.data.index import Sample
from zoo.data.preprocess import apply
from zoo.data.samples import status_of
from zoo.disk import cache_folder, read_sealed, write_sealed
from zoo.features import cache as module
from zoo.features import digests, parts
from zoo.features.cache import MANY
from zoo.features.compute import Views, compute
from zoo.features.digests import SETTLED, Digests

COUNT, MORE = 1000, 10


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written a moment ago may be noted. (The change time of a file cannot be set.)"""
    monkeypatch.setattr(digests, "SETTLED", -1.0)


# Passes.


def test_ten_photos_more_are_ten_computed(tmp_path: Path) -> None:
    samples = write(tmp_path / "photos", range(COUNT))
    assert passed(opened(tmp_path / "kept"), tmp_path / "photos", samples).computed == COUNT
    more = samples + write(tmp_path / "photos", range(COUNT, COUNT + MORE))
    cache = opened(tmp_path / "kept")
    found = passed(cache, tmp_path / "photos", more[::-1])
    assert found.computed == MORE
    assert len(found.keys) == COUNT + MORE
    rows = cache.rows([found.keys[sample.path][0] for sample in more]).gather(range(COUNT + MORE))
    for number in (0, 77, COUNT - 1, COUNT, COUNT + MORE - 1):
        pixels = apply(Image.open(io.BytesIO(jpeg(number))), SMALL)
        assert np.array_equal(rows[number], pixels.reshape(-1))
    assert passed(opened(tmp_path / "kept"), tmp_path / "photos", more).computed == 0


def test_the_same_content_twice_is_computed_once(tmp_path: Path) -> None:
    samples = write(tmp_path, range(40))
    for number in range(40):
        (tmp_path / f"again{number}.jpg").write_bytes(jpeg(number))
    both = samples + [Sample(f"again{number}.jpg", 0, "train") for number in range(40)]
    found = passed(opened(tmp_path / "kept"), tmp_path, both, Views((0, 1)))
    assert found.computed == 80
    assert all(found.keys[f"{n}.jpg"] == found.keys[f"again{n}.jpg"] for n in range(40))


def test_photos_that_cannot_be_read_are_told_in_their_order(tmp_path: Path) -> None:
    samples = write(tmp_path, range(60))
    missing = [7, 30, 31, 59]
    for number in missing:
        (tmp_path / f"{number}.jpg").unlink()
    (tmp_path / "12.jpg").write_bytes(jpeg(12)[:200])
    for _ in range(2):
        found = passed(opened(tmp_path / "kept"), tmp_path, samples)
        assert list(found.bad) == [f"{n}.jpg" for n in missing] + ["12.jpg"]
        assert "No such file" in found.bad["7.jpg"]
        assert "truncated" in found.bad["12.jpg"].lower()
        assert len(found.keys) == 55


def test_a_pass_counts_the_photos_that_it_cannot_read(tmp_path: Path) -> None:
    samples, told = write(tmp_path, range(30)), list[tuple[int, int | None]]()
    for number in (0, 7, 8, 29):
        (tmp_path / f"{number}.jpg").unlink()
    work = [(sample, Views(numbers=(0, 1))) for sample in samples]
    count = lambda done, total: told.append((done, total))  # noqa: E731
    compute(opened(tmp_path / "kept"), Pixels(), SMALL, tmp_path, work, count)
    good = [number for number in range(30) if number not in (0, 7, 8, 29)]
    assert told == [(2 * number + view, 60) for number in good for view in (1, 2)]


def test_interrupted_what_was_computed_is_kept(tmp_path: Path) -> None:
    samples = write(tmp_path, range(200))

    def stop(done: int, total: int) -> None:
        assert total == 200
        if done == 150:
            raise KeyboardInterrupt

    work = [(sample, Views()) for sample in samples]
    with pytest.raises(KeyboardInterrupt):
        compute(opened(tmp_path / "kept"), Pixels(), SMALL, tmp_path, work, stop)
    rest = passed(opened(tmp_path / "kept"), tmp_path, samples).computed
    assert 50 <= rest < 200


# Digests that are known.


@pytest.mark.usefixtures("settled")
def test_a_second_pass_opens_no_photo(tmp_path: Path) -> None:
    """Nor does one with another cache open more than those whose features are not there."""
    photos, kept = tmp_path / "photos", tmp_path / "kept"
    samples = write(photos, range(50))
    passed(opened(kept), photos, samples)
    cache, others = opened(kept), write(photos, range(50, 53))
    with opening() as files:
        assert passed(cache, photos, samples).computed == 0
    assert files == []
    with opening() as files:
        assert passed(cache, photos, samples + others).computed == 3
    assert sorted(files) == [str(photos / sample.path) for sample in others]


@contextmanager
def opening() -> Iterator[list[str]]:
    """The photos that any thread of this process opens meanwhile."""
    seen: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open" and str(arguments[0]).endswith(".jpg"):
            seen.append(str(arguments[0]))

    sys.addaudithook(hook)  # for good
    yield seen
    watching = False


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("keep_time", [False, True])
def test_a_photo_changed_in_place_is_noticed(tmp_path: Path, keep_time: bool) -> None:
    """With as many bytes as before, and with its old time of modification."""
    photos, kept = tmp_path / "photos", tmp_path / "kept"
    samples = write(photos, range(20))
    first = passed(opened(kept), photos, samples)
    path = photos / "7.jpg"
    status, data = path.stat(), bytearray(jpeg(7))
    data[-30] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert (path.stat().st_size, path.stat().st_ino) == (status.st_size, status.st_ino)
    again = passed(opened(kept), photos, samples)
    assert again.keys["7.jpg"][0][:32] == hashlib.sha256(data).digest()
    assert again.computed == 1
    assert {p: k for p, k in again.keys.items() if p != "7.jpg"} == {
        p: k for p, k in first.keys.items() if p != "7.jpg"
    }


def test_what_has_just_been_written_is_not_trusted(tmp_path: Path) -> None:
    assert SETTLED > 2
    samples = write(tmp_path / "photos", range(5))
    passed(opened(tmp_path / "kept"), tmp_path / "photos", samples)
    assert Digests(tmp_path / "photos").table == {}
    assert not Digests(tmp_path / "photos").path.exists()


@pytest.mark.usefixtures("settled")
def test_another_file_of_the_same_name_is_read(tmp_path: Path) -> None:
    samples = write(tmp_path, range(5))
    passed(opened(tmp_path / "kept"), tmp_path, samples)
    os.replace(tmp_path / "3.jpg", tmp_path / "2.jpg")
    status, digest = Digests(tmp_path).known("2.jpg")
    assert (status is not None, digest) == (True, None)
    found = passed(opened(tmp_path / "kept"), tmp_path, samples)
    assert found.keys["2.jpg"][0][:32] == hashlib.sha256(jpeg(3)).digest()
    assert list(found.bad) == ["3.jpg"]


@pytest.mark.usefixtures("settled")
def test_a_file_that_changes_after_it_was_listed_is_as_it_was_then(tmp_path: Path) -> None:
    samples = write(tmp_path, range(5))
    listed = [replace(s, status=status_of((tmp_path / s.path).stat())) for s in samples]
    first = passed(opened(tmp_path / "kept"), tmp_path, listed)
    os.replace(tmp_path / "3.jpg", tmp_path / "2.jpg")
    again = passed(opened(tmp_path / "kept"), tmp_path, listed)
    assert (again.computed, again.keys, again.bad) == (0, first.keys, {})
    anew = [replace(s, status=None) for s in listed if s.path != "3.jpg"]
    found = passed(opened(tmp_path / "kept"), tmp_path, anew)
    assert found.keys["2.jpg"][0][:32] == hashlib.sha256(jpeg(3)).digest()


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("damage", ["cut", "empty", "text", "bit", "version", "lengths"])
def test_a_damaged_memory_is_none(tmp_path: Path, damage: str) -> None:
    samples = write(tmp_path, range(5))
    passed(opened(tmp_path / "kept"), tmp_path, samples)
    path = Digests(tmp_path).path
    assert path.parent == cache_folder() / "digests"
    whole = path.read_bytes()
    with np.load(io.BytesIO(read_sealed(path))) as file:
        arrays, other = dict(file), io.BytesIO()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    if damage == "version":
        np.savez(other, **{**arrays, "version": np.array(99)})
        write_sealed(path, other.getvalue())
    elif damage == "lengths":
        np.savez(other, **{**arrays, "digests": arrays["digests"][:64]})
        write_sealed(path, other.getvalue())
    else:
        others = {"cut": whole[:-40], "empty": b"", "text": b"hello", "bit": bytes(flipped)}
        path.write_bytes(others[damage])
    assert Digests(tmp_path).table == {}
    assert passed(opened(tmp_path / "kept"), tmp_path, samples).computed == 0
    assert len(Digests(tmp_path).table) == 5


@pytest.mark.usefixtures("settled")
def test_two_that_note_at_once_both_count(tmp_path: Path) -> None:
    write(tmp_path, range(6))
    several = [Digests(tmp_path), Digests(tmp_path)]
    for number, each in enumerate(several):
        for place in range(number, 6, 2):
            each.note(f"{place}.jpg", each.known(f"{place}.jpg")[0], bytes([place]) * 32)
    for each in several:
        each.save()
    assert sorted(Digests(tmp_path).table) == [f"{number}.jpg" for number in range(6)]


# Parts on disk.


def test_many_small_parts_become_few(tmp_path: Path) -> None:
    for start in range(0, 2 * (MANY + 1), 2):
        add(tmp_path, range(start, start + 2))
    assert len(list(tmp_path.glob("*.keys.npy"))) == MANY + 1
    cache = opened(tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 2
    for each in (cache, opened(tmp_path)):
        rows = each.rows([key(number) for number in reversed(range(2 * MANY + 2))])
        expected = np.arange(2 * MANY + 2, dtype=np.float32)[::-1]
        assert np.array_equal(rows.gather(range(len(rows)))[:, 1, 2], expected)
        assert np.array_equal(rows.gather([3, 0])[:, 0, 0], expected[[3, 0]])


@pytest.mark.slow
def test_merging_while_others_read_loses_nothing(tmp_path: Path) -> None:
    """Real processes that open the folder over and over, merge what they find, and add to it."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from pathlib import Path
from kit.features import add, key, opened
folder, own = Path({str(tmp_path)!r}), int(sys.argv[1])
for turn in range(20):
    number = own * 1000 + turn
    add(folder, range(number, number + 1))
    cache = opened(folder)
    lost = [each for each in range(own * 1000, number + 1) if key(each) not in cache]
    assert not lost, (turn, lost)
"""
    jobs = [subprocess.Popen([sys.executable, "-c", code, str(own)], cwd=ROOT) for own in range(3)]
    assert [job.wait(120) for job in jobs] == [0, 0, 0]
    cache = opened(tmp_path)
    wanted = [own * 1000 + turn for own in range(3) for turn in range(20)]
    rows = cache.rows([key(number) for number in wanted]).gather(range(60))
    assert rows[:, 0, 0].tolist() == wanted
    assert len(list(tmp_path.glob("*.keys.npy"))) < 60


def test_large_parts_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_BYTES", 24 * 10)  # ten rows
    add(tmp_path, range(10))
    (large,) = tmp_path.glob("*.rows.npy")
    for number in range(10, 11 + MANY):
        add(tmp_path, range(number, number + 1))
    cache = opened(tmp_path)
    assert large.exists()
    assert len(list(tmp_path.glob("*.keys.npy"))) == 3
    assert all(key(number) in cache for number in range(11 + MANY))


def test_parts_have_so_many_bytes_or_so_many_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever comes first, as rows are added and as parts are merged."""
    for what, limit in (("PART_BYTES", 24 * 4), ("PART_ROWS", 4)):
        with monkeypatch.context() as patch:
            patch.setattr(module, what, limit)
            cache = opened(tmp_path / what)
            for number in range(9):
                cache.add(key(number), np.full((2, 3), number, np.float32))
                files = len(list((tmp_path / what).glob("*.keys.npy")))
                assert files == (number + 1) // 4
            cache.flush()
            small = opened(tmp_path / f"{what} merged")
            for number in range(0, 18, 2):
                both = [key(number), key(number + 1)]
                parts.write(small.folder, both, np.full((2, 2, 3), 7, np.float32))
            some = {path: parts.read(path) for path in small.folder.glob("*.keys.npy")}
            merged = small.merged(some)
            assert [len(part.keys) for part in merged.values()] == [4, 4, 4, 4, 2]


def test_a_cache_that_cannot_be_written_is_read_as_it_is(tmp_path: Path) -> None:
    for number in range(MANY + 1):
        add(tmp_path, range(number, number + 1))
    before = sorted(tmp_path.iterdir())
    code = f"""
import os, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import resource
from pathlib import Path
from kit.features import key, opened
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no byte can be written
cache = opened(Path({str(tmp_path)!r}))
print(all(key(number) in cache for number in range({MANY + 1})))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "True", done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_a_range_of_rows_in_memory_is_not_copied(tmp_path: Path) -> None:
    add(tmp_path, range(50))
    features = opened(tmp_path).rows([key(number) for number in range(50)])
    assert features.dense is not None
    assert np.shares_memory(features.gather(range(50)), features.dense)
    assert np.shares_memory(features.gather(range(3, 9)), features.dense)
    assert features.gather(range(3, 9))[:, 0, 0].tolist() == [3, 4, 5, 6, 7, 8]
    assert features.gather(range(0)).shape == (0, 2, 3)
    assert features.gather(range(9, 3, -2))[:, 0, 0].tolist() == [9, 7, 5]
    assert not np.shares_memory(features.gather([3, 4, 5]), features.dense)


def test_rows_that_do_not_fit_in_memory_are_read_from_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path, range(30))
    add(tmp_path, range(30, 60))
    dense = opened(tmp_path).rows([key(number) for number in range(59, -1, -1)])
    monkeypatch.setattr(module, "memory", lambda: 0)
    monkeypatch.setattr(module, "CHUNK", 7)
    read = opened(tmp_path).rows([key(number) for number in range(59, -1, -1)])
    assert dense.dense is not None
    assert read.dense is None
    for some in (range(60), range(5, 40), [59, 0, 31, 31], range(0)):
        assert np.array_equal(read.gather(some), dense.gather(some))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_photos(tmp_path: Path) -> None:
    """But for what is known of each: its path, its digest, its row."""
    peaks = {}
    for count in (500, 8000):
        samples = write(tmp_path / str(count), range(count))
        code = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import resource
from pathlib import Path
from kit.features import Sample, opened, passed
folder = Path({str(tmp_path)!r})
samples = [Sample(f"{{n}}.jpg", 0, "train") for n in range({len(samples)})]
passed(opened(folder / "kept"), folder / "{count}", samples)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        peaks[count] = int(done.stdout)
    assert peaks[8000] - peaks[500] < 40_000, "kB for 7,500 photos of 700 bytes"
