"""Views: f(seed, content, number), and nothing else."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kit import encoded, waves
from PIL import Image

from zoo.catalog import Preprocess
from zoo.data import decode_process
from zoo.data.decode import LARGE, decode, decode_for
from zoo.data.preprocess import KEEP, apply, box, framed, full_size, mode, spare
from zoo.data.views import (
    AREA,
    RATIO,
    LastPhoto,
    crop_box,
    generator,
    numbered_view,
    plain_view,
    view,
    view_of,
)
from zoo.errors import ImageError

SMALL, IMAGENET = Preprocess(size=32), Preprocess()


def draw(number: int, **options: object) -> np.ndarray:
    return view(waves(80, 60), SMALL, number, **{"seed": 0, "digest": "ab", **options})


def test_view_0_is_the_plain_centre_view_whatever_the_seed() -> None:
    for seed in (0, 1):
        assert np.array_equal(draw(0, seed=seed, digest=str(seed)), apply(waves(80, 60), SMALL))


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


@pytest.mark.parametrize("channels", [1, 3])
def test_the_light_of_a_view_changes_by_a_fifth_at_most(channels: int) -> None:
    grey = Image.new("RGB", (40, 40), (100, 100, 100))
    how = replace(SMALL, channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels)
    levels = [int(view(grey, how, number, digest="ab")[0, 0, 0]) for number in range(1, 200)]
    assert 79 <= min(levels) < 84
    assert 116 < max(levels) <= 121


def test_a_numbered_view_is_that_of_the_seed_0_mirrored_or_not() -> None:
    data, mirrored = encoded(waves(80, 60)), 0
    digest = hashlib.sha256(data).hexdigest()
    for number in range(8):
        plain, flipped = (
            view_of(data, SMALL, number, digest=digest, flip=flip) for flip in (False, True)
        )
        for last in (None, LastPhoto()):
            ours = numbered_view(data, number, preprocess=SMALL, last=last)
            assert np.array_equal(ours, flipped)
            ours = numbered_view(data, number, preprocess=SMALL, flip=False, last=last)
            assert np.array_equal(ours, plain)
        mirrored += not np.array_equal(plain, flipped)
    assert 0 < mirrored < 8


def test_a_usual_photo_is_decoded_in_this_process_unless_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began: list[object] = []
    run = decode_process.decoded
    monkeypatch.setattr(
        decode_process, "decoded", lambda *words, **how: began.append(words) or run(*words, **how)
    )
    data = encoded(waves(80, 60), "JPEG")
    here = view_of(data, SMALL, 3, digest="ab")
    assert began == []
    assert np.array_equal(view_of(data, SMALL, 3, digest="ab", apart=True), here)
    assert len(began) == 1


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


def test_crop_boxes_have_the_proportions_of_the_networks_input() -> None:
    boxes = [crop_box(2000, 1000, generator("box", number), 2.0) for number in range(100)]
    ratios = [(right - left) / (lower - upper) for left, upper, right, lower in boxes]
    assert 2 * RATIO[0] - 0.05 < min(ratios)
    assert max(ratios) < 2 * RATIO[1] + 0.05


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


# From a file's bytes: large JPEGs are decoded smaller, all others as they are.


@pytest.fixture(scope="module")
def phone(shared: Path) -> list[bytes]:
    """Real photos enlarged to 3 to 14 megapixels; the last lies on its side."""
    files = sorted((shared / "data" / "imagenet150").glob("*/*/*"), key=lambda f: f.stat().st_size)
    made = []
    for file, side in zip(files[-3:], (1800, 2000, 3000), strict=True):
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        scale = side / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)))
        exif = Image.Exif()
        exif[0x0112] = 6 if side == 3000 else 1
        made.append(io.BytesIO())
        image.save(made[-1], "JPEG", quality=92, exif=exif)
        assert image.width * image.height > LARGE
    return [file.getvalue() for file in made]


@pytest.mark.parametrize(("size", "fit"), [(32, "crop"), (128, "squash"), (224, "pad")])
def test_mean_pixel_error_of_large_photos_is_below_a_fifth(
    phone: list[bytes], size: int, fit: str
) -> None:
    """Of plain views and of crops, beside the same from all of the pixels."""
    preprocess, errors = Preprocess(size=size, fit=fit), []
    for data in phone:
        image = decode(data)
        smaller = 0
        for number in range(3):
            ours = view_of(data, preprocess, number, digest="ab").astype(int)
            errors.append(np.abs(ours - view(image, preprocess, number, digest="ab")).mean())
            part = crop_box(*image.size, generator("view", 0, "ab", number)) if number else None
            smaller += spare(*image.size, preprocess, part) >= 2
        assert smaller or min(image.size) <= 2000
    assert 0 < np.mean(errors) <= 0.2
    assert max(errors) < 0.35


def test_photos_that_are_not_large_give_the_same_bytes(shared: Path) -> None:
    for preprocess in (SMALL, Preprocess(), replace(SMALL, fit="pad", channels=1)):
        for file in sorted((shared / "data" / "hymenoptera" / "val").glob("*/*"))[::20]:
            data = file.read_bytes()
            image = decode(data, mode(preprocess))
            assert np.array_equal(plain_view(file, preprocess), apply(image, preprocess))
            for number in range(3):
                drawn = view_of(data, preprocess, number, seed=3, digest="cd", flip=False)
                whole = view(image, preprocess, number, seed=3, digest="cd", flip=False)
                assert np.array_equal(drawn, whole)


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_what_is_decoded_stays_several_times_the_size_that_is_needed(
    phone: list[bytes], fit: str
) -> None:
    assert KEEP >= 2
    for size in (32, 64, 150, 224, 299):
        preprocess = Preprocess(size=size, fit=fit)
        for data in phone:
            picture = decode_for(data, "RGB", lambda w, h, p=preprocess: spare(w, h, p))
            left, upper, right, lower = picture.part(box(picture.width, picture.height, preprocess))
            need = KEEP * size if fit != "pad" else KEEP * size * 0.5
            if picture.scale > 1:
                assert min(right - left, lower - upper) >= need


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("crop", [0.875, 1.0, 224 / 235])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_framed_view_comes_out_of_the_preprocess_as_it_went_in(
    shared: Path, fit: str, crop: float, channels: int
) -> None:
    file = next((shared / "data" / "hymenoptera" / "val").glob("*/*.jpg"))
    for size in (224, (96, 161)):
        preprocess = Preprocess(size, crop, fit, "bicubic", channels=channels)
        frame = framed(plain_view(file, preprocess), preprocess)
        full = full_size(preprocess) if fit == "crop" else preprocess.shape[1:]
        assert frame.shape == (*full, 3)
        pixels = plain_view(file, preprocess)
        assert np.array_equal(frame, framed(pixels, preprocess))
        assert np.array_equal(apply(Image.fromarray(frame), preprocess), pixels)


@pytest.mark.parametrize("kind", ["jpeg", "grey png", "turned", "large", "isolated"])
def test_views_of_a_photo_decoded_once_are_those_of_one_decoded_each_time(kind: str) -> None:
    size = (2100, 1500) if kind == "large" else (91, 60)
    values = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image, file, exif = Image.fromarray(values), io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    if kind == "grey png":
        image.convert("L").save(file, "PNG")
    elif kind == "isolated":
        image.save(file, "AVIF")
    else:
        image.save(file, "JPEG", exif=exif if kind == "turned" else b"")
    data, last = file.getvalue(), LastPhoto()
    for number in (0, 1, 2):
        expected = view_of(data, IMAGENET, number, digest=kind)
        assert np.array_equal(last.view_of(data, IMAGENET, number, digest=kind), expected)
    assert (last.picture is None) == (kind in ("large", "isolated"))


def test_the_last_photo_is_not_taken_for_the_next_that_cannot_be_read() -> None:
    file, last = io.BytesIO(), LastPhoto()
    Image.new("RGB", (40, 30), "red").save(file, "JPEG")
    last.view_of(file.getvalue(), IMAGENET, 1, digest="a")
    for _ in range(2):
        with pytest.raises(ImageError):
            last.view_of(file.getvalue()[:-200], IMAGENET, 1, digest="b")
    assert last.view_of(file.getvalue(), IMAGENET, 1, digest="a").shape == (224, 224, 3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["P5", "P6"])
def test_pictures_of_idx_files_are_seen_as_a_decoder_would_have_them(
    kind: str, channels: int
) -> None:
    shape = (28, 31) if kind == "P5" else (28, 31, 3)
    values = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    plain = f"{kind}\n31 28\n255\n".encode() + values.tobytes()
    other = f"{kind}\n# by a decoder\n31 28\n255\n".encode() + values.tobytes()
    how = replace(SMALL, channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels)
    for number in (0, 1, 2):
        expected = view_of(other, how, number, digest="a")
        assert np.array_equal(view_of(plain, how, number, digest="a"), expected)
    for wrong in (plain[:-1], plain.replace(b"31 28", b"31 0")):
        with pytest.raises(ImageError):
            view_of(wrong, how)


@pytest.mark.parametrize(("kind", "channels"), [("P5", 1), ("P6", 3)])
def test_pictures_of_the_networks_very_size_are_its_input(kind: str, channels: int) -> None:
    values = np.random.default_rng(1).integers(0, 256, (28, 31, channels), np.uint8)
    mean = (0.5,) * channels
    how = Preprocess((28, 31), fit="squash", channels=channels, mean=mean, std=mean)
    for comment in ("", "# by a decoder\n"):
        data = f"{kind}\n{comment}31 28\n255\n".encode() + values.tobytes()
        assert np.array_equal(view_of(data, how), values)
        assert np.array_equal(plain_view(data, how), values)
