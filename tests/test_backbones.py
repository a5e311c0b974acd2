"""Backbones of today: transformers by block, models without classes, heads that are solved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from kit import csv_rows, loaded, saved, settings, tune, write_photos
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file
from torch import nn

from zoo import models, network, weights
from zoo.data.preprocess import normalise
from zoo.data.views import plain_view
from zoo.finetune.describe import lines
from zoo.finetune.prepare import Prepared, prepare
from zoo.models import library
from zoo.models.cut import cut
from zoo.models.sides import feature_shape, is_linear
from zoo.models.sizes import sized
from zoo.run import Run
from zoo.train.param_groups import stage_of

VIT = "timm/test_vit"  # 2 blocks, 160 pixels
HEADLESS = "timm/vit_tiny_patch16_dinov3_qkvb"  # rotary positions


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """3 classes of 6 photos."""
    return write_photos(tmp_path_factory.mktemp("data") / "few", each=6)


def published(name: str, folder: Path, classes: int | None = None) -> tuple[nn.Module, Path]:
    """Return the library's own model, its head of other numbers than 0, and its weights file."""
    torch.manual_seed(3)
    classes = models.resolve(name).num_classes if classes is None else classes
    model = library._construct(name, classes).eval()
    for parameter in model.parameters():
        if not parameter.detach().any():
            nn.init.normal_(parameter, std=0.05)
    path = folder / "published.safetensors"
    save_file({key: tensor.clone() for key, tensor in model.state_dict().items()}, path)
    return model, path


@pytest.fixture(scope="module")
def vit_file(tmp_path_factory) -> Path:
    return published(VIT, tmp_path_factory.mktemp("weights"))[1]


@pytest.fixture(scope="module")
def vit_run(tmp_path_factory, few) -> Path:
    """A run of the small transformer whose head was solved."""
    run = tmp_path_factory.mktemp("runs") / "vit"
    tune(run, settings(VIT, few, views=1))
    return run


# Weights as they are published


@pytest.mark.parametrize(
    "name",
    [
        VIT,
        "timm/test_convnext",
        *(
            pytest.param(slow, marks=pytest.mark.slow)
            for slow in (
                HEADLESS,
                "timm/vit_tiny_patch16_224",
                "timm/vit_small_patch14_dinov2",
                "timm/eva02_tiny_patch14_224",
                "timm/swin_tiny_patch4_window7_224",
                "timm/convnextv2_atto",
                "timm/deit_tiny_distilled_patch16_224",
                "torchvision/vit_b_16",
                "torchvision/swin_t",
            )
        ),
    ],
)
def test_published_weights_load_strictly_and_give_the_librarys_numbers(tmp_path, name):
    model, file = published(name, tmp_path)
    net = network.pretrained(name, str(file))
    assert net.said_of_file == ""
    spec = net.spec
    chain = net.chain.eval()
    side = spec.preprocess.size
    x = torch.randn(1, 3, side, side)
    with torch.inference_mode():
        if spec.num_classes:
            assert torch.equal(chain(x.clone()), model(x.clone()))
        else:  # the head is new
            features = cut(chain, spec.cut).frozen(x.clone())
            theirs = model(x.clone())
            if theirs.shape == features.shape:
                assert torch.equal(features, theirs)
            else:  # its classifier is more than one layer
                bare = library._construct(name, 0).eval()
                bare.load_state_dict(model.state_dict(), strict=False)
                assert torch.equal(features, bare(x.clone()))


@pytest.mark.slow
def test_a_file_without_its_classifier_is_enough_to_fine_tune(tmp_path, few):
    model, bare = published(VIT, tmp_path, 0)
    start = network.pretrained(VIT, str(bare), except_head=True)
    x = torch.randn(1, 3, 160, 160)
    with torch.inference_mode():
        features = cut(start.chain.eval(), start.spec.cut).frozen(x)
        assert torch.equal(features, model(x))
    tune(tmp_path / "run", settings(VIT, few, weights=str(bare), views=1))
    assert Run.open(tmp_path / "run").record["phases"][0]["solver"] == "lbfgs"


# Cuts and what is trained behind them


