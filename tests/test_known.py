"""A second fine-tune and what follows it need no torch, and give the very same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from kit import saved, settings, sha256, tune
from kit.hostile import inside

from zoo import disk, network, weights
from zoo.engine.select import bf16
from zoo.errors import DisagreementError, RunError
from zoo.features import digests
from zoo.finetune import agreement
from zoo.finetune.events import FeaturesDone
from zoo.finetune.prepare import prepare
from zoo.predict.inputs import Input
from zoo.predict.predictor import Opening, open_predictor
from zoo.recipe import Recipe
from zoo.run import Run

# Runs a command and says which heavy modules it took.
TELLING = """if True:
    import sys
    from zoo.cli import main
    code = main(sys.argv[1:])
    heavy = {"torch", "torch._dynamo", "torchvision", "timm", "onnx", "onnxruntime",
             "huggingface_hub"} & set(sys.modules)
    print("LOADED", *sorted(heavy), file=sys.stderr)
    sys.exit(code)
"""


def told(*words: object) -> tuple[str, set[str]]:
    """stderr of a command, and what it loaded."""
    command = [sys.executable, "-c", TELLING, *map(str, words)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    said, _, loaded = answer.stderr.rpartition("LOADED")
    return said, set(loaded.split())


def chosen(photos: Path, file: Path, **values: object) -> Recipe:
    """A linear head alone: the cut is right before it."""
    return settings("lenet", photos, **{"weights": str(file), "cut": "fc1", **values})


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A weights file of a small network."""
    chain = network.pretrained("lenet", "none", seed=3).chain
    path = tmp_path_factory.mktemp("weights") / "lenet.safetensors"
    weights.save(chain.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def first(tmp_path_factory, photos, file):
    """A run that had to build the network, and loaded torch for it."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    said, loaded = told(
        "finetune", "lenet", photos, "--weights", file, "--cut", "fc1", "-o", folder
    )
    assert "torch" in loaded, said
    # It costs two seconds, and half of torch loads it at the first call.
    assert not loaded & {"torch._dynamo", "torchvision", "timm", "huggingface_hub"}
    return folder


def test_a_second_fine_tune_loads_no_torch_and_ends_with_the_same_bits(
    tmp_path, photos, file, first
):
    again = tmp_path / "again"
    said, loaded = told("finetune", "lenet", photos, "--weights", file, "--cut", "fc1", "-o", again)
    assert loaded == set()
    assert "none to compute" in said
    assert sha256(again / "model.safetensors") == sha256(first / "model.safetensors")
    one, other = (Run.open(folder).record for folder in (first, again))
    for name in ("results", "weights_sha256", "calibration", "phases", "spec", "weights"):
        assert one[name] == other[name]
    rows = [[line for line in each["plan"] if line[0] != "features"] for each in (one, other)]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_other_photos_and_repetitions_need_no_torch_either(tmp_path, photos, file, first):
    words = ["--weights", file, "--cut", "fc1", "--seed", "5", "--folds", "2", "--seeds", "2"]
    _, loaded = told("finetune", "lenet", photos, *words, "-o", tmp_path / "run")
    assert loaded == set()
    evidence = Run.open(tmp_path / "run").record["evidence"]
    assert len(evidence["folds"]["accuracy"]) == len(evidence["seeds"]["accuracy"]) == 2


@pytest.mark.slow
def test_without_the_compiled_network_the_bits_are_the_same(tmp_path, photos, file, first):
    """What torch is loaded for changes nothing: here another cache, in which nothing is known."""
    words = ["finetune", "lenet", photos, "--weights", file, "--cut", "fc1"]
    words += ["-o", tmp_path / "run"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
        _, loaded = told(*words)
    assert "torch" in loaded
    assert sha256(tmp_path / "run/model.safetensors") == sha256(first / "model.safetensors")


def test_weights_that_have_changed_are_not_taken_for_known(tmp_path, photos, file):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(file.read_bytes())
    recipe = chosen(photos, path)
    tune(tmp_path / "a", recipe)
    assert prepare(recipe).built is None
    chain = network.pretrained("lenet", "none", seed=4).chain
    weights.save(chain.state_dict(), path)
    made = prepare(recipe)
    assert made.built is not None
    assert made.plan.facts.weights_sha256 != Run.open(tmp_path / "a").record["weights_sha256"]


@pytest.mark.parametrize(
    "change",
    [{"head": "mlp:8"}, {"epochs": 3}, {"freeze": False, "cut": None}, {"engine": "torch"}],
)
def test_what_takes_torch_is_planned_with_it(photos, file, first, change):
    made = prepare(chosen(photos, file, **change))
    made.settle()
    assert made.built is not None


def test_a_run_predicts_without_torch_what_torch_answers(here, tmp_path, photos, first):
    _, loaded = told("predict", first, photos, "-o", tmp_path / "a.csv", "--top", "3")
    assert loaded == set()
    words = ("--top", "3", "--engine", "torch")
    assert here("predict", first, photos, "-o", tmp_path / "b.csv", *words).code == 0
    lines = [(tmp_path / name).read_text().splitlines() for name in ("a.csv", "b.csv")]
    assert len(lines[0]) == len(lines[1]) == 37
    for ours, theirs in zip(*lines, strict=True):
        for mine, other in zip(ours.split(","), theirs.split(","), strict=True):
            try:
                assert float(mine) == pytest.approx(float(other), abs=1e-5)
            except ValueError:
                assert mine == other


def test_a_network_put_in_the_runs_place_answers_itself(tmp_path, photos, first):
    """The frozen part of a run is the one that is compiled only as long as its file says so."""
    import shutil

    run = tmp_path / "run"
    shutil.copytree(first, run)
    state = saved(run)
    state["conv1.weight"] = -state["conv1.weight"]
    weights.save(state, run / "model.safetensors", {"model": "lenet"})
    inputs = [Input(str(path), "x") for path in Run.open(run).photos("val")]
    ours, exact = (
        [
            row.probabilities
            for row in open_predictor(str(run), Opening(engine=engine, trusts=True)).rows(inputs, 3)
        ]
        for engine in ("auto", "torch")
    )
    # Its scores are as large as 60: either engine is up to 8e-6 from what float64 computes.
    assert np.allclose(ours, exact, atol=1e-4)
    before = [row.probabilities for row in open_predictor(str(first)).rows(inputs, 3)]
    assert not np.allclose(ours, before, atol=1e-2)


def test_a_damaged_graph_is_made_anew(tmp_path, photos, file, first):
    from zoo.engine import compiled

    made = prepare(chosen(photos, file))
    graph = compiled.folder() / made.ref(made.plan.cut).key() / "graph.bin"
    graph.write_bytes(graph.read_bytes()[:-1])
    again = prepare(chosen(photos, file))
    again.settle()
    assert again.built is not None  # there is no such graph: it is built from the network
    tune(tmp_path / "run", chosen(photos, file))
    assert sha256(tmp_path / "run/model.safetensors") == sha256(first / "model.safetensors")


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache of this test alone, and nothing in it."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(disk, "_told", set())
    return tmp_path / "cache"


def answers_of(run: Path, engine: str = "auto") -> np.ndarray:
    """The probabilities of the val photos, in the order of the classes."""
    inputs = [Input(str(path), "x") for path in Run.open(run).photos("val")]
    rows = open_predictor(str(run), Opening(engine=engine)).rows(inputs, 3)
    found = [dict(zip(row.labels, row.probabilities, strict=True)) for row in rows]
    return np.array([[row[name] for name in sorted(row)] for row in found])


def strangers(folder: Path, first: Path) -> Path:
    """A run with other tensors that claims to have grown from the same network as `first`."""
    shutil.copytree(first, folder)
    state = saved(folder)
    state["conv1.weight"] = -state["conv1.weight"]
    weights.save(state, folder / "model.safetensors", {"model": "lenet"})
    record = json.loads((folder / "run.json").read_text())
    record["model_sha256"] = sha256(folder / "model.safetensors")
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_a_strangers_run_changes_no_answer_of_an_honest_one(
    tmp_path, photos, file, first, own_cache
):
    """Whatever its run.json claims, its graph is not kept under the name of another's."""
    stranger = strangers(tmp_path / "stranger", first)
    theirs = answers_of(stranger)  # which compiles it
    honest = answers_of(first)
    assert np.allclose(honest, answers_of(first, "torch"), atol=1e-3)
    assert np.allclose(theirs, answers_of(stranger, "torch"), atol=1e-3)
    assert not np.allclose(honest, theirs, atol=1e-1)
    tune(tmp_path / "new", chosen(photos, file))  # with the graph of the honest one
    assert sha256(tmp_path / "new/model.safetensors") == sha256(first / "model.safetensors")


@pytest.mark.slow
def test_facts_of_one_run_are_not_those_of_another_with_the_same_tensors(
    tmp_path, photos, first, own_cache
):
    """What a network is shown is in run.json: facts go by its content, too."""
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        shutil.copytree(first, folder)
    record = json.loads((other / "run.json").read_text())
    record["preprocess"]["mean"] = [0.9]
    (other / "run.json").write_text(json.dumps(record))
    tune(tmp_path / "before", chosen(photos, one))
    one.rename(tmp_path / "gone")
    other.rename(one)
    tune(tmp_path / "after", chosen(photos, one))
    assert Run.open(tmp_path / "after").record["preprocess"]["mean"] == [0.9]


def turn_bits(path: Path, count: int, seed: int) -> None:
    """At random places, as a disk does it: the times stay as they were."""
    at, data = path.stat(), bytearray(path.read_bytes())
    random = np.random.default_rng([seed, len(data)])
    for place in random.integers(0, len(data), count):
        data[place] ^= 1 << int(random.integers(8))
    path.write_bytes(data)
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))


