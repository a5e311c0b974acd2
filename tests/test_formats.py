"""The formats of export: one table, files that are opened again, none that answers otherwise."""

from __future__ import annotations

import json
import os
import shutil
from importlib.util import find_spec

import numpy as np
import onnx
import pytest
from kit import csv_rows, names
from PIL import Image

from zoo.catalog import Preprocess
from zoo.disk import replacing_all
from zoo.engine.onnx import OnnxModel
from zoo.errors import UsageError, WriteError
from zoo.export.contract import pixels
from zoo.export.formats import FORMATS, find
from zoo.predict.predictor import open_predictor
from zoo.weights.hf_config import config_of


def test_every_row_has_a_module_and_a_command(here):
    listed = here("export", "--help").out
    for row in FORMATS:
        assert row.name in listed
        assert find_spec(f"zoo.export.{row.module}"), row.title
        assert row.what or row.variant
        if row.variant:
            assert f"--{row.variant}" in here("export", row.name, "--help").out


def same_rows(ours, theirs, most):
    """Both tables name the same classes, and nearly as probable."""
    assert [row["label"] for row in ours] == [row["label"] for row in theirs]
    pairs = zip(ours, theirs, strict=True)
    assert max(abs(float(a["probability"]) - float(b["probability"])) for a, b in pairs) <= most


@pytest.mark.parametrize(
    ("words", "file", "most"),
    [
        (["onnx", "--fp16"], "model-fp16.onnx", 0.01),
        pytest.param(
            ["onnx", "--size", "32x32", "--batch", 3],
            "model-32x32-batch3.onnx",
            1e-5,
            marks=pytest.mark.slow,
        ),
        (["openvino"], "model.xml", 1e-4),
        pytest.param(["torch-export"], "model.pt2", 1e-4, marks=pytest.mark.slow),
    ],
    ids=lambda one: one[0] if isinstance(one, list) else None,
)
def test_a_format_is_opened_again_and_answers_alike(tmp_path, run, photos, here, words, file, most):
    folder = shutil.copytree(run, tmp_path / "run")
    done = here("export", words[0], folder, *words[1:], "--json")
    assert done.code == 0, done.err
    proof = json.loads(done.out)
    assert proof["agree"] >= 0.98 * proof["photos"]
    assert proof["latency_ms"] > 0
    assert proof["accuracy"] == pytest.approx(proof["accuracy_fp32"], abs=0.1)
    assert not [name for name in names(folder) if name.endswith(".partial")]
    theirs = here("predict", folder, photos).out
    ours = here("predict", folder / file, photos)
    assert ours.code == 0, ours.err
    same_rows(csv_rows(ours.out), csv_rows(theirs), most)
    assert "disc" in here("info", folder / file).out


def test_other_formats_are_made_of_the_file_that_was_proved(tmp_path, run, here):
    """Not of one that was changed since, or that tells a distance too."""
    folder, said = shutil.copytree(run, tmp_path / "run"), "was compared with the run already"
    assert here("export", "onnx", folder).code == 0
    words = ["export", "onnx", folder, "--size", "32x32", "--json"]
    done = here(*words)
    assert said in done.err
    assert json.loads(done.out)["network_diff"] < 1e-4
    as_it_was = (folder / "run.json").read_text()
    record = json.loads(as_it_was)
    record["exported"]["image"]["distance_diff"] = 1e-4
    (folder / "run.json").write_text(json.dumps(record))
    assert said not in here(*words).err
    (folder / "run.json").write_text(as_it_was)
    with open(folder / "model.onnx", "ab") as file:
        file.write(b" ")
    done = here(*words)
    assert done.code == 0, done.err
    assert said not in done.err


