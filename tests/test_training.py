"""How training in steps goes: what makes a step, what ends it, which solver, what would be idle."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from kit import Watcher, carried_out, saved, settings, sha256, tune

from zoo import recipe
from zoo.engine.select import bf16
from zoo.errors import RecipeError, TeamError, UsageError
from zoo.finetune import begin
from zoo.finetune.describe import lines
from zoo.finetune.events import Note
from zoo.finetune.fit import settings_of
from zoo.finetune.prepare import Prepared, prepare
from zoo.run import Run
from zoo.train.distributed import SINGLE, Ranks
from zoo.train.losses import CrossEntropy, OfOneHot
from zoo.train.mixup import mix
from zoo.train.optimizers import Optimizer
from zoo.train.param_groups import param_groups
from zoo.train.records import Epoch, LoopSettings, Training, TrainState
from zoo.train.step import Batch, Step

WHOLE = {"freeze": False, "views": 1, "batch_size": 8}


def line(made: Prepared, what: str) -> str:
    return next(f"{line.value}; {line.reason}" for line in lines(made.plan) if line.what == what)


def epochs(events: list[object]) -> list[Epoch]:
    return [event for event in events if isinstance(event, Epoch)]


def notes(events: list[object]) -> list[str]:
    return [event.text for event in events if isinstance(event, Note)]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory, photos) -> Path:
    """12, 12 and 3 photos."""
    data = tmp_path_factory.mktemp("uneven") / "photos"
    shutil.copytree(photos, data)
    for path in sorted((data / "disc").iterdir())[3:]:
        path.unlink()
    return data


# A step.


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({}, id="plain"),
        pytest.param({"balance": "weights", "label_smoothing": 0.1}, id="weights-smoothing"),
        pytest.param({"balance": "weights", "mixup": 0.4}, id="weights-mixup"),
        pytest.param({"clip": 0.05}, id="clipped"),
    ],
)
def test_four_batches_of_8_are_a_step_of_32(tmp_path, uneven, values):
    """Of gradients alone: sgd, for AdamW divides by what may be rounding."""
    ends = []
    for batch_size, accumulate in ((20, 1), (5, 4)):
        chosen = settings("mlp", uneven, optimizer="sgd", lr=0.1, epochs=3, best="last",
                          calibrate=False, **{**WHOLE, "batch_size": batch_size},
                          accumulate=accumulate, **values)  # fmt: skip
        tune(tmp_path / str(accumulate), chosen)
        ends.append(saved(tmp_path / str(accumulate)))
    for name in ends[0]:
        assert torch.allclose(ends[0][name], ends[1][name], rtol=1e-5, atol=1e-6), name


def test_a_step_of_several_batches_is_named_in_the_plan(photos):
    extra = {"clip": 1.0, "ema": 0.9, "patience": 3, "minutes": 2.5, "label_smoothing": 0.1}
    shown = line(prepare(settings("mlp", photos, accumulate=4, **extra, **WHOLE)), "training")
    for part in ("steps of 4 batches", "gradients clipped at 1", "mean of weights 0.9",
                 "ending after 3 epochs without a better one", "label smoothing 0.1",
                 "at most 30 epochs and 2.5 min"):  # fmt: skip
        assert part in shown


def loss_by(name: str, labels: np.ndarray, **values: object) -> OfOneHot:
    asked = {"label_smoothing": 0.0, "class_weights": None, **values}
    about = SimpleNamespace(loss=name, classes=("a", "b", "c"), **asked)
    return OfOneHot(about, SimpleNamespace(labels=labels, val_labels=labels), "cpu")


@pytest.mark.parametrize("name", ["mse", "mae", "bce"])
def test_losses_of_classes_are_their_formulas(name):
    scores, labels, rows = torch.randn(4, 3), np.array([2, 0, 1, 2]), np.arange(4)
    p, s = scores.softmax(1).numpy(), 1 / (1 + np.exp(-scores.numpy()))
    for smoothing, weights in ((0.0, None), (0.3, None), (0.0, (1.0, 2.0, 5.0)), (0.3, (1, 2, 5))):
        y = np.eye(3)[labels] * (1 - smoothing) + smoothing / 3
        each = {
            "mse": ((p - y) ** 2).sum(1),
            "mae": np.abs(p - y).sum(1),
            "bce": -(y * np.log(s) + (1 - y) * np.log(1 - s)).sum(1),
        }[name]
        found = loss_by(name, labels, label_smoothing=smoothing, class_weights=weights)
        counts = np.ones(3) if weights is None else np.array(weights)
        wanted = (each * counts[labels]).sum() / counts[labels].sum()
        assert found.mean(scores, scores, rows).item() == pytest.approx(wanted, rel=1e-5)
        assert found.weight(rows) == counts[labels].sum()
        if not smoothing and weights is None:
            assert found.of_val(scores) == pytest.approx(wanted, rel=1e-5)


def test_another_loss_takes_steps_and_the_plan_says_why_and_what_a_probability_is(photos):
    made = prepare(settings("lenet", photos, loss="mae", cut="act4"))
    assert "is of cross_entropy, not of mae" in line(made, "training")
    assert "adamw" in line(made, "training")
    assert "may be too sure" in line(made, "loss")
    solved = prepare(settings("lenet", photos, loss="cross_entropy", cut="act4"))
    assert "lbfgs" in line(solved, "training")
    with pytest.raises(UsageError, match=r"--solver lbfgs .* is of cross_entropy, not of mse"):
        prepare(settings("lenet", photos, loss="mse", optimizer="lbfgs", cut="act4"))
    with pytest.raises(UsageError, match="--loss with --head prototype would do nothing"):
        prepare(settings("lenet", photos, loss="bce", head="prototype", cut="act4"))


@pytest.mark.parametrize("name", ["mse", "mae", "bce"])
def test_a_head_is_trained_by_each_loss_with_mixing_and_weights(name, photos, tmp_path):
    extra = {"mixup": 0.2, "label_smoothing": 0.1, "balance": "weights", "lr": 0.01}
    chosen = settings("lenet", photos, loss=name, epochs=12, views=1, **extra)
    told = epochs(tune(tmp_path / "run", chosen))
    assert told[-1].val_loss < told[0].val_loss


def step_of(
    model: torch.nn.Module,
    chosen: LoopSettings,
    labels: np.ndarray,
    averaged: torch.nn.Module | None = None,
    ranks: Ranks = SINGLE,
) -> Step:
    """What takes steps of a model, with its running mean if there is one, on rows so labelled."""
    optimizer = Optimizer(chosen.optimizer, param_groups(model, chosen), chosen.momentum)
    loss = CrossEntropy(chosen, SimpleNamespace(labels=labels, val_labels=labels), "cpu")
    return Step(Training(model, averaged or model, optimizer, TrainState()), loss, chosen, ranks)


def normalised() -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Linear(7, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3)
    )


def test_the_running_mean_moves_by_its_share_at_each_step(photos):
    made = prepare(settings("lenet", photos, **WHOLE)).plan
    chosen = replace(settings_of(made, made.phases[0], made.index, None), fresh=None, ema=0.6)
    model, averaged, rows = normalised(), normalised(), np.arange(8)
    expected = {name: value.clone() for name, value in averaged.state_dict().items()}
    step = step_of(model, chosen, rows % 3, averaged)
    for done in range(20):
        step.take(Batch(rows, rows, torch.randn(8, 7)), 0.1, done)
        share = 1 - min(0.6, (1 + done) / (10 + done))
        for name, value in model.state_dict().items():
            expected[name] = value + (1 - share) * (expected[name] - value)
    for name, value in averaged.state_dict().items():
        wanted = expected[name] if value.is_floating_point() else torch.tensor(20)
        torch.testing.assert_close(value, wanted)
    assert not torch.equal(averaged[0].weight, model[0].weight)


def test_a_step_that_a_rank_has_left_is_undone(photos):
    """The state may be saved: it is that before the step."""

    class Left(Ranks):
        def all_reduce_gradients(self, *words: object) -> float:
            raise TeamError("a rank has gone")

    made = prepare(settings("lenet", photos, **WHOLE)).plan
    chosen = replace(settings_of(made, made.phases[0], made.index, None), fresh=None)
    model, rows = normalised(), np.arange(8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(TeamError, match="has gone"):
        step_of(model, chosen, rows % 3, ranks=Left()).take(
            Batch(rows, rows, torch.randn(8, 7)), 0.1, 0
        )
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("norm", [1e-3, 1.0, 1e3])
def test_gradients_are_clipped_together(photos, norm):
    """All are scaled by one factor, where they are longer than the norm: of the loss's own."""
    made = prepare(settings("lenet", photos, **WHOLE)).plan
    chosen = replace(settings_of(made, made.phases[0], made.index, None), fresh=None)
    labels, inputs, found = np.arange(11) % 3, 9 * torch.randn(11, 7), []
    rows = np.arange(11)
    for clip in (None, norm):
        torch.manual_seed(3)
        model = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
        step = step_of(model, replace(chosen, clip=clip), labels)
        assert step.take(Batch(rows, rows, inputs), 0.0, 0) is not None
        found.append(torch.cat([each.grad.flatten() for each in model.parameters()]))
    own, clipped = found
    torch.testing.assert_close(clipped, own * min(1.0, norm / float(own.norm())), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"mixup": 0.3}, id="mixup"),
        pytest.param({"cutmix": 1.0}, id="cutmix"),
        pytest.param({"mixup": 0.3, "cutmix": 1.0}, id="both"),
    ],
)
def test_mixed_training_is_deterministic_and_other_than_without(tmp_path, photos, values):
    for name, more in (("a", values), ("b", values), ("plain", {})):
        tune(tmp_path / name, settings("lenet", photos, epochs=2, **more, **WHOLE))
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b")
    assert sha256(tmp_path / "a") != sha256(tmp_path / "plain")


