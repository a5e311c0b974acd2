"""Names of what users have in their caches: as they were when these were recorded."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from zoo import catalog, weights
from zoo.catalog import Preprocess
from zoo.engine import graph_template, openvino
from zoo.engine.compiled import made_of, version_of
from zoo.engine.open import NetworkRef, Opened, feature_key, tensors_of
from zoo.network_ref import classifier_of_run
from zoo.run import Run

VERSIONS = {
    "torch": "2.15.0",
    "timm": "1.0.31",
    "torchvision": "0.29.2",
    "openvino": "2026.4.1",
    "onnxruntime": "1.31.1",
    "pillow": "13.0.0",
}
PIXELS = Preprocess(size=64, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
RESNET = catalog.find("resnet18")
TORCHVISION, TIMM = (
    replace(RESNET, name=name, builder="library", stages=("a", "b"), head="b")
    for name in ("torchvision/mobilenet_v2", "timm/resnet10t")
)


@pytest.fixture(autouse=True)
def recorded_versions(monkeypatch):
    """Names hold the versions of what computes: here those with which they were recorded."""
    monkeypatch.setattr(importlib.metadata, "version", VERSIONS.__getitem__)
    kept = (version_of, openvino.version)
    for one in kept:
        one.cache_clear()
    yield
    for one in kept:
        one.cache_clear()


@pytest.fixture
def pictures(tmp_path):
    """What int8 is calibrated on: files of a known content."""
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(bytes([number]) * 9)
    return tuple(sorted(tmp_path.glob("*.png")))


def pinned(made):
    return {**made, "versions": {**made["versions"], "zoo": "0.1.0"}}


def ref(row, variant=None, head="", boundary=None, tensors="file abc", build=None):
    made = pinned(made_of(row, variant, head))
    return NetworkRef(row.name, made, tensors, boundary, PIXELS, build)


@pytest.mark.parametrize(
    ("network", "fp32", "int8"),
    [
        (ref(RESNET), "ce3db8c37148bb7bcfb6bcdce9624dcf", "6b4042489a2aee4331b0cd5ae8e58d16"),
        (ref(TORCHVISION), "b9d7fe2f2348842d2a524beb1a0f5eb0", "55905b26bf067af5c5e382cb3c24dec8"),
        (ref(TIMM), "e54c2d5f2bf772e4754064f6dd7323f7", "b41f8af2d3453bd7e4d047ec4be7d5db"),
        (
            ref(RESNET, {"norm": "layer"}, "mlp:9"),
            "9fcb3b33034ab8e1f2d2e74b8fcfa425",
            "3a25aca9be4d9c4e2d29ef7818820e80",
        ),
        (
            ref(RESNET, boundary="layer3", tensors="abc"),
            "f83f6cb78ba4252510403feb1cd9a734",
            "46d81fb05144fd331ff027b04a551a1f",
        ),
        (
            ref(TIMM, boundary="a.0", tensors="abc"),
            "873a7c9fec5862d480dfcb94a2a15d5e",
            "42af1648f98de2e990e95de3ee4cb21e",
        ),
    ],
    ids=["catalogue", "torchvision", "timm", "variant", "cut", "cut of timm"],
)
def test_a_graph_has_the_name_that_it_was_kept_under(network, pictures, fp32, int8):
    network = replace(network, photos=pictures, made_of=pinned(network.made_of))
    assert network.key() == network.key("bf16") == fp32
    assert network.key("int8") == int8


@pytest.fixture
def finished(tmp_path, run):
    """A run of LeNet with numbers that no training has found; further fields of its record."""

    def make(name, **fields):
        folder = shutil.copytree(run, tmp_path / name)
        file = folder / "model.safetensors"
        state = {
            name: np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 1000
            for name, shape in weights.shapes(file).items()
        }
        weights.save_arrays(state, file, {})
        record = json.loads((folder / "run.json").read_text())
        record["spec"] |= fields.pop("spec", {})
        record |= fields | {"model_sha256": weights.hash_of(file)}
        (folder / "run.json").write_text(json.dumps(record))
        return Run.open(folder)

    return make


@pytest.mark.parametrize(
    ("name", "fields", "fp32", "int8"),
    [
        ("whole", {}, "087a843341583006bb38e49d19077dd4", "2f14ff4d166837a7a317c5daf8f7bdf2"),
        (
            "frozen",
            {"linear_head": "fc2", "boundary": "act4", "cut": "fc1"},
            "9f966ce6e455e9a0633acfd7ec52f497",
            "54253667eb01bbfbf24fe1ab6ce9683c",
        ),
        (
            "library",
            {"model": "timm/lenet", "spec": {"name": "timm/lenet", "builder": "library"}},
            "2b95fdb2719a8b42d75f78463670ef80",
            "9e2d0c70b473f2e88e6b97142d89b092",
        ),
    ],
)
def test_so_has_that_of_a_run(finished, pictures, name, fields, fp32, int8):
    network = classifier_of_run(finished(name, **fields)).ref
    network = replace(network, photos=pictures, made_of=pinned(network.made_of))
    assert network.key() == network.key("bf16") == fp32
    assert network.key("int8") == int8


class Named:
    """An engine, as far as names go; also a graph of a known content."""

    def __init__(self, name):
        self.name = name
        self.content = "content"


def test_features_have_the_name_that_they_were_kept_under():
    chain = torch.nn.Sequential(torch.nn.Linear(2, 3))
    with torch.no_grad():
        for tensor in chain.state_dict().values():
            tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape))
    digest = "910ac591946e853b85e900f523897e6c9f2e7fa15790b6526727d8359da0af00"
    assert tensors_of(chain) == digest
    part = ref(RESNET, boundary="layer3", tensors="abc", build=lambda: chain)
    key = "694f7c6010feff48e9957dc620c92225ba08dc557863c83eb64194dc9339785c"
    assert feature_key(part, Opened(Named("torch 2.15.0 cpu fp32"))) == key
    graph = Opened(Named("openvino 2026.4.1 cpu fp32"), Named(""))
    key = "217435ef991fca250f81cf2996903637dfe4872607ac5ca98a418b171555b4e3"
    assert feature_key(part, graph) == key


def test_graph_templates_have_the_name_that_they_were_kept_under():
    def key(variant, head, pixels):
        return graph_template.key_of(RESNET, variant, head, pixels, ("logits",))

    assert key({}, "linear", RESNET.preprocess) == "resnet18-9db9ce086a3d"
    assert key({"norm": "layer"}, "mlp:9", PIXELS) == "resnet18-8e7f4108c294"
