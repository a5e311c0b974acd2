"""zoo bench: no speed is asserted, only what follows of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from kit import Answer, Command

from zoo import catalog
from zoo.bench import engines
from zoo.bench.engines import Measured
from zoo.bench.photos import Decoding, advise, decoded
from zoo.catalog import Preprocess
from zoo.errors import DataError, UsageError
from zoo.text import duration

Here = Callable[..., Answer]
QUICK = ("--seconds", "0.2")
ALL = [*(["openvino"] if find_spec("openvino") else []), "torch"]


def measured(answer: Any) -> dict[str, Any]:
    code = answer.code if isinstance(answer, Answer) else answer.returncode
    assert code == 0, answer.err if isinstance(answer, Answer) else answer.stderr
    found: dict[str, Any] = json.loads(answer.out if isinstance(answer, Answer) else answer.stdout)
    return found


@pytest.mark.slow
def test_every_engine_that_is_there_is_a_row(zoo: Command) -> None:
    found = measured(zoo("bench", "lenet", *QUICK, "--device", "cpu", "--json"))
    assert [row["engine"] for row in found["engines"]] == ALL
    macs = catalog.find("lenet").macs
    assert found["macs"] == macs
    for row in found["engines"]:
        assert row["error"] == ""
        assert row["name"].startswith(row["engine"])
        assert 0 < row["latency"] <= row["slowest"]
        assert row["memory"] > 20e6  # Python and numpy alone
    by_name = {row["engine"]: row for row in found["engines"]}
    if "openvino" in by_name:  # a process without torch, which a converting one is not
        assert by_name["openvino"]["memory"] < by_name["torch"]["memory"]
        assert by_name["openvino"]["converting"] > 0
    best = max(row["images_per_second"] for row in found["engines"])
    decode = found["photos"]["photos_per_second"]
    neck = found["bottleneck"]
    assert neck["part"] == ("decode" if decode < best else "forward")
    assert neck["photos_per_second"] == pytest.approx(1 / (1 / best + 1 / decode))


def test_the_table_has_a_line_for_each(here: Here) -> None:
    answer = here("bench", "lenet", *QUICK, "--engine", "torch", "--device", "cpu")
    assert answer.code == 0, answer.err
    head, empty, header, row, *rest = answer.out.splitlines()
    assert head.startswith("lenet, 32 x 32, 417k MACs; fp32 on ")
    assert (empty, header.split()[0], row.split()[0]) == ("", "engine", "torch")
    assert [line.partition(":")[0] for line in rest] == ["", "photos", "a job"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.00000456, "4.56 µs"), (0.0123, "12.3 ms"), (0.9996, "1 s"), (4.514, "4.51 s"),
     (99.96, "100 s"), (1234.4, "1,234 s")],
)  # fmt: skip
def test_times_are_told_without_a_power_of_ten(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.slow
def test_a_run_and_its_file(here: Here, run: Path, exported: Path, photos: Path) -> None:
    words = (*QUICK, "--json", "--device", "cpu", "--photos", photos)
    of_run = measured(here("bench", run, "--engine", "torch", *words))
    assert (of_run["kind"], of_run["macs"]) == ("run", catalog.find("lenet").macs)
    assert of_run["photos"]["source"] == f"36 of {photos}"
    of_file = measured(here("bench", exported, *words))
    (row,) = of_file["engines"]
    assert (of_file["kind"], row["engine"], row["converting"]) == ("onnx", "onnxruntime", 0)
    assert row["error"] == ""


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("openvino"), reason="openvino is not installed")
def test_openvino_alone_needs_no_torch_here() -> None:
    code = (
        "import sys, zoo.cli\nif __name__ == '__main__':\n "
        f"assert zoo.cli.main(['bench', 'lenet', '--engine', 'openvino', *{QUICK!r}]) == 0; "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--engine", "tensorrt"], "--engine tensorrt"),
        (["--precision", "fp64"], "--precision fp64"),
        (["--seconds", "0"], "--seconds 0"),
        (["--seconds", "nan"], "--seconds nan"),
        (["--engine", "onnxruntime"], "--engine onnxruntime: it runs exported files"),
        (["--photos", "nowhere"], "nowhere does not exist"),
    ],
)
def test_wrong_words_are_told_before_anything_runs(here: Here, words: list[str], said: str) -> None:
    answer = here("bench", "lenet", *words)
    assert answer.code == 2, answer.err
    what, hint = answer.err.splitlines()[-2:]
    assert what.startswith(f"error: {said}")
    assert hint.startswith("hint: ")
    assert answer.out == ""


def test_what_is_not_there_is_named(here: Here, tmp_path: Path, exported: Path) -> None:
    assert "did you mean" in here("bench", "lenett").err
    assert here("bench", tmp_path / "no.onnx").code == 2
    answer = here("bench", exported, "--engine", "torch", "--device", "cpu")
    assert answer.code == 2
    assert "an exported file: it runs in onnxruntime" in answer.err
    answer = here("bench", exported, "--precision", "bf16", *QUICK)
    assert "an exported file: it runs in onnxruntime" in answer.err
    assert answer.code == 2


@pytest.mark.slow
def test_an_engine_that_fails_costs_its_own_row(here: Here) -> None:
    """torch has no int8."""
    answer = here("bench", "lenet", "--precision", "int8", *QUICK, "--json", "--device", "cpu")
    rows = {row["engine"]: row for row in measured(answer)["engines"]}
    assert "--precision int8 with the engine torch" in rows["torch"]["error"]
    assert rows["openvino"]["error"] == ""
    alone = here("bench", "lenet", "--precision", "int8", "--engine", "torch", *QUICK)
    assert alone.code == 2
    assert "give --engine openvino" in alone.err


def test_photos_that_cannot_be_read_are_passed_over(photos: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(photos / "disc", mixed)
    (mixed / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    found = decoded(mixed, Preprocess(size=32), 0.05)
    assert found.source == f"13 of {mixed}"
    assert found.photos_per_second > 0
    for path in mixed.glob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="none of the photos"):
        decoded(mixed, Preprocess(size=32), 0.05)
    shutil.rmtree(mixed)
    mixed.mkdir()
    with pytest.raises(DataError, match="has no pictures"):
        decoded(mixed, Preprocess(size=32), 0.05)


def test_photos_that_are_made_up_weigh_what_photos_do() -> None:
    found = decoded(None, Preprocess(size=32), 0.01)
    assert "500 x 375" in found.source
    assert 30_000 < found.median_bytes < 100_000


@pytest.mark.slow
def test_a_network_that_cannot_be_built_is_a_row_with_its_reason() -> None:
    gone = engines.Job("nothing-of-this-name", "model", Preprocess(size=32), None, engine="torch")
    row = engines.measure(gone)
    assert "nothing-of-this-name" in row.error
    assert row.hint


def test_engines_for_what_is_wanted() -> None:
    found = engines.find("lenet")
    assert engines.here(found, None) == ALL
    on_gpu = replace(found, device="cuda")
    assert engines.here(on_gpu, None) == ["torch"]
    with pytest.raises(UsageError, match="--engine openvino cannot run here"):
        engines.here(on_gpu, "openvino")


def test_advice_follows_the_slower_part() -> None:
    slow = Measured("torch", images_per_second=10.0)
    quick = Measured("openvino", images_per_second=50.0)
    found = advise([slow, quick], Decoding(450.0, 2, "", 50_000), "cpu")
    assert found.part == "forward"
    assert found.share == pytest.approx(0.9)
    assert found.photos_per_second == pytest.approx(45)
    assert "a smaller network" in found.text
    large = advise([quick], Decoding(10.0, 2, "", 2_200_000), "cpu")
    assert large.part == "decode"
    assert "photos hold more than" in large.text
    overlapped = advise([quick], Decoding(10.0, 2, "", 1), "cuda")
    assert overlapped.photos_per_second == 10  # a GPU computes while the CPU decodes