def test_boxes_cannot_be_cut_out_of_flat_features(here, tmp_path, photos):
    words = ("finetune", "lenet", photos, "--cut", "act3", "--cutmix", 1, "-o", tmp_path / "run")
    answer = here(*words, "--weights", "none")
    assert answer.code == 2
    assert "cutmix on an input of 120: there is no picture to paste in" in answer.err
    assert "hint: give --mixup" in answer.err
    assert not (tmp_path / "run").exists()


# The end.


def test_patience_ends_a_training_and_says_so(tmp_path, photos):
    """Nothing is learnt at this rate: the first epoch stays the best."""
    chosen = settings("mlp", photos, epochs=20, patience=3, lr=1e-12, best="accuracy", **WHOLE)
    *events, finished = tune(tmp_path / "run", chosen)
    found = epochs(events)
    assert len(found) == finished.best_epoch + 3 < 20
    said = f"ended after epoch {len(found)} of 20: no better one for 3 (--patience)"
    assert notes(events)[-1] == said
    assert Run.open(tmp_path / "run").record["best_epoch"] == finished.best_epoch


def test_a_training_to_its_last_epoch_says_nothing_of_an_end(tmp_path, photos):
    events = tune(tmp_path / "run", settings("mlp", photos, epochs=2, patience=2, **WHOLE))
    assert notes(events) == []


