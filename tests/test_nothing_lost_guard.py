"""Losses that are not finite, and too little memory.

The faults are put into real trainings by a hook on a stage: NaN comes out of it, or torch says
that there is no memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from kit import Watcher, carried_out, saved, settings, sha256, tune

from zoo import weights
from zoo.errors import Interrupted, OutOfMemory, TrainingError
from zoo.finetune import begin as beginning
from zoo.finetune import job
from zoo.finetune.prepare import prepare
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.train import checkpoint
from zoo.train.records import Epoch

Fault = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]


def begin(
    folder: Path, chosen: Recipe, stage: str, fault: Fault, watch: Watcher | None = None
) -> job.Job:
    """A run, new or resumed, whose stage gives what the fault makes of (call, input, output).

    Calls are those of training, from 1 on.
    """
    made = prepare(chosen)
    calls = 0

    def hook(part: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> Any:
        nonlocal calls
        if not part.training:
            return None
        calls += 1
        return fault(calls, inputs[0], output)

    made.network().chain.get_submodule(stage).register_forward_hook(hook)
    watch = watch or Watcher()
    if folder.exists():
        return beginning.resume(made, Run.open(folder), watch)
    return beginning.start(made, folder, watch)


def nan_at(*calls: int) -> Fault:
    return lambda call, inputs, output: output * math.nan if call in calls else output


@pytest.fixture(scope="module")
def chosen(photos):
    """4 steps an epoch; dropout, and batch norms with statistics to spoil."""
    return settings("mlp", photos, freeze=False, epochs=5, batch_size=8, lr=0.003,
                    variant={"norm": "batch", "dropout": 0.2}, ema=0.5)  # fmt: skip


def notes(events: list[object]) -> list[str]:
    return [note for event in events if isinstance(event, Epoch) for note in event.notes]


def all_finite(run: Path) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in saved(run).values())


class Reader(Watcher):
    """Reads the checkpoint of each step when it is told of the next one."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.path, self.states = run / "checkpoint.safetensors", []

    def progress(self, what: str, done: int, total: int | None) -> None:
        if what.startswith("epoch") and self.path.exists():
            tensors = weights.read(self.path, finite=False)
            parts = ("model.", "mean.", "optimizer.")
            self.states.append({n: t for n, t in tensors.items() if n.startswith(parts)})


def test_a_step_with_nan_changes_nothing_and_is_counted(tmp_path, chosen, monkeypatch):
    """Weights, statistics, moments and the running mean are what they were before the step."""
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", math.inf)
    watch = Reader(tmp_path / "run")
    events = carried_out(begin(tmp_path / "run", chosen, "act2", nan_at(6), watch))
    assert len(watch.states) == 19
    same = [
        all(torch.equal(before[name], after[name]) for name in before)
        for before, after in pairwise(watch.states)
    ]
    assert [step for step, unchanged in enumerate(same, start=2) if unchanged] == [6]
    assert notes(events) == ["the loss was nan in epoch 2, step 2: the step was left out"]
    assert Run.open(tmp_path / "run").record["skipped_steps"] == 1
    assert all_finite(tmp_path / "run")


def test_after_three_nans_in_a_row_it_goes_back_at_a_tenth_of_the_rate(tmp_path, chosen):
    steady = replace(chosen, schedule="constant", warmup=0.0)
    events = carried_out(begin(tmp_path / "run", steady, "act2", nan_at(10, 11, 12)))
    said = notes(events)
    assert [note.count("left out") for note in said] == [1, 1, 1, 0]
    assert "back to the weights of epoch" in said[3]
    assert "at a tenth of the rate (0.0003)" in said[3]
    rates = [event.lr for event in events if isinstance(event, Epoch)]
    assert rates == pytest.approx([0.003, 0.003, 0.0003, 0.0003, 0.0003])
    assert Run.open(tmp_path / "run").record["skipped_steps"] == 3
    assert all_finite(tmp_path / "run")


def test_after_two_attempts_it_has_diverged(tmp_path, chosen):
    """Exit 6; no step counts as learned, and what is kept is finite."""
    watch = Watcher()
    always = nan_at(*range(6, 100))
    with pytest.raises(TrainingError, match="after 2 attempts at a lower rate") as diverged:
        carried_out(begin(tmp_path / "run", chosen, "act2", always, watch))
    assert diverged.value.exit_code == 6
    assert watch.calls == 36 + 5 + 3 * 3 - 1, "36 photos, 5 good steps, 3 times 3 bad ones"
    run = Run.open(tmp_path / "run")
    assert run.record["status"] == "failed"
    assert all(math.isfinite(line["val_loss"]) for line in run.metrics())


