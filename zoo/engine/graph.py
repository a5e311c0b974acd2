"""A torch chain as an ONNX graph, quickly.

torch has two exporters. The old one runs the chain once and writes down what it did: ten times
quicker than the new one (torch.export), and blind to what depends on the input. So what it gives is
compared with the chain before it is believed, on another number of pictures than it was traced
with; where it cannot, or differs, the new one does the work.

What is wrong in a graph shows in the first digits, rounding in the last, unless large numbers
cancel: with LayerScale at its start of 1e-5 the features of a DINOv2 of random weights are the same
for all photos to 6e-6, and the head that is solved on them has weights of 7,000. There torch itself
is 5e-4 off what it computes in fp64, and the graph 7e-4. So where the two differ by more than 1e-4,
torch's own rounding is measured, and a graph that is off by at most four times as much is right.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from zoo.engine import Array
from zoo.errors import ParityError, WriteError

if TYPE_CHECKING:
    import onnxruntime
    import torch
    from torch import nn

OPSET, IR_VERSION = 20, 10  # readable by runtimes of two years ago
AGREES = 1e-4  # of the largest value of an output
PASSES, LAST_BIT = 4, 2.0**-23  # by which torch's rounding is told; of fp32
ROUNDING, UNSTABLE = 4.0, 1e-2  # times torch's own; and never more than that of the largest value
TRACED, TRIED = 2, 3  # pictures; not 1, which broadcasts
Shape = tuple[int, int, int]  # of a picture: C H W
LIMIT = 2**31 - 2**20  # bytes: a protobuf message ends at 2 GB
SPIN = "200"  # microseconds that a thread of ONNX Runtime waits awake for its next work


def to_onnx(chain: nn.Module, shape: Shape, outputs: Sequence[str] = ("output",)) -> bytes:
    """Return the chain in eval mode as an ONNX model: `tensor` float32 N C H W in, N free.

    shape: C H W. outputs: names of what it gives, in order. The weights are inside. Agrees with
    the chain within 1e-4 of the largest value in ONNX Runtime, or within rounding. Raises
    WriteError where the weights exceed what a file holds, ParityError where neither exporter gets
    the chain right.
    """
    chain = on_cpu(chain)
    refuse_huge(size_of(chain))
    found = differences = None
    for exporter in (traced, exported):
        with contextlib.suppress(Exception):  # exporters raise anything; the next one may do
            found = exporter(chain, shape, outputs)
            differences = difference(found, chain, shape)
            if agrees(differences, chain, noise(shape)):
                return found
    raise ParityError(
        "the network cannot be written as an ONNX graph: "
        + ("both exporters fail" if found is None else f"the graph differs by {differences:.1g}"),
        "please report it with the model's name; the torch engine runs it: --engine torch",
    )


def on_cpu(chain: nn.Module) -> nn.Module:
    """Return the chain in eval mode on the CPU; where it lies elsewhere, a copy."""
    import torch

    if any(tensor.device.type != "cpu" for tensor in chain.parameters()):
        chain = copy.deepcopy(chain).cpu()
    return chain.eval().to(memory_format=torch.contiguous_format)


def size_of(chain: nn.Module) -> int:
    """Return the bytes of all tensors of a chain."""
    return sum(tensor.numel() * tensor.element_size() for tensor in chain.state_dict().values())


def refuse_huge(size: int) -> None:
    """Raises WriteError for more bytes than an ONNX file holds."""
    if size > LIMIT:
        raise WriteError(
            f"the network has {size / 1e9:.2f} GB of weights, an ONNX file holds 2 GB",
            "choose a smaller network: `zoo list --sort params`",
        )


def traced(chain: nn.Module, shape: Shape, outputs: Sequence[str], *, plain: bool = False) -> bytes:
    """Return the chain by the old exporter, unchecked. plain: nothing is computed in advance."""
    import torch

    axes = {name: {0: "N"} for name in ("tensor", *outputs)}
    mode = torch.onnx.TrainingMode.PRESERVE if plain else torch.onnx.TrainingMode.EVAL
    file = io.BytesIO()
    with quiet(), torch.no_grad():
        torch.onnx.export(
            chain,
            (torch.zeros(TRACED, *shape),),
            file,  # type: ignore[arg-type]  # it takes one, whatever it says
            input_names=["tensor"],
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
            training=mode,
            do_constant_folding=not plain,
        )
    return file.getvalue()


def exported(chain: nn.Module, shape: Shape, outputs: Sequence[str]) -> bytes:
    """Return the chain by the new exporter, unchecked."""
    import torch

    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            chain,
            (torch.zeros(TRACED, *shape),),
            input_names=["tensor"],
            output_names=list(outputs),
            dynamic_shapes=({0: torch.export.Dim("N")},),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    model.ir_version = min(model.ir_version, IR_VERSION)
    return model.SerializeToString()  # type: ignore[no-any-return]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Run without warnings: exporters give some of their age and of every choice they make."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def difference(model: bytes, chain: nn.Module, shape: Shape) -> float:
    """Return the largest difference of graph and chain on noise, beside the largest value."""
    import torch

    inputs = noise(shape)
    pairs = zip(run(model, inputs), _values(chain, torch.from_numpy(inputs)), strict=True)
    return max(_relative(ours, value) for ours, value in pairs)


def agrees(apart: float, chain: nn.Module, inputs: Array) -> bool:
    """Return whether a difference from torch is small, or one that rounding explains.

    apart: of the largest value, on these inputs. chain: in fp32 on the CPU, in eval mode.
    """
    return apart <= AGREES or (apart <= UNSTABLE and apart <= ROUNDING * rounding(chain, inputs))


def rounding(chain: nn.Module, inputs: Array) -> float:
    """Return how far torch in fp32 is off what it computes in fp64, of the largest value.

    The largest of a few passes over pictures that differ in their last bit: errors that add up in
    one may cancel in another (EfficientNetV2 of random weights: 0.0003 to 0.0021). 0 where the
    chain does not run in fp64.
    """
    import torch

    with contextlib.suppress(RuntimeError):  # a constant of another type inside
        pictures, random = torch.from_numpy(inputs), torch.Generator().manual_seed(0)
        exact = _values(copy.deepcopy(chain).double(), pictures.double())
        worst = 0.0
        for number in range(PASSES):
            bit = torch.randn(pictures.shape, generator=random) * (LAST_BIT if number else 0)
            pairs = zip(_values(chain, pictures * (1 + bit)), exact, strict=True)
            worst = max(worst, *(_relative(ours, value) for ours, value in pairs))
        return worst
    return 0.0


def noise(shape: Shape) -> Array:
    """Return the pictures on which graph and chain are compared."""
    return np.random.default_rng(0).standard_normal((TRIED, *shape), np.float32)


def _values(chain: nn.Module, pictures: torch.Tensor) -> list[Array]:
    """Return all that a chain gives."""
    import torch

    with torch.no_grad():
        given = chain(pictures)
    return [each.numpy() for each in ([given] if isinstance(given, torch.Tensor) else given)]


def _relative(ours: Array, theirs: Array) -> float:
    """Return that of one output; infinity where the shapes differ or a value is none."""
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        return float("inf")
    return float(np.abs(ours - theirs).max() / max(1e-12, float(np.abs(theirs).max())))


def run(model: bytes, tensor: Array) -> list[Array]:
    """Return all outputs of a model that takes `tensor`, by ONNX Runtime."""
    from zoo.machine import cores

    opened = session(model, cores())
    return opened.run(None, {"tensor": tensor})  # type: ignore[no-any-return]


def session(
    model: bytes | str,
    threads: int,
    weights: Mapping[str, Array] | None = None,
    once: bool = False,
) -> onnxruntime.InferenceSession:
    """Return a model, or that of a file, in ONNX Runtime on the CPU.

    weights: by name, of initializers that the model says lie elsewhere. once: as the graph is, for
    a single call: to make it quick takes twice as long as the call.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if threads > 1:  # else each takes a core from what runs beside it for milliseconds
        options.add_session_config_entry("session.intra_op.spin_duration_us", SPIN)
    if once:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers([*weights], values)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