def kept_files(cache: Path) -> list[Path]:
    """All that answers depend on: no pins, and not what only a person reads."""
    files = [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
    plain = {path for path in files if path.match("features/*/about.json")}
    return sorted(set(files) - plain)


OTHERS = {"converted", "digests", "features", "known"}


@pytest.mark.parametrize(
    "damaged",
    [{"features"}, pytest.param({"engines", *OTHERS} - {"features"}, marks=pytest.mark.slow)],
)
def test_damage_to_what_is_kept_changes_nothing_and_is_told(
    tmp_path, photos, file, own_cache, monkeypatch, caplog, damaged
):
    """Any file of the cache: the same bits come out, a line says so, and it is made anew."""
    monkeypatch.setattr(digests, "SETTLED", -1.0)
    inside(monkeypatch)
    pickled = tmp_path / "lenet.pth"
    torch.save(weights.read(file), pickled)
    recipe = chosen(photos, pickled)
    tune(tmp_path / "whole", recipe)
    expected, honest = sha256(tmp_path / "whole/model.safetensors"), answers_of(tmp_path / "whole")
    kinds = {path: path.relative_to(own_cache).parts[0] for path in kept_files(own_cache)}
    assert set(kinds.values()) == {*OTHERS, "engines"}
    for number, path in enumerate(kinds):
        if kinds[path] not in damaged or not path.exists():  # another part was made since
            continue
        disk._told.clear()
        caplog.clear()
        turn_bits(path, 1 + number % 3, number)
        if path.parent.name == "converted":  # which is read again only where nothing is known
            shutil.rmtree(own_cache / "known")
        run = tmp_path / str(number)
        tune(run, recipe)
        assert np.array_equal(answers_of(run), honest), path
        assert sha256(run / "model.safetensors") == expected, path
        assert "is damaged" in caplog.text, path
        disk._told.clear()
        caplog.clear()
        assert np.array_equal(answers_of(run), honest), path
        assert caplog.text == "", path


def test_a_person_reads_of_damage_in_one_line(tmp_path, photos, file, warm, own_cache):
    words = ["finetune", "lenet", photos, "--weights", file, "--cut", "fc1", "-o"]
    tune(tmp_path / "a", chosen(photos, file))
    (rows,) = (own_cache / "features").rglob("*.rows.npy")
    turn_bits(rows, 1, 5)
    own, talk = {"ZOO_CACHE": str(own_cache)}, tmp_path / "talk"
    code = warm.run(*words, tmp_path / "b", talk=talk, often=False, environment=own)
    assert code == 0, talk.read_text()
    (line,) = [line for line in talk.read_text().splitlines() if "warning" in line]
    name = str(rows).removesuffix(".rows.npy")
    assert line == f"warning: {name} is damaged: its features are computed anew"
    assert sha256(tmp_path / "b/model.safetensors") == sha256(tmp_path / "a/model.safetensors")


@pytest.mark.skipif(not bf16(), reason="this processor does not compute in bf16")
def test_bf16_that_disagrees_is_refused_and_leaves_no_run(tmp_path, photos, file, monkeypatch):
    monkeypatch.setattr(agreement, "ENOUGH", 1.01)
    recipe = chosen(photos, file, precision="bf16")
    with pytest.raises(DisagreementError, match="val photos") as caught:
        tune(tmp_path / "run", recipe)
    assert "--force" in caught.value.hint
    assert not (tmp_path / "run").exists()
    tune(tmp_path / "run", replace(recipe, force=True))
    record = Run.open(tmp_path / "run").record
    assert 0 <= record["agreement_with_fp32"] <= 1
    assert record["precision"] == "bf16"


def test_features_of_one_engine_are_not_those_of_another(tmp_path, photos, file, first):
    recipe = chosen(photos, file, engine="torch")
    (done,) = [e for e in tune(tmp_path / "run", recipe) if isinstance(e, FeaturesDone)]
    assert done.cached == 0
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["engine"] == "torch"
    ours, theirs = saved(tmp_path / "run"), saved(first)
    head = f"{record['linear_head']}.weight"
    assert torch.allclose(ours[head], theirs[head], rtol=1e-2, atol=1e-4)


def test_features_that_have_changed_on_the_disk_are_computed_again(tmp_path, photos, file):
    cache = tmp_path / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(cache))
        tune(tmp_path / "a", chosen(photos, file))
        (rows,) = (cache / "features").rglob("*.rows.npy")
        values = np.load(rows)
        np.save(rows, values[::-1])
        done = [
            e for e in tune(tmp_path / "b", chosen(photos, file)) if isinstance(e, FeaturesDone)
        ]
    assert (done[0].computed, done[0].cached) == (len(values), 0)
    assert sha256(tmp_path / "a/model.safetensors") == sha256(tmp_path / "b/model.safetensors")


