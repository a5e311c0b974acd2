"""A chain as an ONNX graph: like eager torch for every family, quick, and with nothing believed."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from kit import ROOT

from zoo import catalog, models
from zoo.catalog import Preprocess
from zoo.engine import graph, graph_template
from zoo.errors import ParityError, WeightsError

sys.path.insert(0, str(ROOT))
from benchmarks.graph_templates import made, shipped_key

SMALL = [row.name for row in catalog.ROWS.values() if row.macs < 50e6]
LARGE = [name for name in catalog.ROWS if name not in SMALL]


class Differs(torch.nn.Module):
    """Traced with two pictures; with three it does something else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) * (1.0 if torch.jit.is_tracing() else 2.0)


class DiffersAlways(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        watched = torch.jit.is_tracing() or torch.compiler.is_exporting()
        return x.flatten(1) * (1.0 if watched else 2.0)


class Fails(torch.nn.Module):
    """The old exporter stumbles."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_tracing():
            raise ValueError("not like this")
        return x.flatten(1) + 1


class Two(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.flatten(1), 2 * x


def shipped(name):
    return graph_template.SHIPPED / f"{shipped_key(catalog.ROWS[name])}.onnx"


def chain_of(row):
    torch.manual_seed(0)
    return models.build(row).eval()


def agrees(chain, preprocess, model):
    """On other pictures than the exporter's own check, and on one alone."""
    channels, size = preprocess.channels, preprocess.size
    for count in (1, 4):
        pictures = torch.rand(count, channels, size, size, generator=torch.Generator())
        with torch.no_grad():
            theirs = chain(pictures).numpy()
        (ours,) = graph.run(model, pictures.numpy())
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


def through(name):
    row = models.resolve(name)
    chain = chain_of(row)
    model = graph.to_onnx(chain, row.preprocess.shape)
    agrees(chain, row.preprocess, model)
    proto = onnx.load_from_string(model)
    onnx.checker.check_model(proto, full_check=True)
    assert [value.name for value in proto.graph.input] == ["tensor"]
    assert proto.opset_import[0].version == graph.OPSET
    assert proto.ir_version <= graph.IR_VERSION


# One of each kind of network; the others in the slow run.
KINDS = {"mlp", "cnn", "lstm", "conv-autoencoder"}


@pytest.mark.parametrize(
    "name", [n if n in KINDS else pytest.param(n, marks=pytest.mark.slow) for n in SMALL]
)
def test_small_rows(name):
    through(name)


# One of each family; test_every_row.py exports every row, and compares photos.
FAMILIES = ("alexnet", "vgg16_bn", "googlenet", "googlenet-2014", "resnet50")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FAMILIES, "timm/mobilenetv2_100", "torchvision/squeezenet1_1"])
def test_large_rows_and_those_of_the_libraries(name):
    through(name)


@pytest.mark.parametrize("module", [Differs, pytest.param(Fails, marks=pytest.mark.slow)])
def test_where_the_quick_exporter_is_wrong_the_other_one_does_it(module):
    chain = torch.nn.Sequential(module())
    model = graph.to_onnx(chain, (1, 4, 4))
    agrees(chain, Preprocess(size=4, channels=1), model)
    assert onnx.load_from_string(model).ir_version <= graph.IR_VERSION


@pytest.mark.slow
def test_where_both_are_wrong_nothing_is_given():
    with pytest.raises(ParityError, match=r"differs by 0\.5"):
        graph.to_onnx(torch.nn.Sequential(DiffersAlways()), (1, 4, 4))


class Cancels(torch.nn.Module):
    """Features that are all but the same, under weights so large that their rounding shows."""

    def __init__(self):
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.first = torch.nn.Linear(3 * 16 * 16, 384)
        self.last = torch.nn.Linear(384, 3)
        with torch.no_grad():
            self.last.weight.copy_(1e4 * torch.randn(3, 384, generator=random))
            self.last.bias.copy_(-self.last.weight.sum(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(1 + 1e-3 * torch.tanh(self.first(x.flatten(1))))


def test_a_graph_is_right_where_it_is_off_by_no_more_than_torch_rounds():
    torch.manual_seed(0)
    chain, shape = torch.nn.Sequential(Cancels()).eval(), (3, 16, 16)
    inputs = graph.noise(shape)
    rounded = graph.rounding(chain, inputs)
    assert graph.AGREES < rounded < graph.UNSTABLE / graph.ROUNDING
    apart = graph.difference(graph.traced(chain, shape, ("output",)), chain, shape)
    assert graph.agrees(apart, chain, inputs)
    assert graph.to_onnx(chain, shape)
    assert not graph.agrees(1.1 * graph.ROUNDING * rounded, chain, inputs)
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 3)).eval()
    assert not graph.agrees(2 * graph.AGREES, plain, inputs)


def test_several_outputs_have_their_names():
    model = graph.to_onnx(Two(), (1, 4, 4), ("rows", "twice"))
    assert [value.name for value in onnx.load_from_string(model).graph.output] == ["rows", "twice"]


def test_the_mode_of_training_is_left_and_warnings_stay_warnings():
    chain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5)).train()
    model = graph.to_onnx(chain, (1, 4, 4))
    ones = np.ones((3, 1, 4, 4), np.float32)
    assert (graph.run(model, ones)[0] == 1).all()