def test_minutes_end_a_training_whose_rate_has_come_down(tmp_path, photos):
    chosen = settings("mlp", photos, epochs=100_000, minutes=0.02, lr=0.003, **WHOLE)
    *events, finished = tune(tmp_path / "run", chosen)
    found = epochs(events)
    assert 1 <= len(found) < 100_000
    assert found[-1].lr < 0.1 * max(epoch.lr for epoch in found)
    assert notes(events)[-1] == f"ended after 0.02 min, in epoch {len(found)} of 100000"
    record = Run.open(tmp_path / "run").record
    assert record["status"] == "finished"
    assert record["results"]["accuracy"] == finished.scores.report.accuracy
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_minutes_that_are_up_before_a_phase_leave_it_out(tmp_path, photos):
    chosen = settings("mlp", photos, epochs=9000, minutes=0.005, unfreeze="fc4@8000", batch_size=8)
    *events, _ = tune(tmp_path / "run", chosen)
    assert epochs(events)[-1].epoch < 8000
    assert notes(events)[-1] == "no time was left for epochs 8000 to 9000"
    assert Run.open(tmp_path / "run").record["status"] == "finished"


# Precision, compilers.


@pytest.mark.skipif(not bf16(), reason="this processor does not compute in bf16")
def test_all_of_it_in_bf16_is_measured_against_fp32(here, tmp_path, photos):
    """The products of the trained layers are rounded: other weights; the loss still falls."""
    whole = ("--no-freeze", "--views", 1, "--weights", "none", "--epochs", 12, "--lr", 0.003)
    for precision in ("fp32", "bf16"):
        words = ("finetune", "lenet", photos, *whole, "--precision", precision)
        answer = here(*words, "-o", tmp_path / precision)
        assert answer.code == 0, answer.err
        if precision == "bf16":
            assert "asked for; agreement with fp32 is measured at the end" in answer.err
            assert "bf16 gives the same class as fp32 on" in answer.err
    exact, rounded = (Run.open(tmp_path / name) for name in ("fp32", "bf16"))
    assert exact.record["agreement_with_fp32"] is None
    assert 0 <= rounded.record["agreement_with_fp32"] <= 1
    assert rounded.record["precision"] == "bf16"
    assert sha256(exact.folder) != sha256(rounded.folder)
    losses = [line["train_loss"] for line in rounded.metrics()]
    assert losses[-1] < 0.9 * losses[0]
    assert all(tensor.dtype == torch.float32 for tensor in saved(rounded.folder).values())