def test_a_network_that_is_not_the_runs_own_is_said_to_be_another(tmp_path, first):
    import shutil

    from zoo.network_ref import OTHER

    assert OTHER not in open_predictor(str(first)).about
    run = tmp_path / "run"
    shutil.copytree(first, run)
    state = saved(run)
    state["fc2.weight"] = -state["fc2.weight"]
    weights.save(state, run / "model.safetensors", {"model": "lenet"})
    with pytest.raises(RunError, match="is not the file that the run has saved"):
        open_predictor(str(run))
    assert OTHER in open_predictor(str(run), Opening(trusts=True)).about


@pytest.mark.skipif(not bf16(), reason="this processor does not compute in bf16")
def test_what_is_computed_otherwise_than_a_run_is_compared_with_the_run(
    tmp_path, photos, file, here
):
    tune(tmp_path / "run", chosen(photos, file, precision="bf16", force=True))
    plain = here("predict", tmp_path / "run", photos)
    assert "gives the same class" not in plain.err
    for words in (["--precision", "fp32"], ["--engine", "torch"]):
        answer = here("predict", tmp_path / "run", photos, "--force", *words)
        assert "as the run itself, in bf16 on" in answer.err, words
    exported = here("export", "onnx", tmp_path / "run", "--force", "-o", tmp_path / "x.onnx")
    assert exported.code == 0, exported.err
    assert "the run predicts in bf16" in exported.err


