"""The Preprocess arithmetic, beside torchvision's."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
import pytest
from kit import waves
from PIL import Image

from zoo.catalog import Preprocess
from zoo.catalog.spec import as_flag, as_size
from zoo.data.decode import decode, whole
from zoo.data.preprocess import (
    FILTERS,
    across_then_down,
    apply,
    as_it_is,
    box,
    fill,
    mode,
    normalise,
    padded_size,
    resize,
)
from zoo.models.lazy_compiler import library

IMAGENET = Preprocess()
SIZES = [(500, 375), (375, 500), (640, 481), (1, 1), (5000, 1), (1, 5000), (224, 224), (333, 1000)]


def theirs(image: Image.Image, preprocess: Preprocess = IMAGENET) -> np.ndarray:
    return cropped(image, round(preprocess.size / preprocess.crop), preprocess.size)


def cropped(
    image: Image.Image, resized: int | list[int], size: int | tuple[int, int]
) -> np.ndarray:
    v1 = transforms()
    return np.asarray(v1.Compose([v1.Resize(resized), v1.CenterCrop(size)])(image)).astype(int)


def transforms() -> ModuleType:
    """Return torchvision's transforms, imported where they are needed, without the compiler."""
    return cast(ModuleType, library("torchvision").transforms)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("crop", [0.875, 1.0, 0.95])
def test_crop_box_is_a_centred_square_inside_the_picture(
    width: int, height: int, crop: float
) -> None:
    left, upper, right, lower = box(width, height, replace(IMAGENET, crop=crop))
    side = 224 / round(224 / crop) * min(width, height)
    assert right - left == pytest.approx(side, rel=0.01)
    assert lower - upper == pytest.approx(side, rel=0.01)
    assert 0 <= left <= right <= width
    assert 0 <= upper <= lower <= height
    pixel = 1.01 * side / 224
    assert abs(left + right - width) <= pixel
    assert abs(upper + lower - height) <= pixel


@pytest.mark.parametrize("size", [(96, 224), (224, 96), (100, 150)])
@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (100, 90), (333, 1000)])
def test_a_crop_of_two_sides_is_that_of_the_libraries(
    width: int, height: int, size: tuple[int, int]
) -> None:
    """The picture is made just so small that it covers what is seen, as timm does it."""
    image, preprocess = waves(width, height), replace(IMAGENET, size=size)
    full = [round(side / preprocess.crop) for side in size]
    scale = max(full[0] / height, full[1] / width)
    expected = cropped(image, [int(height * scale + 1e-9), int(width * scale + 1e-9)], size)
    found = apply(image, preprocess)
    assert found.shape == (*size, 3)
    apart = np.abs(found - expected)
    assert apart.max() <= 2  # where a picture grows and Pillow goes down first
    assert (apart > 1).mean() < 1e-3


def test_a_picture_padded_to_two_sides_keeps_its_proportions() -> None:
    preprocess = replace(IMAGENET, fit="pad", size=(64, 128))
    assert padded_size(200, 100, preprocess) == (128, 64)
    assert padded_size(100, 100, preprocess) == (64, 64)
    padded = apply(Image.new("RGB", (300, 100), "red"), preprocess)
    assert (padded[11:53] == (255, 0, 0)).all()
    assert (padded[:10] == fill(preprocess)).all()


def test_a_size_is_one_number_or_two() -> None:
    assert Preprocess.from_dict({"size": 96, "mean": [0.5], "std": [0.5]}).shape == (3, 96, 96)
    wide = Preprocess.from_dict({"size": [96, 160], "mean": [0.5], "std": [0.5]})
    assert (wide.shape, wide.size) == ((3, 96, 160), (96, 160))
    assert Preprocess.from_dict(wide.to_dict()) == wide
    assert as_size("96x96") == as_size([96, 96]) == as_size("96") == 96
    assert as_flag(as_size("96x160")) == "96x160"
    for wrong in ("96x", "1x2x3", "wide"):
        with pytest.raises(ValueError, match=r"size|int"):
            as_size(wrong)


@pytest.mark.parametrize("fit", ["pad", "squash"])
def test_pad_and_squash_take_the_whole_picture(fit: str) -> None:
    assert box(500, 375, replace(IMAGENET, fit=fit)) == (0, 0, 500, 375)


drawn = cache(waves)


@pytest.mark.parametrize("crop", [0.875, 1.0, 224 / 232, 224 / 235])
@pytest.mark.parametrize(
    "size", [(500, 375), (375, 500), (334, 500), (640, 481), (1200, 901), (100, 90), (333, 1000)]
)
def test_crop_equals_torchvision_on_drawn_pictures(size: tuple[int, int], crop: float) -> None:
    preprocess = replace(IMAGENET, crop=crop)
    image = drawn(*size)
    difference = np.abs(apply(image, preprocess) - theirs(image, preprocess))
    assert difference.max() <= 1
    assert difference.mean() < 0.35  # rounding between the passes, where the order differs


