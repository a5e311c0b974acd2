"""Phases: what is kept, what is thawed when, what a boundary carries over, who learns how fast."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from kit import Watcher, carried_out, saved, settings, sha256, tune, write_photos

from zoo import network, weights
from zoo.errors import Interrupted, UnknownStage, UsageError
from zoo.finetune import begin
from zoo.finetune.describe import lines
from zoo.finetune.events import FeaturesDone, Finished
from zoo.finetune.fit import settings_of
from zoo.finetune.prepare import Prepared, prepare
from zoo.run import Run
from zoo.train.param_groups import param_groups, stage_of
from zoo.train.records import Epoch

SQUEEZENET = "torchvision/squeezenet1_1"


def line(made: Prepared, what: str) -> str:
    return next(f"{line.value}; {line.reason}" for line in lines(made.plan) if line.what == what)


def epochs(events: list[object]) -> list[Epoch]:
    return [event for event in events if isinstance(event, Epoch)]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, photos) -> Path:
    """Weights of LeNet that something is known to."""
    run = tmp_path_factory.mktemp("pretrained") / "lenet"
    tune(run, settings("lenet", photos, freeze=False, epochs=15, views=1, lr=0.003, batch_size=8))
    return run


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """Photos for networks that take long: 3 classes of 4."""
    return write_photos(tmp_path_factory.mktemp("data") / "few", each=4)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory) -> Path:
    """A weights file of ResNet-18, of random numbers, for networks that count as pretrained."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    weights.save(network.pretrained("resnet18", "none", seed=5).chain.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def normed(tmp_path_factory) -> Path:
    """The same of a perceptron with batch norms."""
    path = tmp_path_factory.mktemp("weights") / "mlp.safetensors"
    start = network.pretrained("mlp", "none", variant={"norm": "batch"}, seed=5)
    weights.save(start.chain.state_dict(), path)
    return path


# Features kept, or computed in every epoch.


@pytest.mark.slow
def test_features_that_do_not_fit_are_computed_in_each_epoch_with_the_same_end(tmp_path, few):
    deep = {"cut": "layer3", "views": 1, "epochs": 2, "batch_size": 12, "lr": 0.01}
    ends = {}
    for name, budget in (("kept", None), ("not", "1kB")):
        made = prepare(settings("resnet18", few, cache_budget=budget, **deep))
        assert made.plan.phases[0].kept == (name == "kept")
        events = carried_out(begin.start(made, tmp_path / name, Watcher()))
        ends[name] = saved(tmp_path / name)
        assert epochs(events)[-1].epoch == 2
        shown = line(made, "features")
        if name == "kept":
            assert "% of the" in shown
        else:
            assert "not kept" in shown
            assert "are more than 1 kB (--cache-budget): the frozen part runs in each" in shown
            assert made.plan.feature_bytes == 0
    first = network.pretrained("resnet18", "none").chain.state_dict()
    moved = [name for name in first if not torch.equal(first[name], ends["kept"][name])]
    assert {name.split(".")[0] for name in moved} == {"layer4", "fc"}
    for name, tensor in ends["kept"].items():
        assert torch.allclose(tensor.float(), ends["not"][name].float(), rtol=1e-3, atol=2e-3), name


@pytest.mark.slow
def test_a_head_on_features_that_are_not_kept_is_standardised_too(tmp_path, few):
    chosen = {"optimizer": "adamw", "epochs": 3, "batch_size": 12, "views": 1}
    for name, budget in (("kept", None), ("not", "0B")):
        tune(tmp_path / name, settings("resnet18", few, cache_budget=budget, **chosen))
    kept, other = saved(tmp_path / "kept"), saved(tmp_path / "not")
    assert torch.allclose(kept["fc.weight"], other["fc.weight"], rtol=1e-3, atol=1e-4)


def test_photos_of_every_class_say_what_the_scale_is(tmp_path, few, monkeypatch):
    """The index is sorted by class: the first photos are of one."""
    from zoo.train import frozen

    monkeypatch.setattr(frozen, "SOME", 6)
    made = prepare(settings("lenet", few, optimizer="adamw", cache_budget="0B"))
    task = begin.start(made, tmp_path / "run", Watcher())
    source = task.inputs.batches(made.plan.phases[0])
    seen = []
    monkeypatch.setattr(source, "rows", lambda photos, rows, number: seen.extend(rows) or [])
    with pytest.raises(ValueError, match="stack"):
        source.some()
    assert set(source.labels[seen]) == {0, 1, 2}