def test_a_file_of_fixed_shapes_computes_no_shapes_and_no_float64(tmp_path, run, photos, here):
    """And of a photo of that size it says what the file for all sizes says."""
    assert here("export", "onnx", run, "-o", tmp_path / "any.onnx").code == 0
    words = ["--size", "48x80", "-o", tmp_path / "fixed.onnx"]
    assert here("export", "onnx", run, *words).code == 0
    model = onnx.load(tmp_path / "fixed.onnx")
    double = onnx.TensorProto.DOUBLE
    assert double not in {one.data_type for one in model.graph.initializer}
    assert not {"Shape", "Range", "Where"} & {node.op_type for node in model.graph.node}
    onnx.checker.check_model(model, full_check=True)
    photo = next(photos.rglob("*.png"))
    small = np.asarray(Image.fromarray(pixels(photo)[0]).resize((80, 48)))[None]
    done = here("predict", tmp_path / "fixed.onnx", photos)
    assert done.code == 0, done.err
    assert done.out.count(",ok,") == len(list(photos.rglob("*.png")))
    ours, theirs = (OnnxModel(tmp_path / f"{name}.onnx").run(small) for name in ("fixed", "any"))
    assert np.abs(ours - theirs).max() < 1e-5
    wide = np.zeros((48, 800, 3), np.uint8)
    wide[:, :80] = 255  # which a crop would not see
    Image.fromarray(wide).save(tmp_path / "wide.png")
    seen = open_predictor(str(tmp_path / "fixed.onnx")).load(tmp_path / "wide.png")
    assert (seen[:, :7] == 255).all()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--size", "48"], "HEIGHTxWIDTH"),
        (["--size", "48x0"], "HEIGHTxWIDTH"),
        (["--int8", "--fp16"], "a file is one of them"),
        (["--unknown", "--fp16"], "any size"),
        (["--size", "64x64", "--input", "tensor"], "leave --size"),
    ],
)
def test_what_is_no_file_is_said_before_anything_is_computed(run, here, words, says):
    done = here("export", "onnx", run, *words)
    assert done.code == 2
    assert says in done.err


@pytest.mark.parametrize("words", [["onnx"], ["hf"], ["openvino"]], ids=" ".join)
def test_nothing_is_written_among_the_photos(run, photos, here, words):
    place = photos / f"new{find(words[0]).suffix}"
    done = here("export", *words, run, "-o", place)
    assert done.code == 2
    assert "inside the photos' folder" in done.err
    assert not place.exists()


def test_the_metadata_are_there_under_the_names_that_others_read(exported):
    import ast

    about = OnnxModel(exported).about
    assert ast.literal_eval(about["names"]) == {0: "disc", 1: "square", 2: "stripes"}
    assert about["task"] == "classify"
    assert ast.literal_eval(about["imgsz"]) == [32, 32]
    model = onnx.load(exported)
    assert (model.producer_name, model.model_version) == ("zoo", 1)
    assert "lenet" in model.doc_string


def test_an_ir_beside_another_bin_is_refused(tmp_path, run, here, photos):
    assert here("export", "openvino", run, "-o", tmp_path / "a.xml").code == 0
    weights = bytearray((tmp_path / "a.bin").read_bytes())
    weights[100] ^= 1
    (tmp_path / "a.bin").write_bytes(weights)
    done = here("predict", tmp_path / "a.xml", photos)
    assert done.code == 2
    assert "is not the one of this file" in done.err


def test_a_program_of_a_stranger_is_never_loaded(tmp_path, photos, here):
    (tmp_path / "theirs.pt2").write_bytes(b"PK\x03\x04 would run code")
    done = here("predict", tmp_path / "theirs.pt2", photos)
    assert done.code == 2
    assert "was not written by zoo on this machine" in done.err


def written(place, *files, fails=False):
    with replacing_all(place) as path:
        for name in files:
            path.with_name(name).write_text(name)
        if fails:
            raise ZeroDivisionError


def test_all_is_written_or_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        written(tmp_path / "a.xml", "a.xml", "a.bin", fails=True)
    assert names(tmp_path) == []
    written(tmp_path / "a.xml", "a.xml", "a.bin")
    assert names(tmp_path) == ["a.bin", "a.xml"]


def folder_written(place):
    with replacing_all(place) as path:
        path.mkdir()
        (path / "config.json").write_text("{}")


