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
from zoo.engine import graph_template
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
    version_of.cache_clear()
    yield
    version_of.cache_clear()


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
        (ref(RESNET), "22e505b95ca72de5a082cf64b19abeca", "0bebfbdfda6ebc373a7f3d59044b1f21"),
        (ref(TORCHVISION), "eb7071952c86272afb33b4aba0bdedaa", "ac918a3ad554a4c04215590f962c7f63"),
        (ref(TIMM), "a8096051935b683383c2f128c9f86da2", "6533688d484e596432cc66e1a43536e7"),
        (
            ref(RESNET, {"norm": "layer"}, "mlp:9"),
            "ca2f859f73906713af461c08f3935e45",
            "87ddb31aa01d46dbde0e8071999ce97e",
        ),
        (
            ref(RESNET, boundary="layer3", tensors="abc"),
            "917849041ba8dafe43f3e2429d5dc575",
            "6569bb407b4dc5f6bbb8eefdd0a7bcf2",
        ),
        (
            ref(TIMM, boundary="a.0", tensors="abc"),
            "53ef118a3e40bcbf1019f5c309d83405",
            "56e1cc901a9a29bfa9ef04bdd99265b7",
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
        ("whole", {}, "4daea4b98978a66ce5dd9a8d38bfc139", "35c5cfd8886dae6f173a6028a53c1669"),
        (
            "frozen",
            {"linear_head": "fc2", "boundary": "act4", "cut": "fc1"},
            "7e3b11827b29478de666c9587d34c8dd",
            "c1f4984b17de40f0724e64e5e6985900",
        ),
        (
            "library",
            {"model": "timm/lenet", "spec": {"name": "timm/lenet", "builder": "library"}},
            "ff31de25e76b2cb6fe819c6f0554d539",
            "331cb94fd540e414fe025378fc3db1bf",
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
    key = "09fbfb18658aef650293b760913371328930f743eb999c8933908304b02b10a0"
    assert feature_key(part, Opened(Named("torch 2.15.0 cpu fp32"))) == key
    graph = Opened(Named("openvino 2026.4.1 cpu fp32"), Named(""))
    key = "ac3f84e2995c8cd8beab21b880d5498e99e43d02f76ad3892becc7f6475661be"
    assert feature_key(part, graph) == key


def test_graph_templates_have_the_name_that_they_were_kept_under():
    def key(variant, head, pixels):
        return graph_template.key_of(RESNET, variant, head, pixels, ("logits",))

    assert key({}, "linear", RESNET.preprocess) == "resnet18-9db9ce086a3d"
    assert key({"norm": "layer"}, "mlp:9", PIXELS) == "resnet18-8e7f4108c294"