@pytest.mark.slow
def test_a_cut_inside_a_classifier_takes_the_activation_behind_it_along(tmp_path, few):
    """The head is solved on what it will see: else the run would answer otherwise than it said."""
    name = "torchvision/mobilenet_v3_small"  # Linear, Hardswish, Dropout, Linear
    tune(tmp_path / "run", settings(name, few, cut="classifier.0", views=1))
    run = Run.open(tmp_path / "run").finished()
    record = run.record
    assert (record["cut"], record["boundary"]) == ("classifier.0", "classifier.1")
    assert record["phases"][0]["solver"] == "lbfgs"
    net = network.of_run(run)
    for row in csv_rows(tmp_path / "run" / "val.csv"):
        pixels = plain_view(str(few / row["path"]), net.preprocess)
        x = torch.from_numpy(normalise(pixels, net.preprocess))[None]
        with torch.inference_mode():
            answer = net.chain.eval()(x)[0].softmax(0)
        best = int(answer.argmax())
        assert net.classes[best] == row["predicted"]
        assert float(answer[best]) == pytest.approx(float(row["probability"]), abs=2e-3)


def test_only_the_last_layer_counts_as_linear():
    spec = models.resolve("alexnet")
    chain = models.replace_head(models.build(spec), spec, 3)
    for place, linear in (("classifier.4", True), ("classifier.2", False), ("features", False)):
        parts = cut(chain, place)
        shape = feature_shape(parts, spec.preprocess)
        assert is_linear(parts, chain, spec.head, shape) == linear, place
    assert isinstance(list(cut(chain, "classifier.4").frozen.modules())[-1], nn.ReLU)