# Templates.


@pytest.mark.parametrize("name", [name for name in SMALL if catalog.ROWS[name].task == "classify"])
def test_shipped_templates_are_what_is_made_now(name):
    """`python -m benchmarks.graph_templates` makes them anew."""
    row = catalog.ROWS[name]
    assert graph_template.find(shipped_key(row)) == made(row)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LARGE if shipped(name).exists()])
def test_large_shipped_templates_are_what_is_made_now(name):
    assert shipped(name).read_bytes() == made(catalog.ROWS[name])


def test_those_of_the_published_networks_are_shipped():
    for name in ("lenet", "alexnet", "vgg16", "vgg19", "googlenet", "resnet50"):
        assert graph_template.find(shipped_key(catalog.ROWS[name])) is not None
    assert all(path.stat().st_size < 100_000 for path in graph_template.SHIPPED.iterdir())


@pytest.mark.parametrize("classes", [3, 10])
def test_a_filled_template_is_the_network_with_any_number_of_classes(tmp_path, classes):
    row = catalog.find("lenet")
    torch.manual_seed(1)
    chain = models.build(row, classes).eval()
    stored = graph_template.find(shipped_key(row))
    state = {name: tensor.numpy() for name, tensor in chain.state_dict().items()}
    model = graph_template.filled(stored, state)
    onnx.checker.check_model(model, full_check=True)
    agrees(chain, row.preprocess, model.SerializeToString())


def test_what_is_written_by_hand_is_what_protobuf_would_write(tmp_path):
    row = catalog.find("lenet")
    state = {name: tensor.numpy() for name, tensor in chain_of(row).state_dict().items()}
    stored = graph_template.find(shipped_key(row))
    whole = onnx.load_from_string(stored)
    whole.metadata_props.add(key="a", value="b")
    graph_template.write_filled(tmp_path / "a.onnx", whole, state)
    filled = graph_template.filled(stored, state)
    filled.metadata_props.add(key="a", value="b")
    assert onnx.load(tmp_path / "a.onnx") == filled


@pytest.mark.parametrize("kind", ["weight", "name", "node", "short", "long", "empty"])
def test_a_file_that_is_not_what_was_written_is_refused(tmp_path, monkeypatch, kind):
    """One bit of a number, of a name, of a node; an end that is missing, or more than the end."""
    row = catalog.find("lenet")
    state = {name: tensor.numpy() for name, tensor in chain_of(row).state_dict().items()}
    model = onnx.load_from_string(graph_template.find(shipped_key(row)))
    good = b"".join(graph_template.chunks_of(model, state))
    bad, name = bytearray(good), next(iter(state))
    places = {
        "weight": good.index(state[name].tobytes()) + 5,
        "name": good.rindex(name.encode()),
        "node": good.index(b"Relu"),
    }
    if kind in places:
        bad[places[kind]] ^= 1
    bad = {"short": bad[:-1], "long": bad + b"\0", "empty": bad[:0]}.get(kind, bad)
    monkeypatch.setattr(graph_template, "chunks_of", lambda model, state: [bad])
    with pytest.raises(ParityError, match="does not hold what was written"):
        graph_template.write_filled(tmp_path / "a.onnx", model, state)
    monkeypatch.setattr(graph_template, "chunks_of", lambda model, state: [good])
    told = graph_template.write_filled(tmp_path / "a.onnx", model, state)
    assert told == hashlib.sha256((tmp_path / "a.onnx").read_bytes()).hexdigest()


def test_weights_that_do_not_fit_are_refused():
    row = catalog.find("lenet")
    state = {name: tensor.numpy() for name, tensor in chain_of(row).state_dict().items()}
    stored = graph_template.find(shipped_key(row))
    first = next(iter(state))
    with pytest.raises(WeightsError, match="is missing"):
        graph_template.filled(stored, {**state, first: None})
    with pytest.raises(WeightsError, match="has the shape"):
        graph_template.filled(stored, {**state, first: state[first][0]})


class Hidden(torch.nn.Module):
    """Its weights go into the graph as a number that no state dict explains."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) * float(self.weight.sum())


def test_a_network_that_is_not_all_in_its_state_dict_has_no_template():
    with pytest.raises(ParityError, match=r"differs|which is no weight"):
        graph_template.make(torch.nn.Sequential(Hidden()), (1, 4, 4), ("logits",))


def test_keys_tell_networks_apart():
    def key(model="cnn", variant=None, head="linear", size=28, outputs=("logits",)):
        row = catalog.ROWS.get(model) or replace(catalog.find("cnn"), name=model, builder="library")
        return graph_template.key_of(row, variant or {}, head, Preprocess(size=size), outputs)

    others = [key("mlp"), key(variant={"norm": "batch"}), key(head="mlp:9"), key(size=32),
              key(outputs=("a", "b")), key("timm/resnet18")]  # fmt: skip
    assert len({key(), *others}) == len(others) + 1
    assert key(head="mlp:9") == key(head="mlp:64")
    assert "/" not in key("timm/resnet18.a1_in1k")


def test_what_is_kept_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    assert graph_template.find("a-key") is None
    graph_template.keep("a-key", b"a graph")
    assert graph_template.find("a-key") == b"a graph"
    assert Path(graph_template.folder()).is_relative_to(tmp_path)
