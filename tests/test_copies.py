"""Copies of a photo, known by content, and the test part: what is measured is not memory."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from kit import CLASSES, Watcher, carried_out, csv_rows, picture, settings, tune
from kit.data import grey, idx, in_turn, manifest
from PIL import Image

from zoo.data.copies import Copies
from zoo.data.folds import folds_of
from zoo.data.index import DatasetIndex, scan
from zoo.data.samples import Sample
from zoo.data.split import split
from zoo.errors import DataError, Interrupted, RunError, UsageError
from zoo.features.digests import contents
from zoo.finetune import begin
from zoo.finetune.describe import lines
from zoo.finetune.prepare import prepare
from zoo.head.folds import Photos, alike
from zoo.run import Run


def put(root: Path, **content: str) -> Path:
    """Files of the same length that hold these words; `train__a__1` is train/a/1.jpg."""
    for name, text in content.items():
        path = root / f"{name.replace('__', '/')}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.ljust(9))
    return root


def sides(index: DatasetIndex) -> dict[str, str]:
    return {sample.path: sample.split for sample in index.samples}


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Val has two copies of training photos, one of them under another label; test has three."""
    return put(
        tmp_path / "parts",
        train__a__1="one", train__a__2="two", train__b__1="three", train__b__2="four",
        val__a__1="five", val__a__2="one", val__b__1="two",
        test__a__1="six", test__a__2="five", test__a__3="four", test__b__1="seven",
    )  # fmt: skip


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_copies_do_not_fill_val_beyond_its_share(fraction: float) -> None:
    """However often each photo is there, and whichever come first by the seed."""
    for seed in range(40):
        sizes = np.random.default_rng(seed).integers(1, 6, 12)
        photos = [
            [Sample(f"{number}-{copy}", 0, "") for copy in range(size)]
            for number, size in enumerate(sizes)
        ]
        copies = Copies(tuple(tuple(group) for group in photos if len(group) > 1))
        found = [sample for group in photos for sample in group]
        samples, _ = split(found, ("a",), fraction, seed, copies)
        sides = {sample.path: sample.split for sample in samples}
        aside = [len(g) for g in photos if {sides[sample.path] for sample in g} == {"val"}]
        assert len({(s.path.split("-")[0], s.split) for s in samples}) == len(photos)
        assert 0 < len(aside) <= max(1, round(fraction * len(photos)))
        most = max(1, round(fraction * len(found)))
        assert sum(aside) <= most or aside == [min(sizes)], seed


# What is left out


def test_copies_of_training_photos_are_left_out_and_named(parts: Path) -> None:
    index = scan(parts, contents=contents)
    assert sorted(s.path for s in index.of("val")) == ["val/a/1.jpg"]
    assert sorted(s.path for s in index.of("test")) == ["test/a/1.jpg", "test/b/1.jpg"]
    assert dict(index.skipped) == {
        "val/a/2.jpg": "the same photo as train/a/1.jpg of train, by content",
        "val/b/1.jpg": "the same photo as train/a/2.jpg of train, by content, where it is a",
        "test/a/2.jpg": "the same photo as val/a/1.jpg of val, by content",
        "test/a/3.jpg": "the same photo as train/b/2.jpg of train, by content, where it is b",
    }
    said = "; ".join(index.notes)
    assert "2 photos of val are in train too, by content (val/a/2.jpg is train/a/1.jpg, " in said
    assert "2 photos of test are in " in said
    assert "train/a/2.jpg as a, val/b/1.jpg as b" in said
    assert "no validation photo of: b" in said


def test_they_are_kept_where_that_is_asked_for(parts: Path) -> None:
    index = scan(parts, contents=contents, keep_copies=True)
    assert index.samples == scan(parts).samples
    assert not index.skipped
    assert "(val/a/2.jpg is train/a/1.jpg, val/b/1.jpg is train/a/2.jpg): kept" in index.notes[0]


def test_a_val_part_of_nothing_but_copies_is_an_error(tmp_path: Path) -> None:
    root = put(
        tmp_path, train__a__1="one", train__b__1="two", val__a__1="one", val__b__1="two"
    )  # fmt: skip
    with pytest.raises(DataError, match="every photo of val is in train too, by content: val/a/1"):
        scan(root, contents=contents)


