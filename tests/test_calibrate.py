"""Confidence: the temperature, what it is worth, and rows that are refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet
import pytest
import torch
from kit import csv_rows
from PIL import Image
from torch import nn

from zoo import metrics, models, network, weights
from zoo.data.samples import DatasetIndex, Sample
from zoo.errors import UsageError
from zoo.finetune import scored
from zoo.finetune.solve import scores_from
from zoo.head import temperature
from zoo.models import head
from zoo.predict import policy
from zoo.report.answers import measured, read
from zoo.run import Run


def drawn(count, classes, seed=0):
    """Scores whose softmax is the truth, and labels drawn by it."""
    random = np.random.default_rng(seed)
    scores = 2 * random.normal(size=(count, classes))
    sums = metrics.softmax(scores).cumsum(axis=1)
    return scores, (sums > random.random((count, 1))).argmax(axis=1)


# The numbers


def test_calibration_error_by_hand():
    probability = np.array([1.0, 0.95, 0.5, 0.52, 0.2])
    correct = np.array([True, False, True, False, False])
    # bins of 1/15: (14/15, 1] has two, (7/15, 8/15] has two, (2/15, 3/15] has one
    expected = (2 * abs(0.975 - 0.5) + 2 * abs(0.51 - 0.5) + 0.2) / 5
    assert metrics.calibration_error(probability, correct) == pytest.approx(expected)
    photos, mean, accuracy = metrics.reliability(probability, correct)
    assert photos.sum() == 5
    assert photos[[14, 7, 2]].tolist() == [2, 2, 1]
    assert (mean[7], accuracy[7]) == (pytest.approx(0.51), 0.5)


def test_risk_and_coverage_by_hand():
    probability = np.array([0.9, 0.6, 0.8, 0.6, 0.3])
    correct = np.array([True, False, True, True, False])
    threshold, kept, risk = metrics.risk_coverage(probability, correct)
    assert threshold.tolist() == [0.9, 0.8, 0.6, 0.3]
    assert kept.tolist() == [1, 2, 4, 5]
    assert risk.tolist() == [0, 0, 0.25, 0.4]
    # of the two with 0.6 each may come first: half an error among three
    expected = (0 + 0 + 0.5 / 3 + 0.25 + 0.4) / 5
    assert metrics.aurc(probability, correct) == pytest.approx(expected)
    assert metrics.aurc(probability[[1, 0, 3, 2, 4]], correct[[1, 0, 3, 2, 4]]) == pytest.approx(
        expected
    )


def test_mcnemar_and_holm_against_published_values():
    """9 of 13 by a fair coin: 2 * (1 + 13 + 78 + 286 + 715) / 2**13."""
    assert metrics.mcnemar(9, 4) == metrics.mcnemar(4, 9) == pytest.approx(2 * 1093 / 8192)
    assert metrics.mcnemar(0, 0) == metrics.mcnemar(5, 5) == 1
    assert metrics.mcnemar(0, 10) == pytest.approx(2 / 1024)
    # Holm by R's p.adjust
    assert metrics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert metrics.holm([0.7, 0.6]) == [1.0, 1.0]


# The temperature


@pytest.mark.parametrize("factor", [0.4, 1.7, 4.0])
def test_the_temperature_that_spoilt_the_scores_is_found(factor):
    scores, labels = drawn(4000, 8)
    found = temperature.fit((factor * scores).astype(np.float32), labels, seed=0)
    assert found.temperature == pytest.approx(factor, rel=0.05)
    assert found.ece_after < 0.35 * found.ece_before
    assert found.nll_after < found.nll_before
    assert (found.photos, found.reason) == (4000, "")
    assert found == temperature.fit((factor * scores).astype(np.float32), labels, seed=0)


def test_what_is_told_of_it_is_of_photos_that_were_left_out():
    scores, labels = drawn(150, 5)
    scores *= 3
    found = temperature.fit(scores, labels, seed=3)
    folds = temperature.folds_of(labels, 3)
    crossed = scores.copy()
    for fold in range(5):
        out = folds == fold
        crossed[out] /= temperature.best(scores[~out], labels[~out])
    assert found.nll_after == temperature.likelihood(crossed, labels)
    assert found.ece_after == temperature.error(crossed, labels)
    assert found.temperature == temperature.best(scores, labels)
    # the fit on all photos looks better on those very photos than it is
    assert temperature.likelihood(scores / found.temperature, labels) < found.nll_after


@pytest.mark.parametrize(("factor", "surely"), [(1.62, False), (1.64, True)])
def test_a_temperature_is_taken_where_the_gain_is_above_its_95_percent_bound(factor, surely):
    """Of one side, by the standard error of the sample; just below it, and just above."""
    scores, labels = drawn(30, 3, seed=255)
    scores *= factor
    folds, crossed = temperature.folds_of(labels, 0), scores.copy()
    for fold in range(5):
        crossed[folds == fold] /= temperature.best(scores[folds != fold], labels[folds != fold])
    gains = temperature.losses(scores, labels) - temperature.losses(crossed, labels)
    error = np.sqrt(((gains - gains.mean()) ** 2).sum() / 29 / 30)
    assert bool(gains.mean() > 1.645 * error) is surely
    assert gains.mean() == pytest.approx(1.645 * error, rel=0.01)
    found = temperature.fit(scores, labels, seed=0)
    assert (found.reason == "", found.temperature != 1) == (surely, surely)


def test_noise_is_not_taken_for_a_temperature():
    """Scores that are right as they are: of 40 sets of photos few are changed, and those hardly."""
    found = [temperature.fit(*drawn(120, 6, seed), seed=0) for seed in range(40)]
    assert sum(each.temperature != 1 for each in found) <= 4
    assert all(0.6 < each.temperature < 1.6 for each in found)


def test_folds_have_equal_shares_of_each_class_and_depend_on_the_seed():
    labels = np.array([0] * 50 + [1] * 20 + [2] * 3)
    folds = temperature.folds_of(labels, 0)
    for kind, each in ((0, 10), (1, 4)):
        assert np.bincount(folds[labels == kind]).tolist() == [each] * 5
    assert len(set(folds[labels == 2])) == 3
    assert (folds == temperature.folds_of(labels, 0)).all()
    assert (folds != temperature.folds_of(labels, 1)).any()


def test_the_temperature_stays_1_with_the_reason():
    scores, labels = drawn(400, 4)
    right = np.where(np.eye(4)[labels] > 0, 5.0, 0.0)
    cases = (
        (scores[:29], labels[:29], "", "29 val photos are too few: it takes 30"),
        (scores, np.zeros(400, int), "", "all val photos are of one class"),
        (right, labels, "", "every val photo is right"),
        (scores[:60], labels[:60], "", "no temperature is surely better"),
        (9 * scores, labels, "not asked for", "not asked for"),
    )
    for some, theirs, why_not, reason in cases:
        found = temperature.fit(some, theirs, 0, why_not)
        assert found.temperature == 1, reason
        assert found.reason.startswith(reason)
        assert (found.ece_after, found.nll_after) == (found.ece_before, found.nll_before)


# Into the head


CHAINS = {
    "lenet": ("lenet", None, "linear"),
    "lenet with a hidden layer": ("lenet", None, "mlp:16"),
    "mobilenetv2_100": ("timm/mobilenetv2_100", "timm-mobilenetv2_100-keras.pth", "linear"),
    "squeezenet1_1": ("torchvision/squeezenet1_1", "squeezenet1_1-caffe.pth", "linear"),
    "squeezenet1_1 as published": ("torchvision/squeezenet1_1", "squeezenet1_1-caffe.pth", ""),
    "googlenet": ("googlenet-2014", "googlenet_bvlc.safetensors", "linear"),
    "a head inside a stage": ("alexnet", None, "mlp:8"),
    "a head inside a library's stage": ("torchvision/mobilenet_v3_small", None, "mlp:8"),
}


def chain_of(case, shared):
    """A network with its real weights, and the name of its head."""
    name, file, head = CHAINS[case]
    spec = models.resolve(name)
    torch.manual_seed(0)
    chain = models.build(spec)
    if file:
        weights.load(chain, spec, shared / "weights" / file)
    if head:
        chain, spec = network.with_head(chain, spec, 7, head)
    return chain.eval(), spec


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(one, marks=pytest.mark.slow)
        if one in ("mobilenetv2_100", "squeezenet1_1", "googlenet", "a head inside a stage")
        or one.endswith(("library's stage", "as published"))
        else one
        for one in CHAINS
    ],
)
def test_folding_divides_the_scores_and_changes_nothing_else(case, shared):
    chain, spec = chain_of(case, shared)
    size = spec.preprocess.size
    inputs = torch.rand(2, spec.preprocess.channels, size, size)
    with torch.inference_mode():
        before = chain(inputs)
    kept = {name: value.clone() for name, value in chain.state_dict().items()}
    assert head.obstacle(chain, spec.head, inputs) == ""
    for name, value in chain.state_dict().items():
        assert torch.equal(value, kept[name]), name
    head.fold_temperature(chain, spec.head, 2.7)
    with torch.inference_mode():
        after = chain(inputs)
    assert float((2.7 * after - before).abs().max()) <= 1e-6 * float(before.abs().max())
    assert torch.equal(after.argmax(dim=1), before.argmax(dim=1))
    changed = {name for name, value in chain.state_dict().items() if not value.equal(kept[name])}
    last = spec.head + (".3" if CHAINS[case][2].startswith("mlp") else "")
    assert changed == {f"{last}.weight", f"{last}.bias"}


@pytest.mark.parametrize(
    ("layers", "behind", "reason"),
    [
        (nn.Linear(6, 3), nn.Tanh(), "does not scale"),
        (nn.Linear(6, 3), nn.BatchNorm1d(3), "does not scale"),
        (nn.Sequential(nn.Linear(6, 3), nn.LayerNorm(3)), nn.Identity(), "ends in a LayerNorm"),
    ],
)
def test_what_does_not_scale_is_found_and_left_as_it_is(layers, behind, reason):
    torch.manual_seed(0)
    behind.register_buffer("shift", torch.zeros(3))
    chain = nn.Sequential()
    chain.add_module("head", layers)
    chain.add_module("behind", behind)
    if isinstance(behind, nn.BatchNorm1d):
        nn.init.ones_(behind.bias)
    kept = {name: value.clone() for name, value in chain.state_dict().items()}
    assert reason in head.obstacle(chain, "head", torch.randn(4, 6))
    for name, value in chain.state_dict().items():
        assert torch.equal(value, kept[name]), name


# In the run


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Two classes of 90 grey pictures that are hard to tell apart."""
    root = tmp_path_factory.mktemp("data") / "noisy"
    random = np.random.default_rng(0)
    for kind, level in (("dark", 112), ("light", 140)):
        (root / kind).mkdir(parents=True)
        for number in range(90):
            pixels = np.clip(random.normal(level + random.normal(0, 25), 30, (32, 32)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(root / kind / f"{number:02}.png")
    return root


@pytest.fixture(scope="module")
def trained(noisy, tmp_path_factory):
    """A run that is too sure of itself, and the same without calibration."""
    from zoo.cli import main

    made = {}
    for flag in ("--calibrate", "--no-calibrate"):
        made[flag] = tmp_path_factory.mktemp("runs") / "run"
        words = ["--no-freeze", "--views", "1", "--epochs", "20", "--lr", "0.02", flag]
        words += ["--val-fraction", "0.4", "--best", "last", "-o", str(made[flag])]
        assert main(["finetune", "lenet/mnist", str(noisy), *words]) == 0
    return made["--calibrate"], made["--no-calibrate"]


def test_a_run_predicts_and_exports_calibrated_probabilities(here, trained, tmp_path):
    run, plain = trained
    about = json.loads((run / "run.json").read_text())["calibration"]
    assert about["temperature"] > 1.05
    assert about["nll_after"] < about["nll_before"]
    listed = csv_rows((run / "val.csv").read_text())
    assert [row["path"] for row in listed] == [
        path.relative_to(path.parents[1]).as_posix() for path in Run.open(run).photos("val")
    ]
    assert [one.right for one in read(Run.open(run))] == [
        row["label"] == row["predicted"] for row in listed
    ]
    names = tmp_path / "list.txt"
    names.write_text("\n".join(map(str, Run.open(run).photos("val"))))
    exported = tmp_path / "model.onnx"
    assert here("export", "onnx", run, "-o", exported).code == 0
    for model in (run, exported):
        given = csv_rows(here("predict", model, names).out)
        assert [row["label"] for row in given] == [row["predicted"] for row in listed]
        for ours, theirs in zip(given, listed, strict=True):
            assert float(ours["probability"]) == pytest.approx(
                float(theirs["probability"]), abs=2e-5
            )
    other = json.loads((plain / "run.json").read_text())["calibration"]
    assert (other["temperature"], other["reason"]) == (1, "--no-calibrate")
    assert other["nll_before"] == pytest.approx(about["nll_before"])
    unsure = csv_rows((plain / "val.csv").read_text())
    assert [row["predicted"] for row in unsure] == [row["predicted"] for row in listed]
    assert all(
        float(ours["probability"]) <= float(theirs["probability"])
        for ours, theirs in zip(listed, unsure, strict=True)
    )


def test_a_head_that_is_solved_for_is_divided_too(here, noisy, tmp_path):
    """One that no penalty holds back is too sure of itself; a class more keeps its temperature."""
    run, new = tmp_path / "run", tmp_path / "new"
    words = (
        "--cut",
        "act4",
        "--penalty",
        "1e-9",
        "--views",
        "1",
        "--val-fraction",
        "0.4",
        "-o",
        run,
    )
    assert here("finetune", "lenet/mnist", noisy, *words).code == 0
    temperature = Run.open(run).record["calibration"]["temperature"]
    assert temperature > 1.05
    photos, listed = Run.open(run).photos("val"), csv_rows((run / "val.csv").read_text())
    (tmp_path / "list.txt").write_text("\n".join(map(str, photos)))
    for row, said in zip(
        csv_rows(here("predict", run, tmp_path / "list.txt").out), listed, strict=True
    ):
        assert float(row["probability"]) == pytest.approx(float(said["probability"]), abs=2e-5)
    shutil.copytree(noisy / "dark", tmp_path / "grey")
    for path in (tmp_path / "grey").iterdir():
        Image.open(path).point(lambda value: 255 - value).save(path)
    assert here("add-class", run, f"grey={tmp_path / 'grey'}", "-o", new).code == 0
    assert Run.open(new).record["calibration"]["temperature"] == temperature


def test_the_tables_of_a_run(tmp_path):
    """val.csv in the order of the samples; risk_coverage.csv from the surest photo to all."""
    run = Run(tmp_path, {"classes": ["a", "b"]})
    samples = [Sample(f"{n}.png", label, "val") for n, label in enumerate((0, 1, 1, 0))]
    scores = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0], [2.0, 0.0]])
    index = DatasetIndex(tmp_path, ("a", "b"), tuple(samples))
    found = scored.confidence(run, index, scores, 0)
    assert found.reason.startswith("4 val photos are too few")
    listed = csv_rows((tmp_path / "val.csv").read_text())
    assert [row["path"] for row in listed] == ["0.png", "1.png", "2.png", "3.png"]
    assert [row["label"] + row["predicted"] for row in listed] == ["aa", "bb", "ba", "aa"]
    assert [row["correct"] for row in listed] == ["1", "1", "0", "1"]
    assert float(listed[1]["probability"]) == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-6)
    curve = csv_rows((tmp_path / "risk_coverage.csv").read_text())
    assert [row["kept"] for row in curve] == ["1", "3", "4"]
    assert [row["coverage"] for row in curve] == ["0.25", "0.75", "1"]
    assert [row["risk"] for row in curve] == ["0", "0", "0.25"]
    assert policy.kept(tmp_path, 0.8) == policy.Kept(0.75, 0.0)
    assert policy.kept(tmp_path, 0.99) == policy.Kept(0.0, 0.0)
    assert policy.kept(tmp_path, 0.1) == policy.Kept(1.0, 0.25)
    assert policy.kept(tmp_path / "none", 0.1) is None
    # Of the test photos with the temperature too; and what a page says first is of them.
    samples = [replace(sample, split="test") for sample in samples[:3]]
    few, labels = replace(index, samples=tuple(samples)), np.array([0, 1, 1])
    tested = scores_from(scores[:3], labels, ("a", "b"))
    scored.test(run, few, tested, replace(found, temperature=2.0))
    listed = csv_rows((tmp_path / "test.csv").read_text())
    assert float(listed[1]["probability"]) == pytest.approx(1 / (1 + np.exp(-1.5)), abs=1e-6)
    report = measured(run)
    assert report is not None
    assert report.accuracy == run.record["test"]["accuracy"] == pytest.approx(2 / 3)
    scores *= 9  # of a sure network: 1 to ten digits and more
    scored.confidence(run, index, scores, 0)
    listed, curve = (csv_rows(tmp_path / f"{name}.csv") for name in ("val", "risk_coverage"))
    surest = metrics.softmax(scores).max(axis=1)
    assert [float(row["threshold"]) for row in curve] == sorted(set(surest.tolist()))[::-1]
    assert [policy.kept(tmp_path, chance).coverage for chance in surest] == [0.75, 0.25, 1, 0.75]
    assert float(listed[2]["likelier"]) == surest[2]


