"""Distortions: the same for the same sample, none shifts the pictures as a whole."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.data.distort import distort, gaussian, generator, sample


@pytest.fixture(scope="module")
def blobs() -> np.ndarray:
    """A bright square in the middle of 400 dark pictures."""
    pictures = np.zeros((400, 28, 28, 1), np.uint8)
    pictures[:, 10:18, 10:18] = 255
    return pictures


@pytest.mark.parametrize("kind", ["affine", "elastic"])
def test_depends_on_seed_epoch_and_sample_alone(blobs, kind):
    rows = list(range(40))
    whole = distort(blobs[:40], rows, kind=kind, seed=3, epoch=2)
    part = distort(blobs[7:9], [7, 8], kind=kind, seed=3, epoch=2)
    assert np.array_equal(whole[7:9], part)
    assert not np.array_equal(whole, distort(blobs[:40], rows, kind=kind, seed=3, epoch=3))
    assert not np.array_equal(whole, distort(blobs[:40], rows, kind=kind, seed=4, epoch=2))
    assert len({picture.tobytes() for picture in whole}) == 40


@pytest.mark.parametrize("kind", ["affine", "elastic"])
def test_moves_and_keeps_the_middle_on_average(blobs, kind):
    moved = distort(blobs, range(400), kind=kind, seed=0, epoch=1).astype(float)[..., 0]
    places = np.arange(28)
    mass = moved.sum(axis=(1, 2))
    down = (moved.sum(axis=2) * places).sum(axis=1) / mass
    across = (moved.sum(axis=1) * places).sum(axis=1) / mass
    assert abs(down.mean() - 13.5) < 0.15
    assert abs(across.mean() - 13.5) < 0.15
    assert down.std() > 0.4
    assert abs(mass.mean() / blobs[0].sum() - 1) < 0.05


def test_none_changes_nothing(blobs):
    assert distort(blobs, range(400), kind="none", seed=0, epoch=1) is blobs


def test_places_between_pixels_are_interpolated():
    picture = np.array([[0, 100], [200, 40]], np.uint8).reshape(1, 2, 2, 1)
    half = np.full((1, 1, 1), 0.5, np.float32)
    zero = np.zeros((1, 1, 1), np.float32)
    assert sample(picture, zero, half).item() == 50
    assert sample(picture, half, zero).item() == 100
    assert sample(picture, half, half).item() == 85
    assert sample(picture, zero + 9, zero - 9).item() == 200  # beyond: the border


def test_colour_channels_move_together():
    grey = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 1), np.uint8)
    colour = np.repeat(grey, 3, axis=3)
    moved = distort(colour, range(3), kind="elastic", seed=1, epoch=1)
    alone = distort(grey, range(3), kind="elastic", seed=1, epoch=1)
    assert np.array_equal(moved, np.repeat(alone, 3, axis=3))


def test_the_gaussian_is_one_of_weight_one():
    assert gaussian(64).sum(axis=1)[32] == pytest.approx(1, abs=0.01)
    assert np.array_equal(generator(1, 2, 3).random(4), generator(1, 2, 3).random(4))
