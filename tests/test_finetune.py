"""Fine-tuning: what is frozen stays, features are computed once, a stopped run ends the same."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from kit import Watcher, carried_out, saved, settings, sha256, tune, until, write_photos
from PIL import Image

from zoo import network, recipe, weights
from zoo.engine.select import bf16
from zoo.errors import DataError, Interrupted, RunError, UnknownStage
from zoo.finetune import begin
from zoo.finetune.describe import lines
from zoo.finetune.events import FeaturesDone, Finished
from zoo.finetune.prepare import prepare
from zoo.models.chain import nothing_to_train
from zoo.models.cut import cut
from zoo.run import Run
from zoo.train.records import Epoch


@pytest.fixture(scope="module")
def lenet_run(tmp_path_factory, photos):
    run = tmp_path_factory.mktemp("runs") / "lenet"
    tune(run, settings("lenet", photos, freeze=False, epochs=60, views=1, lr=0.003))
    return run


@pytest.mark.slow  # test_nothing_lost_bits has it in the default suite
def test_frozen_tensors_and_buffers_are_bit_identical(tmp_path, photos):
    chosen = settings("resnet18", photos, cut="layer4.0", epochs=1, batch_size=8, size=64)
    events = tune(tmp_path / "run", chosen)
    before = network.pretrained("resnet18", "none", seed=chosen.seed).chain.state_dict()
    after = saved(tmp_path / "run")
    frozen = [name for name in before if not name.startswith(("layer4.1", "fc."))]
    assert any("running_mean" in name for name in frozen)
    assert [name for name in frozen if not torch.equal(before[name], after[name])] == []
    trained = [name for name in before if name.startswith("layer4.1") and "batches" not in name]
    assert all(not torch.equal(before[name], after[name]) for name in trained)
    assert isinstance(events[-1], Finished)


def test_the_run_predicts_what_its_report_says(tmp_path, photos):
    """The standardisation is folded into the head: the saved network takes plain features."""
    from zoo.predict.inputs import Input
    from zoo.predict.predictor import open_predictor

    *_, finished = tune(tmp_path / "run", settings("lenet", photos, cut="act4", epochs=3))
    run = Run.open(tmp_path / "run")
    ours = open_predictor(str(run.folder))
    rows = list(ours.rows([Input(str(path), path.parent.name) for path in run.photos("val")]))
    right = sum(row.labels[0] == row.path for row in rows) / len(rows)
    assert right == pytest.approx(finished.scores.report.accuracy)
    assert run.record["results"]["accuracy"] == finished.scores.report.accuracy


def test_features_are_computed_once_and_only_for_new_photos(tmp_path, photos):
    data = tmp_path / "photos"
    shutil.copytree(photos, data)
    chosen = settings("lenet", data, cut="pool2", epochs=1, seed=41)

    def computed(run: str) -> FeaturesDone:
        return next(e for e in tune(tmp_path / run, chosen) if isinstance(e, FeaturesDone))

    first = computed("a")
    assert first.cached == 0
    assert first.computed == len(list(data.rglob("*.png")))
    again = computed("b")
    assert (again.computed, again.cached) == (0, first.computed)
    folder = next(path for path in data.iterdir() if path.is_dir())
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"new{number}.png")
    more = computed("c")
    assert (more.computed, more.cached) == (3, first.computed)
    shutil.copy(folder / "new0.png", folder / "renamed.png")
    assert computed("d").computed == 0  # the content is known, whatever the name


@pytest.mark.slow  # test_nothing_lost_kill has it in the default suite
def test_same_seed_same_bits_other_seed_other_bits(tmp_path, photos):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        tune(tmp_path / name, settings("resnet18", photos, epochs=2, seed=seed, head="mlp:8"))
    a, b, c = (sha256(tmp_path / name / "model.safetensors") for name in "abc")
    assert a == b
    assert a != c


MOMENTS = [
    pytest.param({"freeze": False, "views": 1}, "epoch", 1, id="photos-first-step"),
    pytest.param({"freeze": False}, "epoch", 7, id="photos-new-views"),
    pytest.param({"freeze": False, "views": 1}, "features", 5, id="photos-scan"),
    pytest.param({"cut": "pool1"}, "features", 9, id="frozen-features"),
    pytest.param({"cut": "pool1"}, "epoch", 6, id="frozen-mid-epoch"),
    pytest.param({"cut": "act3", "views": 3, "head": "mlp:16"}, "epoch", 10, id="views-dropout"),
    pytest.param({"cut": "pool1", "balance": "sampler"}, "epoch", 4, id="sampler"),
]


@pytest.mark.parametrize(("values", "what", "after"), MOMENTS)
def test_a_stopped_run_ends_with_the_same_bits(tmp_path, photos, values, what, after):
    chosen = settings("lenet", photos, epochs=4, batch_size=8, seed=after, best="last", **values)
    tune(tmp_path / "whole", chosen)
    run = tmp_path / "stopped"
    with pytest.raises(Interrupted) as stopped:
        tune(run, chosen, Watcher(what, after))
    assert stopped.value.exit_code == 130
    assert str(run) in stopped.value.advice
    assert not (run / "model.safetensors").exists()
    with pytest.raises(RunError, match="unfinished"):
        Run.open(run).finished()
    events = carried_out(begin.resume(prepare(chosen), Run.open(run), Watcher()))
    assert sha256(run / "model.safetensors") == sha256(tmp_path / "whole" / "model.safetensors")
    assert not (run / "checkpoint.safetensors").exists()
    epochs = [line["epoch"] for line in Run.open(run).metrics()]
    assert epochs == [1, 2, 3, 4]
    assert isinstance(events[-1], Finished)


@pytest.mark.slow
def test_ctrl_c_of_a_real_process_then_resume(tmp_path, photos):
    """A signal from outside: exit 130, and the command of the hint finishes the run."""
    run = tmp_path / "run"
    flags = ["--weights", "none", "--no-freeze", "--views", "1", "--epochs", "4000"]
    command = [sys.executable, "-m", "zoo", "finetune", "lenet", str(photos), *flags]
    process = subprocess.Popen([*command, "-o", str(run)], stderr=subprocess.PIPE, text=True)
    log = run / "metrics.jsonl"
    until(lambda: log.exists() and log.read_text())
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=600)
    assert process.returncode == 130, talk
    assert talk.splitlines()[-2].startswith("interrupted")
    assert f"zoo train --resume {run}" in talk.splitlines()[-1]

    done = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["epoch"]
    assert 1 <= done < 4000
    short = (run / "recipe.toml").read_text().replace("4000", str(done + 2))
    (run / "recipe.toml").write_text(short)
    again = [sys.executable, "-m", "zoo", "finetune", "--resume", str(run)]
    answer = subprocess.run(again, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == f"{run}\n"
    assert [line["epoch"] for line in Run.open(run).metrics()] == list(range(1, done + 3))


def test_resume_refuses_other_photos(tmp_path, photos):
    data = tmp_path / "photos"
    shutil.copytree(photos, data)
    chosen = settings("lenet", data, freeze=False, views=1, epochs=3)
    with pytest.raises(Interrupted):
        tune(tmp_path / "run", chosen, Watcher("epoch", 2))
    next(data.rglob("*.png")).unlink()
    with pytest.raises(RunError, match="have changed"):
        begin.resume(prepare(chosen), Run.open(tmp_path / "run"), Watcher())


def test_unreadable_photos_are_listed_and_left_out(tmp_path, photos):
    data = tmp_path / "photos"
    shutil.copytree(photos, data)
    folder = sorted(path for path in data.iterdir() if path.is_dir())[0]
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much of a picture")
    (folder / "empty.png").touch()
    for name, freeze in (("frozen", True), ("all", False)):
        run = tmp_path / name
        cut_at = "pool2" if freeze else None
        chosen = settings("lenet", data, freeze=freeze, cut=cut_at, epochs=1, views=1)
        events = tune(run, chosen)
        features = next(event for event in events if isinstance(event, FeaturesDone))
        assert set(features.bad) == {f"{folder.name}/broken.jpg", f"{folder.name}/empty.png"}
        skipped = (run / "skipped.csv").read_text()
        assert "broken.jpg" in skipped
        assert "the file is empty" in skipped
        assert "broken.jpg" not in (run / "index.csv").read_text()


def test_a_class_without_a_readable_photo_leaves_no_run(tmp_path, photos):
    data = tmp_path / "photos"
    shutil.copytree(photos, data)
    (data / "zebra").mkdir()
    for number in range(4):
        (data / "zebra" / f"{number}.jpg").write_bytes(b"stripes")
    with pytest.raises(DataError, match="'zebra'"):
        tune(tmp_path / "run", settings("lenet", data, freeze=False, views=1))
    assert not (tmp_path / "run").exists()


def test_a_run_gives_its_convolutions_to_another(tmp_path, photos, lenet_run):
    chosen = settings("lenet", photos, weights=str(lenet_run), epochs=2, head="mlp:12")
    tune(tmp_path / "second", chosen)
    first, second = saved(lenet_run), saved(tmp_path / "second")
    assert torch.equal(first["conv2.weight"], second["conv2.weight"])
    assert "fc2.3.weight" in second
    third = settings("lenet", photos, weights=str(tmp_path / "second"), epochs=1)
    tune(tmp_path / "third", third)  # an mlp head gives way to a linear one
    assert saved(tmp_path / "third")["fc2.weight"].shape[0] == 3
    with pytest.raises(RunError, match="is a run of lenet"):
        prepare(settings("resnet18", photos, weights=str(lenet_run)))


def test_a_run_of_a_network_whose_head_is_no_linear_starts_another(tmp_path, photos):
    """SqueezeNet's head is a convolution that gives way to a Linear, and that to an mlp."""
    small = {"epochs": 1, "size": 64, "views": 1}
    tune(tmp_path / "first", settings("torchvision/squeezenet1_1", photos, **small))
    again = settings(
        "torchvision/squeezenet1_1", photos, weights=str(tmp_path / "first"), head="mlp:8", **small
    )
    state, first = prepare(again).network().chain.state_dict(), saved(tmp_path / "first")
    own = {name for name in state if name.startswith("head.")}
    assert all(torch.equal(state[name], first[name]) for name in state.keys() - own)
    assert sorted(tuple(state[name].shape) for name in own) == [(3,), (3, 8), (8,), (8, 512)]