def test_one_photo_under_two_labels_in_training_is_said(tmp_path: Path) -> None:
    root = put(
        tmp_path, train__a__1="one", train__a__2="two", train__b__1="one", val__a__1="x",
        val__b__1="y",
    )  # fmt: skip
    (note,) = scan(root, contents=contents).notes
    assert note == (
        "1 photo is there under different labels, by content: "
        "train/a/1.jpg as a, train/b/1.jpg as b"
    )


def test_only_what_may_be_a_copy_is_looked_at(tmp_path: Path) -> None:
    """Files of one size that begin or end alike are no copies; the answer is that of all bytes."""
    random = np.random.default_rng(0)
    base = random.bytes(20_000)
    for number in range(12):
        data = bytearray(base if number % 3 else base[: 10_000 + number])
        if number % 4 == 1:
            data[number] ^= 1  # in the beginning, and another one for each
        path = tmp_path / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    index = scan(tmp_path)
    found = contents(index)
    twins = Counter((tmp_path / s.path).read_bytes() for s in index.samples)
    for sample in index.samples:
        data = (tmp_path / sample.path).read_bytes()
        others = [p for p in found if found[p] == found.get(sample.path) and p != sample.path]
        assert len(others) == twins[data] - 1
    assert contents(index) == found  # with what is known by now


def test_pictures_in_containers_are_known_by_their_pixels(tmp_path: Path) -> None:
    pictures, test = grey(12), grey(6, seed=5)
    test[4] = pictures[7]
    for part, values in (("train", pictures), ("t10k", test)):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(values))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(in_turn(len(values))))
    index = scan(tmp_path, contents=contents)
    assert dict(index.skipped) == {
        "t10k-images-idx3-ubyte#4": "the same photo as train-images-idx3-ubyte#7 of train, "
        "by content"
    }
    assert len(index.of("val")) == 5


# A split that is drawn


@pytest.mark.parametrize("kind", ["folders", "groups", "several"])
def test_copies_are_on_one_side(tmp_path: Path, kind: str) -> None:
    lines = [f"path,label{',group' * (kind == 'groups')}"]
    for name in "ab":
        for number in range(20):
            text = f"{name}{number % 12}"  # 8 photos of each class are there twice
            put(tmp_path, **{f"{name}__{number}": text})
            label = f"{name}|c" if kind == "several" and number % 2 else name
            lines.append(
                f"{name}/{number}.jpg,{label}" + f",g{number // 3}{name}" * (kind == "groups")
            )
    put(tmp_path, a__torn="same", b__torn="same")
    lines += [
        "a/torn.jpg,a" + ",ta" * (kind == "groups"),
        "b/torn.jpg,b" + "," * (kind == "groups"),
    ]
    place = tmp_path
    if kind != "folders":
        place = tmp_path / "photos.csv"
        place.write_text("\n".join(lines) + "\n")
    for seed in range(5):
        index = scan(place, seed=seed, contents=contents)
        where: dict[str, set[str]] = {}
        for sample in index.samples:
            where.setdefault((tmp_path / sample.path).read_text(), set()).add(sample.split)
        assert all(len(found) == 1 for found in where.values())
        assert all(index.counts("train"))
        assert 2 <= len(index.of("val")) <= 16
        assert index.drawn
        assert not index.skipped
        assert any("copies are on one side of the split" in note for note in index.notes)


def test_many_copies_of_one_photo_leave_train_the_others_too(tmp_path: Path) -> None:
    """As of an "image not found" page that was saved under sixty names."""
    photos = {f"{kind}__{n}": f"{kind}{n}" for kind in "ab" for n in range(12)}
    index = scan(put(tmp_path, **photos, **{f"a__x{n}": "none" for n in range(60)}),
                 contents=contents)  # fmt: skip
    counts = Counter((s.path[0], s.split) for s in index.samples if "/x" not in s.path)
    assert counts == {("a", "train"): 9, ("a", "val"): 3, ("b", "train"): 10, ("b", "val"): 2}
    assert {s.split for s in index.samples if "/x" in s.path} == {"train"}


