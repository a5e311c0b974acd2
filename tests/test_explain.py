"""What a network looks at: maps, fields, patches and dreams."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from kit import Here, names
from PIL import Image

from zoo import network
from zoo.catalog import Preprocess
from zoo.catalog.spec import Size
from zoo.errors import UnknownStage, UsageError
from zoo.explain import dream, filters, matches, occlusion, places, receptive, saliency
from zoo.run import Run

SEED = np.random.default_rng(0)


def noise(net: network.Network, count: int = 2) -> np.ndarray:
    side, channels = net.preprocess.size, net.preprocess.channels
    return SEED.integers(0, 255, (count, side, side, channels), np.uint8)


def test_gradcam_of_a_mean_and_a_linear_layer_is_the_class_activation_map() -> None:
    """There the gradient is the head's row over the number of places (Zhou et al. 2016)."""
    net = network.untrained("resnet18", 5)
    pixels = noise(net)
    tapped = places.tap(net)
    assert tapped.stage == "layer4"
    found = saliency.gradcam(net, tapped, pixels, [3, 1])
    assert found.maps.shape == (2, 224, 224)
    assert found.maps.dtype == np.float32
    pictures = np.stack([saliency.normalise(one, net.preprocess) for one in pixels])
    with torch.inference_mode():
        maps = tapped.first(torch.from_numpy(pictures))
        rows = net.chain.get_submodule("fc").weight[[3, 1]]
        cam = torch.einsum("nchw,nc->nhw", maps, rows).relu()
    cam = cam / cam.amax((1, 2), keepdim=True)
    # The unit in row i looks at the rows about 32 i: every kernel is padded on both sides.
    assert (tapped.down, tapped.across) == ((32, 0), (32, 0))
    np.testing.assert_allclose(found.maps[:, ::32, ::32], cam.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "stage", "axis"),
    [
        ("lenet", "pool1", (2, 2.5)),
        ("alexnet", "features", (32, 31)),
        ("googlenet-2014", "maxpool1", (4, 2)),
    ],
)
def test_the_middle_of_a_place_follows_kernels_strides_and_padding(
    name: str, stage: str, axis: tuple[float, float]
) -> None:
    tapped = places.tap(network.untrained(name, 3), stage)
    assert (tapped.down, tapped.across) == (axis, axis)


def test_maps_lie_between_0_and_1_and_the_answered_class_is_taken() -> None:
    net = network.untrained("lenet")
    pixels = noise(net, 3)
    found = saliency.gradcam(net, places.tap(net), pixels)
    assert found.classes == tuple(found.scores.argmax(1))
    assert found.maps.min() >= 0
    assert all(top in (0, pytest.approx(1)) for top in found.maps.max((1, 2)))


def test_a_gradient_leaves_the_network_as_it_was() -> None:
    net = network.untrained("lenet")
    before = {name: one.clone() for name, one in net.chain.state_dict().items()}
    saliency.gradcam(net, places.tap(net), noise(net))
    assert all(torch.equal(before[name], one) for name, one in net.chain.state_dict().items())
    assert all(one.grad is None and one.requires_grad for one in net.chain.parameters())


@pytest.mark.parametrize(
    ("shape", "size", "said"),
    [
        ((512, 7, 7), 224, places.Grid(7, 7, 512, "CHW")),
        ((7, 7, 768), 224, places.Grid(7, 7, 768, "HWC")),
        ((197, 192), 224, places.Grid(14, 14, 192, "tokens", 1)),
        ((196, 384), 224, places.Grid(14, 14, 384, "tokens")),
        ((1374, 384), 518, places.Grid(37, 37, 384, "tokens", 5)),
        ((512, 1, 1), 224, None),
        ((1000,), 224, None),
        ((32, 6, 10), (96, 160), places.Grid(6, 10, 32, "CHW")),
        ((61, 192), (96, 160), places.Grid(6, 10, 192, "tokens", 1)),
    ],
)
def test_places_of_convolutions_windows_and_tokens(
    shape: tuple[int, ...], size: Size, said: places.Grid | None
) -> None:
    assert places.grid_of(shape, Preprocess(size=size)) == said


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("timm/test_vit", "blocks.4"),
        pytest.param("timm/vit_tiny_patch16_224", "blocks.10", marks=pytest.mark.slow),
    ],
)
def test_a_vit_is_tapped_where_its_patches_still_reach_the_class_token(
    name: str, stage: str
) -> None:
    net = network.untrained(name, 4)
    tapped = places.tap(net)
    assert (tapped.stage, tapped.grid.form) == (stage, "tokens")
    assert saliency.gradcam(net, tapped, noise(net, 1)).maps.max() == pytest.approx(1)