@pytest.mark.slow
def test_a_run_of_a_run_of_a_network_with_another_head(tmp_path, photos):
    """SqueezeNet's head is a convolution that gives way to a Linear: the run knows both rows."""
    from zoo.predict.inputs import Input
    from zoo.predict.predictor import open_predictor

    name = "torchvision/squeezenet1_1"
    small = {"epochs": 1, "size": 64, "views": 1}
    tune(tmp_path / "first", settings(name, photos, **small))
    again = settings(name, photos, weights=str(tmp_path / "first"), head="mlp:8", **small)
    tune(tmp_path / "second", again)
    third = settings(name, photos, weights=str(tmp_path / "second"), **small)
    tune(tmp_path / "third", third)
    picture = str(next(photos.rglob("*.png")))
    for run in ("first", "second", "third"):
        (row,) = open_predictor(str(tmp_path / run)).rows([Input(picture, "x")])
        assert row.status == "ok"


def test_a_weights_file_beside_a_run_is_that_file(tmp_path, photos, lenet_run):
    run = tmp_path / "run"
    shutil.copytree(lenet_run, run)
    tensors = saved(run)
    weights.save({n: torch.zeros_like(t) for n, t in tensors.items()}, run / "other.safetensors")
    made = prepare(settings("lenet", photos, weights=str(run / "other.safetensors")))
    assert not made.network().chain.state_dict()["conv1.weight"].any()


