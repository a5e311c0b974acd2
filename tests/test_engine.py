"""Engines and the pipeline: order, errors, constant memory, answers that depend on one picture."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from zoo import catalog, models
from zoo.device import Device, choose
from zoo.engine.pipeline import batched, forward, ordered
from zoo.engine.torch import TorchEngine
from zoo.errors import ImageError, UsageError
from zoo.machine import cores

CPU = Device("cpu", "fp32", cores(), "a test")
SIDE = 112  # half of the side that the network was trained on: a quarter of the work


@pytest.fixture(scope="module")
def engine():
    torch.manual_seed(0)
    spec = catalog.find("resnet18")
    return TorchEngine(models.build(spec), replace(spec.preprocess, size=SIDE), CPU)


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def test_an_answer_depends_on_the_picture_alone(engine):
    """Same bits wherever the picture stands in a batch, and whatever stands beside it."""
    engine.start_worker()
    batch = pictures(engine.batch)
    together = engine(batch)
    assert np.array_equal(engine(batch[::-1].copy())[::-1], together)
    for index in (0, 3, 7):
        assert np.array_equal(engine(batch[index : index + 1])[0], together[index])


def test_the_engine_agrees_with_plain_torch(engine):
    batch = pictures(2)
    values = torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor(catalog.Preprocess().mean).view(1, 3, 1, 1)
    std = torch.tensor(catalog.Preprocess().std).view(1, 3, 1, 1)
    torch.manual_seed(0)
    chain = models.build(catalog.find("resnet18")).eval()
    with torch.inference_mode():
        expected = chain((values - mean) / std).numpy()
    assert np.abs(engine(batch) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_results_come_in_order_and_errors_cost_their_own_row(engine):
    def load(number: int) -> np.ndarray:
        if number % 5 == 3:
            raise ImageError(f"no {number}")
        return np.full((SIDE, SIDE, 3), number, np.uint8)

    rows = list(forward(range(21), load, engine))
    assert [number for number, _ in rows] == list(range(21))
    bad = [number for number, row in rows if isinstance(row, ImageError)]
    assert bad == [3, 8, 13, 18]
    alone = dict(forward([4, 7], load, engine))
    assert np.array_equal(alone[7], dict(rows)[7])


def test_input_is_read_only_a_little_ahead(engine):
    taken = []

    def endless():
        number = 0
        while True:
            taken.append(number)
            yield number
            number += 1

    stream = forward(endless(), lambda n: np.zeros((SIDE, SIDE, 3), np.uint8), engine)
    for _ in range(10):
        next(stream)
    stream.close()
    assert len(taken) <= (2 * engine.workers + 2) * engine.batch


def test_ordered_hands_on_the_first_failure():
    def work(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number

    with ThreadPoolExecutor(2) as pool:
        stream = ordered(pool, work, range(100), 4)
        assert [next(stream) for _ in range(5)] == [0, 1, 2, 3, 4]
        with pytest.raises(ValueError, match="five"):
            next(stream)
    assert threading.active_count() < 20


def test_batched():
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="--device cuda:77") as error:
        choose("cuda:77")
    assert "cpu" in error.value.hint


def test_fp32_is_not_tf32():
    """And torch.export, which asks for the setting in another way, still gets an answer."""
    from zoo.device import no_tf32

    no_tf32()
    assert torch.backends.cudnn.conv.fp32_precision != "tf32"
    assert torch.backends.cuda.matmul.fp32_precision != "tf32"
    assert torch.backends.cudnn.allow_tf32 is False
    chain = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3)).eval()
    picture = torch.zeros(2, 3, 8, 8)
    exported = torch.export.export(chain, (picture,)).module()
    assert torch.equal(exported(picture), chain(picture))


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(engine):
    spec = catalog.find("resnet18")
    torch.manual_seed(0)
    chain = models.build(spec)
    cpu = TorchEngine(chain, spec.preprocess, CPU)(pictures(4))
    cuda = TorchEngine(chain, spec.preprocess, choose("cuda"))(pictures(4))
    assert np.abs(cpu - cuda).max() <= 1e-4 * np.abs(cpu).max()