def test_a_gradient_that_is_not_finite_spoils_no_epoch_that_is_kept(tmp_path, chosen):
    """The loss is finite, its gradient is not: as the root of a zero has it."""

    def fault(call: int, inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        return output + (output * 0).sqrt() if call == 7 else output

    events = carried_out(begin(tmp_path / "run", chosen, "act2", fault))
    assert len(notes(events)) >= 1
    assert all_finite(tmp_path / "run")


def test_a_run_that_skips_steps_is_resumed_to_the_same_bits(tmp_path, chosen):
    """One photo spoils each batch that it is in."""

    def fault(call: int, inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        return output / (~(inputs.flatten(1)[:, :3] == odd).all(1)).float()[:, None]

    first = prepare(chosen)
    seen: list[torch.Tensor] = []
    first.network().chain.get_submodule("flatten").register_forward_hook(
        lambda part, inputs, output: seen.append(output[0, :3].clone()) if part.training else None
    )
    carried_out(beginning.start(first, tmp_path / "look", Watcher()))
    odd = seen[0]
    carried_out(begin(tmp_path / "whole", chosen, "flatten", fault))
    skipped = Run.open(tmp_path / "whole").record["skipped_steps"]
    assert 1 <= skipped <= 5
    with pytest.raises(Interrupted):
        carried_out(begin(tmp_path / "run", chosen, "flatten", fault, Watcher("epoch", 11)))
    carried_out(begin(tmp_path / "run", chosen, "flatten", fault))
    assert Run.open(tmp_path / "run").record["skipped_steps"] == skipped
    ours, theirs = (sha256(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    assert ours == theirs


def too_many(rows: int) -> Fault:
    def fault(call: int, inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        if len(inputs) > rows:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(inputs)} GiB")
        return output

    return fault


PLAIN = {"epochs": 3, "batch_size": 15, "lr": 0.003}
MEMORY = [
    pytest.param({"freeze": False, "views": 2, "label_smoothing": 0.1}, id="photos"),
    pytest.param(
        {"cut": "pool1", "balance": "weights", "optimizer": "adamw"},
        id="features",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        {"freeze": False, "accumulate": 2, "batch_size": 8, "clip": 1.0},
        id="accumulate",
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize("values", MEMORY)
def test_a_batch_that_does_not_fit_is_halved_and_the_step_stays(tmp_path, photos, values):
    """15 rows, then 8, then 4 at a time: the same steps to 1e-5."""
    chosen = settings("lenet", photos, **PLAIN | values)
    tune(tmp_path / "large", chosen)
    events = carried_out(begin(tmp_path / "small", chosen, "act3", too_many(4)))
    asked = [
        re.match(r"out of memory with (\d+) photos at once: (\d+) at", n) for n in notes(events)
    ]
    steps = [tuple(map(int, match.groups())) for match in asked if match]
    assert steps == ([(8, 4)] if chosen.batch_size == 8 else [(15, 8), (8, 4)]), (
        "halves, and no more"
    )
    large, small = (Run.open(tmp_path / name).metrics() for name in ("large", "small"))
    for ours, theirs in zip(large, small, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-5)
        assert ours["lr"] == theirs["lr"]
    ours, theirs = saved(tmp_path / "large"), saved(tmp_path / "small")
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-5


def test_a_batch_that_did_not_fit_moves_no_statistics(tmp_path, chosen):
    passes: list[int] = []

    def fault(call: int, inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        if call == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        passes.append(call)
        return output

    made = begin(tmp_path / "run", replace(chosen, epochs=1, ema=0.0), "act2", fault)
    carried_out(made)
    chain = made.inputs.prepared.network().chain
    norms = [part for part in chain.modules() if isinstance(part, torch.nn.BatchNorm1d)]
    assert {int(part.num_batches_tracked) for part in norms} == {len(passes)}


@pytest.mark.slow
def test_the_batch_that_fits_is_known_to_a_resumed_run(tmp_path, photos):
    chosen = settings("lenet", photos, freeze=False, **PLAIN)
    carried_out(begin(tmp_path / "whole", chosen, "act3", too_many(4)))
    with pytest.raises(Interrupted):
        carried_out(begin(tmp_path / "run", chosen, "act3", too_many(4), Watcher("epoch", 3)))
    events = carried_out(begin(tmp_path / "run", chosen, "act3", too_many(4)))
    assert notes(events) == []
    ours, theirs = (sha256(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    assert ours == theirs


@pytest.mark.slow
def test_where_one_photo_is_too_many_the_run_can_go_on_elsewhere(tmp_path, photos):
    chosen = settings("lenet", photos, freeze=False, **PLAIN)
    tune(tmp_path / "whole", chosen)
    with pytest.raises(Interrupted):
        tune(tmp_path / "run", chosen, Watcher("epoch", 3))
    with pytest.raises(OutOfMemory, match="one photo at a time"):
        carried_out(begin(tmp_path / "run", chosen, "act3", too_many(0)))
    carried_out(begin(tmp_path / "run", chosen, "act3", too_many(99)))
    ours, theirs = (sha256(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    assert ours == theirs