def test_augmented_photos_are_not_kept(few):
    made = prepare(settings("resnet18", few, augment="light"))
    assert (made.plan.views, made.plan.phases[0].kept, made.plan.solver) == (0, False, "adamw")
    assert "not kept; views are new in each epoch" in line(made, "features")
    assert "no features are kept" in line(made, "training")
    with pytest.raises(UsageError, match="cache_budget"):
        settings("resnet18", few, augment="light", cache_budget="1GB")


def test_the_budget_is_for_all_phases_together(photos):
    """conv3's input and conv1's output: each fits, both do not."""
    made = prepare(settings("lenet", photos, cut="pool2", unfreeze="conv2@3", epochs=4))
    sizes = [4 * torch.Size(phase.cut.shape).numel() * made.plan.rows for phase in made.plan.phases]
    assert made.plan.feature_bytes == sum(sizes)
    room = f"{sum(sizes) - 1}B"
    made = prepare(
        settings("lenet", photos, cut="pool2", unfreeze="conv2@3", epochs=4, cache_budget=room)
    )
    assert [phase.kept for phase in made.plan.phases] == [True, False]


def test_a_resumed_run_keeps_what_it_kept(tmp_path, photos):
    """However much room there is by then."""
    run = tmp_path / "run"
    chosen = settings("lenet", photos, cut="pool1", epochs=2, batch_size=8)
    with pytest.raises(Interrupted):
        tune(run, chosen, Watcher("epoch", 3))
    again = begin.recipe_of(Run.open(run))
    assert again.cache_budget == f"{prepare(chosen).plan.feature_bytes}B"
    assert prepare(again).plan.phases[0].kept
    other = settings("lenet", photos, cut="pool1", epochs=2, cache_budget="0B")
    with pytest.raises(Interrupted):
        tune(tmp_path / "other", other, Watcher("epoch", 1))
    assert not prepare(begin.recipe_of(Run.open(tmp_path / "other"))).plan.phases[0].kept


# Unfreezing.


