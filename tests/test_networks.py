"""What is peculiar to single networks: layers of our own, the bottleneck, stages of training."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from kit import csv_rows
from torch import nn
from torch.nn import functional as F

from zoo import catalog, models
from zoo.errors import UsageError
from zoo.export.onnx import trace
from zoo.models.auxiliary import AuxiliaryHead
from zoo.models.choices import ScaledTanh
from zoo.models.googlenet_2014 import with_auxiliary
from zoo.models.lenet import TABLE, Subsample, TableConv2d
from zoo.models.local import Local2d
from zoo.models.resnet import BasicBlock
from zoo.network import Network, with_head


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def built(name: str, **variant: str | float) -> nn.Sequential:
    return models.build(catalog.find(name), variant=variant)


def weights_of(layer: nn.Module) -> int:
    return dict(layer.named_parameters())["weight"].numel()


# --- detectors, local and shared -------------------------------------------------------------


def test_the_arithmetic_of_the_lectures():
    picture = torch.rand(1, 1, 100, 100)
    local = Local2d(1, 64, 16, stride=84, size=100)  # 4 places with 64 detectors each
    shared = nn.Conv2d(1, 64, 16, stride=84)  # the same 64 at 4 places
    assert local(picture).shape == shared(picture).shape == (1, 64, 2, 2)  # 256 detectors
    assert weights_of(local) == 256 * 256 == 65_536
    assert weights_of(shared) == 64 * 256 == 16_384


def test_local_layer_with_equal_weights_everywhere_is_a_convolution():
    conv = nn.Conv2d(3, 8, 5, stride=2)
    local = Local2d(3, 8, 5, 2, size=13)
    with torch.no_grad():
        local.weight.copy_(conv.weight.flatten(1).T.expand_as(local.weight))
        local.bias.copy_(conv.bias.expand_as(local.bias))
    x = torch.rand(4, 3, 13, 13)
    torch.testing.assert_close(local(x), conv(x))


def test_local_layer_looks_with_other_weights_at_every_place():
    local = Local2d(1, 2, 3, 1, size=5)
    x = torch.rand(1, 1, 5, 5)
    out = local(x)
    place = local.weight[4].T.reshape(2, 1, 3, 3)  # of the middle: row 1, column 1 of 3 x 3
    torch.testing.assert_close(out[:, :, 1, 1], F.conv2d(x[..., 1:4, 1:4], place)[..., 0, 0])


def test_local_and_shared_multiply_equally_often():
    local, shared = catalog.find("local"), catalog.find("shared")
    assert local.macs == shared.macs
    assert local.stages == shared.stages
    assert f"{shared.params:,}" in local.note
    assert f"{local.params:,}" in shared.note


# --- LeNet as published ----------------------------------------------------------------------


def test_scaled_tanh_keeps_one():
    ends = ScaledTanh()(torch.tensor([-1.0, 0.0, 1.0]))
    torch.testing.assert_close(ends, torch.tensor([-1.0, 0.0, 1.0]), atol=1e-4, rtol=0)


def test_table_has_60_pairs_and_every_map_of_s2_is_seen_10_times():
    seen = [number for maps in TABLE for number in maps]
    assert len(TABLE) == 16
    assert len(seen) == 60
    assert {seen.count(number) for number in range(6)} == {10}


def test_pairs_that_the_table_leaves_out_stay_0_in_training():
    chain = built("lenet", activation="tanh", pooling="average", connections="table")
    before = chain.conv2.weight.detach().clone()
    optimizer = torch.optim.AdamW(chain.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        scores = chain(torch.rand(8, 1, 32, 32))
        F.cross_entropy(scores, torch.arange(8)).backward()
        optimizer.step()
    weight = chain.conv2.weight.detach()
    assert isinstance(chain.conv2, TableConv2d)
    linked = weight.abs().sum((2, 3)) > 0
    assert [tuple(np.flatnonzero(row).tolist()) for row in linked.numpy()] == [*TABLE]
    assert (weight != before).sum() == 60 * 25


def test_the_table_changes_nothing_else():
    full, table = built("lenet"), built("lenet", connections="table")
    assert [*table.state_dict()] == [*[*full.state_dict()][:2], "conv2.weight", "conv2.bias",
                                     "conv2.mask", *[*full.state_dict()][4:]]  # fmt: skip
    table.load_state_dict({**full.state_dict(), "conv2.mask": torch.ones(16, 6, 1, 1)})
    x = torch.rand(2, 1, 32, 32)
    assert torch.equal(full(x), table(x))


def test_subsample_starts_as_the_average():
    x = torch.rand(2, 6, 8, 8)
    assert torch.equal(Subsample(6, nn.Identity())(x), F.avg_pool2d(x, 2))


# --- DanNet, the dense networks, those that read --------------------------------------------------


def test_dannet_adds_black_below_and_to_the_right():
    row = catalog.find("dannet")
    black = (0.0 - row.preprocess.mean[0]) / row.preprocess.std[0]
    padded = built("dannet").pad(torch.rand(1, 1, 28, 28))
    assert padded.shape == (1, 1, 29, 29)
    assert (padded[..., 28, :] == black).all()
    assert (padded[..., :, 28] == black).all()


def test_dannet_starts_as_the_paper_says_and_with_relu_as_he():
    for parameter in built("dannet").parameters():
        assert parameter.abs().max() <= 0.05
    weight = built("dannet", activation="relu").fc1.weight
    assert weight.std().item() == pytest.approx((2 / 360) ** 0.5, rel=0.05)


def test_mlp_starts_as_he_or_as_the_lecture():
    he, lecture = built("mlp"), built("mlp", initial="normal")
    assert he.fc1.weight.std().item() == pytest.approx((2 / 784) ** 0.5, rel=0.05)
    assert (he.fc1.bias == 0).all()
    assert lecture.fc1.weight.abs().max() <= 0.2
    assert lecture.fc1.weight.std().item() == pytest.approx(0.088, rel=0.05)  # 0.1, cut off at two
    assert (lecture.fc1.bias == 0.1).all()


def test_norms_come_before_activations_and_dropout_after():
    names = models.stages(built("mlp", norm="batch", dropout=0.25))
    assert names[1:5] == ["fc1", "norm1", "act1", "dropout1"]
    assert names[-3:] == ["act4", "dropout4", "fc5"]
    chain = built("cnn", norm="layer", dropout=0.0)
    assert models.stages(chain)[:4] == ["conv1", "norm1", "act1", "pool1"]
    assert "dropout" not in models.stages(chain)


@pytest.mark.parametrize("name", ["rnn", "lstm"])
def test_recurrent_networks_read_all_rows(name):
    chain = built(name)
    picture = torch.rand(1, 1, 28, 28, requires_grad=True)
    chain(picture).square().sum().backward()
    assert picture.grad is not None
    assert (picture.grad.abs().sum((0, 1, 3)) > 0).all()


def test_lstm_starts_with_open_forget_gates_and_orthogonal_gates():
    layer = built("lstm").lstm.layer
    bias = layer.bias_ih_l0 + layer.bias_hh_l0
    assert bias.tolist() == [0.0] * 128 + [1.0] * 128 + [0.0] * 256
    for gate in layer.weight_hh_l0.chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(128), atol=1e-5, rtol=0)


# --- autoencoders ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["autoencoder", "conv-autoencoder"])
def test_autoencoder_has_a_code_and_gives_a_picture(name):
    row, chain = catalog.find(name), built(name)
    pictures = torch.rand(3, 1, 28, 28)
    encoder = chain[: row.stages.index(row.code) + 1]
    assert encoder(pictures).shape == (3, 32)
    out = chain(pictures)
    assert out.shape == pictures.shape
    assert (out.min() >= 0, out.max() <= 1) == (True, True)


@pytest.mark.parametrize("name", ["autoencoder", "conv-autoencoder"])
def test_encoder_becomes_a_classifier(name):
    row, chain = catalog.find(name), built(name)
    fresh, spec = with_head(chain, row, 7, "linear")
    kept = row.stages[: row.stages.index(row.code) + 1]
    assert spec.stages == (*kept, "head")
    assert (spec.task, spec.head, spec.cut) == ("classify", "head", row.code)
    assert all(fresh.get_submodule(stage) is chain.get_submodule(stage) for stage in kept)
    assert fresh(torch.rand(2, 1, 28, 28)).shape == (2, 7)
    assert tuple(models.stages(chain)) == row.stages
    wide, wide_spec = with_head(fresh, spec, 4, "mlp:50")  # a run of a run
    assert wide(torch.rand(2, 1, 28, 28)).shape == (2, 4)
    assert wide_spec.stages == spec.stages
    assert [type(part).__name__ for part in wide.head] == ["Linear", "ReLU", "Dropout", "Linear"]
    with pytest.raises(UsageError, match="a head 'mlp'"):
        models.replace_head(chain, row, 3, "mlp")


# --- GoogLeNet of 2014, VGG with norms, ResNet-200 ------------------------------------------------


def test_auxiliary_heads_are_there_in_training_only():
    row = catalog.find("googlenet-2014")
    with torch.device("meta"):
        chain = models.build(row)
        full = with_auxiliary(chain, 5)
        picture = torch.rand(2, 3, 224, 224)
    names = models.stages(full)
    assert [name for name in names if name not in row.stages] == ["aux1", "aux2"]
    assert names[names.index("aux1") - 1] == "inc4a"
    assert names[names.index("aux2") - 1] == "inc4d"
    assert tuple(models.stages(chain)) == row.stages
    heads = [part for part in full if isinstance(part, AuxiliaryHead)]
    assert full.train()(picture).shape == (2, 1000)
    assert [head.scores.shape for head in heads] == [(2, 5), (2, 5)]
    full.eval()(picture)
    assert [head.scores for head in heads] == [None, None]
    late = with_auxiliary(chain[row.stages.index("inc4b") :], 5)
    assert [name for name in models.stages(late) if name.startswith("aux")] == ["aux2"]


def test_auxiliary_heads_change_no_answer():
    chain = built("googlenet-2014").eval()
    x = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(with_auxiliary(chain, 5).eval()(x), chain(x))


def test_vggs_norms():
    with torch.device("meta"):
        batch, named, layer = (
            built("vgg16", norm="batch"),
            built("vgg16_bn"),
            built("vgg16", norm="layer"),
        )
    shapes = {name: tensor.shape for name, tensor in named.state_dict().items()}
    assert {name: tensor.shape for name, tensor in batch.state_dict().items()} == shapes
    groups = [part for part in layer.features if isinstance(part, nn.GroupNorm)]
    assert len(groups) == 13
    assert {part.num_groups for part in groups} == {1}


@pytest.mark.slow
def test_resnet200_is_timms():
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        ours, theirs = built("resnet200"), timm.create_model("resnet200")
    shapes = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == shapes


# --- detectors to choose ---------------------------------------------------------------------

LECTURE = {"kernels": "6,12,24", "kernel": "6,5,4", "stride": "1,2,2", "window": 1, "dense": 200}


def shapes(**variant: str | float) -> dict[str, tuple[int, ...]]:
    row = catalog.find("cnn")
    chain = built("cnn", **catalog.check_variant(row, variant))
    return {info.name: info.shape for info in models.describe(chain, row)}


def test_the_lectures_network_has_its_sizes():
    found = shapes(**LECTURE)
    assert found["conv1"] == (6, 28, 28)
    assert found["conv2"] == (12, 14, 14)
    assert found["conv3"] == (24, 7, 7)
    assert (found["flatten"], found["fc1"], found["fc2"]) == ((1176,), (200,), (10,))


def test_padding_keeps_the_size_of_a_map_or_takes_the_kernels_edge_from_it():
    assert shapes(padding="valid", kernel=4, window="3,2")["pool1"] == (32, 8, 8)
    assert shapes(padding="same", kernel=4, window="3,2")["pool1"] == (32, 9, 9)
    assert shapes(kernels=7, stride=3, window=1)["conv1"] == (7, 10, 10)


def test_every_choice_of_the_detectors_is_in_the_network():
    chain = built("cnn", pooling="average", activation="tanh", dropout=0.0, initial="glorot")
    kinds = [type(stage) for stage in chain]
    assert kinds.count(nn.AvgPool2d) == 2
    assert kinds.count(nn.Tanh) == 3
    assert not {nn.MaxPool2d, nn.ReLU, nn.Dropout} & set(kinds)
    assert chain.fc1.weight.std().item() == pytest.approx((2 / (3136 + 1024)) ** 0.5, rel=0.02)
    assert built("cnn", initial="normal").conv2.weight.abs().max() <= 0.2


@pytest.mark.parametrize(
    ("variant", "what", "hint"),
    [
        ({"padding": "valid", "kernel": 15}, "conv2 has detectors of 15 x 15 for maps of 7 x 7",
         "a kernel of at most 7 fits"),
        ({"window": "2,20"}, "pool2 has a window of 20 x 20 for maps of 14 x 14", "at most 14"),
        ({"kernels": "1,1,1,1,1"}, "pool5 has a window of 2 x 2 for maps of 1 x 1", "1 pools"),
        ({"kernel": "5,4,3"}, "kernel=5,4,3 for 2 layers: kernels=32,64", "or 2 with commas"),
        ({"kernal": 3}, "no variant 'kernal'; did you mean kernel", "kernels, kernel, padding"),
        ({"padding": "Sme"}, "did you mean same?", "same, valid"),
        ({"kernels": "8,,8"}, "kernels = '8,,8'", "whole numbers from 1 to 512"),
        ({"kernels": "8," * 8 + "8"}, "kernels", "at most 8 of them"),
        ({"stride": 0}, "stride = 0 for cnn", "from 1 to 28"),
        ({"kernel": 2.5}, "kernel = 2.5", "whole numbers"),
        ({"dense": float("inf")}, "dense = inf", "a whole number from 1 to 8,192"),
        ({"dense": "3,3"}, "dense = '3,3'", "a whole number"),
        ({"dropout": 1}, "dropout = 1 ", "from 0 to below 1"),
    ],
)  # fmt: skip
def test_detectors_that_do_not_fit_are_refused_at_their_stage(variant, what, hint):
    with pytest.raises(UsageError) as error:
        shapes(**variant)
    assert what in error.value.what
    assert hint in error.value.hint


@pytest.mark.slow
def test_chosen_detectors_are_kept_by_the_run_and_all_that_follows(here, photos, tmp_path):
    run, small = tmp_path / "run", {"kernels": "4,6", "kernel": "3", "dense": 20}
    words = [word for name, value in small.items() for word in ("--variant", f"{name}={value}")]
    assert here("train", "cnn", photos, *words, "--epochs", 1, "-o", run).code == 0
    assert json.loads((run / "run.json").read_text())["variant"] == small
    assert "kernels 4,6" in here("info", run).out
    assert here("predict", run, photos, "-o", tmp_path / "rows.csv").code == 0
    assert len(csv_rows(tmp_path / "rows.csv")) == 36
    assert here("export", "onnx", run).code == 0
    again = ["--weights", run, "--epochs", 1, "-o", tmp_path / "again"]
    assert here("finetune", "cnn", photos, "--variant", "padding=same", *again).code == 0
    said = here("finetune", "cnn", photos, "--variant", "kernel=5", "--weights", run)
    assert "has kernel = 3, not 5" in said.err


# --- residual networks without shortcuts -----------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_plain_network_is_the_residual_one_without_its_additions(name):
    with torch.device("meta"):
        residual, plain = built(name), built(name, shortcut="none")
    without = [key for key in residual.state_dict() if ".downsample." not in key]
    assert list(plain.state_dict()) == without


def test_plain_block_gives_what_its_convolutions_give():
    block = BasicBlock(4, 8, 2, adds=False).eval()
    x = torch.randn(2, 4, 6, 6)
    inside = block.relu(block.bn1(block.conv1(x)))
    assert torch.equal(block(x), block.bn2(block.conv2(inside)).relu())


def test_published_weights_of_a_residual_network_are_refused_by_a_plain_one(here, photos):
    for words in ([], ["--weights", "imagenet1k_v1"]):
        said = here("finetune", "resnet18", photos, "--variant", "shortcut=none", *words)
        assert said.code == 2
        assert "were trained with shortcut=added" in said.err
        assert "`zoo train resnet18 PHOTOS --variant shortcut=none`" in said.err


@pytest.mark.slow
def test_plain_network_is_trained_and_used_by_the_next_commands(here, photos, tmp_path):
    run = tmp_path / "run"
    words = ["--variant", "shortcut=none", "--size", 32, "--epochs", 1, "-o", run]
    assert here("train", "resnet18", photos, *words).code == 0
    assert json.loads((run / "run.json").read_text())["variant"] == {"shortcut": "none"}
    assert "shortcut none" in here("info", run).out
    assert here("predict", run, photos, "-o", tmp_path / "rows.csv").code == 0
    assert len(csv_rows(tmp_path / "rows.csv")) == 36
    assert here("export", "onnx", run).code == 0
    said = here("finetune", "resnet18", photos, "--weights", run, "--variant", "shortcut=added")
    assert said.code == 2
    assert "has shortcut = none, not added" in said.err


# --- new kinds of layers as ONNX -------------------------------------------------------------

PUBLISHED = {"activation": "tanh", "pooling": "average", "connections": "table"}
slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("local", {}),
        ("rnn", {}),
        ("lstm", {}),
        ("lenet", PUBLISHED),
        ("conv-autoencoder", {}),
        pytest.param("resnet18", {"shortcut": "none"}, marks=slow),
        pytest.param("autoencoder", {}, marks=slow),
        pytest.param("dannet", {}, marks=slow),
        pytest.param("mlp", {"activation": "softplus", "norm": "layer"}, marks=slow),
        pytest.param("cnn", {"norm": "layer"}, marks=slow),
        pytest.param("googlenet-2014", {}, marks=slow),
    ],
)
def test_exported_network_gives_the_same(name, variant):
    row = catalog.find(name)
    if row.preprocess.size > 64:
        row = replace(row, preprocess=replace(row.preprocess, size=64))
    assert_onnx_agrees(built(name, **variant).eval(), row)


def test_exported_normalised_responses_are_the_same():
    row = catalog.find("googlenet-2014")
    row = replace(row, preprocess=replace(row.preprocess, size=32))
    chain = built("googlenet-2014")[: row.stages.index("norm1") + 1].eval()
    with torch.no_grad():
        chain.conv1.weight *= 100  # else there is nothing to normalise: 1 + 1e-4 of a mean
    assert_onnx_agrees(chain, row)


def assert_onnx_agrees(chain: nn.Sequential, row: catalog.ModelSpec) -> None:
    """ONNX Runtime gives what the chain gives, for batches of any size."""
    import onnxruntime

    network = Network(row, row, chain, row.preprocess, (), {"tag": "none"})
    session = onnxruntime.InferenceSession(
        trace(network).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for count in (1, 3):
        side = row.preprocess.size
        x = torch.rand(count, row.preprocess.channels, side, side)
        with torch.inference_mode():
            expected = chain(x)
        (found,) = session.run(None, {"tensor": x.numpy()})
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4, rtol=1e-4)
