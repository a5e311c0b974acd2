"""The tables of benchmarks: ratios within a round, bars by name, and the rows of a GPU on a CPU."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import bars, gpu, measure, solver_sizes, speed_table


def row(part: str, who: str, number: int, wall: float, **more: object) -> dict[str, object]:
    return {"part": part, "who": who, "round": number, "wall": wall, "cpu": wall, **more}


def found(train: int = 320) -> dict[str, object]:
    """Return results of three rounds, each 10 % slower than the one before."""
    rows = []
    for number, slower in enumerate((1.0, 1.1, 1.2)):
        for kind in ("fp32", "bf16"):
            passes = [{"wall": 11 * slower}, {"wall": 10 * slower}]
            about = {"passes": passes, "decode": 2.0 * slower}
            rows += [
                row("finetune", f"bare {kind}", number, 20 * slower, **about),
                row("finetune", f"zoo {kind}", number, 15 * slower),
                row("finetune", f"zoo {kind}, again", number, 1.0),
                row("finetune", f"zoo {kind}, nothing kept", number, 15 * slower + 2),
                row("phone", f"bare {kind}", number, 5.0, images_per_second=[10 / slower]),
                row("phone", f"zoo {kind}", number, 4 * slower),
            ]
        for kind in ("fp32", "bf16", "int8"):
            rate = [100 / slower] * 3
            rows.append(row("predict", f"bare {kind}", number, 5.0, images_per_second=rate))
            rows.append(row("predict", f"zoo {kind}", number, 14 * slower))
        for part, photos in (("predict", 1000), ("phone", 20)):
            decode = {"decode": 2 * slower, "photos": photos, "pixel_error": 0.1}
            rows.append(row(part, "decode", number, 3.0, **decode))
            rows.append(row(part, "naive loop", number, 30 * slower))
        rows.append(row("finetune", "tutorial loop, all epochs", number, 300 * slower))
        rows.append(row("finetune", "timm, one epoch", number, 45 * slower))
    return {"machine": {}, "rows": rows, "settings": {"train, val": [train, 64]}}


def test_a_ratio_is_taken_within_a_round_that_has_both(tmp_path: Path) -> None:
    results = found()
    lost = ("timm, one epoch", 0)
    results["rows"] = [one for one in results["rows"] if (one["who"], one["round"]) != lost]  # type: ignore[attr-defined]
    told = {bar["what"]: bar for bar in speed_table.table(results, tmp_path)}
    ratio = told["timm, one epoch / zoo finetune, all epochs, fp32"]
    assert (ratio["min"], ratio["value"], ratio["max"], ratio["n"]) == (3, 3, 3, 2)
    assert ratio["ceiling"] == pytest.approx(45 / 12)
    assert ratio["ours"].startswith("16.5 s (15 to 18)")
    limit = told["(bare pass + decode) / zoo finetune, fp32"]
    assert (limit["value"], limit["n"], limit["met"]) == (0.8, 3, False)
    predicted = told["(bare engine + decode) / zoo predict, int8"]
    assert predicted["value"] == pytest.approx(12 / 14, abs=1e-4)


def test_few_photos_are_not_judged_by_the_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = found(train=64) | {"left_out": ["hf", "fastai"]}
    told = speed_table.table(results, tmp_path)
    assert told
    assert all("ours" in bar and "ceiling" in bar for bar in told)
    assert "left out here: hf; fastai" in capsys.readouterr().out


def test_every_bar_of_speed_that_is_wanted_has_its_row(tmp_path: Path) -> None:
    told = {bar["what"]: bar["bar"] for bar in speed_table.table(found(), tmp_path)}
    wanted = {
        what: bar
        for what, bar in bars.SPEED
        if any(word in what for word in ("/ zoo", "nothing kept, s", "second zoo finetune, s"))
        and not what.startswith(("timm /", "torch loop"))  # benchmarks.training, benchmarks.small
    }
    assert len(wanted) == 7
    assert wanted.items() <= told.items()


def test_the_newest_result_of_a_bar_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "RESULTS", tmp_path)
    for name, date, value in (("a", "2026-11-02 10:00 UTC", 1.0), ("b", "2026-11-01 9:00", 2.0),
                              ("speed", "2026-11-03 10:00 UTC", 3.0)):  # fmt: skip
        bar = measure.verdict("seconds", value, 1.5, at_most=True)
        result = {"machine": {"date": date}, "deep": [{"bars": [bar]}]}
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    (one,) = bars.kept()
    assert (one["value"], one["from"]) == (1.0, "a 2026-11-02")


def test_the_solver_is_measured_in_a_process_with_its_rows(tmp_path: Path) -> None:
    solver_sizes.draw(tmp_path, 90, 16, 3)
    told = solver_sizes.ours(tmp_path, 3)
    assert told["penalties"]
    assert told["s"] > 0
    assert solver_sizes.peer(tmp_path, told["penalties"][0])["cpu"] > 0


@pytest.mark.parametrize("way", ["as it comes", "zoo fp32"])
def test_a_row_of_a_gpu_runs_on_a_cpu(way: str) -> None:
    assert gpu.forward("resnet18", way, "cpu") > 0


@pytest.mark.slow
@pytest.mark.parametrize("way", sorted({*gpu.WAYS} - {"as it comes", "zoo fp32", "zoo bf16"}))
def test_any_row_of_a_gpu_runs_on_a_cpu(way: str) -> None:
    if way.startswith("torch.compile") and not shutil.which("c++"):
        pytest.skip("torch.compile needs a C++ compiler")
    assert gpu.forward("resnet18", way, "cpu") > 0
