"""How far a picture is from the training photos, as one more output of an exported file.

`distance` is N float32; the metadata `zoo.distance_limit` say from which one on a picture is
unknown, as 5 % of known photos are. zoo.head.distance has the formula and its source.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.device import Device
from zoo.engine import Array
from zoo.engine.onnx import OnnxModel
from zoo.engine.open import open_engine
from zoo.engine.select import choose
from zoo.errors import ParityError, UsageError
from zoo.export import basis, proof
from zoo.export.records import Tail
from zoo.head.distance import needed
from zoo.machine import cores
from zoo.network import recorded
from zoo.network_ref import classifier_of_run, distance_of_run, featured
from zoo.run import Run

if TYPE_CHECKING:
    import onnx

RATE = 0.05
PREFIX = "distance_"
PHOTOS, DIFFERENCE = 16, 0.02  # compared, and by which share a distance may differ


def tail_of(run: Run) -> Tail:
    """Return what is to be added to a run's file. Raises UsageError, RunError."""
    found = distance_of_run(run)
    limit = found.limit(RATE)
    if not np.isfinite(limit):
        raise UsageError(
            f"--unknown: {run.folder} has {len(found.known)} val photos, and it takes "
            f"{needed(RATE)} to say which distance is unusual",
            "give the run more val photos, or leave --unknown out",
        )
    place = Device("cpu", "fp32", cores(), "the proof is made on the CPU")
    kind, _ = choose("auto", place.name, place.precision)
    ref = featured(classifier_of_run(run).ref, run)
    width = found.means.shape[1]

    def own(pixels: Array) -> Array:
        engine = open_engine(ref, kind, place).engine
        return found.of(basis.in_batches(engine, pixels)[:, :width])

    return Tail(found, limit, own, recorded(run.record).head)


def append(model: onnx.ModelProto, tail: Tail) -> None:
    """Add the output, from the features that the head takes. Raises UsageError."""
    import onnx

    helper, kinds, source = onnx.helper, onnx.TensorProto, _features(model.graph, tail.head)
    graph, found = model.graph, tail.distance
    centre, means, inside, sizes, of_means = found.ready
    rest = found.rest.astype(np.float64)
    constants = {
        "centre": centre, "directions": found.directions.T.astype(np.float64), "means": means.T,
        "inside": inside.T, "weights": sizes, "scaled": sizes * rest, "of_means": of_means,
        "rest": rest, "twice": 2 / rest, "width": np.array([float(len(centre))]),
        "least": np.array([1e-12]), "none": np.array([0.0]), "axis": np.array([1]),
        "shrunk": found.shrunk,
    }  # fmt: skip
    for name, value in constants.items():
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), PREFIX + name))

    def add(kind: str, inputs: str, output: str, **attributes: Any) -> None:
        names = [PREFIX + name if name != "=" else source for name in inputs.split()]
        graph.node.append(helper.make_node(kind, names, [output], **attributes))

    add("Cast", "=", PREFIX + "x", to=kinds.DOUBLE)
    for step in STEPS:
        kind, inputs, output = step.split(" | ")
        kept = {"keepdims": 1} if output == "length2" else {"keepdims": 0}
        add(kind, inputs, PREFIX + output, **(kept if kind.startswith("Reduce") else {}))
    add("Cast", "root", "distance", to=kinds.FLOAT)
    graph.output.append(helper.make_tensor_value_info("distance", kinds.FLOAT, ["N"]))


# As Distance.of: operator | inputs | output.
STEPS = (
    "Mul | x x | x2", "ReduceSum | x2 axis | length2", "Sqrt | length2 | length0",
    "Max | length0 least | length", "Div | x length | unit", "Sub | unit centre | rows",
    "MatMul | rows directions | along", "MatMul | rows means | mixed1",
    "Mul | along scaled | along1", "MatMul | along1 inside | mixed2", "Add | mixed1 mixed2 | mixed",
    "Mul | rows rows | rows2", "ReduceSum | rows2 axis | outside0", "Div | outside0 rest | outside",
    "Mul | along along | along2", "Mul | along2 weights | along3",
    "ReduceSum | along3 axis | inner", "Add | outside inner | squares0",
    "Unsqueeze | squares0 axis | squares", "Mul | mixed twice | mixed3",
    "Sub | squares mixed3 | all0", "Add | all0 of_means | all1", "Mul | all1 shrunk | all",
    "ReduceMin | all axis | nearest0",
    "Max | nearest0 none | nearest", "Div | nearest width | mean", "Sqrt | mean | root",
)  # fmt: skip


def _features(graph: onnx.GraphProto, head: str) -> str:
    """Return the name of what the head, the stage of this name, takes: N x D."""
    for node in graph.node:  # in the order in which they are computed
        ours = any(name.startswith(f"{head}.") for name in node.input[1:])
        if ours and node.op_type in ("Gemm", "MatMul"):
            return str(node.input[0])
    made = {name: node for node in graph.node for name in node.output}
    node = made["logits"]
    if node.op_type == "Add":  # of the bias
        node = next((made[name] for name in node.input if name in made), node)
    if node.op_type not in ("Gemm", "MatMul"):
        raise UsageError(
            f"--unknown: the network ends in {node.op_type}, which has no features to go by",
            "leave --unknown out",
        )
    return str(node.input[0])


def check(path: Path, kind: str, tail: Tail, recall: basis.Recalled, about: basis.About) -> float:
    """Return by which share distances differ from the run's at most. Raises ParityError."""
    pictures = recall.pictures[:PHOTOS]
    model = OnnxModel(path, threads=1)

    def run(batch: Array) -> Array:
        return model.outputs(batch)[1]

    with ThreadPoolExecutor(max(2, cores())) as pool:
        ours = proof.each(pool, run, pictures, [kind] * len(pictures), about.preprocess)
    theirs = tail.own(np.stack([pixels for _, pixels in pictures]))
    differs = float((np.abs(ours - theirs) / theirs).max())
    if not differs <= DIFFERENCE:
        raise ParityError(
            f"the file's distance from the training photos differs by {100 * differs:.2g} %",
            "leave --unknown out, and please report it with the model's name",
        )
    return differs