# Rows that are refused


@pytest.mark.parametrize("kind", ["run", "exported", "lenet/mnist"])
def test_rows_below_the_threshold_have_no_label(here, photos, kind, request):
    model = kind if "/" in kind else request.getfixturevalue(kind)
    all_rows = csv_rows(here("predict", model, photos, "--top", 2).out)
    values = sorted(float(row["probability"]) for row in all_rows)
    threshold = round((values[11] + values[12]) / 2, 5)
    answer = here("predict", model, photos, "--top", 2, "--reject-below", threshold)
    assert answer.code == 0
    below = [float(row["probability"]) < threshold for row in all_rows]
    assert 0 < sum(below) < len(below)
    for old, new, rejected in zip(all_rows, csv_rows(answer.out), below, strict=True):
        assert new["status"] == ("rejected" if rejected else "ok")
        assert new["label"] == ("" if rejected else old["label"])
        others = ("path", "probability", "label_2", "probability_2", "error")
        assert [new[name] for name in others] == [old[name] for name in others]
    assert f"36 rows, {sum(below)} rejected (below {threshold:g})" in answer.err


def test_every_format_says_rejected_and_errors_stay_errors(here, run, tmp_path, photos):
    (tmp_path / "in").mkdir()
    shutil.copy(photos / "disc" / "00.png", tmp_path / "in" / "0.png")
    (tmp_path / "in" / "1.png").write_bytes(b"no picture")
    words = ["predict", run, tmp_path / "in", "--reject-below", 1]
    for suffix in (".csv", ".jsonl", ".parquet"):
        answer = here(*words, "-o", tmp_path / f"out{suffix}")
        assert answer.code == 0
        assert "1 of them an error, 1 rejected (below 1)" in answer.err
        assert here(*words, "--strict", "-f", "-o", tmp_path / f"out{suffix}").code == 1
    table = csv_rows((tmp_path / "out.csv").read_text())
    lines = list(map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines()))
    packed = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    for found in (table, lines, packed):
        assert [row["status"] for row in found] == ["rejected", "error"]
        assert not found[0]["label"]
        assert 0 < float(found[0]["probability"]) < 1