@pytest.mark.parametrize("kind", ["groups", "several"])
@pytest.mark.parametrize("copies", [5, 12, 60])
def test_val_does_not_hold_many_copies_of_one_photo(tmp_path: Path, kind: str, copies: int) -> None:
    """Its share is counted in different photos, and all copies of that one stay in training."""
    photos = {f"{name}__{n}": f"{name}{n}" for name in "ab" for n in range(20)}
    put(tmp_path, **photos, **{f"a__x{n}": "none" for n in range(copies)})
    lines = ["path,label" + ",group" * (kind == "groups")]
    for path in sorted(tmp_path.glob("?/*.jpg")):
        name = path.parent.name
        also = f",{name}{path.stem}" if kind == "groups" else "|c" if len(path.stem) > 1 else ""
        lines.append(f"{name}/{path.name},{name}{also}")
    (tmp_path / "photos.csv").write_text("\n".join(lines) + "\n")
    for seed in range(5):
        index = scan(tmp_path / "photos.csv", seed=seed, contents=contents)
        val = [(tmp_path / sample.path).read_text() for sample in index.of("val")]
        assert len(set(val)) == len(val)
        assert [sum(text[0] == name for text in val) for name in "ab"] == [4, 4]


def test_copies_of_one_photo_are_no_photos_for_validation(tmp_path: Path) -> None:
    put(tmp_path, a__1="one", a__2="one", b__1="two")
    told = r"every class has one photo only, copies left aside: a/2.jpg is a/1.jpg"
    with pytest.raises(DataError, match=told):
        scan(tmp_path, contents=contents)


def test_without_copies_the_split_is_as_it_was(tmp_path: Path) -> None:
    for name in "abc":
        for number in range(15):
            put(tmp_path, **{f"{name}__{number}": f"{name}{number}"})
    for seed in range(3):
        assert scan(tmp_path, seed=seed, contents=contents) == scan(tmp_path, seed=seed)


def test_copies_are_one_photo_to_a_cross_validation() -> None:
    digests = [b"a", b"b", b"a", b"c", b"d", b"b"]
    groups = alike(digests, 2)
    assert groups.tolist() == [0, 0, 1, 1, 0, 0, 3, 3, 4, 4, 1, 1]
    assert alike([b"1", b"2", b"3"], 2).tolist() == [0, 0, 1, 1, 2, 2]
    photos = Photos.of(groups, np.zeros(12, int))
    held = photos.held_out(np.ones(12, bool), seed=0, folds=4)
    assert all(len(set(groups[out])) == 1 for out in held)
    assert held.sum(axis=0).tolist() == [1] * 12