def line(made: Prepared, what: str) -> str:
    return next(f"{line.value}; {line.reason}" for line in lines(made.plan) if line.what == what)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (VIT, "cut norm: the last block and its norm"),
        ("timm/test_convnext", "cut pool: the last convolutional stage and its norm"),
        ("timm/test_resnet", "cut layer4: the last convolutional stage;"),
        pytest.param(
            *("torchvision/mobilenet_v3_small", "cut classifier.2: the last layer before the head"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_reason_of_a_cut_is_true_and_features_are_pooled(few, name, why):
    made = prepare(settings(name, few))
    assert why in line(made, "frozen")
    assert made.plan.solver == "lbfgs"
    width = made.plan.facts.per_class - 1
    assert made.plan.cut.feature_bytes == 4 * width


def test_a_cut_between_blocks_trains_the_rest_at_falling_rates(tmp_path, few, vit_file):
    chosen = settings(VIT, few, weights=str(vit_file), cut="blocks.0", views=1, epochs=2)
    made = prepare(chosen)
    assert made.plan.cut.shape == (101, 64)  # a class token and 10 x 10 patches
    assert made.plan.cut.trained.startswith("blocks behind blocks.0, norm")
    tune(tmp_path / "run", chosen)
    before, after = (
        network.pretrained(VIT, str(vit_file)).chain.state_dict(),
        saved(tmp_path / "run"),
    )
    moved = {name for name in before if name in after and before[name].shape == after[name].shape
             and not torch.equal(before[name], after[name])}  # fmt: skip
    assert not any(name.startswith(("embed.", "blocks.0.")) for name in moved)
    assert any(name.startswith("blocks.1.") for name in moved)


@pytest.mark.slow
def test_blocks_are_freed_one_after_another_and_head_then_all(tmp_path, few, vit_file):
    start = {"weights": str(vit_file), "views": 1, "epochs": 3, "size": 32}
    tune(tmp_path / "late", settings(VIT, few, unfreeze="norm@2,blocks.1@3", **start))
    phases = Run.open(tmp_path / "late").record["phases"]
    assert [phase["cut"] for phase in phases] == ["norm", "blocks", "blocks.0"]
    tune(tmp_path / "all", settings(VIT, few, schedule="head-then-all", **start))
    first, then = Run.open(tmp_path / "all").record["phases"]
    assert (first["solver"], then["solver"]) == ("lbfgs", "adamw")


def test_each_block_is_a_stage_to_the_decay_of_the_rate():
    spec = models.resolve(VIT)
    chain = models.build(spec)
    stages = list(dict.fromkeys(stage_of(name, chain) for name, _ in chain.named_parameters()))
    assert stages[0] == "embed"
    assert stages[1:3] == ["blocks.0", "blocks.1"]
    assert stages[-2:] == ["norm", "head"]


# Models without classes


@pytest.mark.parametrize("name", [VIT, pytest.param(HEADLESS, marks=pytest.mark.slow)])
def test_the_network_of_a_run_has_the_head_that_was_solved(tmp_path, few, vit_run, name):
    run = vit_run
    if name != VIT:
        run = tmp_path / "run"
        tune(run, settings(name, few, views=1, size=32))
    net = network.of_run(Run.open(run).finished())
    for row in csv_rows(run / "val.csv"):
        pixels = plain_view(str(few / row["path"]), net.preprocess)
        x = torch.from_numpy(normalise(pixels, net.preprocess))[None]
        with torch.inference_mode():
            answer = net.chain.eval()(x)[0].softmax(0)
        assert net.classes[int(answer.argmax())] == row["predicted"]
        assert float(answer.max()) == pytest.approx(float(row["probability"]), abs=1e-3)


@pytest.mark.slow
def test_a_model_without_classes_goes_through_every_command(tmp_path, few, here):
    run, file = tmp_path / "run", tmp_path / "run.onnx"
    words = ("--weights", "none", "--views", "1", "--size", "64", "-o", run)
    said = here("finetune", HEADLESS, few, *words)
    assert said.code == 0, said.err
    record = Run.open(run).record
    assert (record["cut"], record["phases"][0]["solver"]) == ("norm", "lbfgs")
    assert record["feature_bytes"] == 18 * 4 * 192  # the width of the network
    assert here("export", "onnx", run, "-o", file).code == 0
    ours, theirs = (csv_rows(here("predict", one, few).out) for one in (run, file))
    assert [row["label"] for row in ours] == [row["label"] for row in theirs]
    one = next(path for path in few.rglob("*") if path.is_file())
    embedded = here("embed", HEADLESS, one, "--weights", "none", "-o", tmp_path / "rows.npz")
    assert embedded.code == 0, embedded.err
    assert "the features that the model gives" in embedded.err


def test_a_model_without_classes_is_refused_where_classes_are_wanted(tmp_path, few, here):
    _, weights = published(HEADLESS, tmp_path)
    predict, evaluate = ("predict", HEADLESS, few), ("evaluate", HEADLESS, "--data", few)
    for words in (predict, (*predict, "--weights", weights), evaluate):
        said = here(*words)
        assert said.code == 2
        assert f"{HEADLESS} gives features, not classes" in said.err
        assert f"zoo finetune {HEADLESS} PHOTOS" in said.err
        assert "zoo embed" in said.err
    said = here("info", HEADLESS, "--classes")
    assert (said.code, "gives features, not classes" in said.err) == (2, True)


@pytest.mark.slow
def test_a_run_of_a_network_with_two_heads_is_read_again(tmp_path):
    """Its new head has the name of one of those that published files hold."""
    row = models.resolve("timm/efficientformerv2_s0")
    assert "head.weight" in row.ignore
    chain, spec = network.with_head(models.build(row), row, 3, "linear")
    save_file(chain.state_dict(), tmp_path / "model.safetensors")
    again, _ = network.with_head(models.build(row), row, 3, "linear")
    weights.load(again, spec, tmp_path / "model.safetensors")
    assert torch.equal(again.head.weight, chain.head.weight)


def test_models_without_classes_are_shown(here):
    assert "none: it gives features" in here("info", HEADLESS).out
    listed = here("list", "timm/vit_small_patch14_dinov2*")
    assert listed.code == 0
    assert listed.out.count("features") >= 1


@pytest.mark.slow
def test_a_ranking_takes_models_without_classes(tmp_path, few, here):
    _, weights = published(HEADLESS, tmp_path)
    said = here("rank", few, "--models", f"{HEADLESS}={weights}", "--folds", "2", "--json")
    assert said.code == 0, said.err
    (row,) = json.loads(said.out)["models"]
    assert (row["features"], row["error"]) == (192, "")


# Pictures of another size


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        (VIT, 96, (64,)),
        ("timm/test_resnet", 192, (96,)),
        ("resnet18", 64, (512,)),
    ],
)
@pytest.mark.slow  # of two sides it is in the default suite, and of one in test_finetune
def test_another_size_goes_into_the_run_and_all_that_follows(
    tmp_path, few, here, name, size, shape
):
    run, file = tmp_path / "run", tmp_path / "run.onnx"
    words = ("--weights", "none", "--views", "1", "--size", size, "-o", run)
    said = here("finetune", name, few, *words)
    assert said.code == 0, said.err
    assert f"{size} x {size} RGB" in said.err
    record = Run.open(run).record
    assert record["preprocess"]["size"] == size
    assert network.of_run(Run.open(run)).preprocess.size == size
    assert here("export", "onnx", run, "-o", file).code == 0
    ours, theirs = (csv_rows(here("predict", one, few).out) for one in (run, file))
    assert [row["label"] for row in ours] == [row["label"] for row in theirs]
    assert prepare(settings(name, few, size=size)).plan.cut.shape == shape