def test_crop_equals_torchvision_on_real_photos(shared: Path) -> None:
    files = [
        *(shared / "data" / "hostile").glob("photo_exif*.jpg"),
        *sorted((shared / "data" / "imagenet150" / "val").glob("*/*"))[::3],
        *sorted((shared / "data" / "hymenoptera" / "val").glob("*/*.jpg"))[::5],
    ]
    assert len(files) > 50
    for file in files:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        difference = np.abs(apply(image, IMAGENET) - theirs(image))
        assert difference.max() <= 1, file.name
        assert difference.mean() < 0.35, file.name


def test_squash_is_pillows_own_resize() -> None:
    image = waves(300, 200)
    expected = np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR))
    assert np.abs(apply(image, replace(IMAGENET, fit="squash")) - expected.astype(int)).max() <= 1


def test_one_resize_does_the_two_passes_where_pillow_takes_them_in_this_order() -> None:
    random, shares = np.random.default_rng(5), []
    for number in range(300):
        width, height, wide, high = (int(side) for side in random.integers(8, 400, 4))
        if number % 2:
            wide = high = 224
        left, upper = random.uniform(0, 0.7 * width), random.uniform(0, 0.7 * height)
        part = (left, upper, random.uniform(left + 1, width), random.uniform(upper + 1, height))
        interpolation = list(FILTERS)[number % 4]
        shape = (height, width, 3)
        image = Image.fromarray(random.integers(0, 256, shape, np.uint8))
        how = (wide, high, interpolation)
        ours = np.asarray(across_then_down(whole(image), *how, part)).astype(int)
        across = image.resize((wide, height), FILTERS[interpolation], (left, 0, part[2], height))
        box = (0, upper, wide, part[3])
        difference = np.abs(
            ours - np.asarray(across.resize((wide, high), FILTERS[interpolation], box))
        )
        assert difference.max() <= 1, (shape, how, part)
        shares.append((difference > 0).mean())
        assert shares[-1] < 0.01, (shape, how, part)
    assert np.mean(shares) < 0.0005


def test_pad_keeps_proportions_and_fills_with_the_mean() -> None:
    preprocess = replace(IMAGENET, fit="pad", size=64)
    padded = apply(Image.new("RGB", (200, 100), "red"), preprocess)
    assert (padded[16:48] == (255, 0, 0)).all()
    assert (padded[:16] == fill(preprocess)).all()
    assert (padded[48:] == fill(preprocess)).all()
    assert fill(preprocess) == round(255 * (0.485 + 0.456 + 0.406) / 3)


@pytest.mark.parametrize("size", [1, 32, 224, 299])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_padded_size_fits_and_keeps_proportions(width: int, height: int, size: int) -> None:
    across, down = padded_size(width, height, Preprocess(size=size))
    assert max(across, down) == size
    assert min(across, down) >= 1
    exact = size * min(width, height) / max(width, height)
    assert abs(min(across, down) - max(1.0, exact)) <= 0.5
    assert padded_size(height, width, Preprocess(size=size)) == (down, across)


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (5000, 1), (1, 5000)])
@pytest.mark.parametrize("channels", [1, 3])
def test_odd_shapes_come_out_at_the_networks_size(
    width: int, height: int, fit: str, channels: int
) -> None:
    preprocess = replace(IMAGENET, fit=fit, channels=channels, size=32)
    pixels = apply(Image.new("RGB", (width, height), (200, 200, 200)), preprocess)
    assert pixels.shape == (32, 32, channels)
    assert pixels.dtype == np.uint8
    assert 200 in pixels


def test_grey_input_is_pillows_luma() -> None:
    image = waves(90, 70)
    preprocess = replace(IMAGENET, channels=1, size=32)
    assert mode(preprocess) == "L"
    assert np.array_equal(apply(image, preprocess), apply(image.convert("L"), preprocess))


def test_a_part_overrides_the_box() -> None:
    image = waves(100, 80)
    part = (10, 20, 60, 70)
    for fit in ("crop", "pad", "squash"):
        small = resize(image, replace(IMAGENET, size=50, fit=fit), part)
        assert np.array_equal(np.asarray(small), np.asarray(image.crop(part))), fit


def test_normalise_is_torchvisions() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    v1 = transforms()
    to_float = v1.Compose([v1.ToTensor(), v1.Normalize(IMAGENET.mean, IMAGENET.std)])
    expected = to_float(Image.fromarray(pixels)).numpy()
    ours = normalise(pixels, IMAGENET)
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    assert np.abs(ours - expected).max() < 1e-6


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_the_networks_size_are_taken_as_they_are(fit, channels):
    """The short way gives what the long one gives, and only where it may."""
    random = np.random.default_rng(0)
    exact = Preprocess(
        size=28, crop=1.0, fit=fit, channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels
    )
    pixels = random.integers(0, 256, (28, 28, channels), np.uint8)
    kind = b"P5" if channels == 1 else b"P6"
    data = b"%b\n28 28\n255\n%b" % (kind, pixels.tobytes())
    short = as_it_is(data, exact)
    assert np.array_equal(short, apply(decode(data, mode(exact)), exact))
    assert np.array_equal(short, pixels)
    assert as_it_is(data, replace(exact, size=32)) is None
    assert as_it_is(data[:-1], exact) is None
    assert as_it_is(data, replace(exact, channels=4 - channels)) is None
    if fit == "crop":
        assert as_it_is(data, replace(exact, crop=0.875)) is None