@pytest.mark.skipif(bf16(), reason="this processor computes in bf16")
@pytest.mark.parametrize("freeze", ["--freeze", "--no-freeze"])
def test_bf16_that_is_not_there_is_refused_before_anything_is_trained(
    here, tmp_path, photos, freeze
):
    words = ("finetune", "lenet", photos, "--weights", "none", freeze, "--precision", "bf16")
    answer = here(*words, "-o", tmp_path / "run")
    assert answer.code == 2
    assert "error: --precision bf16: this CPU has no bf16" in answer.err
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not bf16(), reason="this processor does not compute in bf16")
def test_a_head_on_features_is_trained_in_fp32_and_what_is_thawed_is_not(photos):
    for more in ({"unfreeze": "fc4@2"}, {"schedule": "head-then-all", "unfreeze": "fc4"}):
        made = prepare(settings("mlp", photos, precision="bf16", epochs=3, **more))
        found = [
            settings_of(made.plan, phase, made.plan.index, None).bf16 for phase in made.plan.phases
        ]
        assert found == [False, True]


def test_without_a_compiler_there_is_no_compiling(here, tmp_path, photos, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    words = ("finetune", "mlp", photos, "--weights", "none", "--no-freeze", "--compile")
    answer = here(*words, "-o", tmp_path / "run")
    assert answer.code == 2
    assert "error: --compile takes a C++ compiler, and there is no no-such-compiler" in answer.err
    assert "hint: install one" in answer.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_compiled_training_ends_with_nearly_the_same_weights(tmp_path, photos):
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("needs a C++ compiler")
    for name, compiled in (("plain", False), ("compiled", True)):
        chosen = settings("mlp", photos, epochs=2, optimizer="sgd", lr=0.1, compile=compiled,
                          ema=0.5, calibrate=False, best="last", **WHOLE)  # fmt: skip
        tune(tmp_path / name, chosen)
    ours, theirs = saved(tmp_path / "compiled"), saved(tmp_path / "plain")
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        assert torch.allclose(ours[name], tensor, rtol=0, atol=1e-4), name


# What is written down, who decodes.


def test_every_epoch_is_a_line_of_numbers(tmp_path, photos):
    chosen = settings("mlp", photos, epochs=3, ema=0.9, log="csv", **WHOLE)
    events = epochs(tune(tmp_path / "run", chosen))
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert lines == [json.loads(json.dumps(asdict(event))) for event in events]
    assert set(lines[0]) >= {"epoch", "train_loss", "val_loss", "accuracy", "macro_f1", "lr",
                             "seconds", "best", "notes"}  # fmt: skip
    rows = (tmp_path / "run/metrics.csv").read_text().splitlines()
    assert len(rows) == 4


def test_features_do_not_depend_on_who_decodes(tmp_path, photos, monkeypatch):
    ends = set()
    for workers in (1, 3, None):
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path / f"cache{workers}"))
        folder = tmp_path / f"run{workers}"
        tune(folder, settings("lenet", photos, cut="act3", views=2, workers=workers))
        ends.add(sha256(folder))
    assert len(ends) == 1


