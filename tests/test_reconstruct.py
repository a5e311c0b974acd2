"""Reconstruct: pairs that are what the network saw and gave back, whole folders, true errors."""

from __future__ import annotations

import json
import os
import shutil

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
from zoo.predict.inputs import Input
from zoo.predict.reconstruct import open_reconstructor, to_pixels
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


# Codes.


@pytest.fixture(scope="module")
def narrow(tmp_path_factory, photos):
    """An autoencoder with a code of 5 numbers, the codes of its photos, and what comes of them."""
    folder = tmp_path_factory.mktemp("runs") / "narrow"
    words = ["--epochs", "1", "--variant", "code=5", "-o", str(folder)]
    assert main(["train", "autoencoder", str(photos), *words]) == 0
    shutil.copytree(photos, folder.parent / "in")
    (folder.parent / "in/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def coded(here, run, place):
    assert here("embed", run, run.parent / "in", "-o", place, "--picture", "none").code == 0
    return place


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npz"])
def test_codes_become_the_pictures_that_the_whole_network_gives(here, narrow, tmp_path, suffix):
    assert Run.open(narrow).record["variant"] == {"code": 5}
    codes = coded(here, narrow, tmp_path / f"codes{suffix}")
    answer = here("reconstruct", narrow, codes, "-o", tmp_path / "out", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["pictures"] == 36
    table = csv_rows(tmp_path / "out/pictures.csv")
    assert [row["status"] for row in table].count("error") == 1
    whole = {row.path: row for row in open_reconstructor(str(narrow)).rows(
        Input(str(narrow.parent / "in" / row["path"]), row["path"]) for row in table)}  # fmt: skip
    for row in table:
        if row["status"] == "error":
            assert row["path"] == "broken.png"
            assert row["error"]
            continue
        found = pixels(tmp_path / "out" / row["picture"]).astype(int)
        assert found.shape == (28, 28)
        assert abs(found - whole[row["path"]].after[..., 0]).max() <= 1
    assert pixels(tmp_path / "out/sheet.png").shape[0] == 6 * 152


def test_codes_of_numpy_alone_are_rows(here, narrow, tmp_path):
    np.save(tmp_path / "codes.npy", np.zeros((3, 5)))
    out = tmp_path / "out"
    assert here("reconstruct", narrow, tmp_path / "codes.npy", "-o", out, "--count", 2).code == 0
    table = csv_rows(out / "pictures.csv")
    assert [row["path"] for row in table] == ["row 1", "row 2", "row 3"]
    assert [bool(row["picture"]) for row in table] == [True, True, False]


def codes_of(name, values):
    def write(folder):
        np.save(folder / "codes.npy", values)
        return folder / "codes.npy"

    return pytest.param(write, name, id=name[:12])


def text_of(text, name):
    def write(folder):
        (folder / "codes.csv").write_text(text)
        return folder / "codes.csv"

    return pytest.param(write, name, id=name[:12])


@pytest.mark.parametrize(
    ("write", "what"),
    [
        codes_of("has 3 x 4 numbers, and a code of this network is a row of 5", np.zeros((3, 4))),
        codes_of("has 5 numbers", np.zeros(5)),
        codes_of("has 0 x 5 numbers", np.zeros((0, 5))),
        codes_of("row 2: number 1 is nan", np.array([[0.0] * 5, [np.nan] * 5])),
        codes_of("row 1: number 5 is inf", np.array([[0, 0, 0, 0, np.inf]])),
        codes_of("holds no codes", np.array([["a"] * 5])),
        codes_of("memory-mapped: Python objects", np.array([{}])),
        text_of("f0,f1,f2,f3,f4\n1,2,3,4,five\n", "holds no codes: line 2: could not convert"),
        text_of("f0,f1,f2,f3,f4\n1,2,3\n", "line 2: it has fewer fields"),
        text_of("status,f0,f1,f2,f3,f4\nerror,,,,,\n", "has no code, only errors"),
    ],
)
def test_what_is_no_code_of_this_network_is_refused(here, narrow, tmp_path, write, what):
    answer = here("reconstruct", narrow, write(tmp_path), "-o", tmp_path / "out")
    assert answer.code == 2
    assert what in answer.err
    assert "hint: " in answer.err
    assert not (tmp_path / "out").exists()


def test_files_that_are_none_of_codes_are_refused(here, narrow, run, tmp_path):
    (tmp_path / "codes.npz").write_bytes(b"no archive")
    np.savez(tmp_path / "others.npz", weights=np.zeros((2, 5)))
    for name in ("codes.npz", "others.npz"):
        answer = here("reconstruct", narrow, tmp_path / name, "-o", tmp_path / "out")
        assert (answer.code, "holds no codes" in answer.err) == (2, True)
    np.save(tmp_path / "codes.npy", np.zeros((2, 5)))
    answer = here("reconstruct", run, tmp_path / "codes.npy", "-o", tmp_path / "out")
    assert answer.code == 2
    assert "gives no pictures back" in answer.err
