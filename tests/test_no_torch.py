"""What needs no torch: what is known, kept or shipped is used, and the answers are the same."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from kit import ROOT, loaded, settings, sha256, tune

from zoo import catalog, network, weights
from zoo.catalog import structures
from zoo.engine import compiled, graph, graph_template
from zoo.engine.compiled import made_of
from zoo.engine.openvino import OpenVinoEngine
from zoo.engine.shipped import shipped
from zoo.finetune import catalogued
from zoo.finetune.prepare import prepare
from zoo.models.cut import cut
from zoo.run import Run

HEAVY = ("torch", "torchvision", "timm", "onnxscript")
# Runs commands one after the other, and says behind each which heavy modules there are.
TELLING = f"""if True:
    import ast, sys
    from zoo.cli import main
    for words in ast.literal_eval(sys.argv[1]):
        code = main(words)
        heavy = [name for name in {HEAVY} if name in sys.modules]
        print("LOADED", code, *heavy, file=sys.stderr)
"""
CLASSIFIERS = [name for name, row in catalog.ROWS.items() if row.task == "classify"]


def told(*commands: list[object]) -> list[str]:
    """The exit code and the heavy modules of each command, in a process of their own."""
    words = [[str(word) for word in command] for command in commands]
    answer = subprocess.run(
        [sys.executable, "-c", TELLING, repr(words)],
        cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    lines = [line.split() for line in answer.stderr.splitlines() if line.startswith("LOADED")]
    assert len(lines) == len(commands), answer.stderr
    return [" ".join(line[1:]) for line in lines]


def drawn(name: str, folder: Path) -> Path:
    """A file of weights for a row of the catalogue, with BatchNorms that do something."""
    import torch

    chain = network.untrained(name, seed=3).chain
    with torch.no_grad():
        for key, value in chain.state_dict().items():
            if key.endswith("running_var"):
                value.uniform_(0.5, 2.0)
            elif key.endswith("running_mean"):
                value.normal_()
    weights.save(chain.state_dict(), folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


@pytest.fixture(scope="module")
def first(tmp_path_factory, photos):
    """A cache, a weights file, and a run that began with nothing else."""
    folder = tmp_path_factory.mktemp("first")
    file = drawn("mlp", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(folder / "cache"))
        tuning = ["finetune", "mlp", photos, "--weights", file, "-o"]
        assert told([*tuning, folder / "run"], [*tuning, folder / "again"]) == ["0", "0"]
    return folder


def test_the_first_fine_tune_of_a_row_of_the_catalogue_loads_no_torch(first):
    for name in ("run", "again"):
        record = Run.open(first / name).record
        assert record["linear_head"] == "fc5"
        assert record["engine"] == "openvino"
    same = [sha256(first / name / "model.safetensors") for name in ("run", "again")]
    assert same[0] == same[1]


def test_weights_that_cannot_be_downloaded_are_told_before_torch_is_loaded(
    photos, tmp_path, monkeypatch
):
    """Offline, in an empty cache: the file is named within a second, not in twenty."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    names = ("timm/mobilenetv2_100", "timm/resnet18.tv_in1k", "torchvision/resnet34", "resnet18")
    words = [["pull", name] for name in names]
    words += [["finetune", name, photos, "-o", tmp_path / "r"] for name in names]
    words += [["predict", names[0], photos], ["evaluate", names[0], "--data", photos]]
    assert told(*words) == ["2"] * len(words)


def test_a_second_run_compiles_no_graph(first, photos, monkeypatch, tmp_path):
    """What compiles graphs is not even imported."""
    monkeypatch.setenv("ZOO_CACHE", str(first / "cache"))
    words = [
        "finetune",
        "mlp",
        photos,
        "--weights",
        first / "mlp.safetensors",
        "-o",
        tmp_path / "r",
    ]
    names = loaded(f"from zoo.cli import main\nassert main({[*map(str, words)]!r}) == 0")
    assert "numpy" in names
    assert names.isdisjoint(("openvino", "onnxruntime", "torch"))