def test_resume_works_from_another_folder_and_after_a_torn_line(
    here, tmp_path, photos, monkeypatch
):
    """Paths were relative, and the last line of the log was cut off by a power failure."""
    shutil.copytree(photos, tmp_path / "here" / "photos")
    monkeypatch.chdir(tmp_path / "here")
    start = network.pretrained("lenet", "none", seed=9).chain.state_dict()
    weights.save(start, Path("start.safetensors"))
    chosen = settings("lenet", "photos", weights="start.safetensors", freeze=False, epochs=3)
    chosen = replace(chosen, batch_size=8)
    with pytest.raises(Interrupted):
        tune(Path("run"), chosen, Watcher("epoch", 7))
    with open("run/metrics.jsonl", "a") as log:
        log.write('{"epoch": 9, "tra')
    monkeypatch.chdir(tmp_path)
    answer = here("finetune", "--resume", "here/run")
    assert answer.code == 0, answer.err
    assert [line["epoch"] for line in Run.open(tmp_path / "here/run").metrics()] == [1, 2, 3]


def test_a_resume_that_finds_no_photos_keeps_the_checkpoint(tmp_path, photos):
    data = tmp_path / "photos"
    shutil.copytree(photos, data)
    chosen = settings("lenet", data, freeze=False, views=1, epochs=3, batch_size=8)
    with pytest.raises(Interrupted):
        tune(tmp_path / "run", chosen, Watcher("epoch", 7))
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    for path in (data / sorted(p.name for p in data.iterdir())[0]).iterdir():
        path.write_bytes(bytes(path.stat().st_size))  # as a share that comes and goes
    with pytest.raises(DataError):
        carried_out(begin.resume(prepare(chosen), Run.open(tmp_path / "run"), Watcher()))
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.skipif(not bf16(), reason="this processor does not compute in bf16")
@pytest.mark.slow
def test_the_proof_of_a_bf16_run_says_what_the_run_itself_answers(tmp_path, photos):
    from zoo.export.onnx import export_run
    from zoo.export.records import Order

    tune(tmp_path / "run", settings("resnet18", photos, epochs=1, precision="bf16"))
    run = Run.open(tmp_path / "run")
    files = sorted(photos.rglob("*.png"))
    proof = export_run(run, Order(files, tmp_path / "m.onnx", force=True))
    assert proof.agree == proof.photos
    assert 0 <= proof.agree_run <= proof.photos