def test_the_number_of_workers_is_that_of_the_threads(photos, tmp_path, monkeypatch):
    from zoo.engine.torch import TorchEngine

    made = prepare(settings("lenet", photos, workers=3))
    engine = TorchEngine(
        made.parts(made.plan.cut).frozen, made.plan.preprocess, made.plan.device, 3
    )
    assert engine.workers == 3
    assert (
        TorchEngine(
            made.parts(made.plan.cut).frozen, made.plan.preprocess, made.plan.device
        ).workers
        >= 1
    )


# Which solver.


def linear(photos: Path, **values: object) -> Prepared:
    return prepare(settings("lenet", photos, cut="act4", **values))


def test_a_linear_head_on_kept_features_is_solved(tmp_path, photos):
    made = linear(photos, label_smoothing=0.1)
    assert made.plan.solver == "lbfgs"
    assert "lbfgs, penalty by cross-validation, label smoothing 0.1" in line(made, "training")
    assert made.plan.best == "optimum"
    assert [(phase.first, phase.last) for phase in made.plan.phases] == [(1, 1)]
    (epoch,) = epochs(carried_out(begin.start(made, tmp_path / "run", Watcher())))
    assert epoch.best
    assert "penalty" in epoch.notes[0]
    assert Run.open(tmp_path / "run").record["phases"] == [
        {"first": 1, "last": 1, "cut": "act4", "solver": "lbfgs", "lr": None, "features_kept": True}
    ]


def test_label_smoothing_reaches_the_solver(tmp_path, photos):
    for smoothing in (0.0, 0.3):
        chosen = settings("lenet", photos, cut="act4", label_smoothing=smoothing, penalty=1e-4,
                          calibrate=False)  # fmt: skip
        tune(tmp_path / str(smoothing), chosen)
    plain, smooth = (saved(tmp_path / name)["fc2.weight"].norm() for name in ("0.0", "0.3"))
    assert smooth < 0.9 * plain


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("each", [None, (0.5, 2.0, 30.0)])
def test_the_loss_of_a_step_is_the_weight_of_each_photo_times_its_own(photos, smoothing, each):
    """With halves of another photo too, and in parts: sum of weight x loss over sum of weights."""
    made = prepare(settings("lenet", photos, freeze=False, batch_size=4, mixup=1.0))
    chosen = settings_of(made.plan, made.plan.phases[0], made.plan.index, each)
    chosen = replace(chosen, label_smoothing=smoothing)
    labels = np.array([0, 1, 2, 0, 0, 1, 2])
    model, inputs, rows = torch.nn.Linear(5, 3), torch.randn(7, 5), np.arange(7)
    loss = step_of(model, chosen, labels).backward(Batch(rows, rows, inputs), at_once=4)
    mixed, partner, share = mix(inputs, ("mix", chosen.seed, 1, 0), mixup=1.0)
    weights = torch.tensor(each or (1.0, 1.0, 1.0))
    expected = 0.0
    for part, labelled in ((share, labels), (1 - share, labels[partner])):
        own = torch.tensor(labelled)
        shares = (1 - smoothing) * torch.eye(3)[own] + smoothing / 3
        losses = -(shares * model(mixed).log_softmax(dim=1)).sum(dim=1)
        expected += part * (weights[own] * losses).sum() / weights[labels.tolist()].sum()
    assert loss == pytest.approx(float(expected.detach()), abs=1e-6)
    kept = model.weight.grad.clone()
    model.zero_grad()
    expected.backward()
    torch.testing.assert_close(kept, model.weight.grad, rtol=1e-4, atol=1e-6)


