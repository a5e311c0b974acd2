"""zoo distill: a network learns what a run answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit import CLASSES, Answer, Command, csv_rows, names, sha256, write_photos

Here = Callable[..., Answer]
QUICK = ("--student", "lenet", "--weights", "none", "--epochs", 2)


def record(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures without labels: those of the classes, in one folder."""
    root = tmp_path_factory.mktemp("flat")
    for path in write_photos(root / "classes", each=6).rglob("*.png"):
        (root / "photos").mkdir(exist_ok=True)
        shutil.move(path, root / "photos" / f"{path.parent.name}-{path.name}")
    return root / "photos"


def distilled(here: Here, run: Path, photos: Path, output: Path, *words: object) -> dict[str, Any]:
    answer = here("distill", run, photos, *QUICK, *words, "-o", output)
    assert answer.code == 0, answer.err
    assert answer.out.strip() == str(output)
    assert "both say the same of" in answer.err
    return record(output)


def test_labels_are_not_needed(here: Here, run: Path, flat: Path, tmp_path: Path) -> None:
    """The teacher's answers stand for them; the student is a run as any other."""
    student = tmp_path / "student"
    about = distilled(here, run, flat, student, "--temperature", 3)
    assert about["classes"] == list(CLASSES)
    assert about["teacher"] == {
        "run": str(run.absolute()),
        "model": record(run)["model"],
        "sha256": sha256(run),
        "temperature": 3.0,
        "truth": 0.0,
        "labels": "the teacher's",
    }
    said = {row["path"]: row["label"] for row in csv_rows(student / "index.csv")}
    right = [path.startswith(label) for path, label in said.items()]
    assert np.mean(right) > 0.8  # as good as the teacher
    beside = about["distilled"]
    assert beside["photos"] == record(run)["data"]["val"]
    assert beside["teacher"]["accuracy"] == record(run)["results"]["accuracy"]
    assert 0 <= beside["student"]["accuracy"] <= 1
    assert beside["student"]["bytes"] == (student / "model.safetensors").stat().st_size
    assert min(beside[name]["latency"] for name in ("teacher", "student")) > 0
    answer = here("predict", student, flat)
    assert answer.code == 0, answer.err
    assert len(csv_rows(answer.out)) == 18


def test_labels_are_matched_to_the_teachers_classes_by_name(
    here: Here, run: Path, tmp_path: Path
) -> None:
    photos = write_photos(tmp_path / "photos", ("stripes", "square"), 6)
    about = distilled(here, run, photos, tmp_path / "student", "--truth", 0.5)
    assert about["classes"] == list(CLASSES)
    assert about["teacher"]["labels"] == "the photos'"
    for row in csv_rows(tmp_path / "student" / "index.csv"):
        assert row["label"] == row["path"].partition("/")[0]


@pytest.mark.slow
def test_an_interrupted_one_goes_on_to_the_same_bits(
    here: Here, run: Path, flat: Path, tmp_path: Path
) -> None:
    from kit import Watcher

    from zoo import recipe as recipes
    from zoo.errors import Interrupted
    from zoo.finetune import begin, job
    from zoo.finetune.prepare import prepare

    whole = tmp_path / "whole"
    distilled(here, run, flat, whole)
    recipe = recipes.make({}, whole / "recipe.toml")
    half = begin.start(prepare(recipe), tmp_path / "half", Watcher("epoch", 1))
    with pytest.raises(Interrupted):
        job.run(half)
    answer = here("finetune", "--resume", tmp_path / "half")
    assert answer.code == 0, answer.err
    assert sha256(tmp_path / "half") == sha256(whole)


def test_a_teacher_that_has_changed_stops_a_resume(
    here: Here, run: Path, flat: Path, tmp_path: Path
) -> None:
    distilled(here, run, flat, tmp_path / "student")
    about = record(tmp_path / "student")
    about["teacher"]["sha256"] = 64 * "0"
    about["status"] = "started"
    (tmp_path / "student" / "run.json").write_text(json.dumps(about))
    answer = here("finetune", "--resume", tmp_path / "student")
    assert answer.code == 2
    assert "the teacher of" in answer.err