# A run


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes in train and test, with a copy of a training photo in test."""
    root = tmp_path_factory.mktemp("three")
    for kind in CLASSES:
        for number in range(9):
            path = root / ("train" if number < 6 else "test") / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(kind, number).save(path)
    shutil.copy(root / "train/disc/0.png", root / "test/disc/copy.png")
    return root


KINDS = {
    "solved": ["--cut", "act4", "--weights", "none"],
    "steps": ["--cut", "act4", "--weights", "none", "--epochs", 2],
    "deeper": ["--cut", "act3", "--weights", "none", "--epochs", 2, "--cache-budget", "0B"],
    "pixels": ["--no-freeze", "--weights", "none", "--epochs", 2, "--views", 1],
}


@pytest.mark.parametrize(
    "kind",
    [
        "solved",
        "pixels",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("steps", "deeper")),
    ],
)
def test_a_test_part_is_measured_at_the_end(here, three: Path, tmp_path: Path, kind: str) -> None:
    run = tmp_path / "run"
    answer = here("finetune", "lenet", three, *KINDS[kind], "-o", run)
    assert answer.code == 0, answer.err
    about = Run.open(run).record
    assert about["data"]["test"] == about["test"]["photos"] == 9
    assert "val is drawn by the seed, 20 % of train" in answer.err
    assert "the test part of 9 photos is measured on at the end, by itself" in answer.err
    assert "test/disc/copy.png is train/disc/0.png" in answer.err
    share = f"{100 * about['test']['accuracy']:.1f} %"
    assert f"accuracy {share} on the 9 test photos" in answer.err
    assert f"val: accuracy {100 * about['results']['accuracy']:.1f} %" in answer.err
    told = csv_rows(run / "test.csv")
    assert sum(int(row["correct"]) for row in told) == round(9 * about["test"]["accuracy"])
    assert not {row["path"] for row in told} & {row["path"] for row in csv_rows(run / "val.csv")}
    again = here("evaluate", run, "--part", "test", "--json")
    assert json.loads(again.out)["results"][0]["accuracy"] == about["test"]["accuracy"]
    if kind == "solved":  # the second time without torch's help, in the same bits
        assert here("finetune", "lenet", three, *KINDS[kind], "-o", tmp_path / "b").code == 0
        assert (tmp_path / "b/test.csv").read_bytes() == (run / "test.csv").read_bytes()
        shown = here("info", run).out
        assert "15 train, 3 val, 9 test" in shown
        assert f"accuracy {100 * about['test']['accuracy']:.2f} %" in shown


def test_labels_and_reconstructions_have_a_test_part_too(here, three: Path, tmp_path: Path) -> None:
    lines = [
        f"{path.relative_to(three)},{path.parent.name}{'|big' * (int(path.stem) % 2)},"
        f"{path.parents[1].name}"
        for path in sorted(three.rglob("?.png"))
    ]
    table = tmp_path / "photos.csv"
    table.write_text("path,label,split\n" + "".join(f"{three}/{line}\n" for line in lines))
    pace = ("--epochs", 1, "--views", 1, "--weights", "none", "--no-freeze")
    answer = here("finetune", "lenet", table, *pace, "-o", tmp_path / "several")
    assert answer.code == 0, answer.err
    about = Run.open(tmp_path / "several").record
    assert f"mAP {100 * about['test']['map']:.1f} % on the 9 test photos" in answer.err
    assert len(csv_rows(tmp_path / "several/test.csv")) == about["test"]["photos"] == 9
    again = here("evaluate", tmp_path / "several", "--part", "test", "--json")
    assert json.loads(again.out)["results"][0]["map"] == pytest.approx(about["test"]["map"])
    answer = here("train", "autoencoder", three, "--epochs", 1, "-o", tmp_path / "pixels")
    assert answer.code == 0, answer.err
    about = Run.open(tmp_path / "pixels").record
    assert f"MSE {about['test']['mse']:.6f} a pixel on the 9 test photos" in answer.err


def test_an_empty_class_is_not_counted(here, three: Path, tmp_path: Path) -> None:
    data = tmp_path / "photos"
    shutil.copytree(three / "train", data / "train")
    shutil.copytree(three / "test", data / "val")
    for path in (data / "val/stripes").iterdir():
        shutil.copy(data / "train/stripes" / "1.png", path)
    words = ("finetune", "lenet", data, *KINDS["solved"])
    answer = here(*words, "-o", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert "4 photos of val are in train too" in answer.err
    assert "of 2 of 3 classes: there is no photo of stripes" in answer.err
    table = {row["class"]: row for row in csv_rows(tmp_path / "run/classes.csv")}
    assert table["stripes"] == dict.fromkeys(table["stripes"], "") | {
        "class": "stripes", "photos": "0",
    }  # fmt: skip
    about = Run.open(tmp_path / "run").record
    counted = [float(row["f1"]) for row in table.values() if row["f1"]]
    assert about["results"]["macro_f1"] == pytest.approx(sum(counted) / 2)
    assert about["classes_table"][2]["recall"] is None
    measured = json.loads(here("evaluate", tmp_path / "run", "--json").out)["results"][0]
    assert measured["classes"] == about["classes_table"]
    answer = here(*words, "--keep-duplicates", "-o", tmp_path / "kept")
    assert Run.open(tmp_path / "kept").record["data"]["val"] == 10
    assert "kept: --keep-duplicates" in answer.err


@pytest.mark.slow
def test_no_fold_measures_on_a_copy_or_on_the_test_part(three: Path, tmp_path: Path) -> None:
    chosen = settings("lenet", three, cut="act4", folds=3)
    tune(tmp_path / "run", chosen)
    for fold in (1, 2, 3):
        run = Run.open(tmp_path / f"run/repeats/fold-{fold}")
        assert len(run.photos("train")) + len(run.photos("val")) == 18
        assert not run.photos("test")
        assert "test" not in run.record


# A run that goes on


@pytest.mark.parametrize("freeze", [True, False])
def test_a_resumed_run_sees_other_content(three: Path, tmp_path: Path, freeze: bool) -> None:
    """Of the same size, and with the same time of its last change."""
    data, run = tmp_path / "photos", tmp_path / "run"
    shutil.copytree(three, data)
    chosen = settings("lenet", data, freeze=freeze, epochs=4, views=1)
    with pytest.raises(Interrupted):
        tune(run, chosen, Watcher("epoch", 2))
    path = data / "train/square/4.png"
    kept, status = path.read_bytes(), path.stat()
    path.write_bytes(kept[:-20] + b"." * 20)  # a whole picture all the same
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(RunError, match=r"train/square/4\.png has other content"):
        carried_out(begin.resume(prepare(begin.recipe_of(Run.open(run))), Run.open(run), Watcher()))
    path.write_bytes(kept)
    *_, done = carried_out(
        begin.resume(prepare(begin.recipe_of(Run.open(run))), Run.open(run), Watcher())
    )
    assert done.test.photos == 9


def test_a_resume_names_the_photo_that_is_not_as_it_was(three: Path, tmp_path: Path) -> None:
    data, run = tmp_path / "photos", tmp_path / "run"
    shutil.copytree(three, data)
    with pytest.raises(Interrupted):
        tune(run, settings("lenet", data, freeze=False, epochs=4, views=1), Watcher("epoch", 2))

    def fails() -> str:
        with pytest.raises(RunError) as error:
            begin.resume(prepare(begin.recipe_of(Run.open(run))), Run.open(run), Watcher())
        return error.value.what

    path = data / "train/disc/3.png"
    kept = path.read_bytes()
    path.write_bytes(kept + b"more")
    assert fails().endswith("train/disc/3.png has other content")
    path.unlink()
    assert fails().endswith("train/disc/3.png is not among them any more")
    path.write_bytes(kept)
    shutil.copy(path, data / "train/disc/new.png")
    assert fails().endswith("train/disc/new.png is new")


# Several labels a photo


def test_one_label_a_photo_learned_as_several_is_repeated(here, three: Path, tmp_path) -> None:
    """The manifest does not say by itself that photos may have several."""
    lines = [f"{path},{path.parent.name}\n" for path in sorted((three / "train").rglob("*.png"))]
    table = tmp_path / "photos.csv"
    table.write_text("path,label\n" + "".join(lines))
    words = ("--task", "multilabel", "--epochs", 1, "--views", 1, "--weights", "none")
    more = ("--seeds", 2, "--folds", 2, "-o", tmp_path / "run")
    answer = here("finetune", "lenet", table, *words, *more)
    assert answer.code == 0, answer.err
    assert {"2 seeds: mAP", "2 folds: mAP"} <= {
        line.partition(" 2 ")[0][:12] for line in answer.err.splitlines()
    }


def test_a_rare_label_is_in_more_than_one_fold(tmp_path: Path) -> None:
    """Two photos of it: the third class of a training part must have one in every training part."""
    lines = [f"{n}.jpg,{'ab'[n % 2]}{'|rare' * (n in (4, 9))}\n" for n in range(24)]
    index = scan(manifest(tmp_path, "path,label\n" + "".join(lines)))
    for folds in (2, 3, 5):
        for seed in range(6):
            numbers = folds_of(index, {}, folds, seed)
            rare = [n for s, n in zip(index.samples, numbers, strict=True) if len(s.labels) > 1]
            assert rare[0] != rare[1]
            assert len(set(numbers.tolist())) == folds
    lines[4] = "4.jpg,a\n"
    index = scan(manifest(tmp_path, "path,label\n" + "".join(lines)))
    with pytest.raises(UsageError, match="the photos of class 'rare' are all in one"):
        folds_of(index, {}, 3, 0)


# Mirrors


@pytest.mark.parametrize(
    ("side", "mode", "mirrored"),
    [(28, "L", False), (28, "RGB grey", False), (28, "RGB", True), (90, "L", True)],
)
def test_small_grey_pictures_are_not_mirrored(
    tmp_path: Path, side: int, mode: str, mirrored: bool
) -> None:
    random = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(4):
            shape = (side, side, 3) if mode == "RGB" else (side, side)
            image = Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8))
            image.convert(mode[:3]).save(tmp_path / name / f"{number}.png")
    words = {"cut": "act3", "epochs": 9}
    made = prepare(settings("lenet", tmp_path, **words))
    assert made.plan.recipe.flip is mirrored
    told = {line.what: f"{line.value} {line.reason}" for line in lines(made.plan)}
    assert ("not mirrored" in told["views"]) is not mirrored
    assert ("small grey pictures" in told.get("mirrored", "")) is not mirrored
    asked = prepare(settings("lenet", tmp_path, flip=not mirrored, **words)).plan
    assert asked.recipe.flip is not mirrored
    assert "small grey" not in str(lines(asked))