class States(Watcher):
    """Keeps what the chain is after each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[int, dict[str, torch.Tensor]] = {}

    def follow(self, made: Prepared, folder: Path) -> dict[int, dict[str, torch.Tensor]]:
        self.states[0] = copied(made)
        self.made = made
        carried_out(begin.start(made, folder, self))
        return self.states

    def tell(self, event: object) -> None:
        if isinstance(event, Epoch):
            self.states[event.epoch] = copied(self.made)


def copied(made: Prepared) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in made.network().chain.state_dict().items()}


def stages_that_moved(before, after) -> set[str]:
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def test_a_stage_stands_still_until_its_epoch_and_moves_from_then_on(tmp_path, photos, normed):
    """Batch norms too; their statistics came with the weights and stay."""
    chosen = settings("mlp", photos, variant={"norm": "batch"}, weights=str(normed),
                      unfreeze="fc4@3", epochs=4, batch_size=12, lr=0.02, best="last")  # fmt: skip
    made = prepare(chosen)
    states = States().follow(made, tmp_path / "run")
    assert stages_that_moved(states[0], states[2]) == {"fc5"}
    assert stages_that_moved(states[2], states[3]) == {"fc4", "norm4", "fc5"}
    assert stages_that_moved(states[3], states[4]) == {"fc4", "norm4", "fc5"}
    buffers = {name for name, _ in made.network().chain.named_buffers()}
    assert "norm4.running_mean" in buffers
    assert all(torch.equal(states[0][name], states[4][name]) for name in buffers)


@pytest.mark.slow
def test_several_stages_are_thawed_one_after_the_other(tmp_path, photos, pretrained):
    chosen = settings("lenet", photos, weights=str(pretrained), cut="act4", optimizer="sgd",
                      unfreeze="fc1@2, conv3@3,all@5", epochs=5, batch_size=8, lr=0.5,
                      best="last")  # fmt: skip
    made = prepare(chosen)
    assert [(phase.first, phase.last) for phase in made.plan.phases] == [
        (1, 1),
        (2, 2),
        (3, 4),
        (5, 5),
    ]
    states = States().follow(made, tmp_path / "run")
    moved = [stages_that_moved(states[epoch - 1], states[epoch]) for epoch in range(1, 6)]
    assert moved == [
        {"fc2"},
        {"fc1", "fc2"},
        {"conv3", "fc1", "fc2"},
        {"conv3", "fc1", "fc2"},
        {"conv1", "conv2", "conv3", "fc1", "fc2"},
    ]
    record = Run.open(tmp_path / "run").record
    assert [phase["cut"] for phase in record["phases"]] == ["act4", "flatten", "pool2", None]
    assert [phase["first"] for phase in record["phases"]] == [1, 2, 3, 5]


def test_info_says_what_each_phase_has_frozen(here, tmp_path, photos):
    chosen = settings("lenet", photos, cut="act3", unfreeze="conv3@2,all@3", epochs=3, batch_size=8)
    tune(tmp_path / "run", chosen)
    shown = here("info", tmp_path / "run").out
    assert "frozen     up to act3; from epoch 2 on up to pool2; from epoch 3 on nothing" in shown


@pytest.mark.parametrize(
    ("values", "what", "hint"),
    [
        ({"unfreeze": "layer9@2"}, "there is no stage 'layer9'", "layer4"),
        ({"unfreeze": "layer4.9@2"}, "there is no stage 'layer4.9'", "layer4.0, layer4.1"),
        ({"unfreeze": "layer4@1"}, "--unfreeze layer4@1 in 4 epochs", "from 2 to 4"),
        ({"unfreeze": "layer4@5"}, "--unfreeze layer4@5 in 4 epochs", "from 2 to 4"),
        ({"unfreeze": "layer4@2", "epochs": 1}, "--unfreeze layer4@2 in 1 epochs", "--epochs"),
        ({"unfreeze": "layer3@3,layer2@3"}, "in 4 epochs", "rising"),
        ({"unfreeze": "fc@2"}, "--unfreeze fc: that is trained before already", "or all"),
        ({"unfreeze": "layer3@2,layer4@3"}, "--unfreeze layer4: that is trained before", "layer1"),
        ({"unfreeze": "layer4"}, "expected STAGE@EPOCH", "head-then-all the stage alone"),
        ({"unfreeze": "layer4@two"}, "expected STAGE@EPOCH, as in layer4@10", "stage"),
        ({"unfreeze": ""}, "expected STAGE@EPOCH, as in layer4@10", "stage"),
        ({"unfreeze": "layer4@2", "freeze": False}, "unfreeze = 'layer4@2' would do nothing", ""),
        ({"schedule": "head-then-all", "unfreeze": "layer4@2"}, "it says itself when", "alone"),
        ({"schedule": "head-then-all", "epochs": 1}, "in one epoch", "--epochs 2"),
        ({"schedule": "head-then-all", "freeze": False}, "--no-freeze with --schedule", "leave"),
        ({"schedule": "head-then-all", "unfreeze": "layer5"}, "no stage 'layer5'", "layer4"),
        ({"cache_budget": "lots"}, "--cache-budget lots", "20GB"),
        ({"cache_budget": "1.2.3GB"}, "--cache-budget 1.2.3GB", "50%"),
    ],
)  # fmt: skip
def test_what_cannot_be_thawed_is_refused_in_words(here, tmp_path, photos, values, what, hint):
    flags = []
    for name, value in ({"epochs": 4} | values).items():
        flags += ["--no-freeze"] if name == "freeze" else [f"--{name.replace('_', '-')}", value]
    answer = here(
        "finetune", "resnet18", photos, "--weights", "none", "-o", tmp_path / "run", *flags
    )
    assert answer.code == 2, answer.err
    error, advice = answer.err.splitlines()[-2:]
    assert error.startswith("error: ")
    assert what in error
    assert advice.startswith("hint: ")
    assert hint in advice
    assert not (tmp_path / "run").exists()


# The head first.


def test_head_then_all_solves_the_head_and_goes_on_in_steps(tmp_path, photos, normed):
    chosen = settings("mlp", photos, variant={"norm": "batch"}, weights=str(normed),
                      schedule="head-then-all", epochs=3, batch_size=12, unfreeze="fc4",
                      best="last", mixup=0.2)  # fmt: skip
    made = prepare(chosen)
    first, second = made.plan.phases
    assert (first.first, first.last, first.solver) == (1, 1, "lbfgs")
    assert (second.first, second.last, second.solver) == (2, 3, "adamw")
    assert second.lr == pytest.approx(1e-4)
    told = "to epoch 3, adamw 0.0001, times 0.8 for each stage below the head (in few steps less "
    assert told + "than 0.001); mixup 0.2" in line(made, "epoch 2")
    states = States().follow(made, tmp_path / "run")
    assert stages_that_moved(states[0], states[1]) == {"fc5"}
    assert stages_that_moved(states[1], states[3]) == {"fc4", "norm4", "fc5"}
    assert [line["epoch"] for line in Run.open(tmp_path / "run").metrics()] == [1, 2, 3]


def test_a_head_in_steps_takes_a_third_of_the_epochs(tmp_path, photos, pretrained):
    chosen = settings("lenet", photos, weights=str(pretrained), schedule="head-then-all", epochs=6,
                      batch_size=3, head="mlp:8", lr=0.01, cut="act4")  # fmt: skip
    made = prepare(chosen)
    spans = [(phase.first, phase.last, phase.solver) for phase in made.plan.phases]
    assert spans == [(1, 2, "adamw"), (3, 6, "adamw")]
    assert "more than a linear head is trained" in line(made, "training")
    found = epochs(carried_out(begin.start(made, tmp_path / "run", Watcher())))
    assert [epoch.epoch for epoch in found] == [1, 2, 3, 4, 5, 6]
    assert found[1].lr < 0.01 * 0.1  # the head's own cosine has come to its end
    assert max(epoch.lr for epoch in found[2:]) <= 0.001


@pytest.mark.parametrize(("model", "cut"), [("resnet18", None), ("lenet", "act4")])
def test_by_default_all_is_trained_behind_the_head_and_no_faster_than_it(photos, model, cut):
    chosen = {"schedule": "head-then-all", "cut": cut, "epochs": 3}
    made = prepare(settings(model, photos, **chosen))
    assert made.plan.phases[-1].whole
    assert made.plan.phases[-1].lr == 1e-3  # the head was solved for, at no rate
    made = prepare(settings(model, photos, optimizer="adamw", lr=0.01, **chosen))
    assert [phase.lr for phase in made.plan.phases] == [0.01, pytest.approx(0.001)]


@pytest.mark.parametrize(
    ("change", "rate"),
    [
        ({"epochs": 3}, 1e-4),  # 4 steps and 8
        ({"epochs": 61, "batch_size": 15}, 5e-4),  # 60 epochs of 2 steps, of 240
        ({"epochs": 250}, 1e-3),
        ({"epochs": 250, "accumulate": 4}, 2.6e-4),
        ({"epochs": 3, "lr": 3e-3}, 3e-3),  # as asked for
    ],
)
def test_a_pretrained_network_has_a_lower_rate_behind_its_head_in_few_steps(
    photos, pretrained, change, rate
):
    chosen = {"schedule": "head-then-all", "cut": "act4", "weights": str(pretrained)}
    made = prepare(settings("lenet", photos, **chosen, **change))
    assert len(made.plan.index.of("train")) == 30
    assert made.plan.phases[0].solved
    assert made.plan.phases[1].lr == pytest.approx(rate)


@pytest.mark.parametrize("optimizer", ["auto", "adamw"])
def test_what_was_best_before_the_boundary_is_kept_where_nothing_better_follows(
    tmp_path, photos, optimizer
):
    """At a rate that ruins the network; the run is then the head's alone."""
    wild = {"schedule": "head-then-all", "optimizer": optimizer, "epochs": 6, "batch_size": 8}
    made = prepare(settings("lenet", photos, cut="act4", head="linear", lr=30.0, **wild))
    before = copied(made)
    *events, finished = carried_out(begin.start(made, tmp_path / "run", Watcher()))
    assert isinstance(finished, Finished)
    found = epochs(events)
    border = made.plan.phases[1].first
    best = max(found, key=lambda epoch: (epoch.accuracy, -epoch.val_loss))
    assert best.epoch < border, "the second phase was to be worse"
    assert finished.best_epoch == best.epoch
    assert finished.scores.report.accuracy == best.accuracy
    assert finished.scores.loss == pytest.approx(best.val_loss, rel=1e-4)
    assert stages_that_moved(before, saved(tmp_path / "run")) == {"fc2"}


