"""A run to one ONNX file with its proof.

The file is written beside its destination, compared with the run on real photos through ONNX
Runtime, and takes its name only when the two agree. Where the network's graph is stored (see
zoo.engine.graph_template) and the run wrote down what it says of the photos, none of it needs
torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo import __version__, weights
from zoo.device import Device
from zoo.disk import replacing, sync, writing
from zoo.engine import Array, graph, graph_template
from zoo.engine.open import open_engine
from zoo.engine.select import choose
from zoo.errors import DisagreementError, ParityError, WeightsError, ZooError, first_line
from zoo.export import basis, proof, written
from zoo.export.basis import About, Pictures, Recalled
from zoo.export.contract import decoding
from zoo.export.graph import joined
from zoo.export.records import Exported, Fields, Order
from zoo.machine import cores
from zoo.metrics import ENOUGH
from zoo.network import Network, model_file, of_run, recorded
from zoo.network_ref import classifier_of_run
from zoo.run import Run

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

COMPARED = 100  # photos of a run in another precision
OUTPUTS = ("logits",)


def export_run(run: Run, order: Order) -> Exported:
    """Write a run's network as a file and return it with its proof.

    order.most: else as many photos as take about a second; of a run in a lower precision COMPARED.
    Raises ParityError, and leaves no file, where the file and the run disagree, and
    DisagreementError where the file, in fp32, answers too often otherwise than a run in another
    precision, unless forced.
    """
    precision, say = run.record["precision"], order.say
    usual = basis.enough(run) if precision == "fp32" else COMPARED
    about, key, most = About.of_run(run), key_of(run), order.most or usual
    stored = graph_template.find(key)
    with ThreadPoolExecutor(1) as pool:  # the weights are read while photos are decoded
        reading = pool.submit(_state_of, run) if stored is not None else None
        recall = written.recalled(run, order.photos, about, most)
    if stored is not None and reading is not None and recall is not None:
        try:
            state = reading.result()
            say(f"the graph is stored; comparing on {len(recall.pictures)} photos with val.csv")
            return _write_stored(stored, state, about, recall, order)
        except (ParityError, WeightsError) as error:  # torch has the last word
            say(f"{error.what}: computing the run's answers anew")
    pictures = basis.readable(order.photos, about.preprocess, most)
    net = of_run(run)
    say("tracing the network" if stored is None else "computing the run's answers")
    made = _write_proved(filled(net, key), net, pictures, order)
    if precision == "fp32":
        return made
    agree = _as_the_run(run, pictures, net)
    if agree < ENOUGH * len(pictures) and not order.force:
        order.destination.unlink()
        raise DisagreementError(
            f"the file computes in fp32, and answers {agree} of {len(pictures)} photos as the run, "
            f"which predicts in {precision}; at least {100 * ENOUGH:g} % are needed",
            "train the run in fp32, without --precision; or take the file all the same: --force",
        )
    return replace(made, precision=precision, agree_run=agree)


def _state_of(run: Run) -> dict[str, Array]:
    """Return the tensors of a run. Raises WeightsError."""
    return weights.read_arrays(model_file(run)[0])


def _as_the_run(run: Run, pictures: Pictures, net: Network) -> int:
    """Return on how many photos fp32 gives the answer of the run, as `zoo predict` gets it."""
    place = Device("cpu", run.record["precision"], cores(), "the proof is made on the CPU")
    kind, _ = choose("auto", place.name, place.precision)
    engine = open_engine(classifier_of_run(run).ref, kind, place).engine
    inputs, about = np.stack([pixels for _, pixels in pictures]), About.of(net)
    own = basis.computed(basis.in_batches(engine, inputs), about)
    exact = basis.computed(basis.torch_values(net.chain, net.preprocess, inputs), about)
    return int((own.told == exact.told).all(axis=1).sum())


def export(net: Network, order: Order) -> Exported:
    """Export a network whose chain is at hand; see export_run."""
    pictures = basis.readable(order.photos, net.preprocess, basis.PHOTOS)
    order.say("tracing the network")
    return _write_proved(trace(net), net, pictures, order)


# The network as a graph.


def key_of(run: Run) -> str:
    """Return the name of the graph template of a run's network."""
    record, preprocess = run.record, About.of_run(run).preprocess
    variant = record.get("variant", {})
    return graph_template.key_of(recorded(record), variant, record["head"], preprocess, OUTPUTS)


def filled(net: Network, key: str) -> onnx.ModelProto:
    """Return the chain by the graph template of this key, made and kept where there is none yet.

    One that is stored is compared with the chain, and made anew where it is not its graph.
    """
    state = _arrays(net.chain.state_dict())
    with suppress(Exception):  # the runtime's errors have no common type
        if (stored := graph_template.find(key)) is not None:
            network = graph_template.filled(stored, state)
            chain, model = graph.on_cpu(net.chain), network.SerializeToString()
            shape = net.preprocess.shape
            if graph.agrees(graph.difference(model, chain, shape), chain, graph.noise(shape)):
                return network
    try:
        made = graph_template.make(net.chain, net.preprocess.shape, OUTPUTS)
    except ZooError:  # not every network has one
        return trace(net)
    graph_template.keep(key, made)
    return graph_template.filled(made, state)


def _arrays(state: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: tensor.cpu().numpy() for name, tensor in state.items()}


