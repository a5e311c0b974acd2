"""Jobs: a plan, shards, parts that appear once however workers end, and all of it verified."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kit import Here, csv_rows, encoded, names, picture, sha256
from kit.jobs import forked, kept, killed, planned, start, worker

from zoo.errors import ImageError, IncompleteError, UsageError, ZooError
from zoo.scale import apart, parts, plan, sources, store, work
from zoo.text import show_name

pytest.importorskip("obstore", reason="needs the extra scale")
pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra scale")


def nothing(done: int, total: int | None) -> None:
    pass


def finished(place: Path) -> plan.Shards:
    """Do what is left and return the shards, verified."""
    one = worker(place)
    for _ in one.work(range(one.shards.plan.shards), nothing):
        pass
    parts.verify(one.shards, nothing).check(str(place))
    return one.shards


def keys(many: int) -> list[str]:
    return [f"id{number:06}" for number in range(many)]


@pytest.fixture
def mixed(photos: Path, tmp_path: Path) -> Path:
    """Photos, one of them damaged, one with a name that is no UTF-8, one with a formula's."""
    root = tmp_path / "mixed"
    shutil.copytree(photos, root)
    (root / "disc" / "cut.png").write_bytes((root / "disc" / "03.png").read_bytes()[:300])
    shutil.copy(root / "disc" / "01.png", os.fsencode(root) + b"/\xff\\udc80,\n.png")
    shutil.copy(root / "disc" / "02.png", root / "=1+1.png")
    return root


# Predict.


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_job_writes_what_predict_writes(
    here: Here, run: Path, mixed: Path, tmp_path: Path, suffix: str
) -> None:
    plain, again = tmp_path / f"plain{suffix}", tmp_path / f"again{suffix}"
    words = ["predict", run, mixed, "--top", "2", "--reject-below", "0.9", "--tta", "2"]
    answer = here(*words, "-o", plain)
    assert answer.code == 0
    assert "the mean over 2 views" in answer.err
    answer = here(*words, "-o", again, "--job", tmp_path / "job")
    assert answer.code == 0
    asked = plan.read(store.Store(str(tmp_path / "job"))).settings
    assert (asked.views, asked.top, asked.below) == (2, 2, 0.9)
    assert again.read_bytes() == plain.read_bytes()
    assert "39 rows" in answer.err
    assert "1 of them an error" in answer.err


def test_a_job_on_stdout_is_predicts_too(
    here: Here, run: Path, mixed: Path, tmp_path: Path
) -> None:
    plain = here("predict", run, mixed)
    assert here("predict", run, mixed, "--job", tmp_path / "job").out == plain.out


def test_a_finished_job_opens_no_photo(here: Here, run: Path, mixed: Path, tmp_path: Path) -> None:
    words = ["predict", run, mixed, "-o", tmp_path / "p.csv", "--job", tmp_path / "job"]
    with opening() as seen:
        assert here(*words).code == 0
    assert len(seen) >= 38
    first = sha256(tmp_path / "p.csv")
    (tmp_path / "p.csv").unlink()
    with opening() as seen:
        assert here(*words).code == 0
    assert seen == []
    assert sha256(tmp_path / "p.csv") == first


def swapped(path: Path) -> None:
    """Write other bytes in place, as many, and set the time of the change back."""
    content, before = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@contextmanager
def opening() -> Iterator[list[str]]:
    """The photos that any thread of this process opens meanwhile."""
    seen: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open" and str(arguments[0]).endswith(".png"):
            seen.append(str(arguments[0]))

    sys.addaudithook(hook)  # for good
    yield seen
    watching = False