def test_a_dry_run_says_what_is_learned(here: Here, run: Path, flat: Path) -> None:
    answer = here("distill", run, flat, *QUICK, "--dry-run")
    assert answer.code == 0, answer.err
    assert "at a temperature of 4; the photos have no labels of its classes" in answer.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--truth", "0.5"], "takes labels"),
        (["--temperature", "0"], "temperature"),
        (["--label-smoothing", "0.1"], "is of labels, not of a teacher"),
        (["--student", "resnet5"], "did you mean"),
    ],
)
def test_what_cannot_be_learned_is_told(
    here: Here, run: Path, flat: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    answer = here("distill", run, flat, *QUICK, *words, "-o", tmp_path / "student")
    assert answer.code == 2, answer.err
    assert said in answer.err
    assert names(tmp_path) == []


def test_a_teacher_is_a_finished_run(here: Here, flat: Path, tmp_path: Path) -> None:
    answer = here("distill", tmp_path, flat, *QUICK)
    assert answer.code == 2
    assert "is not a run folder" in answer.err


def test_temperature_is_of_a_teacher(here: Here, photos: Path) -> None:
    answer = here("finetune", "lenet", photos, "--temperature", "2")
    assert answer.code == 2


def test_the_loss_is_that_of_hinton() -> None:
    """T^2 KL(teacher || student), softened; by the numbers, in float64."""
    import torch

    from zoo.train.batches import PhotoBatches
    from zoo.train.losses import Distillation

    random = np.random.default_rng(0)
    taught, ours = random.normal(size=(2, 5, 3)) * 3

    one = PhotoBatches.__new__(PhotoBatches)
    one.labels = one.val_labels = labels = np.array([0, 1, 2, 0, 1])
    one.answers, one.number = np.stack([ours, taught], axis=1), 1  # of two views

    class Settings:
        class_weights, classes, label_smoothing = None, CLASSES, 0.0
        temperature, truth = 4.0, 0.0

    loss = Distillation(Settings, one, torch.device("cpu"))  # type: ignore[arg-type]
    p, q = (np.exp(x / 4) / np.exp(x / 4).sum(1, keepdims=True) for x in (taught, ours))
    wanted = 16 * (p * np.log(p / q)).sum(1).mean()
    found = loss.mean(torch.from_numpy(ours), torch.empty(0), np.arange(5))
    assert float(found) == pytest.approx(wanted, rel=1e-9)
    loss.truth = 0.25
    both = loss.mean(torch.from_numpy(ours), torch.empty(0), np.arange(5))
    sharp = np.exp(ours) / np.exp(ours).sum(1, keepdims=True)
    entropy = -np.log(sharp[np.arange(5), labels]).mean()
    assert float(both) == pytest.approx(0.75 * wanted + 0.25 * entropy, rel=1e-9)


@pytest.mark.slow
def test_a_small_network_learns_from_a_real_one(zoo: Command, shared: Path, tmp_path: Path) -> None:
    """MobileNetV2 on clothing10 teaches a small EfficientNet that begins with random weights."""
    photos, teacher = shared / "data" / "clothing10", tmp_path / "teacher"
    weights = shared / "weights" / "timm-mobilenetv2_100-keras.pth"
    done = zoo("finetune", "timm/mobilenetv2_100", photos, "--weights", weights, "-o", teacher)
    assert done.returncode == 0, done.stderr
    words = ("--student", "timm/test_efficientnet", "--weights", "none", "--epochs", 5)
    done = zoo("distill", teacher, photos, *words, "-o", tmp_path / "student")
    assert done.returncode == 0, done.stderr
    beside = record(tmp_path / "student")["distilled"]
    assert beside["photos"] == 120
    assert beside["student"]["accuracy"] > 0.15  # of ten classes
    assert beside["student"]["bytes"] < beside["teacher"]["bytes"] / 3