def trace(
    net: Network, module: nn.Module | None = None, outputs: Sequence[str] = OUTPUTS
) -> onnx.ModelProto:
    """Return the chain as ONNX: `tensor` float32 N C H W -> `logits` N K, N dynamic.

    module: another one that takes the same input, and the names of what it gives.
    """
    import onnx

    found = graph.to_onnx(module or net.chain, net.preprocess.shape, outputs)
    return onnx.load_from_string(found)


# Two ways to a proved file.


def _write_stored(
    stored: bytes, state: Mapping[str, Array], about: About, recall: Recalled, order: Order
) -> Exported:
    """Write a file from a graph template and the arrays of the run's."""
    import onnx

    whole = onnx.load_from_string(stored)
    _add_distance(whole, order)
    if order.kind == "image":
        whole = joined(whole, about.preprocess, several=about.threshold is not None)
    describe(whole, about, order.kind, order.tail.metadata if order.tail else {})
    graph.refuse_huge(sum(array.nbytes for array in state.values()))

    model, values = graph_template.outside(whole, state)
    ready = partial(graph.session, model, 1, values)
    with replacing(order.destination) as path, ThreadPoolExecutor(1) as pool:
        file = pool.submit(_filled, path, whole, state)  # beside the proof
        try:
            result = proof.prove(path, order.kind, None, recall, about, ready)
            result["sha256"] = file.result()
            result |= _distances(path, recall, about, order)
        except ZooError:
            raise
        except Exception as error:  # the runtime's have no common type: the graph cannot run
            raise ParityError(f"the stored graph: {first_line(error)}") from error
    return Exported(**(order.written() | result))


def _filled(path: Path, model: onnx.ModelProto, state: Mapping[str, Array]) -> str:
    """Write a file, to the disk itself, and return its sha256. Raises ParityError, WriteError."""
    with writing(path):
        digest = graph_template.write_filled(path, model, state)
        sync(path, os.O_RDWR)
    return digest


def _write_proved(
    network: onnx.ModelProto, net: Network, pictures: Pictures, order: Order
) -> Exported:
    """Write a file from a graph with its weights; beside what torch computes with the chain."""
    about, inputs = About.of(net), np.stack([pixels for _, pixels in pictures])
    order.say(f"comparing with ONNX Runtime on {len(pictures)} photos")
    reference = basis.computed(basis.torch_values(net.chain, net.preprocess, inputs), about)
    reference = replace(reference, chain=graph.on_cpu(net.chain))
    bare = network.SerializeToString()
    _add_distance(network, order)
    if order.kind == "image":
        network = joined(network, about.preprocess, several=about.threshold is not None)
    with replacing(order.destination) as path:
        more, state = order.tail.metadata if order.tail else {}, net.chain.state_dict()
        write(network, about, order.kind, path, more, _arrays(state))
        recall = Recalled(pictures, reference)
        result = proof.prove(path, order.kind, bare, recall, about)
        result |= _distances(path, recall, about, order)
    return Exported(**(order.written() | result))


def _add_distance(network: onnx.ModelProto, order: Order) -> None:
    """Add the output `distance` to a network where it is asked for."""
    if order.tail:
        from zoo.export import distance

        distance.append(network, order.tail)


def _distances(path: Path, recall: Recalled, about: About, order: Order) -> Fields:
    """Return how far a file's distances are from the run's, where it has any.

    Raises ParityError.
    """
    if not order.tail:
        return {}
    from zoo.export import distance

    return {"distance_diff": distance.check(path, order.kind, order.tail, recall, about)}


def write(
    model: onnx.ModelProto,
    about: About,
    kind: str,
    path: Path,
    more: dict[str, str] | None = None,
    state: Mapping[str, Array] | None = None,
) -> None:
    """Add what a reader needs to know and write it, whole and checked.

    more: metadata. state: a network's, whose file is the same with a stored graph and without.
    """
    import onnx

    describe(model, about, kind, more)
    graph.refuse_huge(model.ByteSize())
    content = graph_template.serialized(model, state) if state else model.SerializeToString()
    onnx.checker.check_model(content)
    with writing(path):
        path.write_bytes(content)


def describe(
    model: onnx.ModelProto, about: About, kind: str, more: dict[str, str] | None = None
) -> None:
    """Add the metadata of a file."""
    said = {
        "zoo.version": __version__,
        "zoo.model": about.model,
        "zoo.input": kind,
        "zoo.classes": json.dumps(about.classes, ensure_ascii=False),
        "zoo.preprocess": json.dumps(about.preprocess.to_dict()),
        "zoo.decoding": decoding(),
    }
    if about.threshold is not None:
        said |= {"zoo.task": "multilabel", "zoo.threshold": f"{about.threshold:g}"}
    said |= _for_others(about)
    del model.metadata_props[:]
    for key, value in (said | (more or {})).items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name, model.producer_version = "zoo", __version__
    model.model_version, model.doc_string = 1, f"{about.model}, {len(about.classes)} classes"


def _for_others(about: About) -> dict[str, str]:
    """Return what other programs read, under the names that ultralytics gave it."""
    return (
        {
            "names": str(dict(enumerate(about.classes))),  # a literal of Python
            "task": "classify" if about.threshold is None else "multilabel",
            "imgsz": str([about.preprocess.height, about.preprocess.width]),
            "author": "zoo",
            "description": f"{about.model}: {', '.join(about.classes)[:200]}",
        }
        | ({"license": about.licence} if about.licence else {})
    )