def test_many_photos_are_a_job_until_they_are_written(
    here: Here, run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.cli import predict_job

    monkeypatch.setattr(predict_job, "MANY", 20)
    answer = here("predict", run, photos, "-o", tmp_path / "p.csv")
    assert f"job {tmp_path / 'p.csv.job'}: plan" in answer.err
    assert names(tmp_path) == ["p.csv"]
    assert len(csv_rows(tmp_path / "p.csv")) == 36


# Plan.


def test_the_same_words_are_the_same_plan_and_others_are_refused(
    here: Here, run: Path, photos: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(photos, tmp_path / "photos")
    words = ["plan", root, "-o", tmp_path / "job", "--model", run, "--per-shard", "7"]
    assert "36 photos in 6 shards" in here(*words).err
    before = sorted((path, sha256(path)) for path in (tmp_path / "job").rglob("*.*"))
    assert here(*words).code == 0
    assert sorted((path, sha256(path)) for path in (tmp_path / "job").rglob("*.*")) == before
    first = plan.read(store.Store(str(tmp_path / "job"))).plan_id
    assert here(*words, "--top", "2").code == 2
    swapped(root / "disc" / "00.png")
    assert "36 photos, of which some are not those that they were" in here(*words).err
    (root / "disc" / "00.png").unlink()
    answer = here(*words)
    assert answer.code == 2
    assert f"is the job of plan {first} (predict by {run}" in answer.err
    assert "35 photos" in answer.err
    assert "36 photos" in answer.err


@pytest.mark.parametrize(("text", "mine"), [("0/1", [0, 1, 2, 3, 4]), ("1/2", [1, 3]), ("7/9", [])])
def test_a_process_takes_every_nth_shard(text: str, mine: list[int]) -> None:
    assert list(work.share(5, text)) == mine


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "1/0", "a/b", "1/2/3", "0.5/2"])
def test_another_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="I of N"):
        work.share(5, text)


def test_a_plan_of_many_files_names_every_photo_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SHARDS", 3)
    shards = planned(tmp_path / "job", keys(100), 9)
    assert (shards.plan.shards, len(shards.plan.files)) == (12, 4)
    found = [photo.key for shard in range(12) for photo in shards.photos(shard)]
    assert found == keys(100)
    assert [shards.expected(shard)[0] for shard in (11, 0)] == [1, 9]


def test_a_plan_that_is_damaged_is_told(tmp_path: Path) -> None:
    """Also where its parts are well formed, and say different things."""
    folder = planned(tmp_path / "job", keys(5), 1).store
    assert (plan.read(folder).photos, plan.read(folder).shards) == (5, 5)
    file = tmp_path / "job" / plan.PLAN
    about = json.loads(file.read_text())
    wrong: list[object] = [about | {"version": "of another zoo"}, about | {"photos": 4}, [about]]
    wrong += [about | {"files": []}, about | {"files": about["files"] * 2}, about | {"more": 1}]
    wrong += [{name: value for name, value in about.items() if name != left} for left in about]
    for one in wrong:
        file.unlink()
        file.write_text(json.dumps(one))
        ours = not isinstance(one, dict) or one.get("version") in (None, about["version"])
        said = "cannot be read" if ours else "has format"
        with pytest.raises(ZooError, match=said) as told:
            plan.read(folder)
        hint = "plan again, into another folder; in a folder of photos call plan.json otherwise"
        assert told.value.hint == (hint if ours else "use the version of zoo that wrote it")


