"""Views: f(seed, content, number), and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from test_preprocess import photo

from zoo.catalog import Preprocess
from zoo.data.preprocess import apply
from zoo.data.views import AREA, RATIO, crop_box, generator, view

SMALL = Preprocess(size=32)


def draw(number: int, **options: object) -> np.ndarray:
    return view(photo(80, 60), SMALL, number, **{"seed": 0, "digest": "ab", **options})


def test_view_0_is_the_plain_centre_view_whatever_the_seed() -> None:
    for seed in (0, 1):
        assert np.array_equal(draw(0, seed=seed, digest=str(seed)), apply(photo(80, 60), SMALL))


def test_a_view_can_be_drawn_again_alone() -> None:
    first = [draw(number) for number in range(1, 5)]
    assert np.array_equal(draw(3), first[2])
    assert np.array_equal(draw(1), first[0])


def test_number_seed_and_content_each_change_the_view() -> None:
    drawn = [draw(1), draw(2), draw(1, seed=1), draw(1, digest="cd")]
    assert len({pixels.tobytes() for pixels in drawn}) == 4


def test_without_flip_the_rest_of_the_view_is_the_same() -> None:
    pairs = [(draw(number), draw(number, flip=False)) for number in range(1, 13)]
    same = [np.array_equal(a, b) for a, b in pairs]
    assert any(same)
    assert not all(same)
    for (flipped, plain), equal in zip(pairs, same, strict=True):
        assert equal or np.abs(flipped[:, ::-1].astype(int) - plain).max() <= 1


@pytest.mark.parametrize("size", [(80, 60), (1, 1), (5000, 1), (1, 300), (3, 2)])
def test_crop_boxes_lie_inside_the_picture(size: tuple[int, int]) -> None:
    for number in range(200):
        left, upper, right, lower = crop_box(*size, generator("box", number))
        assert 0 <= left < right <= size[0]
        assert 0 <= upper < lower <= size[1]


def test_crop_boxes_have_the_area_and_the_ratio_they_promise() -> None:
    boxes = [crop_box(1000, 1000, generator("box", number)) for number in range(300)]
    areas = [(right - left) * (lower - upper) / 1e6 for left, upper, right, lower in boxes]
    ratios = [(right - left) / (lower - upper) for left, upper, right, lower in boxes]
    assert AREA[0] - 0.1 < min(areas) < AREA[0] + 0.05
    assert AREA[1] - 0.1 < max(areas) <= AREA[1]
    assert RATIO[0] - 0.01 < min(ratios) < 0.85
    assert 1.2 < max(ratios) < RATIO[1] + 0.01
    assert len(set(boxes)) > 290


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (5000, 1), (40, 30)])
def test_any_picture_has_views_at_the_networks_size(size: tuple[int, int], channels: int) -> None:
    preprocess = replace(SMALL, channels=channels)
    for number in range(4):
        pixels = view(Image.new("RGB", size, "gold"), preprocess, number, digest="x")
        assert pixels.shape == (32, 32, channels)
        assert pixels.dtype == np.uint8


def test_known_numbers_stay_as_they_are() -> None:
    """Features on disk are kept under the view's number: the draw must never change silently."""
    assert generator("view", 0, "ab", 1).integers(1 << 32) == 3272647680
    assert crop_box(80, 60, generator("view", 0, "ab", 1)) == (18, 3, 67, 59)
