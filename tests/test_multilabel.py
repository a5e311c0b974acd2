"""Several labels a photo, or none: from the manifest through training to the exported file."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pyarrow
import pyarrow.parquet
import pytest
import torch
from kit import CLASSES, Answer, picture
from kit.data import touch
from PIL import Image

from zoo import recipe as recipes
from zoo.catalog import Preprocess
from zoo.data.copies import Copies
from zoo.data.index import labelled, scan
from zoo.data.samples import DatasetIndex, Sample
from zoo.data.split import Split, split_several, units_of
from zoo.errors import DataError, RecipeError
from zoo.export.basis import About
from zoo.export.onnx import describe
from zoo.finetune.choices import balancing
from zoo.metrics import average_precision, label_report, sigmoid
from zoo.predict.inputs import Input
from zoo.predict.predictor import Opening, open_predictor
from zoo.run import Run
from zoo.train.losses import BinaryCrossEntropy, begin

Here = Callable[..., Answer]
MARKS = "path,split,cat,dog,owl,note\n"


def manifest(root: Path, text: str, name: str = "photos.csv") -> Path:
    """The file, and, beside it, every .jpg that it names."""
    (root / name).write_text(text, encoding="utf-8")
    for line in text.splitlines()[1:]:
        touch(root, line.split(",")[0])
    return root / name


def said(index: DatasetIndex) -> dict[str, str]:
    return {sample.path: index.named(sample) for sample in index.samples}


# The manifest


def test_several_labels_are_one_cell(tmp_path: Path) -> None:
    """Blanks, twins and order do not matter; an empty cell is a photo without a label."""
    text = "path,label\n1.jpg, dog|cat ,train\n2.jpg,cat|cat|,train\n3.jpg,,val\n4.jpg,owl,train\n"
    text = text.replace("label", "label,split")
    index = scan(manifest(tmp_path, text))
    assert index.multilabel
    assert index.classes == ("cat", "dog", "owl")
    assert said(index) == {"1.jpg": "cat|dog", "2.jpg": "cat", "3.jpg": "", "4.jpg": "owl"}
    assert index.targets("train") == [[1, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert index.counts("train") == [2, 1, 1]
    assert index.notes == ("no validation photo of: cat, dog, owl",)


def test_or_a_column_of_0_and_1_for_each_class(tmp_path: Path) -> None:
    text = MARKS + "1.jpg,train,1,1,0,x\n2.jpg,train,1.0,False,0,y\n3.jpg,val,0,0,0,z\n"
    index = scan(manifest(tmp_path, text))
    assert said(index) == {"1.jpg": "cat|dog", "2.jpg": "cat", "3.jpg": ""}
    assert "columns that are not used: note" in index.notes
    assert "no photo of: owl, so not learned" in index.notes


def test_parquet_says_the_same(tmp_path: Path) -> None:
    names = [f"{n}.jpg" for n in range(20)]
    touch(tmp_path, *names)
    for name, columns in {
        "cells": {"label": ["cat|dog", None] * 10},
        "marks": {"cat": [True, False] * 10, "dog": [1, 0] * 10, "thumb": [b"x"] * 20},
    }.items():
        path = tmp_path / f"{name}.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"path": names, **columns}), path)
        index = scan(path)
        assert list(said(index).values()) == ["cat|dog", ""] * 10
        assert (index.counts("train"), index.counts("val")) == ([8, 8], [2, 2])


def test_the_fingerprint_knows_every_label(tmp_path: Path) -> None:
    text = "path,label,split\n1.jpg,a|b,train\n2.jpg,c|b,train\n3.jpg,a|b,val\n"
    first = scan(manifest(tmp_path, text)).fingerprint
    assert first == scan(manifest(tmp_path, text.replace("a|b", "b|a"))).fingerprint
    assert first != scan(manifest(tmp_path, text.replace("1.jpg,a|b", "1.jpg,a|c"))).fingerprint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,cat,dog\n1.jpg,1,0\n2.jpg,0,2\n", "line 3: column 'dog' is '2', in other lines"),
        ("path,cat,dog\n1.jpg,1,0\n2.jpg,0,\n", "line 3: column 'dog' is '', in other lines"),
        ("path,cat,cat\n1.jpg,1,0\n", "the column 'cat' more than once"),
        ("path,cat,a|b\n1.jpg,1,0\n", "the class 'a|b' has a | in its name"),
        ("path,kind\n1.jpg,cat\n", "no column 'label'; it has path, kind"),
        ("path,label\n1.jpg,a|b\n1.jpg,a\n", "1.jpg has label 'a', but 'a|b' in line 2"),
        ("path,label\n1.jpg,a|A\n", "upper and lower case only: A, a"),
        ("path,label,split\n1.jpg,a|b,train\n2.jpg,c|a,val\n", "label 'c' is in val, but not in"),
        ("path,label\n1.jpg,|\n2.jpg,a|\n", "only one class ('a')"),
        ("path,label\n1.jpg,a|b\n", "each is the only one of a class"),
    ],
)  # fmt: skip
def test_mistakes_are_named(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        scan(manifest(tmp_path, text))
    assert expected in error.value.what
    assert error.value.hint


def test_one_class_a_photo_is_refused_where_there_are_several(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,label\n1.jpg,a\n2.jpg,a|b\n")
    with pytest.raises(DataError, match=r"line 3: labels 'a\|b', where one class a photo"):
        scan(path, task="classify")
    with pytest.raises(DataError, match="in which each photo has one class"):
        scan(tmp_path, task="multilabel")


def test_single_labels_are_multilabel_where_asked_for(tmp_path: Path) -> None:
    path = manifest(
        tmp_path, "path,label\n" + "".join(f"{n}.jpg,{'ab'[n % 2]}\n" for n in range(9))
    )
    assert not scan(path).multilabel
    assert scan(path, task="multilabel").targets("train")[0] in ([1, 0], [0, 1])
    path = manifest(tmp_path, "path,label\n1.jpg,a\n2.jpg,\n3.jpg,b\n4.jpg,a\n")
    with pytest.raises(DataError, match="line 3: the label is empty"):
        scan(path)
    assert said(scan(path, task="multilabel"))["2.jpg"] == ""
    assert labelled(path, several=True) == {
        "": [(str(tmp_path / f"{n}.jpg"), label) for n, label in enumerate(["a", "", "b", "a"], 1)]
    }


# The split


def several(count: int, shares: list[float]) -> list[Sample]:
    random = np.random.default_rng(1)
    drawn = random.random((count, len(shares))) < shares
    return [
        Sample(f"{n}.jpg", -1, "", 1, tuple(np.flatnonzero(row))) for n, row in enumerate(drawn)
    ]


def divided(
    found: list[Sample], groups: dict[str, str], names: tuple[str, ...], seed: int = 0
) -> Split:
    return split_several(found, names, units_of(found, groups, Copies(), seed), 0.2)


def test_every_class_gives_its_share_to_validation() -> None:
    """Also rare ones, and photos without a label; what is asked again is answered the same."""
    shares = [0.5, 0.3, 0.1, 0.05, 0.02, 0.01]
    names = tuple("abcdef")
    found = several(1000, shares)
    samples, notes = divided(found, {}, names)
    assert notes == []
    assert samples == divided(found, {}, names)[0]
    assert samples != divided(found, {}, names, seed=1)[0]
    for label in range(len(names)):
        mine = [s.split for s in samples if label in s.labels]
        assert abs(mine.count("val") - 0.2 * len(mine)) <= 1.5 + 0.01 * len(mine)
    bare = [s.split for s in samples if not s.labels]
    assert abs(bare.count("val") - 0.2 * len(bare)) <= 1
    later = divided([*found, *several(1001, shares)[1000:]], {}, names)[0]
    assert sum(a != b for a, b in zip(samples, later, strict=False)) < 20


def test_groups_stay_together_and_every_class_keeps_a_photo() -> None:
    found = several(300, [0.5, 0.3, 0.1])
    found.append(Sample("alone.jpg", -1, "", 1, (0, 3)))
    groups = {sample.path: str(n // 3) for n, sample in enumerate(found)}
    samples, notes = divided(found, groups, tuple("abcd"))
    for _, mine in itertools.groupby(samples, key=lambda sample: groups[sample.path]):
        assert len({sample.split for sample in mine}) == 1
    assert notes == ["too few photos, so none for validation: d"]
    training = {label for s in samples if s.split == "train" for label in s.labels}
    assert training == {0, 1, 2, 3}


# The numbers


def test_average_precision_is_scikit_learn_s() -> None:
    from sklearn.metrics import average_precision_score

    random = np.random.default_rng(0)
    for count in (1, 2, 7, 300):
        scores = random.integers(0, 6, count) / 5  # with ties
        truth = random.random(count) < 0.4
        truth[0] = True
        expected = average_precision_score(truth, scores)
        assert average_precision(scores, truth) == pytest.approx(expected, abs=1e-12)


def test_a_report_leaves_classes_without_a_photo_out() -> None:
    from sklearn.metrics import average_precision_score, f1_score

    random = np.random.default_rng(0)
    truth = (random.random((50, 3)) < 0.4) * [1, 1, 0]
    values = random.random((50, 3))
    found = label_report(values, truth, ("a", "b", "c"))
    assert found.map == pytest.approx(average_precision_score(truth[:, :2], values[:, :2]))
    answers = values >= 0.5
    assert found.macro_f1 == pytest.approx(f1_score(truth[:, :2], answers[:, :2], average="macro"))
    assert found.exact == (answers == truth).all(axis=1).mean()
    last = found.to_dict()["classes"][2]
    assert last == dict.fromkeys(("ap", "precision", "recall", "f1")) | {"name": "c", "photos": 0}
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, (1.0, 40.0, 0.5)])
def test_the_loss_is_torch_s_of_weighted_answers(
    smoothing: float, weights: tuple[float, ...] | None
) -> None:
    """The weight of a class belongs to the photos with it, not to the smoothed share of others."""
    random = np.random.default_rng(0)
    targets = (random.random((8, 3)) < 0.4).astype(float)
    settings = SimpleNamespace(class_weights=weights, classes="abc", label_smoothing=smoothing)
    source = SimpleNamespace(labels=targets, val_labels=targets)
    outputs = torch.from_numpy(random.normal(size=(4, 3)).astype(np.float32))
    rows = np.array([5, 0, 7, 2])
    ours = BinaryCrossEntropy(settings, source, "cpu").mean(outputs, outputs, rows)  # type: ignore[arg-type]
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        outputs,
        torch.tensor(targets[rows] * (1 - smoothing) + smoothing / 2, dtype=torch.float32),
        reduction="none",
    )
    counts = np.where(targets[rows] == 1, weights or (1, 1, 1), 1)
    assert float(ours) == pytest.approx(float((losses * torch.from_numpy(counts)).mean()), abs=1e-6)
    # A class that no photo has is not answered by its weight: the least loss is below one half.
    nothing = SimpleNamespace(labels=0 * targets, val_labels=targets)
    task = BinaryCrossEntropy(settings, nothing, "cpu")  # type: ignore[arg-type]
    least = torch.zeros(4, 3, requires_grad=True)
    task.mean(least, least, rows).backward()
    assert least.grad is not None
    assert (least.grad > 0).all()


def test_training_begins_with_the_shares_of_the_classes() -> None:
    samples = tuple(Sample(f"{n}", -1, "train", 0, (0,) * (n < 5) + (1,)) for n in range(20))
    index = DatasetIndex(Path(), ("a", "b"), samples, multilabel=True)
    chain = torch.nn.Sequential()
    chain.add_module("head", torch.nn.Linear(3, 2))
    begin(chain, "head", index, None)
    shares = sigmoid(chain.head.bias.detach().numpy())
    assert shares == pytest.approx([0.25, 1.0], abs=0.03)


def test_weights_are_asked_for_and_count_the_photos_without() -> None:
    samples = tuple(Sample(f"{n}", -1, "train", 0, (0,) * (n < 5) + (1,)) for n in range(20))
    index = DatasetIndex(Path(), ("a", "b"), samples, multilabel=True)
    recipe = recipes.make({"model": "lenet", "data": "x", "task": "multilabel"})
    assert balancing(recipe, index)[:2] == ("none", None)
    weighted = replace(recipe, balance="weights")
    assert balancing(weighted, index)[:2] == ("weights", (3.0, 0.05))


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"task": "multilabel", "balance": "sampler"}, "balance = 'sampler' for the task multi"),
        ({"task": "multilabel", "optimizer": "lbfgs"}, "optimizer = 'lbfgs' for the task multi"),
        ({"task": "multilabel", "best": "accuracy"}, "best = 'accuracy' for the task multilabel"),
        ({"task": "multilabel", "loss": "cross_entropy"}, "loss = 'cross_entropy' for the task"),
        ({"task": "multilabel", "penalty": 1.0}, "penalty = 1.0 would do nothing"),
        ({"task": "classify", "best": "map"}, "best = 'map' for the task classify"),
    ],
)  # fmt: skip
def test_settings_of_another_task_are_refused(settings: dict[str, object], what: str) -> None:
    with pytest.raises(RecipeError) as error:
        recipes.make({"model": "lenet", "data": "x", **settings})
    assert what in error.value.what
    assert error.value.hint


# The whole way


@pytest.fixture(scope="module")
def mosaics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 pictures of two halves, each with a shape or nothing; the labels are the shapes."""
    root = tmp_path_factory.mktemp("mosaics")
    lines = ["path,label"]
    halves = [*CLASSES, None]
    for number, (left, right) in enumerate(list(itertools.product(halves, halves)) * 5):
        both = Image.new("RGB", (64, 32), (90, 90, 90))
        for place, kind in enumerate((left, right)):
            if kind is not None:
                tile = picture(kind, number % 12).resize((32, 32))
                both.paste(tile, (32 * place, 0))
        both.putpixel((0, 0), (number, 90, 90))  # no two are the same file
        both.save(root / f"{number:02}.png")
        lines.append(f"{number:02}.png,{'|'.join(sorted({k for k in (left, right) if k}))}")
    (root / "photos.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def trained(mosaics: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from zoo.cli import main

    folder = tmp_path_factory.mktemp("runs") / "several"
    words = ["--weights", "none", "--no-freeze", "--views", "1", "--fit", "squash"]
    pace = ["--epochs", "40", "--batch-size", "8", "--lr", "0.003", "-o", str(folder)]
    assert main(["finetune", "lenet", str(mosaics / "photos.csv"), *words, *pace]) == 0
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_run_tells_labels_apart(trained: Path) -> None:
    record = Run.open(trained).record
    assert (record["task"], record["best_by"], record["threshold"]) == ("multilabel", "map", 0.5)
    assert record["results"]["map"] > 0.75
    assert any(line[:2] == ["task", "multilabel"] for line in record["plan"])
    assert {row["class"] for row in rows(trained / "classes.csv")} == set(CLASSES)
    val = rows(trained / "val.csv")
    exact = sum(row["label"] == row["predicted"] for row in val) / len(val)
    assert exact == pytest.approx(record["results"]["exact"])
    assert [row["label"] == row["predicted"] for row in val] == [
        row["correct"] == "1" for row in val
    ]
    assert not (trained / "confusion.csv").exists()
    best = Run.open(trained).metrics()[record["best_epoch"] - 1]
    assert best["map"] == pytest.approx(record["results"]["map"])
    assert best["accuracy"] is None


@pytest.mark.parametrize("kind", ["image", pytest.param("tensor", marks=pytest.mark.slow)])
def test_predict_and_the_exported_file_give_the_same_labels(
    kind: str, here: Here, trained: Path, mosaics: Path, tmp_path: Path
) -> None:
    val = {row["path"]: row["predicted"] for row in rows(trained / "val.csv")}
    file = tmp_path / "several.onnx"
    assert here("export", "onnx", trained, "--input", kind, "-o", file).code == 0
    answers = []
    for model in (trained, file):
        out = tmp_path / "out.csv"
        told = here("predict", model, mosaics, "-o", out, "--force")
        assert told.code == 0
        assert "labels are those with a probability of 0.5 or more" in told.err
        answers.append({row["path"]: row["label"] for row in rows(out)})
    assert answers[0] == answers[1]
    assert {path: answers[0][path] for path in val} == val
    assert {label.count("|") for label in answers[0].values()} >= {0, 1}
    assert "" in answers[0].values()
    assert json.loads(here("info", file, "--json").out)["task"] == "multilabel"


def test_rows_hold_every_label_and_the_likeliest_classes(
    here: Here, trained: Path, mosaics: Path, tmp_path: Path
) -> None:
    for suffix in ("csv", "jsonl", "parquet"):
        out = tmp_path / f"out.{suffix}"
        assert here("predict", trained, mosaics, "--top", "3", "-o", out).code == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    for row, line, cells in zip(rows(tmp_path / "out.csv"), lines, table, strict=True):
        assert row["label"].split("|") == (line["label"] or [""])
        assert (cells["label"], cells["probability"]) == (line["label"], line["probability"])
        assert all(value >= 0.5 for value in line["probability"])
        ranked = [(line[f"class_{n}"], line[f"probability_{n}"]) for n in (1, 2, 3)]
        assert [value for _, value in ranked] == sorted((v for _, v in ranked), reverse=True)
        assert {name for name, value in ranked if value >= 0.5} == set(line["label"])


def test_a_file_says_the_threshold_that_the_run_has() -> None:
    model = onnx.ModelProto()
    describe(model, About("lenet", Preprocess(), CLASSES, threshold=0.25), "image")
    assert {one.key: one.value for one in model.metadata_props}["zoo.threshold"] == "0.25"


def test_views_are_asked_for_each_label_by_itself(trained: Path, mosaics: Path) -> None:
    items = [Input(str(path), path.name) for path in sorted(mosaics.glob("*.png"))[:6]]
    once, twice = (open_predictor(str(trained), Opening(views=views)) for views in (1, 2))
    for one, both in zip(once.rows(items, 3), twice.rows(items, 3), strict=True):
        assert both.plain is not None
        said = dict(zip(one.labels, one.probabilities, strict=True))
        assert list(both.plain) == pytest.approx([said[name] for name in twice.classes], abs=1e-5)


def test_evaluate_measures_what_the_run_says(here: Here, trained: Path, mosaics: Path) -> None:
    results = Run.open(trained).record["results"]
    for words in ([], ["--data", mosaics / "photos.csv"]):
        answer = here("evaluate", trained, *words, "--json")
        (found,) = json.loads(answer.out)["results"]
        for name in ("map", "macro_f1", "exact"):
            assert found[name] == pytest.approx(results[name]), name
    assert "all labels right" in here("evaluate", trained, trained).out


def test_info_says_that_there_are_several(here: Here, trained: Path) -> None:
    out = here("info", trained).out
    assert "task       multilabel: every class with a probability of 0.5 or more" in out
    assert "mAP " in out


def test_what_does_not_fit_is_refused(here: Here, trained: Path, run: Path, mosaics: Path) -> None:
    for words, what in {
        ("predict", trained, mosaics, "--reject-below", "0.9"): "tells several labels a picture",
        ("evaluate", run, "--data", mosaics / "photos.csv"): "the photos have several labels",
        ("evaluate", trained, run): "some of the networks tell one class",
        ("evaluate", trained, "--plot", mosaics / "x.png"): "--plot draws one answer a photo",
        ("finetune", "lenet", mosaics / "photos.csv", "--task", "classify"): "one class a photo",
        (
            "finetune",
            "lenet",
            mosaics / "photos.csv",
            "--balance",
            "sampler",
        ): "balance = 'sampler'",
        ("finetune", "lenet", mosaics / "photos.csv", "--solver", "lbfgs"): "optimizer = 'lbfgs'",
    }.items():
        answer = here(*words)
        assert answer.code == 2, words
        assert what in answer.err
        assert "hint: " in answer.err


def test_a_run_goes_on_as_it_began(here: Here, trained: Path, tmp_path: Path) -> None:
    """The same settings by the run's own recipe, whose task is written down."""
    recipe = recipes.load(trained / "recipe.toml")
    assert recipe["task"] == "multilabel"
    again = tmp_path / "again"
    words = ["--epochs", "2", "--seeds", "2", "--balance", "weights", "-o", again]
    answer = here("finetune", "--recipe", trained / "recipe.toml", *words)
    assert answer.code == 0
    assert "2 seeds: mAP " in answer.err
    record = Run.open(again).record
    assert record["task"] == "multilabel"
    assert len(record["evidence"]["seeds"]["map"]) == 2


@pytest.mark.slow
def test_photos_in_mosaics_with_real_weights(here: Here, shared: Path, tmp_path: Path) -> None:
    """Two by two photos of 12 classes, up to four of them; chance is an mAP of 0.16."""
    pytest.importorskip("timm")
    photos = {
        part: [
            (folder.name, path)
            for data in ("hymenoptera", "clothing10")
            for folder in sorted((shared / "data" / data / part).iterdir())
            for path in sorted(folder.glob("*.jpg"))
        ]
        for part in ("train", "val")
    }
    lines = ["path,label,split"]
    for number in range(400):
        part, random = ("train", "val")[number >= 300], np.random.default_rng(number)
        chosen = random.choice(len(photos[part]), random.integers(0, 5), replace=False)
        canvas, labels = Image.new("RGB", (256, 256), (128, 128, 128)), set()
        for place, row in enumerate(chosen):
            name, path = photos[part][row]
            with Image.open(path) as photo:
                canvas.paste(
                    photo.convert("RGB").resize((128, 128)), (place % 2 * 128, place // 2 * 128)
                )
            labels.add(name)
        canvas.save(tmp_path / f"{number}.jpg")
        lines.append(f"{number}.jpg,{'|'.join(sorted(labels))},{part}")
    (tmp_path / "photos.csv").write_text("\n".join(lines) + "\n")
    weights = shared / "weights" / "timm-mobilenetv2_100-keras.pth"
    words = ["timm/mobilenetv2_100", tmp_path / "photos.csv", "--weights", weights]
    assert here("finetune", *words, "-o", tmp_path / "run").code == 0
    assert Run.open(tmp_path / "run").record["results"]["map"] > 0.45
