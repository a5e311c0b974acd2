"""Embed: one row of features for each picture, of the stage that was said, and a map of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
import torch
from kit import CLASSES, ROOT, csv_rows, picture
from kit.data import idx
from PIL import Image
from torch import nn

from zoo import models, network
from zoo.cli import main
from zoo.data.preprocess import normalise
from zoo.data.views import plain_view
from zoo.errors import UnknownStage, UsageError
from zoo.machine import one_thread
from zoo.models import cut
from zoo.models.chain import before
from zoo.predict import folder_labels
from zoo.predict.embed import Embedding, Sample, averaged
from zoo.predict.inputs import Input
from zoo.report import projection, scatter
from zoo.run import Run


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory, photos):
    folder = tmp_path_factory.mktemp("runs") / "ae"
    words = ["--epochs", "2", "-o", str(folder)]
    assert main(["train", "autoencoder", str(photos), *words]) == 0
    return folder


def numbers(row):
    return [float(row[name]) for name in row if name[0] == "f" and name[1:].isdecimal()]


def size(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return image.size


def test_the_code_of_an_autoencoder_is_what_leaves_its_bottleneck(here, autoencoder, photos):
    answer = here("embed", autoencoder, photos)
    assert answer.code == 0, answer.err
    found = csv_rows(answer.out)
    assert [row["path"] for row in found][:2] == ["disc/00.png", "disc/01.png"]
    assert [row["label"] for row in found] == [name for name in CLASSES for _ in range(12)]
    assert "32 numbers, what leaves bottleneck (32; flat): the autoencoder's code" in answer.err
    net = network.of_run(Run.open(autoencoder))
    view = normalise(plain_view(photos / "disc/00.png", net.preprocess), net.preprocess)
    names = models.stages(net.chain)
    with torch.inference_mode():
        code = net.chain[: names.index("bottleneck") + 1](torch.from_numpy(view)[None])
    assert numbers(found[0]) == pytest.approx(code[0].tolist(), rel=1e-4, abs=1e-5)


def test_a_classifier_gives_what_its_head_sees_and_any_stage(here, run, photos):
    answer = here("embed", run, photos / "disc")
    net = network.of_run(Run.open(run))
    last = before(net.chain, net.spec.head)
    assert f"what leaves {last}" in answer.err
    assert f"what the head {net.spec.head} sees" in answer.err
    head = net.chain.get_submodule(net.spec.head)
    features = np.array([numbers(row) for row in csv_rows(answer.out)], np.float32)
    assert features.shape == (12, head.in_features)
    with torch.inference_mode():
        scores = head(torch.from_numpy(features)).argmax(1)
    told = [row["label"] for row in csv_rows(here("predict", run, photos / "disc").out)]
    assert [net.classes[k] for k in scores] == told


def test_maps_are_averaged_unless_flat(here, run, photos):
    flat = here("embed", run, photos / "disc", "--stage", "conv1", "--flat")
    mean = here("embed", run, photos / "disc", "--stage", "conv1")
    assert "the mean over 28 x 28 places; --flat keeps all" in mean.err
    whole = np.array([numbers(row) for row in csv_rows(flat.out)]).reshape(12, 6, 28, 28)
    means = np.array([numbers(row) for row in csv_rows(mean.out)])
    assert means == pytest.approx(whole.mean(axis=(2, 3)), abs=1e-4)


def test_formats_say_the_same_and_unreadable_pictures_are_error_rows(here, run, photos, tmp_path):
    folder = tmp_path / "some"
    shutil.copytree(photos / "square", folder / "square")
    whole = (folder / "square/03.png").read_bytes()
    (folder / "square/03.png").write_bytes(whole[: len(whole) // 2])
    for suffix in ("csv", "parquet", "npz"):
        answer = here("embed", run, folder, "-o", tmp_path / f"x.{suffix}", "--picture", "none")
        assert (answer.code, answer.out) == (0, "")
        assert "12 rows" in answer.err
        assert "1 of them an error" in answer.err
    told = csv_rows((tmp_path / "x.csv").read_text())
    table = pyarrow.parquet.read_table(tmp_path / "x.parquet").to_pylist()
    arrays = np.load(tmp_path / "x.npz")
    assert len(told) == len(table) == len(arrays["features"]) == 12
    for number, (text, row) in enumerate(zip(told, table, strict=True)):
        assert text["path"] == row["path"] == arrays["path"][number]
        assert text["status"] == row["status"] == ("error" if number == 3 else "ok")
        assert text["label"] == row["label"] == "square"
        if number == 3:
            assert row["features"] is None
            assert row["error"] == text["error"] != ""
            assert np.isnan(arrays["features"][number]).all()
        else:
            values = np.array(row["features"], np.float32)
            assert (np.array(numbers(text), np.float32) == values).all()
            assert (arrays["features"][number] == values).all()
    assert sorted(os.listdir(tmp_path)) == ["some", "x.csv", "x.npz", "x.parquet"]


def test_the_map_lies_beside_the_output_and_json_says_what_was_done(
    here, autoencoder, photos, tmp_path
):
    answer = here("embed", autoencoder, photos, "-o", tmp_path / "codes.csv", "--json")
    assert answer.code == 0, answer.err
    about = json.loads(answer.out)
    assert about["stage"] == "bottleneck"
    assert (about["features"], about["rows"], about["errors"]) == (32, 36, 0)
    assert about["picture"] == str(tmp_path / "codes.csv.pca.png")
    assert 0 < sum(about["explained"]) <= 1
    assert "coloured by class" in answer.err
    assert size(tmp_path / "codes.csv.pca.png") == (1080, 840)
    words = ["--map", "tsne", "--picture", tmp_path / "near.png"]
    answer = here("embed", autoencoder, photos, "-o", tmp_path / "codes.csv", "--force", *words)
    assert answer.code == 0, answer.err
    assert sorted(os.listdir(tmp_path)) == ["codes.csv", "codes.csv.pca.png", "near.png"]
    before = (tmp_path / "codes.csv.pca.png").read_bytes()
    assert here("embed", autoencoder, photos / "disc", "-o", tmp_path / "codes.npz").code == 0
    assert (tmp_path / "codes.npz.pca.png").exists()
    assert (tmp_path / "codes.csv.pca.png").read_bytes() == before


def test_colours_are_predicted_where_no_class_is_known(here, run, photos, tmp_path):
    for number in range(4):
        picture("disc", number).save(tmp_path / f"{number}.png")
    answer = here("embed", run, tmp_path, "-o", tmp_path / "x.csv")
    assert answer.code == 0, answer.err
    assert "coloured by predicted class" in answer.err
    found = csv_rows((tmp_path / "x.csv").read_text())
    assert [row["label"] for row in found] == [""] * 4
    head = network.of_run(Run.open(run)).chain[-1]
    assert len(numbers(found[0])) == head.in_features  # the scores are not among the features


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-o", "x.json"], "'.json' names no format"),
        (["--map", "umap"], "--map umap: there is no such map\nhint: did you mean tsne?"),
        (
            ["--picture", "x"],
            "--picture x: it has no suffix, which names the format\n"
            "hint: use one of .png, as in x.png",
        ),
        (["--json"], "stdout has the features"),
        (["--stage", "convx"], "did you mean conv"),
        (["--stage", "conv1.0"], "one piece (Conv2d)"),
        (["--weights", "none"], "weights of its own"),
    ],
)
def test_what_does_not_fit_is_refused(here, run, photos, words, says):
    answer = here("embed", run, photos, *words)
    assert (answer.code, answer.out) == (2, "")
    assert says in answer.err


def test_an_exported_file_has_no_stages(here, photos):
    answer = here("embed", "model.onnx", photos)
    assert answer.code == 2
    assert "zoo embed RUN FOLDER" in answer.err


def test_a_stage_is_named_by_dots_and_the_one_before_a_head_is_found():
    chain = nn.Sequential()
    chain.add_module("features", nn.Sequential(nn.Linear(4, 5), nn.ReLU()))
    chain.add_module("classifier", nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)))
    assert before(chain, "classifier.2") == "classifier.1"
    assert before(chain, "classifier.0") == "features"
    assert before(chain, "features.0") == ""
    inputs = torch.randn(3, 4)
    for name in ("features", "features.0", "features.1", "classifier.1"):
        first, rest = cut.halves(chain, name)
        assert torch.equal(rest(first(inputs)), chain(inputs))
        keys = [*first.state_dict(), *rest.state_dict()]
        assert keys == list(chain.state_dict())
    with pytest.raises(UnknownStage, match=r"classifier\.9"):
        cut.halves(chain, "classifier.9")


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((8, 7, 7), (2, 3)), ((7, 7, 8), (1, 2)), ((7, 7, 7), (2, 3)), ((50, 8), (1,)),
     ((8, 1, 1), ()), ((8,), ())],
)  # fmt: skip
def test_what_is_averaged(shape, axes):
    assert averaged(shape)[0] == axes


def test_known_classes(tmp_path):
    pixels = np.zeros((3, 4, 4), np.uint8)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(pixels))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(pixels))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([7, 0, 7], np.uint8)))
    file = str(tmp_path / "t10k-images-idx3-ubyte")
    assert [folder_labels.known(Input(f"{file}#{k}", f"{file}#{k}")) for k in (0, 1, 2)] == [
        "7",
        "0",
        "7",
    ]
    alone = str(tmp_path / "train-images-idx3-ubyte")
    assert folder_labels.known(Input(f"{alone}#0", f"{alone}#0")) == ""
    for shown, label in (
        ("cat/a.png", "cat"), ("train/cat/b/a.png", "cat"), ("a.png", ""), ("val/a.png", "val"),
        ("Val/cat/a.png", "cat"), ("test/cat/a.png", "cat"), ("Training/dog/a.png", "dog"),
    ):  # fmt: skip
        assert folder_labels.known(Input(f"photos/{shown}", shown)) == label
    assert folder_labels.known(Input("photos/cat/a.png", "photos/cat/a.png")) == ""


def test_a_sample_is_fair_in_order_and_bounded():
    sample = Sample(50, 0)
    for number in range(1000):
        sample.add(Embedding(str(number), "ok", features=np.array([number], np.float32)))
    kept = [int(row.path) for row in sample.rows]
    assert kept == sorted(kept)
    assert len(set(kept)) == 50
    assert 400 < np.mean(kept) < 600
    assert sample.features()[:, 0].tolist() == kept


def test_pca_is_the_variance_and_tsne_keeps_neighbours():
    random = np.random.default_rng(0)
    rows = random.normal(size=(60, 5)) * [9, 4, 1, 0.1, 0.1]
    made = projection.project(rows)
    share = np.var(rows, axis=0)
    assert made.explained == pytest.approx(np.sort(share / share.sum())[::-1][:2], rel=0.1)
    assert abs(np.corrcoef(made.points[:, 0], rows[:, 0])[0, 1]) > 0.99
    groups = np.repeat(np.eye(3) * 50, 20, axis=0) + random.normal(size=(60, 3))
    points = projection.project(groups, "tsne", seed=1).points
    centres = points.reshape(3, 20, 2).mean(axis=1)
    nearest = ((points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == np.repeat([0, 1, 2], 20)).all()
    assert (projection.project(groups, "tsne", seed=1).points == points).all()


def test_a_map_has_the_same_bits_whatever_threads_blas_would_take():
    rows = np.random.default_rng(0).standard_normal((600, 300)).astype(np.float32)
    made = projection.project(rows)
    with one_thread():
        assert (projection.project(rows).points == made.points).all()


@pytest.mark.parametrize("method", projection.METHODS)
@pytest.mark.parametrize("rows", [np.zeros((5, 3)), np.arange(5.0)[:, None], np.eye(3)])
def test_rows_that_say_little_still_have_a_map(method, rows):
    made = projection.project(rows, method)
    assert made.points.shape == (len(rows), 2)
    assert np.isfinite(made.points).all()
    with pytest.raises(UsageError, match="2 pictures"):
        projection.project(rows[:2], method)


def test_odd_class_names_and_many_classes_are_drawn(tmp_path):
    names = ["_hidden", "$x^2", "caf\udce9", "猫", "", *(f"class {k}" for k in range(114))]
    points = np.random.default_rng(0).normal(size=(len(names), 2))
    made = projection.Projection(points, ("a", "b"))
    scatter.draw(tmp_path / "a.png", made, names, "a $title_")
    assert size(tmp_path / "a.png") == (1416, 840)  # two further columns of the legend
    groups = scatter.grouped(names)
    assert groups[0].name == "14 other classes"
    assert sorted(row for group in groups for row in group.rows) == list(range(len(names)))
    looks = {(group.colour, group.marker) for group in groups[2:]}
    assert len(looks) == len(groups) - 2 == 104  # but for the others and the unknown
    scatter.draw(tmp_path / "b.png", made, [""] * len(names), "none is known")


@pytest.mark.parametrize("colours", ["class", "error"])
def test_what_a_run_takes_for_another_class_is_on_the_map(here, run, photos, tmp_path, colours):
    root = tmp_path / "in"
    shutil.copytree(photos, root)
    for path in sorted((root / "disc").iterdir())[:4]:  # so many discs are no squares
        path.rename(root / "square" / f"disc-{path.name}")
    (root / "cube").mkdir()
    shutil.copy(photos / "disc/00.png", root / "cube")  # of a class that the run has not
    answers = csv_rows(here("predict", run, root).out)
    wrong = sum(row["path"].split("/")[0] not in (row["label"], "cube") for row in answers)
    assert wrong >= 3
    words = ["--colours", colours, "-o", tmp_path / "map.csv", "--json"]
    said = here("embed", run, root, *words)
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert (found["wrong"], found["judged"]) == (wrong, 36)
    assert f"{wrong} of 36 are taken for another class" in said.err
    assert size(tmp_path / "map.csv.pca.png") == (1080, 840)


def test_groups_by_error_are_what_is_right_wrong_and_not_known():
    groups = scatter.by_error([True, None, False, False])
    assert [group.name for group in groups] == [
        "class not known: 1", "right: 2", "taken for another: 1"
    ]  # fmt: skip
    assert [group.rows for group in groups] == [[1], [2, 3], [0]]
    assert len({group.marker for group in groups[1:]}) == 2


def test_errors_are_of_a_run_that_tells_classes_apart(here, autoencoder, photos, tmp_path):
    said = here("embed", autoencoder, photos, "--colours", "error", "-o", tmp_path / "a.csv")
    assert said.code == 2
    assert "tells none of your classes apart" in said.err


@pytest.mark.slow
def test_neither_the_map_nor_its_libraries_are_loaded_where_none_is_drawn(run, photos):
    code = (
        "import sys, zoo.cli\n"
        f"assert zoo.cli.main(['embed', {str(run)!r}, {str(photos / 'disc')!r}]) == 0\n"
        "names = {name.split('.')[0] for name in sys.modules}\n"
        "assert names.isdisjoint({'matplotlib', 'sklearn', 'pyarrow', 'timm', 'torchvision'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
