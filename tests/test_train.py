"""Training from scratch: classes, reconstructions, schedules, heads that exist in training only."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch
from kit import Watcher, carried_out

from zoo import catalog, models, network, recipe, weights
from zoo.errors import Interrupted, RecipeError, TrainingError, UsageError
from zoo.finetune import begin
from zoo.finetune.describe import lines
from zoo.finetune.events import Finished
from zoo.finetune.fit import settings_of
from zoo.finetune.pca_baseline import baseline
from zoo.finetune.prepare import prepare
from zoo.models.auxiliary import WEIGHT, AuxiliaryHead
from zoo.run import Run
from zoo.train.batches import order, steps
from zoo.train.loop import Loop
from zoo.train.records import Epoch


def train(folder, model, data, **values):
    task = {"task": "reconstruct"} if catalog.find(model).task == "reconstruct" else {}
    scratch = {"weights": "none", "freeze": False}
    chosen = recipe.make({"model": model, "data": str(data), **scratch, **task, **values})
    return carried_out(begin.start(prepare(chosen), folder, Watcher()))


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory, photos):
    folder = tmp_path_factory.mktemp("runs") / "ae"
    events = train(folder, "autoencoder", photos, epochs=15, lr=0.003, batch_size=8)
    return folder, events


def test_train_learns_and_says_so(here, tmp_path, photos):
    pace = ("--epochs", 30, "--batch-size", 6, "--lr", "0.003")
    answer = here("train", "lenet", photos, *pace, "-o", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert answer.out.strip() == str(tmp_path / "run")
    assert "from scratch" in answer.err
    record = Run.open(tmp_path / "run").record
    assert record["results"]["accuracy"] >= 0.9
    assert record["task"] == "classify"
    assert record["cpu_seconds"] > 0


def test_a_reconstruction_gets_better_and_is_compared_with_pca(autoencoder):
    folder, events = autoencoder
    epochs = [event for event in events if isinstance(event, Epoch)]
    assert epochs[-1].mse < 0.8 * epochs[0].mse
    assert all(epoch.accuracy is None for epoch in epochs)
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.best_epoch == min(epochs, key=lambda epoch: epoch.val_loss).epoch
    results = Run.open(folder).record["results"]
    assert results["mse"] == finished.scores.mse
    assert results["pca_components"] == 32
    assert results["pca_mse"] > 0


def test_the_baseline_is_pca():
    random = np.random.default_rng(0)
    train, val = (random.integers(0, 256, (n, 6, 5, 1), np.uint8) for n in (200, 50))
    ours = baseline(iter([train[:120], train[120:]]), iter([val]), 7)
    rows, others = train.reshape(200, -1) / 255, val.reshape(50, -1) / 255
    basis = np.linalg.svd(rows - rows.mean(axis=0))[2][:7]
    rest = others - rows.mean(axis=0)
    error = ((rest - rest @ basis.T @ basis) ** 2).mean()
    assert ours.mse == pytest.approx(error)
    assert baseline(iter([np.zeros((2, 99, 99, 1), np.uint8)]), iter([]), 3) is None


def test_an_encoder_starts_a_classifier(autoencoder, tmp_path, photos):
    folder, _ = autoencoder
    chosen = recipe.make(
        {"model": "autoencoder", "data": str(photos), "weights": str(folder), "epochs": 20}
    )
    made = prepare(chosen)
    assert made.plan.cut.name == catalog.find("autoencoder").code
    events = carried_out(begin.start(made, tmp_path / "run", Watcher()))
    losses = [event.train_loss for event in events if isinstance(event, Epoch)]
    assert losses[-1] < losses[0]
    before, after = (weights.read(f / "model.safetensors") for f in (folder, tmp_path / "run"))
    kept = [name for name in after if not name.startswith("head")]
    assert kept
    assert all(torch.equal(before[name], after[name]) for name in kept)
    again = network.of_run(Run.open(tmp_path / "run"))
    assert len(again.classes) == len(made.plan.index.classes)


def test_the_tasks_keep_to_their_networks(photos):
    with pytest.raises(UsageError, match="cannot reconstruct"):
        prepare(recipe.make({"model": "lenet", "data": str(photos), "task": "reconstruct",
                               "freeze": False, "weights": "none"}))  # fmt: skip
    with pytest.raises(RecipeError, match="cross_entropy"):
        recipe.make({"model": "autoencoder", "data": "x", "task": "reconstruct",
                     "freeze": False, "loss": "cross_entropy"})  # fmt: skip
    with pytest.raises(RecipeError, match="most are absent"):
        recipe.make({"model": "lenet", "data": "x", "task": "multilabel", "loss": "mse"})


def test_variants_are_kept_in_the_run(here, tmp_path, photos):
    flags = ["--variant", "activation=tanh", "--variant", "norm=batch", "--epochs", 1]
    assert here("train", "mlp", photos, *flags, "-o", tmp_path / "run").code == 0
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["variant"] == {"activation": "tanh", "norm": "batch"}
    net = network.of_run(Run.open(tmp_path / "run"))
    assert any(isinstance(part, torch.nn.Tanh) for part in net.chain.modules())
    answer = here("train", "mlp", photos, "--variant", "activation=step", "-o", tmp_path / "b")
    assert answer.code == 2
    assert "sigmoid" in answer.err
    answer = here("train", "lenet", photos, "--variant", "norm=batch", "-o", tmp_path / "b")
    assert answer.code == 2
    assert not (tmp_path / "b").exists()


def test_an_autoencoder_needs_no_classes(tmp_path, photos):
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in photos.rglob("*.png"):
        shutil.copy(path, flat / f"{path.parent.name}-{path.name}")
    (flat / "notes.txt").write_text("no picture")
    events = train(tmp_path / "run", "autoencoder", flat, epochs=2)
    assert events[-1].scores.mse > 0
    data = Run.open(tmp_path / "run").record["data"]
    assert data["train"] + data["val"] == 36
    assert "notes.txt" in (tmp_path / "run/skipped.csv").read_text()
    sides = tmp_path / "sides"
    for side, name in (("train", "disc"), ("val", "square")):
        shutil.copytree(photos / name, sides / side)
    train(tmp_path / "other", "autoencoder", sides, epochs=1)
    data = Run.open(tmp_path / "other").record["data"]
    assert (data["train"], data["val"]) == (12, 12)


@pytest.mark.parametrize(
    "loss", [*(pytest.param(one, marks=pytest.mark.slow) for one in ("mse", "mae")), "bce"]
)
def test_losses_of_reconstructions(tmp_path, photos, loss):
    events = train(tmp_path / "run", "conv-autoencoder", photos, epochs=2, loss=loss)
    first, last = [event for event in events if isinstance(event, Epoch)]
    assert last.val_loss < first.val_loss
    if loss == "mse":
        assert last.val_loss == pytest.approx(last.mse)


def test_the_last_epoch_is_kept_where_none_is_chosen(tmp_path, photos):
    events = train(tmp_path / "run", "mlp", photos, epochs=6, best="last", lr=0.02)
    epochs = [event for event in events if isinstance(event, Epoch)]
    assert [epoch.best for epoch in epochs] == [False] * 5 + [True]
    assert events[-1].best_epoch == 6
    assert events[-1].scores.report.accuracy == epochs[-1].accuracy


@pytest.mark.parametrize("schedule", ["cosine", "exponential", "constant"])
def test_schedules(tmp_path, photos, schedule):
    events = train(tmp_path / "run", "perceptron", photos, epochs=4, lr=0.1, optimizer="sgd",
                   schedule=schedule, warmup=0.0,
                   **({"decay": 0.5} if schedule == "exponential" else {}))  # fmt: skip
    steps = math.ceil(27 / 32)
    rates = [event.lr for event in events if isinstance(event, Epoch)]
    wanted = {
        "cosine": [
            0.05 * (1 + math.cos(math.pi * (k * steps - 1) / (4 * steps))) for k in range(1, 5)
        ],
        "exponential": [0.1, 0.05, 0.025, 0.0125],
        "constant": [0.1] * 4,
    }
    assert rates == pytest.approx(wanted[schedule], abs=1e-12)


def test_distorted_training_is_deterministic(tmp_path, photos):
    for name in "ab":
        train(tmp_path / name, "mlp", photos, epochs=3, distort="elastic")
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert a == b


def test_auxiliary_heads_help_in_training_and_are_gone_after_it(photos):
    """The loss has their part of it; what is saved and used has no trace of them."""
    row = next(row for row in catalog.ROWS.values() if row.auxiliary)
    made = prepare(recipe.make({"model": row.name, "data": str(photos), "weights": "none",
                                  "freeze": False, "batch_size": 4}))  # fmt: skip
    chain = made.trained(made.plan.phases[0])
    heads = [part for part in chain.modules() if isinstance(part, AuxiliaryHead)]
    assert len(heads) == 2
    assert not any(isinstance(part, AuxiliaryHead) for part in made.network().chain.modules())
    ours = dict(made.network().chain.named_parameters())
    assert all(ours[name] is value for name, value in chain.named_parameters() if name in ours)

    class Rows:
        labels = val_labels = np.array([0, 1])

    settings = settings_of(made.plan, made.plan.phases[0], made.plan.index, made.plan.class_weights)
    loop = Loop(chain, Rows(), settings, torch.device("cpu"))
    chain.train()
    size = made.plan.preprocess.size
    inputs = torch.randn(2, made.plan.preprocess.channels, size, size)
    rows = np.array([0, 1])
    outputs = chain(inputs)
    own = loop.loss.mean(outputs, inputs, rows)
    extra = loop.step.mean(outputs, inputs, rows) - own
    expected = sum(float(loop.loss.mean(h.scores, inputs, rows).detach()) for h in heads)
    assert float(extra.detach()) == pytest.approx(WEIGHT * expected, rel=1e-5)
    assert outputs.shape == (2, len(made.plan.index.classes))
    chain.eval()
    chain(inputs[:1])
    assert torch.equal(loop.step.mean(outputs, inputs, rows), own)


def test_auxiliary_heads_are_new_beside_pretrained_layers(photos):
    from dataclasses import replace

    from zoo.train.param_groups import PRETRAINED, param_groups

    made = prepare(
        recipe.make(
            {"model": "googlenet-2014", "data": str(photos), "weights": "none", "freeze": False}
        )
    )
    settings = replace(
        settings_of(made.plan, made.plan.phases[0], made.plan.index, None), fresh="fc"
    )
    settings = replace(settings, below=PRETRAINED)
    chain = made.trained(made.plan.phases[0])
    names = {parameter: name for name, parameter in chain.named_parameters()}
    for group in param_groups(chain, settings):
        for parameter in group["params"]:
            new = names[parameter].startswith(("fc.", "aux"))
            assert group["share"] == (1.0 if new else PRETRAINED), names[parameter]


def test_a_recipe_of_fine_tuning_is_refused(here, tmp_path, photos):
    (tmp_path / "r.toml").write_text("freeze = true\n")
    answer = here("train", "lenet", photos, "--recipe", tmp_path / "r.toml")
    assert answer.code == 2
    assert "zoo finetune" in answer.err


def test_the_running_mean_is_what_is_kept_and_survives_a_stop(tmp_path, photos):
    flags = {"weights": "none", "freeze": False, "epochs": 4, "batch_size": 8, "ema": 0.9}
    chosen = recipe.make(
        {"model": "mlp", "data": str(photos), "variant": {"norm": "batch"}, **flags}
    )

    whole = carried_out(begin.start(prepare(chosen), tmp_path / "a", Watcher()))
    with pytest.raises(Interrupted):
        carried_out(begin.start(prepare(chosen), tmp_path / "b", Watcher("epoch", 6)))
    carried_out(begin.resume(prepare(chosen), Run.open(tmp_path / "b"), Watcher()))
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert a == b
    plain = recipe.make(
        {"model": "mlp", "data": str(photos), "variant": {"norm": "batch"}, **flags, "ema": 0.0}
    )
    other = carried_out(begin.start(prepare(plain), tmp_path / "c", Watcher()))
    assert whole[-1].scores.loss != other[-1].scores.loss
    assert whole[1].train_loss == other[1].train_loss  # the steps are the same


def test_no_step_has_one_photo_alone(tmp_path, photos):
    """Of one row BatchNorm has no variance: 27 to 30 photos in batches leave none alone."""
    for count, size in ((27, 13), (27, 26), (30, 29), (5, 2), (2, 1), (1, 8), (64, 32), (65, 32)):
        batches = order(0, 1, np.zeros(count, int), size, balanced=False)
        assert sorted(np.concatenate(batches).tolist()) == list(range(count))
        assert len(batches) == steps(count, size)
        assert size == 1 or count == 1 or min(map(len, batches)) > 1
    train(tmp_path / "run", "mlp", photos, epochs=1, variant={"norm": "batch"}, batch_size=29)
    with pytest.raises(UsageError, match="batch of one"):
        train(tmp_path / "b", "mlp", photos, epochs=1, variant={"norm": "batch"}, batch_size=1)
    assert not (tmp_path / "b").exists()


def test_a_training_that_diverged_says_so_for_ever(here, tmp_path, photos):
    huge = {
        name: value * 1e30
        for name, value in models.build(catalog.find("lenet")).state_dict().items()
    }
    weights.save(huge, tmp_path / "huge.safetensors")
    words = ["finetune", "lenet", photos, "--weights", tmp_path / "huge.safetensors", "--no-freeze"]
    answer = here(*words, "--lr", 100, "-o", tmp_path / "run")
    assert answer.code == 6
    assert "--lr 0.1" in answer.err
    assert not (tmp_path / "run").exists(), "nothing was learned, so nothing is kept"
    scratch = {"weights": "none", "freeze": False, "epochs": 2}
    made = prepare(recipe.make({"model": "mlp", "data": str(photos), **scratch}))

    class Spoils(Watcher):
        def tell(self, event):
            if isinstance(event, Epoch):
                made.network().chain.register_forward_hook(
                    lambda chain, inputs, outputs: outputs * math.nan
                )

    with pytest.raises(TrainingError):
        carried_out(begin.start(made, tmp_path / "late", Spoils()))
    assert Run.open(tmp_path / "late").record["status"] == "failed"
    answer = here("train", "--resume", tmp_path / "late")
    assert answer.code == 2
    assert "failed: the loss became nan" in answer.err
    assert "failed" in here("predict", tmp_path / "late", photos).err


IDLE = [
    ("mlp", {"momentum": 0.9}),
    ("mlp", {"decay": 0.5}),
    ("mlp", {"distort_strength": 0.5}),
    ("mlp", {"distort": "affine", "freeze": True}),
    ("autoencoder", {"label_smoothing": 0.1}),
    ("autoencoder", {"best": "accuracy"}),
]


@pytest.mark.parametrize(("model", "values"), IDLE)
def test_settings_that_would_do_nothing_are_refused(model, values):
    task = {"task": catalog.find(model).task}
    base = {"model": model, "data": "x", "weights": "none", "freeze": False, **task}
    with pytest.raises(RecipeError, match=next(iter(values))):
        recipe.make(base | values)


def test_class_weights_are_of_the_photos_that_can_be_read(tmp_path, photos):
    data = tmp_path / "photos"
    shutil.copytree(photos, data)
    for number in range(60):
        (data / "disc" / f"broken{number}.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    scratch = {"weights": "none", "freeze": False, "epochs": 1, "skip_unreadable": True}
    made = prepare(recipe.make({"model": "mlp", "data": str(data), **scratch}))
    assert made.plan.balance == "weights"
    ours = begin.start(made, tmp_path / "run", Watcher())
    done, *_ = carried_out(ours)
    assert "none now" in done.balance
    assert ours.inputs.class_weights is None
    assert Run.open(tmp_path / "run").record["balance"][0] == "none"


def test_no_epoch_is_chosen_on_a_test_part(shared):
    data = shared / "data/mnist"
    made = prepare(recipe.make({"model": "perceptron", "data": str(data), "weights": "none",
                                  "freeze": False}))  # fmt: skip
    assert made.plan.best == "last"
    assert any("test part" in line.reason for line in lines(made.plan))


def test_a_class_whose_name_begins_with_test_is_a_class(tmp_path, photos):
    shutil.copytree(photos / "disc", tmp_path / "p/test_strips")
    shutil.copytree(photos / "square", tmp_path / "p/testudo")
    scratch = {"weights": "none", "freeze": False}
    made = prepare(recipe.make({"model": "mlp", "data": str(tmp_path / "p"), **scratch}))
    assert made.plan.best == "accuracy"