@pytest.mark.slow  # of 88 million numbers
def test_a_vit_whose_head_begins_with_zeros_has_places_and_kernels_all_the_same() -> None:
    net = network.untrained("torchvision/vit_b_32")
    assert (places.tap(net).stage, places.tap(net).grid.form) == ("blocks.10", "tokens")
    assert filters.kernels(net).values.shape == (768, 32, 32, 3)


@pytest.mark.parametrize("name", ["perceptron", "mlp", "rnn", "lstm"])
def test_a_network_without_places_says_what_there_is_instead(name: str) -> None:
    with pytest.raises(UnknownStage, match="no stage before its head") as caught:
        places.tap(network.untrained(name))
    assert "--occlusion" in caught.value.hint


def test_an_autoencoder_knows_no_classes() -> None:
    with pytest.raises(UsageError, match="knows no classes"):
        saliency.must_have_classes(network.untrained("autoencoder"))


def test_a_stage_that_is_not_there_or_has_no_places_names_one_that_does() -> None:
    net = network.untrained("resnet18", 3)
    with pytest.raises(UnknownStage, match="did you mean layer4"):
        places.tap(net, "layer44")
    with pytest.raises(UnknownStage, match="no places") as caught:
        places.tap(net, "avgpool")
    assert "layer4" in caught.value.hint


# Other pictures.


def test_covering_what_a_class_depends_on_is_what_an_occlusion_map_shows() -> None:
    """The answer is the brightness of one quarter: only there the map is above 0."""
    pixels = np.full((28, 28, 1), 200, np.uint8)

    def answers(pictures: object) -> np.ndarray:
        bright = [one[:14, :14].mean() / 255 for one in pictures]  # type: ignore[attr-defined]
        return np.array([[p, 1 - p] for p in bright], np.float32)

    heat = occlusion.occlusion(pixels, 0, answers, 0)
    assert heat.max() == pytest.approx(1)
    assert heat[:10, :10].min() > 0
    assert heat[18:, 18:].max() == 0


def test_kernels_are_the_weights_about_a_half() -> None:
    net = network.untrained("lenet")
    found = filters.kernels(net)
    weights = dict(net.chain.named_parameters())[f"{found.layer}.weight"].detach().numpy()
    assert found.values.shape == (weights.shape[0], *weights.shape[2:], 1)
    signs = np.sign(found.values[..., 0] - 0.5)
    assert (signs == np.sign(weights[:, 0])).all()
    assert filters.kernels(network.untrained("perceptron")).values.shape == (10, 28, 28, 1)
    with pytest.raises(UsageError, match="no kernels on the picture"):
        filters.kernels(network.untrained("lstm"))


@pytest.mark.parametrize(
    ("words", "said"),
    [("conv1:6", "it has 6: conv1:0 to conv1:5"), ("conv1:x", "conv1:0"), ("conv9:1", "conv1")],
)
def test_a_unit_that_is_not_there_is_told_with_those_that_are(words: str, said: str) -> None:
    net = network.untrained("lenet")
    with pytest.raises(UsageError) as caught:
        filters.unit_of(net, words)
    assert said in f"{caught.value.what} {caught.value.hint}"


@pytest.mark.parametrize("stage", ["conv1", "pool1", "conv2", "pool2"])
def test_a_field_is_as_large_as_kernels_and_strides_make_it(stage: str) -> None:
    """r + (k - 1) j and j s for each layer (Araujo et al. 2019, Distill)."""
    net = network.untrained("lenet")
    size, jump = 1, 1
    for name, part in net.chain.named_children():
        if isinstance(part, torch.nn.Conv2d | torch.nn.AvgPool2d | torch.nn.MaxPool2d):
            kernel, stride = (
                one[0] if isinstance(one, tuple) else one for one in (part.kernel_size, part.stride)
            )
            size, jump = size + (kernel - 1) * jump, jump * stride
        if name == stage:
            break
    found = receptive.field_of(net, stage)
    assert found.size == (size, size)
    assert found.whole == (size == 32)
    left, upper, right, lower = found.box
    inside = found.strength[upper:lower, left:right]
    assert inside.sum() == pytest.approx(found.strength.sum())


