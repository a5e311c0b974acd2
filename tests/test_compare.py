"""zoo compare: the same photos, what only one run has right, and a verdict in words."""

from __future__ import annotations

import csv
import json
import re
import shutil

import pytest
from kit import CLASSES, picture, write_photos

from zoo.cli import main
from zoo.metrics import holm, mcnemar
from zoo.predict.compare import Compared, apart
from zoo.run import Run


def train(photos, folder, *words):
    plain = ["--weights", "none", "--no-freeze", "--views", "1"]
    words = [*plain, *map(str, words), "-o", str(folder)]
    assert main(["finetune", "lenet", str(photos), *words]) == 0
    return folder


@pytest.fixture(scope="module")
def more(tmp_path_factory):
    """3 classes of 20 pictures."""
    return write_photos(tmp_path_factory.mktemp("data") / "more", each=20)


@pytest.fixture(scope="module")
def trio(more, tmp_path_factory):
    """A run that learned, one that hardly did, and one on another split."""
    root = tmp_path_factory.mktemp("trio")
    split = ("--val-fraction", 0.5, "--batch-size", 6)
    return (
        train(more, root / "long", "--epochs", 50, "--lr", 0.003, *split),
        train(more, root / "short", "--epochs", 1, "--lr", 1e-5, *split),
        train(more, root / "other", "--epochs", 1, "--lr", 1e-5, "--seed", 5, *split),
    )


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def compared(here, *runs):
    answer = here("compare", *runs, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def right(here, run, tmp_path):
    """By path, whether `zoo predict` names the class of a val photo."""
    photos = Run.open(run).labelled("val")
    names = tmp_path / "list.txt"
    names.write_text("\n".join(str(path) for path, _ in photos))
    assert here("predict", run, names, "-o", tmp_path / "out.csv", "--force").code == 0
    given = {row["path"]: row["label"] for row in table(tmp_path / "out.csv")}
    return {str(path): given[str(path)] == label for path, label in photos}


def ids(run, part):
    return {str(path) for path in Run.open(run).photos(part)}


def test_the_counts_and_p_are_those_of_the_predictions(here, trio, tmp_path):
    long, short, _ = trio
    ours, theirs = (right(here, run, tmp_path) for run in (long, short))
    assert ours.keys() == theirs.keys()
    table = [(ours[path], theirs[path]) for path in ours]
    (pair,) = compared(here, long, short)["pairs"]
    assert pair["photos"] == len(table) == 30
    assert pair["both"] == table.count((True, True))
    assert pair["only_first"] == table.count((True, False))
    assert pair["only_second"] == table.count((False, True))
    assert pair["neither"] == table.count((False, False))
    assert pair["left_out"] == 0
    assert pair["p"] == pair["p_alone"] == mcnemar(pair["only_first"], pair["only_second"]) < 0.05
    assert pair["better"] == str(long)
    (mirror,) = compared(here, short, long)["pairs"]
    assert (mirror["only_first"], mirror["p"]) == (pair["only_second"], pair["p"])
    assert mirror["better"] == str(long)


def test_a_run_without_val_csv_is_run_again(here, trio, tmp_path):
    long, short, _ = trio
    assert (long / "val.csv").is_file()
    old = tmp_path / "old"
    shutil.copytree(long, old)
    (old / "val.csv").unlink()
    (pair,) = compared(here, old, short)["pairs"]
    (expected,) = compared(here, long, short)["pairs"]
    assert pair == {**expected, "first": str(old), "better": str(old)}
    (old / "val.csv").write_text("something,else\n1,2\n")
    answer = here("compare", old, short)
    assert answer.code == 2
    assert "val.csv is not what a training writes" in answer.err


def test_photos_that_the_other_was_trained_on_are_left_out(here, trio):
    long, _, other = trio
    (pair,) = compared(here, long, other)["pairs"]
    shared = ids(long, "val") & ids(other, "val")
    torn = (ids(long, "val") & ids(other, "train")) | (ids(other, "val") & ids(long, "train"))
    assert (pair["photos"], pair["left_out"]) == (len(shared), len(torn))
    assert len(shared) > 0
    assert len(torn) > 0
    answer = here("compare", long, other)
    assert f"of {len(shared)} photos ({len(torn)} photos left out, since the other" in answer.out
    assert "each run's own val photos, which are not the same" in answer.err


@pytest.fixture(scope="module")
def moved(more, trio, tmp_path_factory):
    """The runs `short` and `other`, as of photos that lie elsewhere under other names."""
    root = tmp_path_factory.mktemp("moved")
    shutil.copytree(more, root / "photos")
    for path in (root / "photos").rglob("*.png"):
        path.rename(path.with_name(f"x{path.name}"))
    for run in trio[1:]:
        shutil.copytree(run, root / run.name)
        record = json.loads((run / "run.json").read_text())
        record["data"]["root"] = str(root / "photos")
        (root / run.name / "run.json").write_text(json.dumps(record))
        for name in ("index.csv", "val.csv"):
            text = (run / name).read_text()
            (root / run.name / name).write_text(re.sub(r"(?m)^(\w+)/(\d+)", r"\1/x\2", text))
    return root / "short", root / "other"


def numbers(pair):
    return {name: value for name, value in pair.items() if name not in ("first", "second")}


def test_photos_that_were_copied_are_the_same_photos(here, trio, moved, tmp_path):
    long, short, other = trio
    for there, itself in zip(moved, (short, other), strict=True):
        (copied,) = compared(here, long, there)["pairs"]
        (pair,) = compared(here, long, itself)["pairs"]
        assert pair["photos"] > 0
        assert numbers(copied) == numbers(pair)
    shutil.copytree(moved[0], tmp_path / "again")
    (tmp_path / "again/val.csv").unlink()
    (copied,) = compared(here, long, tmp_path / "again")["pairs"]
    assert copied["photos"] == 30


def test_a_copy_has_the_same_label(here, trio, moved, tmp_path):
    turned = tmp_path / "turned"
    shutil.copytree(moved[0], turned)
    text = (turned / "val.csv").read_text()
    (turned / "val.csv").write_text(text.replace(".png,disc,", ".png,stripes,"))
    error = refused(here, trio[0], turned)
    assert re.search(rf"/\d+.png is disc in {trio[0]} and, as /.*/x\d+.png, stripes in", error)


def test_content_that_several_photos_have_is_paired_by_path_alone(here, trio, moved, tmp_path):
    long, twins = trio[0], tmp_path / "twins"
    shutil.copytree(moved[0], twins)
    rows = table(twins / "index.csv")
    first, second = [row for row in rows if (row["split"], row["label"]) == ("val", "disc")][:2]
    text = (twins / "index.csv").read_text()
    (twins / "index.csv").write_text(text.replace(second["sha256"], first["sha256"]))
    (pair,) = compared(here, long, twins)["pairs"]
    assert (pair["photos"], pair["left_out"]) == (28, 0)
    (pair,) = compared(here, moved[0], twins)["pairs"]
    assert (pair["photos"], pair["left_out"]) == (30, 0)


def test_runs_without_digests_are_compared_by_path(here, trio, moved, tmp_path):
    long, short, _ = trio
    old = tmp_path / "old"
    shutil.copytree(short, old)
    lines = (old / "index.csv").read_text().splitlines()
    (old / "index.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    (ours,) = compared(here, long, old)["pairs"]
    (pair,) = compared(here, long, short)["pairs"]
    assert numbers(ours) == numbers(pair)
    assert "have no val photos in common" in refused(here, old, moved[0])


def test_three_runs_are_three_pairs_with_adjusted_p(here, trio):
    found = compared(here, *trio)
    alone = [pair["p_alone"] for pair in found["pairs"]]
    assert [pair["p"] for pair in found["pairs"]] == holm(alone)
    names = [str(run) for run in trio]
    pairs = [(names[0], names[1]), (names[0], names[2]), (names[1], names[2])]
    assert [(pair["first"], pair["second"]) for pair in found["pairs"]] == pairs
    assert here("compare", *trio).out.count("by Holm's method") == 3


def test_the_table_has_the_settings_that_differ(here, trio):
    long, short, _ = trio
    answer = here("compare", long, short)
    header, first, second, *_ = answer.out.splitlines()
    names = ["run", "model", "cut", "epochs", "lr", "val", "photos", "accuracy", "macro-F1"]
    assert header.split() == [*names, "seconds"]
    record = Run.open(long).record
    assert first.split()[:6] == [str(long), "lenet", "-", "50", "0.003", "30"]
    assert first.split()[6] == f"{100 * record['results']['accuracy']:.1f}"
    assert second.split()[3:5] == ["1", "1e-05"]
    rows = compared(here, *trio)["runs"]
    assert [row["settings"]["seed"] for row in rows] == [0, 0, 5]
    assert rows[0]["macro_f1"] == record["results"]["macro_f1"]


def test_the_verdict_is_in_words(here, trio):
    long, short, _ = trio
    (pair,) = compared(here, long, short)["pairs"]
    assert here("compare", long, short).out.splitlines()[-1] == (
        f"of 30 photos {long} is right on {pair['only_first']} where {short} is wrong, {short} on "
        f"{pair['only_second']}: p = {pair['p']:.2g}: evidence that {long} is better"
    )


def test_equal_answers_are_no_evidence(here, trio, tmp_path):
    shutil.copytree(trio[0], tmp_path / "twin")
    answer = here("compare", trio[0], tmp_path / "twin")
    assert answer.out.endswith("on 0: p = 1: no evidence of a difference\n")
    lines = (tmp_path / "twin" / "val.csv").read_text().splitlines()
    (tmp_path / "twin" / "val.csv").write_text("\n".join(lines[:-1]))
    runs = compared(here, trio[0], tmp_path / "twin")["runs"]
    assert [run["val_photos"] for run in runs] == [30, 29]


def test_the_surest_mistakes_come_first_whatever_the_other_run_was_sure_of():
    def run(right, said):
        answers = {path: ("cat", well) for path, well in right.items()}
        return Compared("a", {}, {}, answers, {}, frozenset(), said)

    first = run({"1": True, "2": False}, {"1": ("cat", 0.9), "2": ("dog", 0.6)})
    second = run({"1": False, "2": True}, {"1": ("dog", 0.5), "2": ("cat", 0.7)})
    found = apart(first, second)
    assert [(one.path, one.first_right) for one in found] == [("2", False), ("1", True)]
    assert found[0].said == ("dog", "cat")


def refused(here, *words):
    answer = here("compare", *words)
    assert (answer.code, answer.out) == (2, "")
    what, hint = answer.err.splitlines()[-2:]
    assert what.startswith("error: ")
    assert hint.startswith("hint: ")
    return answer.err


def test_what_cannot_be_compared(here, trio, photos, tmp_path):
    long = trio[0]
    assert "one run has nothing to be compared with" in refused(here, long)
    again = long.parent / "." / long.name
    assert "is given twice" in refused(here, long, f"{again}/")
    assert "is not a run folder" in refused(here, long, tmp_path)
    file = long / "model.safetensors"
    error = refused(here, long, file)
    assert f"{file} is a file, and compare takes run folders" in error
    assert f"its run folder is {long}: `zoo compare {long} RUN`" in error
    (tmp_path / "model.onnx").write_text("")
    assert "measures an exported file" in refused(here, long, tmp_path / "model.onnx")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(trio[1], unfinished)
    record = json.loads((unfinished / "run.json").read_text())
    (unfinished / "run.json").write_text(json.dumps({**record, "status": "started"}))
    assert "--resume" in refused(here, long, unfinished)
    (unfinished / "run.json").write_text(json.dumps({**record, "task": "reconstruct"}))
    assert "has no right and wrong" in refused(here, long, unfinished)
    (unfinished / "run.json").write_text(json.dumps({**record, "threshold": 0.5}))
    assert "gives a photo several labels" in refused(here, long, unfinished)


def test_other_classes_other_photos_and_other_labels(here, trio, tmp_path):
    long = trio[0]
    two = train(write_photos(tmp_path / "two", ("disc", "square")), tmp_path / "a", "--epochs", 1)
    assert "know different classes: stripes" in refused(here, long, two)
    for kind in CLASSES:
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for number in (20, 21):
            picture(kind, number).save(tmp_path / "photos" / kind / f"{number}.png")
    run = train(tmp_path / "photos", tmp_path / "b", "--epochs", 1)
    error = refused(here, long, run)  # the same classes, other photos
    assert f"{long} and {run} have no val photos in common" in error
    assert f"`zoo evaluate {long} {run} --data PHOTOS`" in error
    turned = tmp_path / "turned"
    shutil.copytree(long, turned)
    text = (turned / "val.csv").read_text()
    (turned / "val.csv").write_text(text.replace(".png,disc,", ".png,stripes,"))
    assert f"is disc in {long} and stripes in {turned}" in refused(here, long, turned)