@pytest.mark.slow
@pytest.mark.parametrize("name", ["timm/test_resnet", VIT])
def test_a_size_of_two_sides_goes_into_the_run_and_all_that_follows(tmp_path, few, here, name):
    run, file = tmp_path / "run", tmp_path / "run.onnx"
    said = here(
        "finetune", name, few, "--weights", "none", "--views", "2", "--size", "96x160", "-o", run
    )
    assert said.code == 0, said.err
    assert "96 x 160 RGB" in said.err
    assert Run.open(run).record["preprocess"]["size"] == [96, 160]
    net = network.of_run(Run.open(run))
    assert net.preprocess.shape == (3, 96, 160)
    assert "96 x 160 RGB" in here("info", run).out
    assert here("export", "onnx", run, "-o", file).code == 0
    ours, theirs = (csv_rows(here("predict", one, few).out) for one in (run, file))
    assert [row["label"] for row in ours] == [row["label"] for row in theirs]
    assert "96 x 160 RGB" in here("info", file).out
    again = here("finetune", name, few, "--weights", run, "--size", "160x96", "--dry-run")
    assert "160 x 96 RGB" in again.err or "takes 96 x 160 pixels, and not 160 x 96" in again.err


@pytest.mark.parametrize(
    "name",
    [
        VIT,
        *(
            pytest.param(slow, marks=pytest.mark.slow)
            for slow in (HEADLESS, "timm/swin_tiny_patch4_window7_224", "torchvision/vit_b_16",
                         "timm/vit_small_patch14_dinov2")
        ),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*input value tensor is non-contiguous")  # timm's, of Swin:
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")  # as errors they end its loader
def test_published_weights_are_taken_to_another_size_as_the_library_does(tmp_path, name):
    model, file = published(name, tmp_path)
    spec = models.resolve(name)
    size = 2 * spec.preprocess.size // 4 // 14 * 14 if "14" in name else spec.preprocess.size // 2
    row = sized(spec, size)
    net = network.pretrained(row, str(file))
    assert net.preprocess.size == size
    theirs = library._construct(name, spec.num_classes, size).eval()
    state = library.resampled(row, dict(model.state_dict()))
    theirs.load_state_dict(state)
    x = torch.randn(1, 3, size, size)
    with torch.inference_mode():
        chain = net.chain.eval() if spec.num_classes else cut(net.chain.eval(), spec.cut).frozen
        assert torch.equal(chain(x.clone()), theirs(x.clone()))


@pytest.mark.parametrize(
    ("name", "size", "takes"),
    [
        (VIT, 100, "96, 128, 160"),
        (VIT, "100x170", "96x160, 128x192, 160;"),
        ("lenet", 64, "32"),
        ("lenet", "32x64", "it takes 32;"),
        pytest.param("torchvision/vit_b_16", 100, "96, 128, 224", marks=pytest.mark.slow),
    ],
)
def test_a_size_that_a_network_cannot_take_names_some_that_it_takes(few, here, name, size, takes):
    said = here("finetune", name, few, "--weights", "none", "--size", size, "--dry-run")
    assert said.code == 2
    height, _, width = str(size).partition("x")
    assert f"takes no pictures of {height} x {width or height} pixels" in said.err
    assert takes in said.err


@pytest.mark.slow
def test_a_run_is_continued_at_another_size(few, vit_run, here):
    said = here("finetune", VIT, few, "--weights", vit_run, "--size", "96", "--dry-run")
    assert said.code == 0, said.err
    assert "96 x 96 RGB" in said.err


def test_a_better_published_size_is_told(tmp_path, few):
    _, file = published("timm/test_resnet", tmp_path)
    assert library.better_size(models.resolve("timm/resnet18"), "a1_in1k") == 288
    made = prepare(settings("timm/test_resnet", few, weights=str(file)))
    assert "better" not in line(made, "input")
    plan = replace(made.plan, facts=replace(made.plan.facts, better=288))
    said = next(one.reason for one in lines(plan) if one.what == "input")
    assert said.endswith("published as better at 288, and slower: --size 288")


@pytest.mark.slow
def test_a_plan_for_a_known_transformer_takes_no_torch(few, vit_file):
    prepare(settings(VIT, few, weights=str(vit_file), size=96))  # finds out what is to be known
    words = f"{VIT!r}, {str(few)!r}, '--weights', {str(vit_file)!r}, '--size', '96', '--dry-run'"
    modules = loaded(f"from zoo.cli import main; main(['finetune', {words}])")
    assert not modules & {"torch", "timm", "torchvision"}


# Every family that people take today, from photos to a file that predicts


FAMILIES = (
    "vit_small_patch16_dinov3", "vit_small_patch14_dinov2", "vit_base_patch16_siglip_224",
    "vit_base_patch16_clip_224", "vit_tiny_patch16_224", "deit3_small_patch16_224",
    "eva02_tiny_patch14_224", "swin_tiny_patch4_window7_224", "convnext_tiny", "convnextv2_atto",
    "tf_efficientnetv2_b0", "efficientnet_b0", "mobilenetv4_conv_small", "mobilenetv3_small_100",
    "regnety_002", "inception_v3", "coat_lite_tiny", "test_vit2", "test_vit3", "test_vit4",
    "test_convnext", "test_efficientnet", "test_mambaout", "test_maxvit", "test_nfnet",
    "test_byobnet", "rexnet_100", "efficientvit_b0",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["timm/rexnet_100", "torchvision/inception_v3"])
def test_a_small_network_is_trained_on_pooled_features_before_a_dropout(tmp_path, few, here, name):
    words = ("--weights", "none", "--views", "1", "--size", "96", "--head", "mlp:8")
    said = here("finetune", name, few, *words, "--epochs", "2", "-o", tmp_path / "run")
    assert said.code == 0, said.err
    record = Run.open(tmp_path / "run").record
    spec = models.resolve(name)
    width = models.build(spec).get_submodule(spec.head).in_features
    assert record["feature_bytes"] == 18 * 4 * width


@pytest.mark.parametrize("head", ["linear", "mlp:4", "prototype:cosine"])
def test_features_that_are_all_the_same_are_told(tmp_path, here, head):
    photos = tmp_path / "photos"
    for number in range(12):  # the same pixels in other files
        path = photos / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        info = PngInfo()
        info.add_text("number", str(number))
        Image.new("RGB", (32, 32), (90, 40, 10)).save(path, pnginfo=info)
    words = ("--weights", "none", "--views", "1", "--head", head)
    said = here("finetune", VIT, photos, *words, "-o", tmp_path / "run")
    assert said.code == 0, said.err
    assert "tells no photo from another" in said.err


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_goes_from_photos_to_a_file_that_predicts(tmp_path, few, here, name):
    run, file = tmp_path / "run", tmp_path / "run.onnx"
    size = ("--size", "224") if name == "vit_small_patch14_dinov2" else ()  # its own is 518
    words = (f"timm/{name}", few, "--weights", "none", "--views", "1", *size)
    said = here("finetune", *words, "-o", run)
    assert said.code == 0, said.err
    record = Run.open(run).record
    assert [phase["solver"] for phase in record["phases"]] == ["lbfgs"]
    spec = models.resolve(f"timm/{name}")
    head = models.build(spec).get_submodule(spec.head)
    width = getattr(head, "in_features", 0) or head.in_channels
    assert record["feature_bytes"] <= 18 * 4 * width
    assert here("export", "onnx", run, "-o", file).code == 0
    ours, theirs = (csv_rows(here("predict", one, few).out) for one in (run, file))
    assert [row["label"] for row in ours] == [row["label"] for row in theirs]