def test_torch_says_the_same_of_it_to_the_bit(first, photos, tmp_path, monkeypatch):
    """Facts, graph, features and the saved network: in another cache, all found with torch."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    recipe = settings("mlp", photos, weights=str(first / "mlp.safetensors"))
    quick = prepare(recipe)
    assert quick.built is None
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(catalogued, "recall", lambda recipe: None)
    monkeypatch.setattr(catalogued, "compile_frozen", lambda ref, recipe: None)
    slow = prepare(recipe)
    assert slow.built is not None
    assert slow.plan.facts == quick.plan.facts
    tune(tmp_path / "slow", recipe)
    one, other = (Run.open(folder) for folder in (first / "run", tmp_path / "slow"))
    assert one.record["weights_sha256"] == other.record["weights_sha256"]
    assert sha256(one.path("model.safetensors")) == sha256(other.path("model.safetensors"))
    key = slow.ref(slow.plan.cut).key()
    graphs = [
        [sha256(cache / "engines" / key / name) for name in ("graph.xml", "graph.bin")]
        for cache in (first / "cache", tmp_path / "other")
    ]
    assert graphs[0] == graphs[1]


@pytest.mark.slow
def test_commands_on_what_is_known_load_no_torch(first, photos, monkeypatch, here, tmp_path):
    monkeypatch.setenv("ZOO_CACHE", str(first / "cache"))
    run, one = first / "run", next(photos.rglob("*.png"))
    ranking = ["rank", photos, "--models", f"mlp={first / 'mlp.safetensors'},lenet"]
    assert here(*ranking).code == 0  # with torch, the first time
    assert here("info", "torchvision/resnet18").code == 0
    commands = [
        ["info", "resnet50"],
        ["info", "resnet50", "--classes"],
        ["info", "torchvision/resnet18"],
        ["info", run],
        ranking,
        ["embed", run, photos, "-o", tmp_path / "a.csv"],
        ["predict", run, one],
        ["compare", run, first / "again"],
        ["evaluate", run],
        ["export", "onnx", run, "-o", tmp_path / "a.onnx"],
    ]
    assert told(*commands) == ["0"] * len(commands)


def test_features_of_a_run_are_those_that_torch_computes(first, photos, monkeypatch, tmp_path):
    import csv

    from zoo.cli import main
    from zoo.predict import embed

    monkeypatch.setenv("ZOO_CACHE", str(first / "cache"))
    words = ["embed", first / "run", photos, "--picture", "none", "-o"]
    assert main([str(word) for word in [*words, tmp_path / "a.csv"]]) == 0
    monkeypatch.setattr(embed, "_of_run", lambda *_: None)
    assert main([str(word) for word in [*words, tmp_path / "b.csv"]]) == 0
    ours, theirs = (
        list(csv.reader((tmp_path / name).read_text().splitlines())) for name in ("a.csv", "b.csv")
    )
    assert ours[0] == theirs[0]
    for mine, other in zip(ours[1:], theirs[1:], strict=True):
        assert mine[:4] == other[:4]
        assert np.allclose(np.array(mine[4:], float), np.array(other[4:], float), atol=1e-4)


@pytest.mark.parametrize("change", [{"head": "mlp:8"}, {"cut": "act2"}, {"unfreeze": "act2@2"}])
def test_what_else_is_asked_for_is_found_with_torch(first, photos, change):
    recipe = settings("mlp", photos, weights=str(first / "mlp.safetensors"), **change)
    assert catalogued.recall(recipe) is None


def test_other_tensors_than_the_rows_are_left_to_torch(first, tmp_path):
    """Prefixes, other types, a tensor more or less: `load` knows what to say of them."""
    import torch

    row, known = catalog.find("mlp"), structures.find("mlp")
    state = weights.read(first / "mlp.safetensors")
    name = next(iter(state))
    for number, other in enumerate(
        (
            {f"module.{key}": value for key, value in state.items()},
            {key: value.double() for key, value in state.items()},
            state | {"more.weight": torch.zeros(2)},
            {key: value for key, value in state.items() if key != name},
            state | {name: state[name][:-1]},
        )
    ):
        file = tmp_path / f"{number}.safetensors"
        weights.save(other, file)
        assert weights.read_as(file, known.tensors, row) is None


# What is shipped is what the networks are.


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if row.macs > 3e8 else [])
        for name, row in catalog.ROWS.items()
    ],
)
def test_the_shipped_structure_of_a_row_is_what_is_built_now(name):
    """`python -m benchmarks.graph_templates` makes it anew."""
    from benchmarks.graph_templates import structure

    check(name, structure)


def check(name, structure):
    row, known = catalog.ROWS[name], structures._read()[name]
    template = None
    if row.task == "classify":
        template = graph_template.find(graph_template.shipped_key(row))
    found = structure(row, template)
    assert {**known, "stages": [*map(as_list, known["stages"])]} == {
        **found,
        "stages": [*map(as_list, found["stages"])],
        "plan": as_list(found["plan"]),
    }


def as_list(value):
    """A value as JSON has it."""
    import json

    return json.loads(json.dumps(value))


@pytest.mark.parametrize("name", ["lenet", "mlp", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_a_graph_with_its_norms_taken_in_is_the_network(name, tmp_path):
    """Whole and up to the cut, beside torch."""
    import onnx
    import torch

    row, known = catalog.find(name), structures.find(name)
    chain = network.pretrained(name, str(drawn(name, tmp_path))).chain.eval()
    state = {key: value.numpy() for key, value in chain.state_dict().items()}
    pictures = graph.noise(row.preprocess.shape)
    for boundary in (None, known.plan["cut"]["boundary"]):
        part = chain if boundary is None else cut(chain, row.cut).frozen
        ready = shipped(made_of(row), boundary, row.preprocess)
        assert ready.names == tuple(part.state_dict())
        with torch.inference_mode():
            wanted = part.eval()(torch.from_numpy(pictures)).numpy()
        (found,) = graph.run(ready.graph(state), pictures)
        kinds = {node.op_type for node in onnx.load_from_string(ready.graph(state)).graph.node}
        assert "BatchNormalization" not in kinds
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_a_template_that_is_not_the_network_is_not_believed(tmp_path, monkeypatch):
    """What OpenVINO runs is compared with the template in ONNX Runtime before it is kept."""
    from zoo.engine import shipped as module
    from zoo.errors import ConversionError

    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    row, known = catalog.find("lenet"), structures.find("lenet")
    state = weights.read_as(weights.held(row.weights[0]), known.tensors, row)
    ready = shipped(made_of(row), None, row.preprocess)
    whole = ready.converted(state, row.preprocess)
    assert compiled.keep("whole", whole, row.preprocess).engine() is not None
    other = {key: -value if key.endswith("bias") else value for key, value in state.items()}
    wrong = dataclasses.replace(whole, model=partial(module.ready, ready.template, other))
    with pytest.raises(ConversionError, match="differs by"):
        compiled.keep("wrong", wrong, row.preprocess)


def test_a_graph_is_compiled_when_a_picture_needs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    row, known = catalog.find("lenet"), structures.find("lenet")
    state = weights.read_as(weights.held(row.weights[0]), known.tensors, row)
    made = shipped(made_of(row), None, row.preprocess).converted(state, row.preprocess)
    engine = compiled.keep("lenet", made, row.preprocess).engine(workers=2)
    assert isinstance(engine, OpenVinoEngine)
    from zoo.engine.pipeline import forward

    assert list(forward([], lambda item: item, engine)) == []
    assert engine.ready is None
    assert engine(np.zeros((1, 32, 32, 1), np.uint8)).shape == (1, 10)
    assert engine.ready is not None
