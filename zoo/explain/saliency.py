"""Where in a picture the reason for a class is: Grad-CAM.

Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", arXiv:1610.02391: each channel of a stage counts as much as the class score rises
with its mean, and where the sum of the channels is negative nothing is shown. For a ViT the patch
tokens are the places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.data.preprocess import Pixels, Values, normalise
from zoo.errors import UsageError
from zoo.explain.places import OCCLUSION, Tapped, device_of
from zoo.network import Network

BATCH = 16  # pictures at a time


@dataclass(frozen=True, slots=True)
class Saliency:
    """N maps, float32 N S S in 0..1, one for each picture and its class.

    A map's highest value is 1; it is 0 everywhere where no place speaks for the class. classes:
    their numbers. scores: N K, what the network gives for all classes, before softmax or sigmoid.
    """

    maps: Values
    classes: tuple[int, ...]
    scores: Values


def gradcam(
    net: Network, tapped: Tapped, pixels: Pixels, classes: Sequence[int] | None = None
) -> Saliency:
    """Return for each picture which of its places speak for a class, by Grad-CAM.

    tapped: where the places are, by `tap`. pixels: uint8 N S S C, pictures as the network's
    Preprocess gives them. classes: a number for each; None: those that the network answers. See
    `must_have_classes`.
    """
    maps, scores = [], []
    chosen: list[int] = []
    for begin in range(0, len(pixels), BATCH):
        some = slice(begin, begin + BATCH)
        one = _batch(net, tapped, pixels[some], None if classes is None else classes[some])
        maps.append(one.maps)
        scores.append(one.scores)
        chosen += one.classes
    if not maps:
        nothing = np.zeros((0, *net.preprocess.shape[1:]), np.float32)
        return Saliency(nothing, (), np.zeros((0, 0), np.float32))
    return Saliency(np.concatenate(maps), tuple(chosen), np.concatenate(scores))


def must_have_classes(net: Network) -> None:
    """Raises UsageError for a network that tells no classes apart, or not by a gradient."""
    from zoo.models.computed import Neighbours

    name = net.spec.name
    if net.spec.task == "reconstruct" or not net.spec.num_classes:
        kind = "gives pictures back" if net.spec.task == "reconstruct" else "gives features"
        raise UsageError(
            f"{name} {kind} and knows no classes, for which a place could speak",
            f"--filters and --maps show its parts; `zoo finetune {name} PHOTOS` gives it classes",
        )
    if isinstance(net.chain.get_submodule(net.spec.head), Neighbours):
        raise UsageError(
            f"the head of {name} compares with known photos: which are the nearest changes in "
            "jumps, and has no gradient to follow",
            OCCLUSION,
        )


def _batch(net: Network, tapped: Tapped, pixels: Pixels, classes: Sequence[int] | None) -> Saliency:
    """Return the maps of a few pictures: one pass forward, and back to the stage only."""
    import torch

    pictures = torch.from_numpy(np.stack([normalise(one, net.preprocess) for one in pixels]))
    with torch.no_grad():
        values = tapped.first(pictures.to(device_of(net.chain)))
    values = values.detach().requires_grad_()
    with torch.enable_grad():
        scores = tapped.rest(values.clone()).flatten(1)  # N K; the clone is for in-place ReLU
        if classes is None:
            wanted = scores.detach().argmax(1)
        else:
            wanted = torch.tensor(classes, device=scores.device)
        own = scores.gather(1, wanted.unsqueeze(1)).sum()
        (slope,) = torch.autograd.grad(own, values)
    with torch.no_grad():
        slope, values = tapped.grid.maps(slope), tapped.grid.maps(values.detach())  # N C H W
        weights = slope.mean((2, 3), keepdim=True)
        maps = (weights * values).sum(1).relu()  # N H W
        maps = tapped.over_picture(maps, (pictures.shape[2], pictures.shape[3]))
        highest = maps.amax((1, 2), keepdim=True)
        maps = torch.where(highest > 0, maps / highest.clamp_min(1e-30), 0.0)
    found = tuple(wanted.tolist())
    return Saliency(maps.cpu().numpy(), found, scores.detach().cpu().numpy())