# A stop on either side of the boundary.

STOPPED = {
    "solved": {"schedule": "head-then-all", "cut": "act4", "unfreeze": "conv3", "views": 2,
               "epochs": 4, "batch_size": 8, "best": "last"},
    "steps": {"unfreeze": "conv3@3,all@4", "cut": "act3", "ema": 0.9,
              "epochs": 4, "batch_size": 8, "best": "last"},
}  # fmt: skip
STOPS = [
    pytest.param("solved", "features", 5, id="features-of-the-head", marks=pytest.mark.slow),
    pytest.param("solved", "features", 70, id="at-the-boundary-of-a-solved-head"),
    pytest.param("solved", "epoch", 1, id="first-step-behind-a-solved-head"),
    pytest.param(
        "solved", "epoch", 7, id="second-phase-behind-a-solved-head", marks=pytest.mark.slow
    ),
    pytest.param("steps", "epoch", 5, id="first-phase", marks=pytest.mark.slow),
    pytest.param("steps", "epoch", 8, id="last-step-of-the-first-phase", marks=pytest.mark.slow),
    pytest.param("steps", "features", 40, id="at-the-boundary"),
    pytest.param("steps", "epoch", 9, id="first-step-of-the-second-phase", marks=pytest.mark.slow),
    pytest.param("steps", "epoch", 12, id="last-step-of-the-second-phase"),
    pytest.param("steps", "epoch", 15, id="third-phase", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, photos, pretrained) -> dict[str, Path]:
    """The runs that nothing stops, by their schedule."""
    folder = tmp_path_factory.mktemp("whole")
    for name, values in STOPPED.items():
        tune(folder / name, settings("lenet", photos, weights=str(pretrained), **values))
    return {name: folder / name for name in STOPPED}


@pytest.mark.parametrize(("which", "what", "after"), STOPS)
def test_a_run_stopped_beside_a_boundary_ends_with_the_same_bits(
    tmp_path, photos, pretrained, whole, which, what, after
):
    chosen = settings("lenet", photos, weights=str(pretrained), **STOPPED[which])
    run = tmp_path / "stopped"
    with pytest.raises(Interrupted):
        tune(run, chosen, Watcher(what, after))
    assert Run.open(run).record["status"] == "started"
    again = prepare(begin.recipe_of(Run.open(run)))
    carried_out(begin.resume(again, Run.open(run), Watcher()))
    assert sha256(run) == sha256(whole[which])
    assert [line["epoch"] for line in Run.open(run).metrics()] == [1, 2, 3, 4]
    ours, theirs = (
        json.loads((folder / "run.json").read_text())["results"] for folder in (run, whole[which])
    )
    assert ours == theirs


# How fast each stage learns, and what its statistics do.


def rates(made: Prepared, number: int) -> dict[str, float]:
    """The share of the peak rate of each stage in a phase."""
    phase = made.plan.phases[number]
    model = made.trained(phase)
    chosen = settings_of(made.plan, phase, made.plan.index, None)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, float] = {}
    for group in param_groups(model, chosen):
        for parameter in group["params"]:
            stage = stage_of(names[id(parameter)], model)
            assert found.setdefault(stage, group["share"]) == group["share"]
    return found


