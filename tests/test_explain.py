"""What a network looks at: maps, fields, patches and dreams."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo import network
from zoo.errors import UnknownStage, UsageError
from zoo.explain import places, saliency

SEED = np.random.default_rng(0)


def noise(net: network.Network, count: int = 2) -> np.ndarray:
    side, channels = net.preprocess.size, net.preprocess.channels
    return SEED.integers(0, 255, (count, side, side, channels), np.uint8)


def test_gradcam_of_a_mean_and_a_linear_layer_is_the_class_activation_map() -> None:
    """There the gradient is the head's row over the number of places (Zhou et al. 2016)."""
    net = network.untrained("resnet18", 5)
    pixels = noise(net)
    found = saliency.gradcam(net, pixels, [3, 1])
    assert found.stage == "layer4"
    assert found.maps.shape == (2, 224, 224)
    assert found.maps.dtype == np.float32
    tapped = places.tap(net)
    pictures = np.stack([saliency.normalise(one, net.preprocess) for one in pixels])
    with torch.inference_mode():
        maps = tapped.first(torch.from_numpy(pictures))
        rows = net.chain.get_submodule("fc").weight[[3, 1]]
        cam = torch.einsum("nchw,nc->nhw", maps, rows).relu()[:, None]
        cam = torch.nn.functional.interpolate(cam, (224, 224), mode="bilinear")[:, 0]
    cam = cam / cam.amax((1, 2), keepdim=True)
    np.testing.assert_allclose(found.maps, cam.numpy(), atol=1e-4)


def test_maps_lie_between_0_and_1_and_the_answered_class_is_taken() -> None:
    net = network.untrained("lenet")
    pixels = noise(net, 3)
    found = saliency.gradcam(net, pixels)
    assert found.classes == tuple(found.scores.argmax(1))
    assert found.maps.min() >= 0
    assert all(top in (0, pytest.approx(1)) for top in found.maps.max((1, 2)))


def test_a_gradient_leaves_the_network_as_it_was() -> None:
    net = network.untrained("lenet")
    before = {name: one.clone() for name, one in net.chain.state_dict().items()}
    saliency.gradcam(net, noise(net))
    assert all(torch.equal(before[name], one) for name, one in net.chain.state_dict().items())
    assert all(one.grad is None and one.requires_grad for one in net.chain.parameters())


@pytest.mark.parametrize(
    ("shape", "side", "said"),
    [
        ((512, 7, 7), 224, places.Grid(7, 7, 512, "CHW")),
        ((7, 7, 768), 224, places.Grid(7, 7, 768, "HWC")),
        ((197, 192), 224, places.Grid(14, 14, 192, "tokens", 1)),
        ((196, 384), 224, places.Grid(14, 14, 384, "tokens")),
        ((1374, 384), 518, places.Grid(37, 37, 384, "tokens", 5)),
        ((512, 1, 1), 224, None),
        ((1000,), 224, None),
    ],
)
def test_places_of_convolutions_windows_and_tokens(
    shape: tuple[int, ...], side: int, said: places.Grid | None
) -> None:
    assert places.grid_of(shape, side) == said


def test_a_vit_is_tapped_where_its_patches_still_reach_the_class_token() -> None:
    net = network.untrained("timm/vit_tiny_patch16_224", 4)
    tapped = places.tap(net)
    assert (tapped.stage, tapped.grid.form) == ("blocks.10", "tokens")
    assert saliency.gradcam(net, noise(net, 1)).maps.max() == pytest.approx(1)


@pytest.mark.parametrize("name", ["perceptron", "mlp", "rnn", "lstm"])
def test_a_network_without_places_says_what_there_is_instead(name: str) -> None:
    with pytest.raises(UnknownStage, match="no stage before its head") as caught:
        saliency.gradcam(network.untrained(name), np.zeros((1, 28, 28, 1), np.uint8))
    assert "--occlusion" in caught.value.hint


def test_an_autoencoder_knows_no_classes() -> None:
    with pytest.raises(UsageError, match="knows no classes"):
        saliency.gradcam(network.untrained("autoencoder"), np.zeros((1, 28, 28, 1), np.uint8))


def test_a_stage_that_is_not_there_or_has_no_places_names_one_that_does() -> None:
    net = network.untrained("resnet18", 3)
    with pytest.raises(UnknownStage, match="did you mean layer4"):
        saliency.gradcam(net, noise(net), stage="layer44")
    with pytest.raises(UnknownStage, match="no places") as caught:
        saliency.gradcam(net, noise(net), stage="avgpool")
    assert "layer4" in caught.value.hint