@pytest.mark.parametrize(
    ("name", "momentum", "reference"),
    [
        ("adamw", 0.0, lambda groups: torch.optim.AdamW(groups, fused=True)),
        ("adam", 0.0, lambda groups: torch.optim.Adam(groups, fused=True)),
        ("sgd", 0.0, lambda groups: torch.optim.SGD(groups, fused=True)),
        ("sgd", 0.9, lambda groups: torch.optim.SGD(groups, momentum=0.9, fused=True)),
    ],
)
def test_our_optimizers_are_torchs(name, momentum, reference):
    """To the last bit: the kernels are the same."""
    from zoo.train.optimizers import Optimizer

    torch.manual_seed(0)
    ours = torch.nn.Linear(7, 3)
    theirs = torch.nn.Linear(7, 3)
    theirs.load_state_dict(ours.state_dict())
    optimizers = []
    for model, kind in (
        (ours, lambda groups: Optimizer(name, groups, momentum)),
        (theirs, reference),
    ):
        groups = [
            {"params": [model.weight], "lr": 0.01, "weight_decay": 0.3},
            {"params": [model.bias], "lr": 0.02, "weight_decay": 0.0},
        ]
        optimizers.append(kind(groups))
    for step in range(50):
        inputs = torch.randn(5, 7)
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)
            model.zero_grad()
            model(inputs).pow(4).mean().backward()
            optimizer.step()
        assert torch.equal(ours.weight, theirs.weight)
        assert torch.equal(ours.bias, theirs.bias)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet", "resnet18"])
def test_a_frozen_fine_tune_never_loads_torchs_compiler(tmp_path, name):
    """torch._dynamo costs two seconds, and half of torch loads it at the first call.

    test_known asks the same of a frozen lenet with weights of a file.
    """
    photos = write_photos(tmp_path / "photos", each=2)
    code = f"""if True:
        import sys
        from zoo.cli import main
        assert main(["finetune", {name!r}, {str(photos)!r}, "--weights", "none", "--freeze",
                     "--epochs", "1", "-o", {str(tmp_path / "run")!r}]) == 0
        assert "torch" in sys.modules
        loaded = {{"torch._dynamo", "torchvision", "timm", "huggingface_hub"}} & set(sys.modules)
        assert not loaded, loaded
    """
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


def test_training_learns(lenet_run):
    record = Run.open(lenet_run).record
    assert record["results"]["accuracy"] >= 0.8  # three shapes; guessing gives 0.33
    names = {path.name for path in lenet_run.iterdir()}
    assert names == {
        "recipe.toml",
        "run.json",
        "index.csv",
        "skipped.csv",
        "metrics.jsonl",
        "model.safetensors",
        "confusion.csv",
        "classes.csv",
        "val.csv",
        "risk_coverage.csv",
    }
    confusion = (lenet_run / "confusion.csv").read_text().splitlines()
    assert len(confusion) == 1 + len(record["classes"])


def test_best_epoch_is_the_one_that_is_kept(tmp_path, photos):
    events = tune(tmp_path / "run", settings("lenet", photos, freeze=False, epochs=8, lr=0.02))
    epochs = [event for event in events if isinstance(event, Epoch)]
    best = max(epochs, key=lambda epoch: (epoch.accuracy, -epoch.val_loss))
    assert events[-1].best_epoch == best.epoch
    assert events[-1].scores.report.accuracy == best.accuracy


def test_imbalance_is_seen_and_weighed(tmp_path, photos):
    data = tmp_path / "photos"
    shutil.copytree(photos, data)
    small = sorted(path for path in data.iterdir() if path.is_dir())[0]
    for path in sorted(small.iterdir())[3:]:
        path.unlink()
    made = prepare(settings("lenet", data, freeze=False))
    assert made.plan.class_weights[0] > made.plan.class_weights[1]
    balance = next(line for line in lines(made.plan) if line.what == "balance")
    assert balance.value == "weights"
    assert "times the photos" in balance.reason
    assert prepare(settings("lenet", data, freeze=False, balance="none")).plan.class_weights is None