def test_pretrained_stages_learn_slower_the_further_from_the_head(few, resnet):
    base = {"weights": str(resnet), "freeze": False}
    found = rates(prepare(settings("resnet18", few, **base)), 0)
    order = ["fc", "layer4.1", "layer4.0", "layer3.1", "layer3.0", "layer2.1", "layer2.0",
             "layer1.1", "layer1.0", "bn1", "conv1"]  # fmt: skip
    expected = [1.0, *(0.1 * 0.8**far for far in range(10))]
    assert [found[stage] for stage in order] == pytest.approx(expected)
    flat = rates(prepare(settings("resnet18", few, layer_decay=1.0, **base)), 0)
    assert {stage: rate for stage, rate in flat.items() if stage != "fc"} == {
        stage: pytest.approx(0.1) for stage in order[1:]
    }


def test_behind_the_head_the_next_stage_learns_nearly_as_fast(few, resnet):
    made = prepare(
        settings("resnet18", few, weights=str(resnet), schedule="head-then-all",
                 unfreeze="layer3", layer_decay=0.5, epochs=3)
    )  # fmt: skip
    found = rates(made, 1)
    assert found == {"fc": 1.0, "layer4.1": 0.5, "layer4.0": 0.25, "layer3.1": 0.125,
                     "layer3.0": 0.0625}  # fmt: skip