def test_the_patch_that_excites_a_unit_is_where_its_pattern_is() -> None:
    """A kernel of one bright column finds the only photo with a line, and the line in it."""
    net = network.untrained("lenet")
    layer = net.chain.get_submodule("conv1")
    assert isinstance(layer, torch.nn.Conv2d)
    with torch.no_grad():
        layer.weight[2] = -1
        layer.weight[2, :, :, 2] = 4
        layer.bias[2] = 0  # type: ignore[index]
    pixels = np.full((3, 32, 32, 1), 90, np.uint8)
    pixels[1, 4:12, 20] = 255
    photos = [(f"photo {number}", one) for number, one in enumerate(pixels)]
    found = matches.matches(net, "conv1", 2, photos, 2)
    best = found.best[2][0]
    assert best.file == "photo 1"
    assert best.left <= 20 < best.left + found.side
    assert best.upper <= 8 < best.upper + found.side
    assert len(found.best[2]) == 2
    assert len(matches.matches(net, "conv1", None, photos, 3).best) == 3


def test_a_dream_excites_its_unit_more_than_grey_and_is_the_same_for_its_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dream, "STEPS", 12)
    net = network.untrained("lenet")
    before = {name: one.clone() for name, one in net.chain.state_dict().items()}
    first, again, other = (dream.dream(net, "conv2", 3, seed) for seed in (0, 0, 1))
    assert first.after > first.before
    assert (first.pixels == again.pixels).all()
    assert (first.pixels != other.pixels).any()
    assert first.pixels.shape == (32, 32, 1)
    assert all(torch.equal(before[name], one) for name, one in net.chain.state_dict().items())


def test_a_class_that_is_not_there_is_told_with_those_that_are(run: Path) -> None:
    net = network.of_run(Run.open(run))
    head = net.spec.head
    with pytest.raises(UsageError) as caught:
        filters.unit_of(net, f"{head}:wasp")
    assert caught.value.hint.endswith(f"class: they are {', '.join(net.classes)}")


# The command.


def test_a_photo_that_cannot_be_read_costs_its_own_picture_only(
    here: Here, run: Path, photos: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "in" / "broken.jpg"
    broken.parent.mkdir()
    broken.write_bytes(b"\xff\xd8\xff nothing")
    good = sorted(photos.rglob("*.png"))[:2] or sorted(photos.rglob("*.jpg"))[:2]
    place = tmp_path / "why"
    answer = here("explain", run, good[0], broken, good[1], "-o", place, "--json")
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)["pictures"]
    assert [row["status"] for row in rows] == ["ok", "error", "ok"]
    assert rows[1]["path"] == str(broken)
    for row in (rows[0], rows[2]):
        (told,) = row["classes"]
        assert 0 < told["probability"] <= 1
        with Image.open(row["picture"]) as picture:
            assert picture.width > 2 * 224
    assert len(names(place)) == 3  # two and the sheet
    assert here("explain", run, broken, "-o", tmp_path / "none").code == 2


def test_each_class_that_is_asked_for_gets_a_map(
    here: Here, run: Path, photos: Path, tmp_path: Path
) -> None:
    photo = next(photos.rglob("*.*g"))
    words = ["explain", run, photo, "-o", tmp_path / "a.png", "--json"]
    answer = here(*words, "--class", "disc", "--class", "stripes")
    assert answer.code == 0, answer.err
    (row,) = json.loads(answer.out)["pictures"]
    assert [one["class"] for one in row["classes"]] == ["disc", "stripes"]
    assert names(tmp_path) == ["a.png"]
    wrong = here(*words, "--class", "disk", "--force")
    assert wrong.code == 2
    assert "did you mean disc" in wrong.err