def test_chance_and_what_looks_at_its_batch_are_no_constants():
    norm = torch.nn.BatchNorm2d(3, affine=False, track_running_stats=False)
    assert not any(map(nothing_to_train, (torch.nn.Dropout(0.1), norm, torch.nn.Linear(1, 1))))
    assert all(map(nothing_to_train, (torch.nn.Dropout(0), torch.nn.ReLU(), torch.nn.Flatten())))


def test_cut_moves_over_what_has_nothing_to_train():
    from zoo import catalog, models

    spec = catalog.find("resnet18")
    parts = cut(models.build(spec), "layer4")
    assert (parts.name, parts.boundary) == ("layer4", "flatten")
    assert [name for name, _ in parts.trainable.named_children()] == ["fc"]
    with torch.device("meta"):
        chain = models.build(catalog.find("alexnet"))
    alexnet = cut(chain, "features")
    assert alexnet.boundary == "flatten"
    assert next(iter(alexnet.trainable.state_dict())) == "classifier.1.weight"
    inside = cut(chain, "classifier.2")
    assert next(iter(inside.trainable.state_dict())) == "classifier.4.weight"


@pytest.mark.parametrize(
    ("name", "says", "hint"),
    [
        ("layer5", "did you mean", "layer1"),
        ("layer4.0.conv1", "layer4.0 is one piece", "layer4.1"),
        ("layer4.7", "no stage", "stages: layer4.0, layer4.1"),
        ("fc", "nothing to train", "layer1"),
    ],
)
def test_a_cut_that_cannot_be_names_the_stages(name, says, hint):
    from zoo import catalog, models

    with pytest.raises(UnknownStage) as error:
        cut(models.build(catalog.find("resnet18")), name)
    assert says in error.value.what
    assert hint in error.value.hint


def test_the_plan_gives_a_reason_for_every_choice(photos):
    made = prepare(settings("lenet", photos, cut="pool2", seed=3, fit="pad"))
    assert (made.plan.train_views.seed, made.plan.preprocess.fit) == (3, "pad")
    assert {line.what for line in lines(made.plan)} >= {
        "model", "photos", "frozen", "trained", "input", "views", "features", "device",
        "precision", "training", "balance",
    }  # fmt: skip
    assert all(line.reason for line in lines(made.plan))


@pytest.mark.skipif(not bf16(), reason="this processor does not compute in bf16")
def test_bf16_measures_its_agreement(tmp_path, photos):
    from zoo.predict.inputs import Input
    from zoo.predict.predictor import Opening, open_predictor

    *_, finished = tune(
        tmp_path / "run", settings("resnet18", photos, epochs=2, precision="bf16", size=64)
    )
    run = Run.open(tmp_path / "run")
    inputs = [Input(str(path), "x") for path in run.photos("val")]
    ways = (Opening(), Opening(precision="fp32"))
    own, exact = (
        [row.labels for row in open_predictor(str(run.folder), how).rows(inputs)] for how in ways
    )
    same = sum(a == b for a, b in zip(own, exact, strict=True))
    assert finished.agreement == same / len(inputs)  # of what predict itself answers
    record = run.record
    assert record["precision"] == "bf16"
    assert record["agreement_with_fp32"] == finished.agreement


def real(data: Path, shared: Path) -> recipe.Recipe:
    """Return what a user types who knows nothing of settings."""
    weights = str(shared / "weights/squeezenet1_1-caffe.pth")
    model = "torchvision/squeezenet1_1"
    return recipe.make({"model": model, "data": str(data), "weights": weights})


@pytest.mark.slow
def test_real_photos_real_weights(tmp_path, shared):
    """What a plain regularised probe reaches on these photos is the least that is expected."""
    *_, finished = tune(tmp_path / "run", real(shared / "data/clothing10", shared))
    assert finished.scores.report.accuracy >= 0.667


@pytest.mark.slow
def test_a_few_real_photos_with_real_weights(tmp_path, shared):
    """Of clothes that nobody takes for each other."""
    for split, each in (("train", 10), ("val", 6)):
        for kind in ("pants", "shoes"):
            (tmp_path / "photos" / split / kind).mkdir(parents=True)
            for path in sorted((shared / "data/clothing10" / split / kind).iterdir())[:each]:
                (tmp_path / "photos" / split / kind / path.name).symlink_to(path)
    *_, finished = tune(tmp_path / "run", real(tmp_path / "photos", shared))
    assert finished.scores.report.accuracy >= 0.8