def test_the_summary_says_what_the_threshold_does_on_the_val_photos(here, run, photos, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    curve = "threshold,coverage,risk,kept\n0.9,0.25,0,1\n0.7,0.75,0.333333,3\n0.6,1,0.5,4\n"
    (copy / "risk_coverage.csv").write_text(curve)
    answer = here("predict", copy, photos, "--reject-below", 0.7)
    assert "of the run's val photos 0.7 keeps 75.0 %, 33.3 % of them wrong" in answer.err
    answer = here("predict", copy, photos, "--reject-below", 0.95)
    assert "of the run's val photos 0.95 keeps none" in answer.err
    for text in ("", "threshold\n0.9\n", "x,y\n1,2\n", "threshold,coverage,risk\nx,y,z\n"):
        (copy / "risk_coverage.csv").write_text(text)
        answer = here("predict", copy, photos / "disc", "--reject-below", 0.7)
        assert answer.code == 0, text


@pytest.mark.parametrize("value", ["0", "-0.1", "1.5", "nan"])
def test_a_threshold_that_is_no_probability(here, run, photos, value):
    answer = here("predict", run, photos, "--reject-below", value)
    assert (answer.code, answer.out) == (2, "")
    assert f"--reject-below {value}: a probability is above 0 and at most 1" in answer.err
    assert "hint: give one, as --reject-below 0.8" in answer.err
    with pytest.raises(UsageError):
        policy.check(float(value))


# Measured again


def test_evaluate_tells_the_calibration_error_and_draws_the_curves(here, run, tmp_path):
    answer = here("evaluate", run, run, "--json", "--plot", tmp_path / "curves.png")
    assert answer.code == 0, answer.err
    first, second, committee = json.loads(answer.out)["results"]
    assert first["ece"] == second["ece"] == pytest.approx(committee["ece"])
    names = tmp_path / "list.txt"
    photos = Run.open(run).labelled("val")
    names.write_text("\n".join(str(path) for path, _ in photos))
    given = csv_rows(here("predict", run, names).out)
    probability = np.array([float(row["probability"]) for row in given])
    correct = np.array([r["label"] == label for r, (_, label) in zip(given, photos, strict=True)])
    assert first["ece"] == pytest.approx(metrics.calibration_error(probability, correct), abs=1e-5)
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1320, 600)
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 50
    assert "ECE" in here("evaluate", run).out.splitlines()[0]
    answer = here("evaluate", run, "--plot", tmp_path / "curves.jpg")
    assert answer.code == 2
    assert "--plot" in answer.err