def test_an_unwritable_cache_costs_time_and_nothing_else(tmp_path, photos, file, first, warm):
    """What cannot be kept lasts as long as the command, and the bits are the same."""
    (tmp_path / "cache").write_text("in the way")
    words = ["finetune", "lenet", photos, "--weights", file, "--cut", "fc1"]
    own, talk = {"ZOO_CACHE": str(tmp_path / "cache")}, tmp_path / "talk"
    words += ["-o", tmp_path / "run"]
    assert warm.run(*words, talk=talk, often=False, environment=own) == 0, talk.read_text()
    warned = [line for line in talk.read_text().splitlines() if line.startswith("warning:")]
    assert len(warned) == 1
    assert "nothing is kept there for the next command" in warned[0]
    assert sha256(tmp_path / "run") == sha256(first)


def test_the_engine_of_exported_files_is_not_that_of_a_network(photos, first, here):
    answer = here("predict", first, photos, "--engine", "onnxruntime")
    assert answer.code == 2
    assert "it runs exported files" in answer.err


@pytest.mark.slow
def test_int8_of_a_run_whose_photos_have_moved_is_measured_on_others(tmp_path, photos, file, here):
    import shutil

    shutil.copytree(photos, tmp_path / "photos")
    tune(tmp_path / "run", chosen(tmp_path / "photos", file))
    shutil.move(tmp_path / "photos", tmp_path / "moved")
    words = ["--precision", "int8", "--force", "-o", tmp_path / "x.csv"]
    answer = here("predict", tmp_path / "run", tmp_path / "moved", *words)
    assert answer.code == 0, answer.err
    assert "of 36 of the first pictures" in answer.err
    words = ["--int8", "--force", "-o", tmp_path / "x.onnx"]
    answer = here("export", "onnx", tmp_path / "run", "--photos", tmp_path / "moved", *words)
    assert answer.code == 0, answer.err
    assert "calibrating on 18 of the photos: the run's training photos are gone" in answer.err
    assert "measuring on 18 photos" in answer.err
    answer = here("export", "onnx", tmp_path / "run", "-o", tmp_path / "x.txt")
    assert answer.code == 2
