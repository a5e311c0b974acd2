"""Reconstruct: pairs that are what the network saw and gave back, whole folders, true errors."""

from __future__ import annotations

import json
import os

import numpy as np
import onnx
import pytest
from kit import csv_rows, picture
from PIL import Image

from zoo import network
from zoo.catalog import Preprocess
from zoo.cli import main
from zoo.data.preprocess import normalise
from zoo.data.views import plain_view
from zoo.engine.onnx import OnnxModel
from zoo.errors import ParityError
from zoo.export import reconstruction
from zoo.export.proof import check
from zoo.predict.reconstruct import to_pixels
from zoo.report import pairs
from zoo.run import Run


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory, photos):
    folder = tmp_path_factory.mktemp("runs") / "ae"
    words = ["--epochs", "3", "--lr", "0.003", "-o", str(folder)]
    assert main(["train", "conv-autoencoder", str(photos), *words]) == 0
    return folder


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_pairs_show_what_went_in_and_came_out(here, autoencoder, photos, tmp_path):
    answer = here("reconstruct", autoencoder, photos, "-o", tmp_path / "pairs", "--count", 6)
    assert answer.code == 0, answer.err
    assert answer.out.strip() == str(tmp_path / "pairs")
    table = csv_rows(tmp_path / "pairs/errors.csv")
    assert len(table) == 36
    assert [row["path"] for row in table] == sorted(row["path"] for row in table)
    drawn = {row["pair"]: row["path"] for row in table if row["pair"]}
    assert len(drawn) == 6
    assert {path.split("/")[0] for path in drawn.values()} == {"disc", "square", "stripes"}
    assert sorted(os.listdir(tmp_path / "pairs")) == sorted([*drawn, "errors.csv", "sheet.png"])
    net = network.of_run(Run.open(autoencoder))
    for name, path in drawn.items():
        pair = pixels(tmp_path / "pairs" / name)
        assert pair.shape == (140, 284)
        assert (pair[::5, :140:5] == plain_view(photos / path, net.preprocess)[..., 0]).all()
        error = np.mean((pair[::5, :140:5] / 255.0 - pair[::5, 144::5] / 255.0) ** 2)
        (row,) = [row for row in table if row["path"] == path]
        assert float(row["mse"]) == pytest.approx(error, rel=0.02, abs=1e-5)
    assert pixels(tmp_path / "pairs/sheet.png").shape == (3 * 152, 2 * 296)


def test_the_mean_over_the_validation_photos_is_what_training_said(here, autoencoder, tmp_path):
    run = Run.open(autoencoder)
    listed = tmp_path / "val.txt"
    listed.write_text("".join(f"{path}\n" for path in run.photos("val")))
    answer = here("reconstruct", autoencoder, listed, "-o", tmp_path / "pairs", "--json")
    found = json.loads(answer.out)
    assert found["mse"] == pytest.approx(run.record["results"]["mse"], rel=1e-4)
    assert found["mae"] == pytest.approx(run.record["results"]["mae"], rel=1e-4)
    table = csv_rows(tmp_path / "pairs/errors.csv")
    assert found["mse"] == pytest.approx(np.mean([float(row["mse"]) for row in table]), rel=1e-4)


def test_every_picture_is_a_row_and_names_never_meet(here, autoencoder, tmp_path):
    root = tmp_path / "in"
    (root / "a").mkdir(parents=True)
    for name in ("a/1.png", "a_1.png", "a_1.bmp", "sheet.png"):
        picture("disc", 2).save(root / name)
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    answer = here("reconstruct", autoencoder, root, "-o", tmp_path / "new/pairs", "--count", 0)
    assert answer.code == 0, answer.err
    assert "1 cannot be read" in answer.err
    table = csv_rows(tmp_path / "new/pairs/errors.csv")
    names = [row["pair"] for row in table]
    assert names == ["a_1.png", "a_1-2.png", "a_1-3.png", "", "sheet-2.png"]
    assert [row["status"] for row in table] == ["ok", "ok", "ok", "error", "ok"]
    assert table[3]["error"]
    assert os.listdir(tmp_path / "new") == ["pairs"]


def test_a_folder_is_never_overwritten_nor_left_half(here, autoencoder, photos, run, tmp_path):
    (tmp_path / "pairs").mkdir()
    answer = here("reconstruct", autoencoder, photos, "-o", tmp_path / "pairs")
    assert answer.code == 2
    assert "exists already" in answer.err
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.png").write_bytes(b"")
    answer = here("reconstruct", autoencoder, tmp_path / "bad", "-o", tmp_path / "new")
    assert (answer.code, answer.out) == (2, "")
    answer = here("reconstruct", run, photos, "-o", tmp_path / "new")
    assert (answer.code, answer.out) == (2, "")
    assert "run of lenet" in answer.err
    assert f"`zoo embed {run} FOLDER`" in answer.err
    with pytest.raises(KeyboardInterrupt), pairs.pair_folder(tmp_path / "new"):
        raise KeyboardInterrupt
    assert sorted(os.listdir(tmp_path)) == ["bad", "pairs"]


def test_predict_and_evaluate_say_what_to_do_instead(here, autoencoder, photos):
    for words in (["predict", autoencoder, photos], ["evaluate", autoencoder]):
        answer = here(*words)
        assert (answer.code, answer.out) == (2, "")
        assert "knows no classes" in answer.err
        for verb in ("zoo reconstruct", "zoo embed", "zoo finetune"):
            assert verb in answer.err


def test_pixels_and_values_are_each_others_opposite():
    preprocess = Preprocess(size=4, mean=(0.1, 0.5, 0.9), std=(0.2, 0.5, 0.3))
    given = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    assert (to_pixels(normalise(given, preprocess), preprocess) == given).all()


def test_an_exported_autoencoder_gives_the_picture_and_its_code(
    here, autoencoder, photos, tmp_path
):
    path = tmp_path / "ae.onnx"
    answer = here("export", "onnx", autoencoder, "-o", path, "--json")
    assert answer.code == 0, answer.err
    proof = json.loads(answer.out)
    assert proof["network_diff"] < 1e-4
    assert proof["max_diff"] < 0.05
    assert proof["photos"] >= 16
    about = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert about["zoo.task"] == "reconstruct"
    model = OnnxModel(path)
    photo = pixels(photos / "disc/00.png")
    rebuilt, codes = model.outputs(np.stack([photo, photo]))
    assert rebuilt.shape == (2, 1, 28, 28)
    assert codes.shape == (2, 32)
    answer = here("predict", path, photos)
    assert (answer.code, answer.out) == (2, "")
    assert "zoo reconstruct RUN FOLDER" in answer.err
    answer = here("export", "onnx", autoencoder, "-o", tmp_path / "bare.onnx", "--input", "tensor")
    assert answer.code == 0, answer.err


@pytest.mark.parametrize("name", ["network_diff", "max_diff", "mean_diff", "code_diff"])
def test_each_tolerance_counts(name):
    good = dict.fromkeys(("network_diff", "max_diff", "mean_diff", "code_diff"), 0.0)
    check(good, reconstruction.TOLERANCES)
    for bad in (0.06, float("nan")):
        with pytest.raises(ParityError, match=name):
            check({**good, name: bad}, reconstruction.TOLERANCES)