def test_occlusion_of_a_run_and_of_its_exported_file_agree(
    here: Here, run: Path, exported: Path, photos: Path, tmp_path: Path
) -> None:
    told, few = [], [photos / "square" / f"{number:02}.png" for number in range(2)]
    for model in (run, exported):
        words = ["explain", model, *few, "--occlusion", "-o", tmp_path / "o", "--json"]
        answer = here(*words)
        assert answer.code == 0, answer.err
        rows = [row["classes"][0] for row in json.loads(answer.out)["pictures"]]
        told.append(
            [(row["class"], row["peak"] and (row["peak"]["x"], row["peak"]["y"])) for row in rows]
        )
    assert told[0] == told[1]
    assert any(peak for _, peak in told[0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--filters", "--maps", "conv1"], "one thing is drawn at a time"),
        (["--filters", "--class", "disc"], "has no use for it"),
        (["--maps", "conv9"], "did you mean"),
        ([], "no photo to explain"),
        (["-o", "a.jpg"], "written as PNG"),
    ],
)
def test_words_that_do_not_fit_are_told(
    here: Here, run: Path, photos: Path, words: list[str], said: str
) -> None:
    images = [] if not words else [next(photos.rglob("*.*g"))]
    answer = here("explain", run, *images, *words)
    assert answer.code == 2
    assert said in answer.err


def test_what_is_to_be_typed_can_be_typed(
    here: Here, run: Path, photos: Path, tmp_path: Path
) -> None:
    spaced = tmp_path / "mein lauf"
    shutil.copytree(run, spaced)
    for words in (
        ("explain", spaced),
        ("compare", spaced, spaced / "model.safetensors"),
        ("finetune", spaced, tmp_path),
        ("reconstruct", spaced, photos),
    ):
        assert f"'{spaced}'" in here(*words).err.rpartition("hint: ")[2]


def test_an_exported_file_says_that_a_run_is_needed(here: Here, exported: Path) -> None:
    answer = here("explain", exported, "--filters")
    assert answer.code == 2
    assert "has no stages" in answer.err
    assert "--occlusion" in answer.err


def test_maps_and_filters_are_drawn(here: Here, run: Path, photos: Path, tmp_path: Path) -> None:
    photo = next(photos.rglob("*.*g"))
    assert here("explain", run, "--filters", "-o", tmp_path / "f.png").code == 0
    answer = here(
        "explain", run, photo, "--maps", "conv2", "--count", "4", "-o", tmp_path, "--json"
    )
    (row,) = json.loads(answer.out)["pictures"]
    highest = [one["highest"] for one in row["units"]]
    assert len(highest) == 4
    assert highest == sorted(highest, reverse=True)


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["--receptive", "conv2"], {"sheet.png"}),
        (["--match", "conv1:2", "--count", "3"], {"conv1-2.png"}),
        (["--match", "conv1", "--count", "2"], {"sheet.png"}),
        (["--dream", "fc2:disc"], {"fc2-0.png"}),
    ],
)
def test_parts_are_drawn_and_told_in_numbers(
    here: Here, run: Path, photos: Path, tmp_path: Path, words: list[str], written: set[str]
) -> None:
    images = [] if "--dream" in words else [photos / "disc"]
    answer = here("explain", run, *images, *words, "-o", tmp_path / "o", "--json")
    assert answer.code == 0, answer.err
    assert written <= set(names(tmp_path / "o"))
    assert all(row["status"] == "ok" for row in json.loads(answer.out)["pictures"])


def test_a_unit_that_is_missing_or_not_there_ends_with_2(here: Here, run: Path) -> None:
    for words, said in (("conv1", "of which unit"), ("conv1:6", "conv1:5"), ("fc9:0", "fc2")):
        answer = here("explain", run, "--dream", words)
        assert answer.code == 2
        assert said in answer.err


def test_nothing_is_written_beside_the_photos(here: Here, run: Path, tmp_path: Path) -> None:
    Image.new("L", (32, 32)).save(tmp_path / "a.png")
    assert here("explain", run, tmp_path, "-o", tmp_path).code == 2
    assert here("explain", run, tmp_path / "a.png", "-o", tmp_path / "a.png").code == 2
    assert "is a run folder" in here("explain", run, tmp_path / "a.png", "-o", run).err
    assert names(tmp_path) == ["a.png"]
