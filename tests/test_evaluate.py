"""zoo evaluate: on which photos, and never silently on those that were trained on."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
from kit import CLASSES, EACH, picture
from kit.data import touch, write_idx

from zoo.cli import main
from zoo.data.index import labelled
from zoo.errors import DataError, UsageError
from zoo.predict import evaluation_set
from zoo.predict.evaluate import evaluate
from zoo.predict.inputs import Input
from zoo.predict.predictor import Opening, open_predictor
from zoo.run import Run


@pytest.fixture(scope="module")
def other(photos, tmp_path_factory):
    """A run on the same photos with another split."""
    folder = tmp_path_factory.mktemp("runs") / "other"
    words = ["--weights", "none", "--no-freeze", "--views", "1", "--epochs", "1", "--seed", "5"]
    assert main(["finetune", "lenet", str(photos), *words, "-o", str(folder)]) == 0
    return folder


def fresh(tmp_path, classes=CLASSES, each=3):
    """Photos that nobody was trained on."""
    folder = tmp_path / "fresh"
    for kind in classes:
        (folder / kind).mkdir(parents=True)
        for number in range(EACH, EACH + each):
            picture(kind, number).save(folder / kind / f"{number}.png")
    return folder


def older(run, place):
    """The run as it was before index.csv had the content's digests."""
    shutil.copytree(run, place)
    lines = (place / "index.csv").read_text().splitlines()
    assert lines[0].endswith(",sha256")
    (place / "index.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    return place


def measured(answer):
    assert answer.code == 0, answer.err
    return json.loads(answer.out)["photos"]


def ids(run, part):
    return {str(path) for path in Run.open(run).photos(part)}


# What was trained on


def test_a_committee_is_not_measured_on_what_a_member_was_trained_on(here, run, other):
    torn = len(ids(run, "val") & ids(other, "train"))
    total = len(ids(run, "val"))
    assert 0 < torn < total
    answer = here("evaluate", run, other, "--json")
    assert measured(answer) == total - torn
    assert f"{torn} photo" in answer.err
    assert f"left out, since {other} trained on" in answer.err
    assert measured(here("evaluate", run, "--json")) == total


def test_the_training_photos_of_a_folder_are_left_out_by_any_path(here, run, photos, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(photos, target_is_directory=True)
    val = len(ids(run, "val"))
    for data in (photos, link, os.path.relpath(photos)):
        answer = here("evaluate", run, "--data", data, "--json")
        assert measured(answer) == val
        assert f"{36 - val} photos left out, since {run} trained on them" in answer.err


def test_a_link_to_a_photo_is_that_photo(run, tmp_path):
    path, label = Run.open(run).labelled("train")[0]
    (tmp_path / label).mkdir()
    link = tmp_path / label / "x.png"
    link.symlink_to(path)
    known = evaluation_set.known([(str(link), label)], [str(run)])
    assert known == evaluation_set.Known(frozenset({str(link)}), (str(run),), copies=0)


def test_a_copied_folder_is_measured_as_the_folder_itself(here, run, other, photos, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(photos, copy)
    for number, path in enumerate(sorted(copy.rglob("*.png"))):
        path.rename(path.with_name(f"renamed-{number:02}.png"))
    for runs in ((run,), (run, other)):
        answer = here("evaluate", *runs, "--data", copy, "--part", "all", "--json")
        itself = here("evaluate", *runs, "--data", photos, "--part", "all", "--json")
        assert json.loads(answer.out) == json.loads(itself.out)
        gone = 36 - measured(answer)
        names = ", ".join(map(str, runs))
        assert f"{gone} photos left out, since {names} trained on them ({gone} recog" in answer.err
        assert f"since {names} trained on them: " in itself.err


def test_some_photos_are_known_by_path_and_others_by_content(run, tmp_path):
    here, there = Run.open(run).labelled("train")[:2]
    copy, new = tmp_path / "copy.png", tmp_path / "new.png"
    shutil.copy(there[0], copy)
    picture("disc", EACH).save(new)
    (tmp_path / "broken.png").write_text("")
    asking = [here[0], copy, new, tmp_path / "broken.png", tmp_path / "gone.png"]
    known = evaluation_set.known([(str(path), "disc") for path in asking], [str(run), "lenet"])
    assert known == evaluation_set.Known(
        frozenset({str(here[0]), str(copy)}), (str(run),), copies=1
    )


def test_a_run_without_digests_knows_its_photos_by_path(here, run, photos, tmp_path):
    old = older(run, tmp_path / "old")
    assert measured(here("evaluate", old, "--json")) == len(ids(run, "val"))
    answer = here("evaluate", old, "--data", photos, "--json")
    assert measured(answer) == len(ids(run, "val"))
    shutil.copytree(photos, tmp_path / "copy")
    answer = here("evaluate", old, "--data", tmp_path / "copy", "--json")
    assert measured(answer) == 36
    answer = here("evaluate", old, run, "--data", tmp_path / "copy", "--json")
    assert measured(answer) == len(ids(run, "val"))


def test_a_file_beside_its_run_was_trained_as_the_run_was(run, exported, tmp_path):
    whole = [(path, "") for path in sorted(ids(run, "train"))]
    assert evaluation_set.known(whole, [str(exported)]) == evaluation_set.Known()
    beside = tmp_path / "copy"
    shutil.copytree(run, beside)
    assert len(evaluation_set.known(whole, [str(beside / "model.onnx")]).photos) == len(whole)
    (beside / "run.json").write_text("[]")
    assert evaluation_set.known(whole, [str(beside / "model.onnx")]) == evaluation_set.Known()


def test_part_train_keeps_them_and_says_so(here, run):
    answer = here("evaluate", run, "--part", "train", "--json")
    count = len(ids(run, "train"))
    assert measured(answer) == count
    assert f"trained on {count} of them, which --part train keeps" in answer.err


def test_nothing_left_is_an_error(here, run, tmp_path):
    for path in sorted(ids(run, "train"))[:3]:
        (tmp_path / "disc").mkdir(exist_ok=True)
        os.symlink(path, tmp_path / "disc" / os.path.basename(path))
    answer = here("evaluate", run, "--data", tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert f"{run} trained on all 3 of these photos" in answer.err
    assert "hint: an accuracy is measured on photos that were not trained on" in answer.err


@pytest.mark.slow
def test_seventy_thousand_photos_are_compared_at_once(tmp_path):
    rows = "".join(f"c{n % 10}/{n}.png,c{n % 10},train\n" for n in range(70_000))
    (tmp_path / "index.csv").write_text("path,label,split\n" + rows)
    data = {"root": str(tmp_path), "fingerprint": "", "train": 70_000, "val": 0}
    record = {"format": 1, "status": "finished", "data": data}
    (tmp_path / "run.json").write_text(json.dumps(record))
    photos = [(f"{tmp_path}/c{n % 10}/{n}.png", "") for n in range(69_999, 140_000)]
    started = time.process_time()
    known = evaluation_set.known(photos, [str(tmp_path)])
    assert time.process_time() - started < 5
    assert (len(known.photos), known.by) == (1, (str(tmp_path),))


# Which photos


def test_all_photos_of_a_plain_folder_are_used(here, run, tmp_path):
    folder = fresh(tmp_path)
    answer = here("evaluate", run, "--data", folder, "--json")
    assert measured(answer) == 9
    assert f"9 photos of {folder}, all of them: it has no val part" in answer.err


def test_members_may_have_their_classes_in_another_order(run, tmp_path):
    """The same network with other names for its outputs: its answers are what those names say."""
    photos = [(str(path), path.parent.name) for path in sorted(fresh(tmp_path).rglob("*.png"))]
    ours = open_predictor(str(run), Opening(views=2))
    turned = replace(ours, classes=ours.classes[1:] + ours.classes[:1])
    found = evaluate([ours, turned], photos, lambda done, total: None)
    said = list(turned.rows([Input(path, path) for path, _ in photos]))
    pairs = list(zip(said, photos, strict=True))
    right = [row.labels[0] == label for row, (_, label) in pairs]
    plain = [turned.classes[row.plain.argmax()] == label for row, (_, label) in pairs]
    assert found.members[1].accuracy == np.mean(right)
    assert found.plain[1].accuracy == np.mean(plain)
    assert found.members[0].accuracy > max(np.mean(right), np.mean(plain))


def test_one_class_is_enough_and_is_matched_by_name(here, run, tmp_path):
    folder = fresh(tmp_path, ("stripes",), 1)
    answer = here("evaluate", run, "--data", folder, "--json")
    assert measured(answer) == 1
    assert "1 photo of" in answer.err
    (result,) = json.loads(answer.out)["results"]
    assert result["confusion"][2] == [0, 0, 1]
    answer = here("evaluate", run, "--data", folder, "--tta", "2")
    assert f"{run}: accuracy 100.00 % with the mean over 2 views, 100.00 % with the" in answer.err
    (folder / "stripes").rename(folder / "dots")
    answer = here("evaluate", run, "--data", folder)
    assert answer.code == 2
    assert "classes that the network does not know: dots" in answer.err


@pytest.mark.parametrize(
    ("part", "names", "about"),
    [
        (None, "2", "its val part"),
        ("val", "2", "its val part"),
        ("test", "34", "its test part"),
        ("train", "1", "its train part"),
        ("all", "1234", "all of them: train and val and test"),
    ],
)
def test_the_parts_of_a_folder_and_of_a_table(tmp_path, part, names, about):
    paths = ("train/a/1.jpg", "val/a/2.jpg", "Test/a/3.jpg", "Test/b/4.jpg")
    touch(tmp_path, *paths)
    table = tmp_path / "m.csv"
    lines = (f"{path},{path.split('/')[1]},{path.split('/')[0]}" for path in paths)
    table.write_text("path,label,split\n" + "\n".join(lines))
    for root in (tmp_path, table):
        if root == tmp_path:
            table.rename(tmp_path / ".m.csv")
        else:
            (tmp_path / ".m.csv").rename(table)
        found = evaluation_set.of_data("DATA", root, part)
        assert found.about == f"of DATA, {about}"
        assert [path[-5] for path, _ in found.photos] == list(names)
        assert all(label == path.split("/")[-2] for path, label in found.photos)


def test_without_val_the_test_part_is_taken_and_said(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "test/a/2.jpg")
    found = evaluation_set.of_data("DATA", tmp_path, None)
    assert [path[-5] for path, _ in found.photos] == ["2"]
    assert found.about == "of DATA, its test part: it has no val part"


@pytest.mark.parametrize("folders", [("val", "cat"), ("test", "cat")])
def test_a_class_called_as_a_part_is_a_class(tmp_path, folders):
    touch(tmp_path, *(f"{name}/deep/1.jpg" for name in folders))
    (photos,) = labelled(tmp_path).values()
    assert {label for _, label in photos} == set(folders)


def test_the_parts_of_mnist_s_files(tmp_path):
    write_idx(tmp_path, "train")
    write_idx(tmp_path, "t10k")
    parts = labelled(tmp_path)
    assert list(parts) == ["train", "test"]
    write_idx(tmp_path, "val")
    parts = labelled(tmp_path)
    assert list(parts) == ["train", "val", "test"]
    assert parts["test"][0][0] == str(tmp_path / "t10k-images-idx3-ubyte.gz#0")
    assert parts["val"][0][0] == str(tmp_path / "val-images-idx3-ubyte.gz#0")


def test_a_part_that_is_not_there_is_an_error(here, run, tmp_path):
    folder = fresh(tmp_path)
    answer = here("evaluate", run, "--data", folder, "--part", "test")
    assert answer.code == 2
    assert f"--part test: {folder} has no test part" in answer.err
    assert "hint: it has no parts; leave --part out" in answer.err
    answer = here("evaluate", run, "--part", "test")
    assert answer.code == 2
    assert f"{run} has train and val photos only" in answer.err
    assert "--part test" in answer.err.splitlines()[-1]
    answer = here("evaluate", run, "--part", "foo")
    assert answer.err.splitlines()[-2:] == [
        "error: --part foo: there is no such part",
        "hint: it is val, test, train or all; leave --part out for val, or what there is",
    ]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("/no/such/path", "there is no run folder /no/such/path"),
        ("/no/such.onnx", "there is no file /no/such.onnx"),
        ("lenett", "there is no model called 'lenett'; did you mean lenet"),
        ("lenet", "lenet is no run, so it has no photos of its own"),
    ],
)
def test_what_has_no_photos_of_its_own(here, name, what):
    answer = here("evaluate", name)
    assert (answer.code, answer.out) == (2, "")
    assert f"error: {what}" in answer.err


def test_data_without_photos_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no class folders with photos"):
        labelled(touch(tmp_path, "1.jpg"))
    with pytest.raises(DataError, match="does not exist"):
        labelled(tmp_path / "gone")
    with pytest.raises(UsageError, match="is no run"):
        evaluation_set.of_run(str(tmp_path), None)


def test_the_test_part_of_a_table_is_measured_and_never_trained_on(here, photos, tmp_path):
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    parts = ("train", "train", "val", "test")
    lines = [f"{photos / name},{name.split('/')[0]},{parts[n % 4]}" for n, name in enumerate(names)]
    table = tmp_path / "m.csv"
    table.write_text("path,label,split\n" + "\n".join(lines))
    words = ["--weights", "none", "--no-freeze", "--epochs", 1, "-o", tmp_path / "run"]
    assert here("finetune", "lenet", table, *words).code == 0
    kept = ids(tmp_path / "run", "train") | ids(tmp_path / "run", "val")
    assert len(kept) == 27
    assert measured(here("evaluate", tmp_path / "run", "--part", "test", "--json")) == 9
    answer = here("evaluate", tmp_path / "run", "--data", table, "--part", "test", "--json")
    assert measured(answer) == 9
    assert f"9 photos of {table}, its test part" in answer.err
    assert "left out" not in answer.err
    answer = here("evaluate", tmp_path / "run", "--data", table, "--part", "all", "--json")
    assert measured(answer) == 18
