"""Does Grad-CAM show what the answer depends on? Deletion, insertion, and a head without sense.

    python -m benchmarks.explain FOLDER [PHOTOS]

FOLDER has data/imagenet150 and the three weights files; PHOTOS of them are used, evenly taken, or
all. Deletion (Petsiuk et al. 2018,
arXiv:1806.07421): the places of the map go grey, the highest first; the area under the probability
of the class, which falls the faster the better the map is. Insertion: the same places come back
into a blurred photo. Both beside a Gaussian in the middle of the photo, which is where
photographers put things, in pairs; intervals are of 95 %, by Student's t over the photos. Then the
same maps with the head drawn anew (Adebayo et al. 2018, arXiv:1810.03292): rank correlation of what
was and what is. At last the seconds of a map over those of one forward and backward pass.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from scipy import ndimage, stats

from benchmarks.accuracy import ALL
from benchmarks.measure import machine, save
from zoo.data.preprocess import Pixels, Values, fill, normalise
from zoo.data.samples import evenly
from zoo.data.views import plain_view
from zoo.engine.pipeline import answers
from zoo.explain.places import tap
from zoo.explain.saliency import gradcam
from zoo.network import Network, pretrained
from zoo.predict.predictor import Opening, open_predictor

STEPS = 10  # pictures of a curve beside the first
BLUR = 10  # pixels, of the photo into which places come back
TIMED = 16  # photos
ROUNDS = 3


def measured(name: str, weights: Path, photos: list[Path]) -> dict[str, Any]:
    """Return a row of the table."""
    net = pretrained(name, str(weights))
    pixels = np.stack([plain_view(photo, net.preprocess) for photo in photos])
    tapped = tap(net)
    found = gradcam(net, tapped, pixels)
    centre = np.broadcast_to(gaussian(net.preprocess.size), found.maps.shape)
    ratio = cost(net, pixels[:TIMED])
    areas = {}
    for kind in ("deletion", "insertion"):
        both = found.maps, centre
        areas[kind] = [curves(name, weights, pixels, one, found.classes, kind) for one in both]
    return {
        "model": name,
        "photos": len(photos),
        "stage": tapped.stage,
        **{kind: compared(*both) for kind, both in areas.items()},
        "other_head": interval(other_head(net, pixels, found.maps, found.classes)),
        "cost": ratio,
    }


def curves(
    name: str, weights: Path, pixels: Pixels, maps: Values, classes: tuple[int, ...], kind: str
) -> Values:
    """Return the area under each photo's curve, N numbers in 0..1."""
    ours = open_predictor(name, Opening(str(weights)))
    places = [(at, step) for at in range(len(pixels)) for step in range(STEPS + 1)]
    orders = [np.argsort(-one, axis=None, kind="stable") for one in maps]
    grey = fill(ours.preprocess)

    def changed(place: tuple[int, int]) -> Pixels:
        at, step = place
        one = pixels[at]
        first, then = (one, np.full_like(one, grey)) if kind == "deletion" else (blurred(one), one)
        count = round(step / STEPS * orders[at].size)
        copy = first.reshape(-1, 3).copy()
        copy[orders[at][:count]] = then.reshape(-1, 3)[orders[at][:count]]
        return copy.reshape(one.shape)

    values = np.zeros((len(pixels), STEPS + 1))
    for (at, step), row in answers(places, changed, ours.engine):
        values[at, step] = ours.probabilities(row)[classes[at]]  # type: ignore[index]
    return np.trapezoid(values, dx=1 / STEPS, axis=1)


def blurred(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(BLUR)))


def gaussian(side: int) -> Values:
    """Return a Gaussian in the middle, as wide as a quarter of the photo."""
    away = (np.arange(side) - (side - 1) / 2) / (side / 4)
    return np.exp(-(away[:, None] ** 2 + away[None] ** 2) / 2).astype(np.float32)


def compared(ours: Values, centre: Values) -> dict[str, Any]:
    """Return both means, and the difference with its interval."""
    return {
        "gradcam": float(ours.mean()),
        "gaussian": float(centre.mean()),
        "difference": interval(ours - centre),
    }


def interval(values: Values) -> list[float]:
    """Return the mean and the ends of its interval of 95 %."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return [float(values.mean()), float(values.mean() - half), float(values.mean() + half)]


def other_head(net: Network, pixels: Pixels, maps: Values, classes: tuple[int, ...]) -> Values:
    """Return the rank correlation of each map with the one under a head that is drawn anew."""
    head = net.chain.get_submodule(net.spec.head)
    kept = head.weight.detach().clone()
    torch.manual_seed(0)
    with torch.no_grad():
        head.weight.normal_(0, float(kept.std()))
    again = gradcam(net, tap(net), pixels, classes).maps
    with torch.no_grad():
        head.weight.copy_(kept)
    pairs = zip(maps, again, strict=True)
    small = [
        [ndimage.zoom(one, 28 / one.shape[0], order=1).ravel() for one in pair] for pair in pairs
    ]
    found = [
        stats.spearmanr(*pair)[0] if all(np.ptp(one) > 0 for one in pair) else 0 for pair in small
    ]
    return np.array(found)


def cost(net: Network, pixels: Pixels) -> float:
    """Return the CPU seconds of maps over those of one pass forward and back, in one process."""
    tapped = tap(net)
    pictures = torch.from_numpy(np.stack([normalise(one, net.preprocess) for one in pixels]))

    def both_ways() -> None:
        scores = net.chain(pictures).flatten(1)
        scores.max(1).values.sum().backward()
        net.chain.zero_grad()

    def maps() -> None:
        gradcam(net, tapped, pixels)

    seconds: dict[str, list[float]] = {"maps": [], "passes": []}
    for _ in range(ROUNDS):
        for name, function in (("maps", maps), ("passes", both_ways)):
            begin = time.process_time()
            function()
            seconds[name].append(time.process_time() - begin)
    return min(seconds["maps"]) / min(seconds["passes"])


def main() -> int:
    folder = Path(sys.argv[1])
    photos = sorted((folder / "data/imagenet150/val").rglob("*.JPEG"))
    if len(sys.argv) > 2:
        photos = evenly(photos, int(sys.argv[2]))
    rows = []
    for name, file in ALL.items():
        rows.append(measured(name, folder / "weights" / file, photos))
        print(json.dumps(rows[-1]))
        save("explain", machine(), {"steps": STEPS, "rows": rows})
    good = all(
        row["deletion"]["difference"][2] < 0 < row["insertion"]["difference"][1]
        and row["other_head"][2] < 0.5
        and row["cost"] <= 1.5
        for row in rows
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
