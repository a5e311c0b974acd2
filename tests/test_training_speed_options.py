"""What makes a step quick changes nothing that it does: kernels, memory formats, seeds, views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kit import settings

from zoo.catalog import Preprocess
from zoo.data.views import generator
from zoo.device import Device, seed_all
from zoo.finetune.choices import view_count
from zoo.models.cut import Cut
from zoo.train import checkpoint
from zoo.train.batches import EVAL_BYTES, FeatureBatches
from zoo.train.loop import Loop
from zoo.train.optimizers import Optimizer
from zoo.train.records import LoopSettings

CPU = Device("cpu", "fp32", 1, "")
LAST = torch.channels_last


class Rows:
    """Features in memory, as the cache hands them out."""

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        self.dense = np.random.default_rng(1).standard_normal((count, *shape), np.float32)
        self.shape = shape

    def __len__(self) -> int:
        return len(self.dense)

    def gather(self, rows) -> np.ndarray:
        return self.dense[np.asarray(rows)]


# Optimizers.


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_a_step_goes_by_places_and_not_by_addresses(name):
    """Parameters channels last, gradients not: the kernels would mix them up without a word."""
    torch.manual_seed(0)
    start, gradients = torch.randn(6, 3, 4, 5), [torch.randn(6, 3, 4, 5) for _ in range(3)]
    ours = torch.nn.Parameter(start.clone(memory_format=LAST))
    theirs = torch.nn.Parameter(start.clone())
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    more = {"momentum": 0.9} if name == "sgd" else {}
    known = kinds[name]([theirs], lr=0.01, weight_decay=0.1, **more)
    groups = [{"params": [ours], "lr": 0.01, "share": 1.0, "weight_decay": 0.1}]
    own = Optimizer(name, groups, 0.9)
    for gradient in gradients:
        # torch's engine keeps to the format of the parameter; an assignment does not.
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        assert ours.grad.stride() != ours.stride()
        own.step()
        known.step()
    assert ours.is_contiguous(memory_format=LAST)
    assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-6)


# Resuming.


def loop(name: str, bf16: bool) -> Loop:
    torch.manual_seed(4)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
        torch.nn.Conv2d(8, 6, 3), torch.nn.Flatten(), torch.nn.Dropout(0.3),
        torch.nn.Linear(6 * 16, 3),
    )  # fmt: skip
    labels = np.arange(24) % 3
    source = FeatureBatches(Rows(24, (4, 6, 6)), labels, Rows(9, (4, 6, 6)), labels[:9], CPU)
    chosen = LoopSettings(
        epochs=3, batch_size=8, lr=0.01, weight_decay=0.1, warmup=0.1, label_smoothing=0.0,
        class_weights=None, balanced=False, best="last", seed=0, classes=("a", "b", "c"),
        fresh=None, optimizer=name, momentum=0.9, ema=0.9, bf16=bf16,
    )  # fmt: skip
    return Loop(model, source, chosen, torch.device("cpu"))


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_a_training_goes_on_with_the_same_bits(tmp_path, name, bf16):
    """Checkpoints hold plain tensors; what is remembered of a filter goes back to its format."""
    whole, path = loop(name, bf16), tmp_path / "checkpoint.safetensors"

    def after_step(step: int, steps: int) -> None:
        if (whole.state.epoch, step) == (2, 2):
            checkpoint.save(whole, path)

    assert len(list(whole.run(after_step))) == 3
    resumed = loop(name, bf16)
    checkpoint.load(resumed, path)
    assert resumed.state.step == 2
    moments = [state for state in resumed.training.optimizer.state.values() if len(state) > 0]
    filters = [tensor for state in moments for tensor in state.values() if tensor.ndim == 4]
    assert filters
    assert all(tensor.is_contiguous(memory_format=LAST) for tensor in filters)
    assert len(list(resumed.run(lambda step, steps: None))) == 2
    for one, other in (
        (whole.model, resumed.model),
        (whole.training.averaged, resumed.training.averaged),
    ):
        for key, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[key]), key
            assert value.dtype in (torch.float32, torch.int64), key


def test_bf16_is_of_the_products_alone():
    """Weights, gradients and moments stay in fp32; the loss is another one than in fp32."""
    found = []
    for bf16 in (False, True):
        made = loop("adamw", bf16)
        (first, *_) = list(made.run(lambda step, steps: None))
        found.append(first.train_loss)
        tensors = [p.grad for p in made.model.parameters()]
        tensors += [
            value for state in made.training.optimizer.state.values() for value in state.values()
        ]
        assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert found[0] != found[1]
    assert found[0] == pytest.approx(found[1], rel=0.05)


# What goes in.


def test_kept_pictures_come_channels_last_and_as_they_are():
    rows = Rows(10, (4, 6, 5))
    source = FeatureBatches(rows, np.zeros(10, int), rows, np.zeros(10, int), CPU)
    (batch,) = source.train(1, [np.array([7, 2, 5])])
    assert batch.is_contiguous(memory_format=LAST)
    assert np.array_equal(batch.numpy(), rows.dense[[7, 2, 5]])


def test_features_that_stay_on_the_device_are_the_same_batches():
    rows, val = Rows(10, (4, 6, 5)), Rows(7, (4, 6, 5))
    labels = np.zeros(10, int), np.zeros(7, int)
    source, there = (FeatureBatches(rows, labels[0], val, labels[1], CPU) for _ in range(2))
    there.room = 10 * 4 * 4 * 6 * 5  # for the first alone
    order = [np.array([7, 2, 5]), np.array([0, 1])]
    pairs = [*zip(source.train(1, order), there.train(1, order), strict=True)]
    pairs += zip(source.val(), there.val(), strict=True)
    assert len(pairs) == 3
    for ours, theirs in pairs:
        assert torch.equal(ours, theirs)
        assert theirs.is_contiguous(memory_format=LAST)
    assert len(there.there) == 1
    assert there.room == 0


@pytest.mark.parametrize(("side", "most"), [(2, 256), (512, 64)])
def test_wide_features_are_evaluated_in_smaller_batches(side, most):
    each = 4 * side * side
    rows = Rows(1, (1, side, side))
    rows.dense = np.broadcast_to(rows.dense, (300, 1, side, side))
    source = FeatureBatches(rows, np.zeros(300, int), rows, np.zeros(300, int), CPU)
    sizes = [len(batch) for batch in source.val()]
    assert sum(sizes) == 300
    assert max(sizes) == most
    assert max(sizes) * each <= EVAL_BYTES


# Seeds, views.


def test_a_seed_is_that_of_torch():
    seed_all("step", 3, 7)
    ours = torch.rand(5)
    torch.manual_seed(int(generator("step", 3, 7).integers(2**63)))
    assert torch.equal(ours, torch.rand(5))


@pytest.mark.parametrize(
    ("values", "views"),
    [
        ({"epochs": 1}, 1),
        ({"epochs": 3}, 3),
        ({"epochs": 4}, 4),
        ({}, 4),
        ({"epochs": 3, "views": 6}, 6),
        ({"epochs": 3, "unfreeze": "all@2"}, 4),
        ({"epochs": 3, "schedule": "head-then-all"}, 4),
    ],
    ids=str,
)
def test_no_more_views_are_kept_than_epochs_use(photos, values, views):
    """Behind a deeper cut each epoch has one view; a head before it would have all."""
    chosen = settings("resnet18", photos, cut="layer3", **values)
    empty = torch.nn.Sequential()
    parts = Cut("layer3", "layer3", empty, empty)
    seen = Preprocess(size=224)
    assert view_count(chosen, parts, seen, 100, "deeper")[0] == views
