"""Transforms on the fly: f(seed, epoch, photo), whatever else draws and however many threads."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from kit import Answer
from PIL import Image

from zoo.catalog import Preprocess
from zoo.data.decode import decode, read_bytes
from zoo.device import Device
from zoo.train.augment import Kind, augmented
from zoo.train.batches import Changes, PhotoBatches, Photos, order

KINDS: tuple[Kind, ...] = ("light", "trivial", "randaugment", "autoaugment")
SMALL = Preprocess(size=48)
CPU = Device("cpu", "fp32", 1, "")


def photo(shared: Path, number: int = 3) -> Image.Image:
    return decode(read_bytes(files(shared)[number]))


def files(shared: Path) -> list[Path]:
    return sorted((shared / "data/hymenoptera/train/bees").glob("*.jpg"))


def draw(image: Image.Image, kind: Kind, epoch: int = 1, digest: str = "ab", **more: bool):
    return augmented(image, SMALL, kind, (0, epoch, digest), **more)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_key_gives_the_same_pixels_and_another_key_others(
    shared: Path, kind: Kind
) -> None:
    image = photo(shared)
    first = draw(image, kind)
    assert first.shape == (48, 48, 3)
    assert first.dtype == np.uint8
    torch.rand(7)
    np.testing.assert_array_equal(first, draw(image, kind))
    assert (first != draw(image, kind, epoch=2)).any()
    assert (first != draw(image, kind, digest="cd")).any()
    other = augmented(image, SMALL, kind, (1, 1, "ab"))
    assert (first != other).any()


@pytest.mark.parametrize("kind", KINDS)
def test_torchs_own_stream_is_neither_read_nor_moved(shared: Path, kind: Kind) -> None:
    """Of many draws, so that every random function that torchvision uses has been met."""
    image = photo(shared).resize((64, 60))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    pictures = [draw(image, kind, epoch) for epoch in range(100)]
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    for epoch, picture in enumerate(pictures):
        np.testing.assert_array_equal(picture, draw(image, kind, epoch))


def test_dropout_beside_the_transforms_sees_its_own_numbers(shared: Path) -> None:
    """What a lock around a seeded global stream would not give: the step holds no lock."""
    image = photo(shared)
    torch.manual_seed(1)
    alone = torch.rand(20_000)
    wanted = [draw(image, "trivial", epoch) for epoch in range(30)]
    found: list[np.ndarray] = []
    beside = threading.Thread(
        target=lambda: found.extend(draw(image, "trivial", epoch) for epoch in range(30))
    )
    torch.manual_seed(1)
    beside.start()
    numbers = torch.stack([torch.rand(()) for _ in range(20_000)])
    beside.join()
    assert torch.equal(numbers, alone)
    np.testing.assert_array_equal(np.stack(found), np.stack(wanted))


def test_a_photo_is_mirrored_in_half_of_the_epochs_only_where_that_is_allowed() -> None:
    half = np.zeros((60, 60, 3), np.uint8)
    half[:, 30:] = 255
    image = Image.fromarray(half)

    def mirrored(**more: bool) -> int:
        pictures = [draw(image, "light", epoch, **more) for epoch in range(60)]
        return sum(int(p[:, :5].mean()) > int(p[:, -5:].mean()) for p in pictures)

    assert 15 < mirrored() < 45
    assert mirrored(flip=False) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_grey_networks_get_grey_pictures(shared: Path, kind: Kind) -> None:
    grey = replace(SMALL, channels=1, mean=(0.5,), std=(0.5,))
    image = photo(shared).convert("L")
    for epoch in range(40):
        pixels = augmented(image, grey, kind, (0, epoch, "ab"))
        assert pixels.shape == (48, 48, 1)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_the_crop_uses_the_networks_own_interpolation(shared: Path, interpolation: str) -> None:
    image = photo(shared)
    ours = replace(SMALL, interpolation=interpolation)  # type: ignore[arg-type]
    pixels = augmented(image, ours, "light", (0, 1, "ab"))
    nearest = replace(SMALL, interpolation="nearest")
    blocky = augmented(image, nearest, "light", (0, 1, "ab"))
    assert (pixels != blocky).any() == (interpolation != "nearest")


def source(shared: Path, kind: Kind, workers: int | None) -> PhotoBatches:
    photos = [
        (path.name, number % 2, hashlib.sha256(path.read_bytes()).digest())
        for number, path in enumerate(files(shared)[:12])
    ]
    root = files(shared)[0].parent
    changes = Changes(views=1, seed=3, flip=True, augment=kind)
    return PhotoBatches(Photos(root, photos, photos), SMALL, changes, CPU, workers)


@pytest.mark.parametrize("kind", ["none", "light", "trivial"])
def test_any_number_of_workers_gives_the_same_batches(shared: Path, kind: Kind) -> None:
    def batches(workers: int, epoch: int) -> list[torch.Tensor]:
        ours = source(shared, kind, workers)
        rows = order(3, epoch, ours.labels, 5, balanced=False)
        return list(ours.train(epoch, rows))

    one = batches(1, 1)
    assert [len(batch) for batch in one] == [5, 5, 2]
    for workers in (2, 4):
        assert all(map(torch.equal, one, batches(workers, 1)))
    if kind != "none":
        assert not torch.equal(torch.cat(one).sort(0)[0], torch.cat(batches(1, 2)).sort(0)[0])


def test_the_val_photos_stay_as_they_are(shared: Path) -> None:
    plain, changed = source(shared, "none", 1), source(shared, "randaugment", 2)
    assert all(map(torch.equal, plain.val(), changed.val()))


@pytest.mark.slow
def test_a_training_does_not_depend_on_the_number_of_workers(
    here: Callable[..., Answer], photos: Path, tmp_path: Path
) -> None:
    """Through the command, with dropout, mixup and cutmix beside the transforms."""
    words = ("--weights", "none", "--no-freeze", "--head", "mlp:8", "--epochs", 2, "--mixup", 0.3)

    def tuned(augment: str, workers: int) -> str:
        folder = tmp_path / f"{augment}-{workers}"
        more = ("--cutmix", 1, "--augment", augment, "--workers", workers, "-o", folder)
        answer = here("finetune", "lenet", photos, *words, *more)
        assert answer.code == 0, answer.err
        return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()

    assert tuned("randaugment", 1) == tuned("randaugment", 3)
    assert tuned("randaugment", 2) != tuned("light", 2)