def test_a_folder_that_holds_other_files_is_not_replaced(tmp_path):
    folder_written(tmp_path / "hf")
    folder_written(tmp_path / "hf")
    (tmp_path / "hf" / "mine.jpg").write_text("dear")
    with pytest.raises(WriteError, match=r"mine\.jpg"):
        folder_written(tmp_path / "hf")
    assert names(tmp_path) == ["hf"]
    assert names(tmp_path / "hf") == ["config.json", "mine.jpg"]


RECORD = {
    "model": "timm/mobilenetv2_100.ra_in1k", "classes": ["a", "b"], "head": "linear",
    "preprocess": Preprocess(interpolation="bicubic").to_dict(),
    "spec": {"head": "classifier", "stages": ["conv_stem"], "preprocess": {"size": 224}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "resnet18"}, "no network of timm's"),
        ({"head": "mlp:64"}, "its head is mlp:64"),
        ({"threshold": 0.5}, "several labels"),
        ({"variant": {"norm": "batch"}}, "a variant"),
        ({"preprocess": Preprocess(fit="pad").to_dict()}, "fit pad"),
        ({"preprocess": Preprocess(size=(192, 256)).to_dict()}, "two sides"),
    ],
)
def test_what_timm_has_no_equivalent_for_is_refused_with_the_reason(change, says):
    assert config_of(RECORD)["architecture"] == "mobilenetv2_100"
    with pytest.raises(UsageError, match=says):
        config_of(RECORD | change)


@pytest.mark.parametrize("size", [224, 192, 299, 384])
@pytest.mark.parametrize("crop", [0.875, 0.95, 1.0, 224 / 238])
def test_timm_resizes_to_what_zoo_resizes_to(size, crop):
    import math

    from zoo.data.preprocess import full_size

    preprocess = Preprocess(size=size, crop=crop)
    about = config_of(RECORD | {"preprocess": preprocess.to_dict()})["pretrained_cfg"]
    assert math.floor(size / about["crop_pct"]) == full_size(preprocess)[0]


@pytest.fixture(scope="module")
def timm_run(photos, tmp_path_factory):
    from zoo.cli import main

    folder = tmp_path_factory.mktemp("timm") / "run"
    words = ["--weights", "none", "--views", "1", "-o", str(folder)]
    assert main(["finetune", "timm/mobilenetv3_small_050", str(photos), *words]) == 0
    return folder


@pytest.mark.slow
def test_a_run_of_a_timm_model_is_a_folder_that_timm_loads(timm_run, photos, here):
    """The run itself, by its config.json, and what export hf makes; with the weights once."""
    done = here("export", "hf", timm_run, "--json")
    assert done.code == 0, done.err
    proof = json.loads(done.out)
    assert proof["agree"] == proof["photos"]
    assert proof["max_diff"] < 0.01
    assert names(timm_run / "hf") == ["README.md", "config.json", "model.safetensors"]
    mine, linked = (folder / "model.safetensors" for folder in (timm_run, timm_run / "hf"))
    assert os.path.samefile(mine, linked)
    own, theirs = (json.loads((f / "config.json").read_text()) for f in (timm_run, timm_run / "hf"))
    assert own == theirs
    ours = here("predict", timm_run / "hf", photos)
    assert ours.code == 0, ours.err
    same_rows(csv_rows(ours.out), csv_rows(here("predict", timm_run, photos).out), 1e-5)


@pytest.mark.slow
def test_transformers_loads_the_run_with_its_numbers(timm_run, photos, here):
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    pipe = transformers.pipeline("image-classification", model=str(timm_run))
    rows = csv_rows(here("predict", timm_run, photos).out)
    for row in rows[::6]:
        found = pipe(str(photos / row["path"]), top_k=3)
        shares = {one["label"]: one["score"] for one in found}
        assert shares[row["label"]] == pytest.approx(float(row["probability"]), abs=1e-3)


@pytest.mark.slow
def test_all_formats_in_a_table(timm_run, tmp_path, here):
    folder = shutil.copytree(timm_run, tmp_path / "run")
    done = here("export", "--all", folder)
    assert done.code == 0, done.err
    for row in FORMATS:
        told = done.out if row.title in done.out else done.err
        assert row.title in told
    assert find("openvino").file in done.out