def test_from_scratch_every_stage_learns_at_the_same_rate(few):
    found = rates(prepare(settings("resnet18", few, freeze=False)), 0)
    assert set(found.values()) == {1.0}


@pytest.mark.parametrize("values", [{"freeze": False}, {}], ids=["from-scratch", "all-but-a-head"])
def test_a_decay_that_would_do_nothing_is_refused(photos, resnet, values):
    which = "none" if "freeze" in values else str(resnet)
    with pytest.raises(UsageError, match="would do nothing: every trained layer is new"):
        prepare(settings("resnet18", photos, weights=which, layer_decay=0.5, **values))


def test_statistics_that_came_with_the_weights_stay_and_new_ones_are_learnt(
    tmp_path, photos, normed
):
    for name, chosen in (("old", str(normed)), ("new", "none")):
        whole = {"freeze": False, "epochs": 1, "batch_size": 12, "variant": {"norm": "batch"}}
        made = prepare(settings("mlp", photos, weights=chosen, **whole))
        before = copied(made)
        carried_out(begin.start(made, tmp_path / name, Watcher()))
        after = saved(tmp_path / name)
        names = [each for each, _ in made.network().chain.named_buffers()]
        assert len(names) == 12
        moved = [each for each in names if not torch.equal(before[each], after[each])]
        assert len(moved) == (12 if name == "new" else 0)
        assert not torch.equal(before["norm1.weight"], after["norm1.weight"])


def test_a_layer_inside_a_stage_can_be_thawed(few, resnet):
    made = prepare(settings("resnet18", few, unfreeze="layer4.1@2", epochs=2))
    assert set(rates(made, 1)) == {"layer4", "fc"}
    assert made.plan.phases[1].cut.name == "layer4.0"
    with pytest.raises(UnknownStage):
        prepare(settings("resnet18", few, unfreeze="layer4.7@2", epochs=2))


@pytest.mark.slow
def test_real_weights_are_thawed_and_get_no_worse_on_what_they_are_chosen_by(tmp_path, shared):
    """SqueezeNet with its published weights: the last fire module, behind the optimum of a head."""
    for split, count in (("train", 8), ("val", 6)):
        for kind in ("ants", "bees"):
            (tmp_path / "photos" / split / kind).mkdir(parents=True)
            found = sorted((shared / "data/hymenoptera" / split / kind).glob("*.jpg"))
            for photo in found[:count]:
                shutil.copy(photo, tmp_path / "photos" / split / kind)
    chosen = settings(SQUEEZENET, tmp_path / "photos", schedule="head-then-all", epochs=2,
                      weights=str(shared / "weights/squeezenet1_1-caffe.pth"), batch_size=8,
                      unfreeze="features.12", calibrate=False, views=1)  # fmt: skip
    *events, finished = tune(tmp_path / "run", chosen)
    head, _ = epochs(events)
    assert head.accuracy >= 0.75
    assert finished.scores.report.accuracy >= head.accuracy
    passes = [event for event in events if isinstance(event, FeaturesDone)]
    assert [done.computed + done.cached for done in passes] == [28, 28]
    published = weights.read(shared / "weights/squeezenet1_1-caffe.pth")
    after = saved(tmp_path / "run")
    frozen = [name for name in published if name.startswith("features.")
              and not name.startswith("features.12.")]  # fmt: skip
    assert len(frozen) > 40
    assert all(torch.equal(published[name], after[name]) for name in frozen)


def test_a_mean_of_the_weights_begins_at_the_optimum_of_the_head(tmp_path, photos):
    """Not at the random head that was there before: the solved head is what is evaluated."""
    base = {"schedule": "head-then-all", "epochs": 2, "cut": "act4", "unfreeze": "all", "views": 1}
    accuracies = []
    for name, ema in (("plain", 0.0), ("mean", 0.99)):
        events = tune(tmp_path / name, settings("lenet", photos, ema=ema, **base))
        accuracies.append(next(event for event in events if isinstance(event, Epoch)).accuracy)
    assert accuracies[0] == accuracies[1]