def test_another_model_than_planned_is_not_used(
    here: Here, run: Path, photos: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(run, tmp_path / "run")
    words = ["plan", photos, "-o", tmp_path / "job", "--model", other]
    assert here(*words).code == 0
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    answer = here("work", tmp_path / "job")
    assert answer.code == 2
    assert "is not the file that the run has saved" in answer.err


# Parts.


def test_of_two_that_write_one_file_one_is_told_that_it_has(tmp_path: Path) -> None:
    first, second = store.Store(str(tmp_path)), store.Store(str(tmp_path))
    assert first.create("parts/0", b"first")
    assert not second.create("parts/0", b"second")
    assert second.read("parts/0") == b"first"
    assert names(tmp_path / "parts") == ["0"]


@pytest.mark.slow
def test_two_workers_on_the_same_shards_make_each_part_once(tmp_path: Path) -> None:
    planned(tmp_path / "job", keys(400), 10)
    both = [start(tmp_path / "job") for _ in range(2)]
    won = [int(one.communicate(timeout=60)[0]) for one in both]
    assert sum(won) == 40
    shards = finished(tmp_path / "job")
    assert [row["path"] for row in parts.merged(shards)] == keys(400)


def test_what_became_of_each_shard_is_told(tmp_path: Path) -> None:
    planned(tmp_path / "job", keys(25), 10)
    one, other = worker(tmp_path / "job"), worker(tmp_path / "job")

    def overtaken(done: int, total: int | None) -> None:
        if done == total:
            assert list(other.work([1], nothing)) == [work.Receipt(1, 10, 0, quicker=False)]

    assert list(one.work([0], nothing)) == [work.Receipt(0, rows=10, errors=0, quicker=False)]
    assert list(one.work([1], overtaken)) == [work.Receipt(1, rows=10, errors=0, quicker=True)]
    told = [
        work.Receipt(0, 0, 0, False),
        work.Receipt(1, 0, 0, False),
        work.Receipt(2, 5, 0, False),
    ]
    assert list(one.work(range(3), nothing)) == told


def test_processes_that_are_killed_lose_nothing(tmp_path: Path) -> None:
    assert killed(tmp_path / "job", keys(12_000), 50, kills=4) > 2, "most were at work"
    assert kept(tmp_path / "job", keys(12_000)) == (0, 0, 0)


@pytest.mark.slow
def test_two_hundred_kills_lose_nothing(tmp_path: Path) -> None:
    ids = [f"slow{number:06}" for number in range(100_000)]
    assert killed(tmp_path / "job", ids, 100, kills=200) == 200
    assert kept(tmp_path / "job", ids) == (0, 0, 0)


def test_what_is_missing_or_damaged_is_told(here: Here, tmp_path: Path) -> None:
    place = tmp_path / "job"
    planned(place, keys(50), 10)
    (by, many), *more = parts.verify(finished(place), nothing).engines.items()
    assert (by != "", many, more) == (True, 5, [])
    assert "complete: 5 parts, 50 rows" in here("verify", place).err
    (place / "parts" / "000001.parquet").unlink()
    damaged = bytearray((place / "parts" / "000003.parquet").read_bytes())
    damaged[40] ^= 1
    (place / "parts" / "000003.parquet").write_bytes(damaged)
    shutil.copy(place / "parts" / "000000.parquet", place / "parts" / "000004.parquet")
    answer = here("verify", place)
    assert answer.code == 8
    assert "3 parts: parts/000001.parquet (missing)" in answer.err
    assert "hint: remove what is damaged, then `zoo work" in answer.err
    lines = dict(line.split("  ") for line in answer.out.splitlines())
    assert list(lines) == [f"parts/00000{number}.parquet" for number in (1, 3, 4)]
    assert lines["parts/000004.parquet"] == "its rows are not those of its shard"
    answer = here("merge", place, "-o", tmp_path / "merged.csv")
    assert answer.code == 8
    assert not (tmp_path / "merged.csv").exists()
    for number in (3, 4):
        (place / "parts" / f"00000{number}.parquet").unlink()
    assert "hint: `zoo work" in here("verify", place).err
    finished(place)


def test_no_flipped_bit_in_the_rows_of_a_part_stays_unseen(tmp_path: Path) -> None:
    """What is packed can be unpacked to other values, and every page has a checksum."""
    place = tmp_path / "job"
    planned(place, keys(200), 200)
    shards = finished(place)
    file, good, seen = place / parts.name_of(0), parts.read(shards, 0), 0
    whole = file.read_bytes()
    rows = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")  # then the footer
    for at in range(4, rows, rows // 250):
        file.unlink()
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        try:
            assert parts.read(shards, 0).equals(good), at  # the bit says nothing
        except parts.DamagedError:
            seen += 1
    assert seen > 150


def test_a_part_of_another_plan_is_none(tmp_path: Path) -> None:
    for name, many in (("one", 10), ("other", 20)):
        planned(tmp_path / name, keys(many), 10)
        finished(tmp_path / name)
    part = Path("parts") / "000000.parquet"
    shutil.copy(tmp_path / "other" / part, tmp_path / "one" / part)
    with pytest.raises(IncompleteError, match="it is of plan"):
        finished(tmp_path / "one")


def test_names_in_lists_come_back_as_they_are(tmp_path: Path) -> None:
    """Of several labels, or of a prediction set: classes have any name that a folder can have."""
    import pyarrow as pa

    shards = planned(tmp_path / "job", keys(4), 4)
    lists = [["caf\udce9", "b\n", "\\x41"], ["b"], [], None]
    names_of, odds = pa.list_(pa.string()), pa.list_(pa.float64())
    plain = dict.fromkeys(("path", "status", "label"), pa.string())
    schema = pa.schema(plain | {"set": names_of, "odds": odds})
    rows = [{"path": key, "status": "ok", "set": some, "odds": [0.5], "label": show_name("\udcff")}
            for key, some in zip(keys(4), lists, strict=True)]  # fmt: skip
    shown = [row | {"set": row["set"] and [*map(show_name, row["set"])]} for row in rows]
    about = {"plan_id": shards.plan.plan_id}
    assert shards.store.create(parts.name_of(0), parts.written(shown, schema, about))
    found = list(parts.merged(shards))
    assert [row["set"] for row in found] == lists
    assert [row["odds"] for row in found] == [[0.5]] * 4
    assert {row["label"] for row in found} == {"\udcff"}


# Photos that end processes.


def test_the_fourth_try_finds_what_kills_and_gives_it_an_error(tmp_path: Path) -> None:
    ids = [*keys(5), "poison", "behind"]
    shards = planned(tmp_path / "job", ids, 10)
    for _ in range(3):
        one = forked(tmp_path / "job")
        one.join(60)
        assert one.exitcode == -signal.SIGKILL
    assert names(tmp_path / "job" / "started") == [f"000000.{attempt}" for attempt in (1, 2, 3)]
    finished(tmp_path / "job")
    rows = list(parts.merged(shards))
    assert [row["path"] for row in rows] == ids
    assert [row["path"] for row in rows if row["status"] == "error"] == ["poison"]
    assert rows[5]["error"] == "the process that read it ended with signal 9"


@pytest.mark.slow
def test_what_never_answers_gets_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "SILENCE", 15.0)
    shards = planned(tmp_path / "job", ["before", "hang", "behind"], 10)
    for attempt in (1, 2, 3):
        shards.store.create(f"started/000000.{attempt}", b"")
    finished(tmp_path / "job")
    rows = list(parts.merged(shards))
    assert [row["error"] for row in rows] == [None, "gave no answer in 15 s", None]


def test_who_is_asked_to_stop_has_not_tried(tmp_path: Path) -> None:
    from zoo.errors import Interrupted

    planned(tmp_path / "job", keys(10), 10)

    def stop(done: int, total: int | None) -> None:
        raise Interrupted("interrupted")

    with pytest.raises(Interrupted):
        worker(tmp_path / "job").shard(0, stop)
    assert names(tmp_path / "job" / "started") == []


def test_photos_that_are_decoded_apart_give_the_same_rows(
    here: Here, run: Path, mixed: Path, tmp_path: Path
) -> None:
    """The second try of a shard decodes each in a process with limits."""
    merged = []
    for name in ("first", "second"):
        words = ["plan", mixed, "-o", tmp_path / name, "--model", run, "--tta", "2"]
        assert here(*words).code == 0
        if name == "second":
            store.Store(str(tmp_path / name)).create("started/000000.1", b"")
        assert here("work", tmp_path / name).code == 0
        merged.append(here("merge", tmp_path / name).out)
    assert names(tmp_path / "second" / "started") == ["000000.1", "000000.2"]
    assert merged[0] == merged[1]
    assert len(csv_rows(merged[0])) == 39


# Sources and features.


def tar(place: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(place, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return place


def test_photos_in_tars_are_read_in_place(
    here: Here, run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tar is a shard, in which samples have names and classes as WebDataset has them."""
    monkeypatch.chdir(tmp_path)
    for number, kind in enumerate(("disc", "square")):
        members = {"about.json": b"{}", "empty.png": b""}
        for each in range(3):
            members[f"{each}.png"] = (photos / kind / f"{each:02}.png").read_bytes()
            members[f"{each}.cls"] = kind.encode()
        tar(tmp_path / f"{number}.tar", members)
    assert here("plan", "0.tar", "1.tar", "-o", "job", "--model", run).code == 0
    assert here("work", "job").code == 0
    rows = csv_rows(here("merge", "job").out)
    assert [row["path"] for row in rows[:4]] == [
        "0.tar/empty.png",
        *(f"0.tar/{n}.png" for n in range(3)),
    ]
    assert [row["error"] for row in rows if row["status"] == "error"] == ["the file is empty"] * 2
    plain = csv_rows(here("predict", run, photos / "disc").out)
    values = [(row["label"], row["probability"]) for row in rows[1:4]]
    assert values == [(row["label"], row["probability"]) for row in plain[:3]]
    found = list(sources.photos(["1.tar"], sys.stdin))
    assert [photo.label for photo in found] == ["", "square", "square", "square"]
    swapped(tmp_path / "1.tar")  # its members are as long as before, and as old
    now = list(sources.photos(["1.tar"], sys.stdin))
    assert not set(now) & set(found)
    assert names(tmp_path) == ["0.tar", "1.tar", "job"]


def test_photos_that_a_table_names_are_read(
    here: Here, run: Path, photos: Path, tmp_path: Path
) -> None:
    import pyarrow as pa

    found = [str(path) for path in sorted((photos / "disc").glob("*.png"))[:3]]
    pq.write_table(pa.table({"path": [*found, "nowhere.png"]}), tmp_path / "list.parquet")
    pq.write_table(pa.table({"file": found}), tmp_path / "none.parquet")
    words = ["-o", tmp_path / "job", "--model", run]
    assert "none called url or path" in here("plan", tmp_path / "none.parquet", *words).err
    assert here("plan", tmp_path / "list.parquet", *words).code == 0
    assert here("work", tmp_path / "job").code == 0
    rows = csv_rows(here("merge", tmp_path / "job").out)
    assert [row["path"] for row in rows] == [*found, "nowhere.png"]
    assert [row["status"] for row in rows] == ["ok"] * 3 + ["error"]


@pytest.mark.parametrize("damage", ["packed", "text", "cut"])
def test_a_tar_that_is_none_is_told(here: Here, run: Path, tmp_path: Path, damage: str) -> None:
    place = tar(tmp_path / "a.tar", {"a.png": encoded(picture("disc", 1))})
    if damage == "packed":
        with tarfile.open(place, "w:gz") as archive:
            archive.addfile(tarfile.TarInfo("a.png"))
    elif damage == "text":
        place.write_text("hello")
    else:
        place.write_bytes(place.read_bytes()[:700])
    answer = here("plan", place, "-o", tmp_path / "job", "--model", run)
    assert answer.code == 2
    assert "cannot be read as a tar" in answer.err


@pytest.mark.parametrize(
    ("where", "why"),
    [("512+9000000", "ends before it"), ("512+0", "empty"), ("0+9999999999", "more than 537 MB")],
)
def test_what_is_not_in_a_tar_any_more_is_an_error(tmp_path: Path, where: str, why: str) -> None:
    place = tar(tmp_path / "a.tar", {"a.png": encoded(picture("disc", 1))})
    with pytest.raises(ImageError, match=why):
        sources.content(f"{place}#{where}")


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_features_are_those_of_embed(
    here: Here, run: Path, mixed: Path, tmp_path: Path, suffix: str
) -> None:
    plain, again = tmp_path / f"plain{suffix}", tmp_path / f"again{suffix}"
    assert here("embed", run, mixed, "-o", plain, "--picture", "none").code == 0
    words = ["-o", tmp_path / "job", "--model", run, "--what", "features"]
    assert here("plan", mixed, *words).code == 0
    assert here("work", tmp_path / "job", "--shard", "0/1").code == 0
    assert here("merge", tmp_path / "job", "-o", again).code == 0
    assert again.read_bytes() == plain.read_bytes()
    part = pq.read_table(tmp_path / "job" / "parts" / "000000.parquet")
    assert part.schema.field("features").type.list_size > 0
    assert set(part.column("view").to_pylist()) == {0}


def test_what_does_not_belong_to_a_job_is_refused(
    here: Here, run: Path, photos: Path, tmp_path: Path
) -> None:
    for words, said in (
        (["plan", photos, "--model", run], "zoo plan without -o"),
        (["plan", photos, "-o", tmp_path / "job"], "zoo plan without --model"),
        (["plan", photos, "-o", tmp_path / "j", "--model", run, "--half"], "--half with --what"),
        (["work", tmp_path / "nowhere"], "there is no job"),
        (["verify", photos], "has no plan.json"),
        (["work", photos / "disc" / "00.png"], "is no folder"),
    ):
        answer = here(*words)
        assert answer.code == 2, words
        assert said in answer.err
