"""int8: what it does to real networks, what corrects it, and no file that nobody measured."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import zoo
from zoo import network, weights
from zoo.data.preprocess import normalise
from zoo.data.views import plain_view
from zoo.engine import graph, quantise, select
from zoo.engine.exported import SUMS
from zoo.engine.onnx import OnnxModel
from zoo.engine.open_file import doubt_of
from zoo.errors import DisagreementError, Doubtful, ParityError
from zoo.export.int8 import refuse


@pytest.mark.parametrize("groups", [1, 4])
def test_the_shift_of_the_mean_is_that_of_rounding_the_weights(groups):
    """Without a border it is exact: the mean of a sum is the sum of the means."""
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 12, 1, groups=groups, bias=False)
    weight = layer.weight.detach().numpy().copy()
    scale = np.abs(weight.reshape(12, -1)).max(axis=1).reshape(12, 1, 1, 1) / 127
    pictures = torch.rand(5, 8, 6, 6)
    with torch.no_grad():
        exact = layer(pictures)
        layer.weight.copy_(torch.from_numpy(np.round(weight / scale) * scale))
        rounded = layer(pictures)
    mean = pictures.mean(dim=(0, 2, 3)).numpy()
    shift = (rounded - exact).mean(dim=(0, 2, 3)).numpy()
    assert np.abs(shift).max() > 1e-4
    np.testing.assert_allclose(quantise.moved(weight, mean, groups), shift, atol=1e-6)


def test_equal_biases_that_were_one_tensor_are_corrected_apart(tmp_path):
    torch.manual_seed(0)
    chain = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 3), nn.Flatten())
    for layer in (chain[0], chain[2]):
        nn.init.zeros_(layer.bias)
    with quantise.quiet():
        quantise.prepare(graph.to_onnx(chain, (3, 8, 8)), tmp_path / "plain.onnx")
    model = onnx.load(tmp_path / "plain.onnx")
    first, second = (node for node in model.graph.node if node.op_type == "Conv")
    assert first.input[2] == second.input[2]
    photos = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)
    quantise.correct(model, photos)
    first, second = (node for node in model.graph.node if node.op_type == "Conv")
    biases = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    assert not np.allclose(biases[first.input[2]], biases[second.input[2]])
    onnx.checker.check_model(model, full_check=True)


def test_it_computes_in_whole_numbers_and_answers_alike():
    torch.manual_seed(0)
    chain = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ).eval()  # fmt: skip
    model = graph.to_onnx(chain, (3, 16, 16))
    photos = np.random.default_rng(0).random((24, 3, 16, 16), np.float32)
    small = quantise.quantise(model, photos[:16])
    kinds = {tensor.data_type for tensor in onnx.load_from_string(small).graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    (exact,), (ours,) = graph.run(model, photos[16:]), graph.run(small, photos[16:])
    assert not np.array_equal(exact, ours)
    assert np.abs(exact - ours).max() < 0.05 * np.abs(exact).max()


def test_what_cannot_be_read_is_an_error_of_ours():
    with pytest.raises(ParityError, match="cannot be written in int8"):
        quantise.quantise(b"junk", np.zeros((1, 3, 8, 8), np.float32))


def test_below_98_percent_there_is_no_file():
    refuse(98, 100)
    with pytest.raises(DisagreementError, match=r"97 of 100 photos as in fp32: 97\.0 %") as error:
        refuse(97, 100)
    assert "--force" in error.value.hint


def test_a_run_in_int8(here, run, photos, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    answer = here("export", "onnx", folder, "--int8", "--json")
    assert answer.code == 0, answer.err
    proof = json.loads(answer.out)
    assert proof["computes"] == "int8"
    assert proof["agree"] >= 0.98 * proof["photos"] > 0
    assert proof["network_diff"] <= 1e-4
    assert 0 < proof["calibrated"] <= 64
    assert 0 < proof["accuracy"] == pytest.approx(proof["accuracy_fp32"], abs=0.15)
    assert f"calibrated on {proof['calibrated']} photos" in answer.err
    model = OnnxModel(folder / "model-int8.onnx")
    assert model.about["zoo.precision"] == "int8"
    record = json.loads((folder / "run.json").read_text())
    content = {
        "sha256": weights.hash_of(folder / "model-int8.onnx"),
        "model_sha256": record["model_sha256"],
    }
    assert record["exported"]["image-int8"] == {**proof, **content}
    assert proof["calibrated"] == record["data"]["train"] != proof["photos"]
    assert proof["accuracy_fp32"] == pytest.approx(record["results"]["accuracy"])  # of val alone
    kinds = {one.data_type for one in onnx.load(folder / "model-int8.onnx").graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    told = here("predict", folder / "model-int8.onnx", photos)
    assert told.code == 0, told.err
    # Without the training photos no photo is both calibrated and measured on.
    listed = (folder / "index.csv").read_text()
    (folder / "index.csv").write_text(listed.replace(",train,", ",train-that-is-gone,"))
    words = ("export", "onnx", folder, "--int8", "--json", "--force", "-o", tmp_path / "x.onnx")
    proof = json.loads(here(*words).out)
    assert (proof["photos"], proof["calibrated"]) == (3, 3) == (record["data"]["val"] / 2,) * 2


@pytest.mark.slow
def test_an_autoencoder_has_no_classes_to_agree_on(here, photos, tmp_path):
    answer = here("train", "autoencoder", photos, "--epochs", 1, "-o", tmp_path / "run")
    assert answer.code == 0, answer.err
    answer = here("export", "onnx", tmp_path / "run", "--int8")
    assert answer.code == 2
    assert "leave --int8 out" in answer.err


REAL = {
    "timm/mobilenetv2_100": "timm-mobilenetv2_100-keras.pth",
    "torchvision/squeezenet1_1": "squeezenet1_1-caffe.pth",
    "googlenet-2014": "googlenet_bvlc.safetensors",
}


NARROW = select.int8_sums(select.flags()) == "16"


@pytest.mark.parametrize(
    ("processor", "bits"),
    [("sse4_1 avx2 fma", "16"), ("avx2 avx512f", "16"), ("avx2 avx_vnni", "32"),
     ("avx2 avx512f avx512_vnni", "32"), ("asimd asimddp", "32"), ("", "32")],
)  # fmt: skip
@pytest.mark.parametrize("measured", ["16", "32", None])
def test_a_file_in_int8_is_doubted_where_its_sums_are_narrower_than_measured(
    processor, bits, measured
):
    known = processor.split()
    assert select.int8_sums(known) == bits
    about = {"zoo.precision": "int8"} | ({SUMS: measured} if measured else {})
    assert bool(doubt_of(about, known)) == (bits == "16" and measured != "16")
    assert doubt_of(about | {"zoo.precision": "fp16"}, known) == ""
    assert doubt_of({}, known) == ""


@pytest.fixture(scope="module")
def elsewhere(run, tmp_path_factory):
    """A file in int8 that was exported on a processor with wider sums."""
    from zoo.cli import main

    path = tmp_path_factory.mktemp("elsewhere") / "small.onnx"
    assert main(["export", "onnx", str(run), "--int8", "--force", "-o", str(path)]) == 0
    model = onnx.load(path)
    about = {one.key: one.value for one in model.metadata_props}
    assert about[SUMS] == select.int8_sums(select.flags())
    onnx.helper.set_model_props(model, about | {SUMS: "32"})
    onnx.save(model, path)
    return path


@pytest.mark.skipif(not NARROW, reason="sums of int8 are as wide here as anywhere")
def test_every_command_says_once_that_a_file_is_doubted_here(here, elsewhere, photos):
    for words in (
        ["predict", elsewhere, photos / "disc"], ["predict", elsewhere, photos / "disc"],
        ["evaluate", elsewhere, "--data", photos], ["info", elsewhere],
    ):  # fmt: skip
        answer = here(*words)
        assert answer.code == 0, answer.err
        assert answer.err.count(f"warning: {elsewhere} computes in int8") == 1, words
        assert "warning" not in answer.out
    with pytest.warns(Doubtful, match="no VNNI"):
        zoo.load(elsewhere).predict(photos / "disc")


@pytest.mark.slow
@pytest.mark.skipif(NARROW, reason="this processor has no VNNI: sums of int8 overflow")
@pytest.mark.parametrize("name", REAL)
def test_real_networks_answer_nearly_as_before(shared, name):
    """1,000 classes; the calibration is on 50 photos, the measure on 100 others.

    The bounds are a little below what was measured; see benchmarks/results/export.json.
    """
    net = network.pretrained(name, str(shared / "weights" / REAL[name]))
    folder = shared / "data" / "imagenet150"
    with (folder / "labels.csv").open(newline="") as file:
        files = [folder / row["file"] for row in csv.DictReader(file)]
    order = np.random.default_rng(0).permutation(len(files))
    photos = np.stack(
        [normalise(plain_view(files[k], net.preprocess), net.preprocess) for k in order]
    )
    model = graph.to_onnx(net.chain, net.preprocess.shape)
    small = quantise.quantise(model, photos[:50])
    (exact,), (ours,) = graph.run(model, photos[50:]), graph.run(small, photos[50:])
    assert (exact.argmax(axis=1) == ours.argmax(axis=1)).mean() >= 0.9