STEPS = {
    "epochs": 5, "lr": 0.1, "batch_size": 8, "weight_decay": 0.1, "warmup": 0.2, "ema": 0.9,
    "patience": 3, "minutes": 3.0, "clip": 1.0, "accumulate": 2, "mixup": 0.1, "best": "last",
    "schedule": "constant", "unfreeze": "fc1@2",
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_a_setting_of_steps_means_steps(photos, name):
    made = linear(photos, **{name: STEPS[name]})
    assert made.plan.solver == "adamw"
    assert f"{name.replace('_', '-')} is of training in steps" in line(made, "training")
    with pytest.raises(UsageError, match=f"computes the optimum at once: {name} would do nothing"):
        linear(photos, optimizer="lbfgs", **{name: STEPS[name]})


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"head": "mlp:8"}, "more than a linear head is trained"),
        ({"cut": "act3"}, "more than a linear head is trained"),
        ({"balance": "sampler"}, "the sampler draws anew in each epoch"),
        ({"cache_budget": "0B"}, "no features are kept"),
        ({"freeze": False, "cut": None}, "everything is trained"),
    ],
)
def test_where_there_is_no_one_optimum_there_are_steps(photos, values, why):
    base = {"cut": "act4"} | values
    made = prepare(settings("lenet", photos, **base))
    assert made.plan.solver == "adamw"
    assert why in line(made, "training")
    with pytest.raises(UsageError, match=f"--solver lbfgs finds the optimum .* and {why}"):
        prepare(settings("lenet", photos, optimizer="lbfgs", **base))
    with pytest.raises(UsageError, match=f"--penalty 0.1 is of lbfgs, .* adamw: {why}"):
        prepare(settings("lenet", photos, penalty=0.1, **base))


@pytest.mark.parametrize("values", [{"optimizer": "adamw"}, {"optimizer": "sgd"}, {"epochs": 3}])
def test_a_penalty_without_lbfgs_is_refused(photos, values):
    with pytest.raises(UsageError, match=r"--penalty 0\.1 is of lbfgs, and the solver is"):
        linear(photos, penalty=0.1, **values)


def test_a_solver_that_was_asked_for_is_taken(photos):
    for name in ("lbfgs", "adamw", "adam", "sgd"):
        made = linear(photos, optimizer=name)
        assert made.plan.solver == name
        if name != "lbfgs":
            assert line(made, "training").split("; ")[1] == "as asked for"


def test_threads_are_counted_by_work_and_not_by_weights(photos):
    """SqueezeNet's last fire modules: few weights, each used at 169 places."""
    name = "torchvision/squeezenet1_1"
    made = prepare(settings(name, photos, cut="features.9", epochs=1))
    assert made.plan.threads == made.plan.device.threads
    assert prepare(settings(name, photos)).plan.threads == 1


# What would do nothing.


@pytest.mark.parametrize(
    "values",
    [
        {"mixup": 0.2, "task": "reconstruct", "model": "autoencoder", "freeze": False},
        {"cutmix": 0.2, "task": "reconstruct", "model": "autoencoder", "freeze": False},
        {"seeds": 2, "task": "reconstruct", "model": "autoencoder", "freeze": False},
        {"folds": 2, "task": "reconstruct", "model": "autoencoder", "freeze": False},
        {"unfreeze": "all@2", "freeze": False},
        {"cache_budget": "1GB", "freeze": False},
        {"cache_budget": "1GB", "augment": "light"},
        {"patience": 3, "best": "last"},
        {"augment": "light", "distort": "affine", "freeze": False},
    ],
    ids=lambda values: "-".join(list(values)[:2]),
)
def test_settings_that_would_do_nothing_are_refused(photos, values):
    name = next(iter(values))
    with pytest.raises(RecipeError, match=f"{name} = .* would do nothing") as error:
        recipe.make({"model": "lenet", "data": str(photos), **values})
    assert error.value.hint == "leave it out"


def test_views_and_transforms_are_one_or_the_other(photos):
    with pytest.raises(RecipeError, match="--views 3 with --augment light"):
        settings("lenet", photos, views=3, augment="light")


def test_rare_classes_are_drawn_as_often(tmp_path, uneven):
    made = prepare(settings("lenet", uneven, cut="act4", balance="sampler", epochs=1))
    assert (made.plan.balance, made.plan.solver, made.plan.class_weights) == (
        "sampler",
        "adamw",
        None,
    )
    from zoo.train.batches import order

    labels = np.array([sample.label for sample in made.plan.index.of("train")])
    drawn = np.concatenate(
        [np.concatenate(order(0, e, labels, 8, balanced=True)) for e in range(99)]
    )
    shares = np.bincount(labels[drawn]) / len(drawn)
    assert np.bincount(labels).min() / len(labels) < 0.2
    assert shares == pytest.approx([1 / 3] * 3, abs=0.05)
