"""The run folder: whole files or none, nothing overwritten, odd names kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.data.index import DatasetIndex, Sample
from zoo.disk import atomic, write_json
from zoo.errors import RunError, WriteError
from zoo.run import Run, write_csv

ROOT = Path(__file__).parents[1]


def fill_disk(code: str, *words: Path) -> subprocess.CompletedProcess[str]:
    """Runs code in a process that cannot write a file of more than 4 kB."""
    limit = (
        "import resource, signal, sys\nfrom pathlib import Path\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
    )
    return subprocess.run(
        [sys.executable, "-B", "-c", limit + code, *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_a_file_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("x")
    with pytest.raises(RunError, match=r"model\.onnx is not a run folder"):
        Run.open(tmp_path / "model.onnx")


def test_full_disk_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"old": True})
    done = fill_disk(
        "from zoo.run import write_json\nfrom zoo.errors import WriteError\n"
        "try: write_json(Path(sys.argv[1]), {'new': 'x' * 100_000})\n"
        "except WriteError as error: print(error.what, '|', error.hint)",
        path,
    )
    assert f"cannot write {path}: File too large" in done.stdout, done.stderr
    assert "free some space" in done.stdout
    assert json.loads(path.read_text()) == {"old": True}
    assert os.listdir(tmp_path) == ["run.json"]


def test_full_disk_in_the_middle_of_a_table_leaves_nothing(tmp_path: Path) -> None:
    done = fill_disk(
        "from zoo.run import write_csv\nfrom zoo.errors import WriteError\n"
        "try: write_csv(Path(sys.argv[1]), ['a'], ([n] for n in range(100_000)))\n"
        "except WriteError as error: print(error.what)",
        tmp_path / "index.csv",
    )
    assert "File too large" in done.stdout, done.stderr
    assert done.stderr == ""
    assert os.listdir(tmp_path) == []


def test_interrupted_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def interrupted() -> None:
        with atomic(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_file_gets_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o640


def test_missing_folder_is_a_write_error(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="No such file or directory"):
        write_json(tmp_path / "missing" / "a.json", {})


def test_run_is_created_with_its_parents_and_opened_again(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "deep" / "a"
    Run.create(folder, {"model": "lenet"}).update(seconds=1.5)
    record = Run.open(folder).record
    assert record == {"format": 1, "status": "started", "model": "lenet", "seconds": 1.5}


def test_existing_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(RunError, match="exists already") as error:
        Run.create(tmp_path, {})
    assert "another folder" in error.value.hint
    assert os.listdir(tmp_path) == ["precious"]


def test_existing_unfinished_run_is_refused_with_the_way_to_finish_it(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", {})
    with pytest.raises(RunError, match="exists already") as error:
        Run.create(tmp_path / "a", {})
    assert error.value.advice == f"`zoo finetune --resume {tmp_path / 'a'}` goes on"
    run.update(status="finished")
    with pytest.raises(RunError) as error:
        Run.create(tmp_path / "a", {})
    assert error.value.resume == ""
    assert "--resume" not in error.value.advice


def test_a_run_from_random_weights_is_finished_by_train(tmp_path: Path) -> None:
    random, cut = {"weights": {"tag": "none"}}, {"cut": "conv2"}
    words = [Run(tmp_path / "a b", {**random, **more}).resume for more in ({"cut": None}, cut)]
    assert words == [f"zoo {verb} --resume '{tmp_path}/a b'" for verb in ("train", "finetune")]


def test_folder_that_cannot_be_made_is_a_write_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot make the run folder"):
        Run.create(tmp_path / "file" / "run", {})


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "is not a run folder: it has no run.json"),
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[1]", "has format None, expected 1"),
        ("{}", "has format None, expected 1"),
        ('{"format": 2, "status": "finished"}', "has format 2, expected 1"),
        ('{"format": 1}', "status"),
    ],
)
def test_folder_that_is_no_run_is_an_error(tmp_path: Path, content: str | None, what: str) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=what) as error:
        Run.open(tmp_path).finished()
    assert error.value.hint


def test_unfinished_run_says_how_to_finish_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="unfinished") as error:
        Run.create(tmp_path / "a", {}).finished()
    assert error.value.resume == f"zoo finetune --resume {tmp_path / 'a'}"


def test_index_keeps_odd_names(tmp_path: Path) -> None:
    odd = ['a/comma, "quote".jpg', "a/new\nline.jpg", "b/☕.jpg", "b/caf\udce9.jpg", "b/ .jpg"]
    samples = tuple(Sample(path, 0 if path[0] == "a" else 1, "val") for path in odd)
    index = DatasetIndex(tmp_path, ("a", "b"), samples, (("x\r.txt", "not a picture"),))
    run = Run.create(tmp_path / "run", {"data": {"root": str(tmp_path)}})
    run.save_index(index)
    assert run.photos("val") == [tmp_path / path for path in odd]
    assert rb"caf\udce9.jpg" in run.path("index.csv").read_bytes()
    assert run.path("skipped.csv").exists()


def test_index_has_the_digests_of_files_and_none_of_pictures_in_containers(tmp_path: Path) -> None:
    paths = ("a/1.jpg", "a/2#3", "mnist-idx3-ubyte.gz#0")
    samples = tuple(Sample(path, 0, "train") for path in paths)
    index = DatasetIndex(
        tmp_path, ("a",), samples, containers=(("mnist-idx3-ubyte.gz", "00"),), source=tmp_path
    )
    run = Run.create(tmp_path / "run", {"data": {"root": str(tmp_path)}})
    run.save_index(index)
    assert run.digests("train") == ["", "", ""]
    run.save_index(index, {path: bytes([n]) * 32 for n, path in enumerate(paths)})
    assert run.digests("train") == ["00" * 32, "01" * 32, ""]
    lines = run.path("index.csv").read_text().splitlines()
    run.path("index.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    assert run.digests("train") == ["", "", ""]
    assert run.photos("train") == [tmp_path / path for path in paths]


def test_table_is_plain_csv(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ("x", "y"), [(1, "é"), (2, None)])
    assert (tmp_path / "a.csv").read_bytes() == "x,y\n1,é\n2,\n".encode()


def test_metrics_are_appended_and_cut_to_the_epoch_of_a_resume(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", {})
    assert run.metrics() == []
    for epoch in (1, 2, 3):
        run.log({"epoch": epoch, "loss": 0.1 * epoch})
    run.cut_metrics(2)
    run.log({"epoch": 3, "loss": 0.5})
    assert [line["epoch"] for line in run.metrics()] == [1, 2, 3]
    assert run.metrics()[-1]["loss"] == 0.5
