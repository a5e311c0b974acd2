"""Graph templates: graphs without weights, which an exporter takes seconds for.

A template is an ONNX model whose weights are named as in the state dict and have shapes but no
numbers. Filled with the tensors of a file it is the network, without torch. Those of the
catalogue's networks lie beside this file (`python -m benchmarks.graph_templates` makes them anew),
others are made at their first export and kept in $ZOO_CACHE/graphs.

How many classes there are is no part of a template: a tensor's shape is that of the file, and the
graph is read again with it.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import __version__
from zoo.disk import cache_folder, read_sealed, write_sealed
from zoo.engine import Array, graph
from zoo.engine.compiled import made_of, version_of
from zoo.errors import ParityError, WeightsError, ZooError, first_line
from zoo.head.kinds import kind_of

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from zoo.catalog.spec import ModelSpec, Preprocess

FORMAT = 1  # count up when what is made of a chain changes
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9  # fields of ModelProto, GraphProto, TensorProto
SHIPPED = Path(__file__).with_name("graph_templates")


def key_of(
    row: ModelSpec,
    variant: Mapping[str, str | float],
    head: str,
    preprocess: Preprocess,
    outputs: Sequence[str],
) -> str:
    """Return the name of a template. head: as a run's record has it; its width does not matter.

    Of a library's model with all that it is built from: a run's record says that.
    """
    facts: list[object] = [FORMAT, sorted(variant.items()), kind_of(head).graph, list(outputs)]
    facts += [preprocess.channels, preprocess.size]
    if row.builder == "library":
        facts.append(made_of(row))
    number = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]
    return re.sub(r"[^\w.-]", "-", row.name) + f"-{number}"


def shipped_key(row: ModelSpec) -> str:
    """Return the name of the template of a row as it is, whatever its classes."""
    return key_of(row, {}, "linear", row.preprocess, ("logits",))


def find(key: str) -> bytes | None:
    """Return the template of this key, shipped or kept; a damaged one is not there."""
    with contextlib.suppress(OSError):
        return (SHIPPED / f"{key}.onnx").read_bytes()
    return read_sealed(folder() / key)


def folder() -> Path:
    """Return the folder of what this version of the project, and of torch, have made."""
    return cache_folder() / "graphs" / f"{__version__}-torch-{version_of('torch')}"


def keep(key: str, template: bytes) -> None:
    """Keep a template; where nothing can be written the next export makes it again."""
    write_sealed(folder() / key, template)


# Filling one, without torch.


def filled(template: bytes, state: Mapping[str, Array]) -> onnx.ModelProto:
    """Return the network: a template with the numbers of a state dict.

    Raises WeightsError where a tensor is missing or has another rank; a wrong size shows when the
    model is loaded.
    """
    import onnx

    model = onnx.load_from_string(template)
    for tensor, array in missing(model, state):
        tensor.raw_data = array.tobytes()
    return model


def missing(
    model: onnx.ModelProto, state: Mapping[str, Array]
) -> Iterator[tuple[onnx.TensorProto, Array]]:
    """Yield the tensors of a model that have no numbers yet, with theirs in float32.

    Their shapes in the model are then those of the state; see `filled`.
    """
    import numpy as np

    for tensor in model.graph.initializer:
        if tensor.HasField("raw_data"):
            continue
        array = state.get(tensor.name)
        if array is None or array.ndim != len(tensor.dims):
            what = "is missing" if array is None else f"has the shape {array.shape}"
            raise WeightsError(
                f"{tensor.name} {what}, the network's graph expects {list(tensor.dims)}",
                "was the run made by another version of zoo?",
            )
        tensor.dims[:] = array.shape
        yield tensor, np.asarray(array, np.float32, order="C")


def outside(model: onnx.ModelProto, state: Mapping[str, Array]) -> tuple[bytes, dict[str, Array]]:
    """Return what `graph.session` takes: a model whose weights lie elsewhere, and the weights.

    No copy of them goes through a message. model stays as it is. Raises WeightsError.
    """
    hollow, values = type(model)(), {}
    hollow.CopyFrom(model)
    for tensor, array in missing(hollow, state):
        tensor.data_location = tensor.EXTERNAL
        tensor.external_data.add(key="location", value="memory")
        values[tensor.name] = array
    return hollow.SerializeToString(), values


def write_filled(path: Path, model: onnx.ModelProto, state: Mapping[str, Array]) -> str:
    """Write what `filled` and SerializeToString would give; return its sha256.

    The file is read back: what it says is this model with these weights, to the last bit. Raises
    ParityError where it is not, WeightsError.
    """
    import numpy as np

    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in chunks_of(model, state):
            file.write(chunk)
            digest.update(chunk)
    try:
        held = _holds(np.memmap(path, "u1", "r"), model, state)
    except Exception:  # protobuf's, of which there are no types; IndexError
        held = False
    if not held:
        raise ParityError(f"{path.name} does not hold what was written to it")
    return digest.hexdigest()


def _holds(content: Array, model: onnx.ModelProto, state: Mapping[str, Array]) -> bool:
    """Return whether bytes are this model with these weights, which stand behind its constants."""
    import numpy as np

    weights = {tensor.name: array for tensor, array in missing(model, state)}
    found, wanted = type(model)(), type(model)()
    wanted.CopyFrom(model)
    wanted.graph.ClearField("initializer")
    for last in (False, True):
        own = (tensor for tensor in model.graph.initializer if (tensor.name in weights) == last)
        wanted.graph.initializer.extend(own)
    ((graph_itself,), rest) = _taken_apart(content, GRAPH)
    found.ParseFromString(rest)
    tensors, rest = _taken_apart(graph_itself, INITIALIZER)
    found.graph.ParseFromString(rest)
    for one in tensors:
        (numbers,), rest = _taken_apart(one, RAW_DATA)
        tensor = found.graph.initializer.add()
        tensor.ParseFromString(rest)
        if (array := weights.get(tensor.name)) is None:
            tensor.raw_data = numbers.tobytes()
        elif not np.array_equal(numbers, array.reshape(-1).view("u1")):
            return False
    return bool(found == wanted)


def _taken_apart(message: Array, field: int) -> tuple[list[Array], bytes]:
    """Return what the fields of this number in a message hold, and the bytes of all others.

    Large fields are not copied, as protobuf would: a reader of what `_framed` writes. Raises
    IndexError, KeyError for what is no message.
    """
    found, rest, at = [], bytearray(), 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte, at = int(message[at]), at + 1
            value, shift = value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        first, tag = at, number()
        size = number() if tag & 7 in (0, 2) else {1: 8, 5: 4}[tag & 7]
        start, at = at, at + (size if tag & 7 else 0)
        if tag == field << 3 | 2:
            found.append(message[start:at])
        else:
            rest += message[first:at].tobytes()
    if at > len(message):
        raise IndexError("it is cut short")
    return found, bytes(rest)


def chunks_of(model: onnx.ModelProto, state: Mapping[str, Array]) -> list[bytes | memoryview]:
    """Return in pieces what `filled` and SerializeToString would give.

    In the format's own words, since protobuf would hold the weights in memory three times over:
    a message in a message is its field's number, its length and its bytes. model is left with
    the shapes. Raises WeightsError.
    """
    pieces: list[tuple[bytes, memoryview]] = []
    for tensor, array in missing(model, state):
        content = array.reshape(-1).view("u1").data
        head = tensor.SerializeToString() + _framed(RAW_DATA, len(content))
        pieces.append((_framed(INITIALIZER, len(head) + len(content)) + head, content))
    hollow = type(model)()
    hollow.CopyFrom(model)
    del hollow.graph.initializer[:]
    hollow.graph.initializer.extend(t for t in model.graph.initializer if t.HasField("raw_data"))
    graph_itself = hollow.graph.SerializeToString()
    hollow.ClearField("graph")
    total = len(graph_itself) + sum(len(head) + len(content) for head, content in pieces)
    first = hollow.SerializeToString() + _framed(GRAPH, total) + graph_itself
    return [first, *(part for piece in pieces for part in piece)]


def serialized(model: onnx.ModelProto, state: Mapping[str, Array]) -> bytes:
    """Return the bytes that `write_filled` writes of a network whose numbers are in it already."""
    import numpy as np

    hollow = type(model)()
    hollow.CopyFrom(model)
    for tensor in hollow.graph.initializer:
        array = state.get(tensor.name)
        if not tensor.HasField("raw_data"):
            return model.SerializeToString()  # type: ignore[no-any-return]  # no graph of ours
        if array is not None and tensor.raw_data == np.asarray(array, np.float32).tobytes():
            tensor.ClearField("raw_data")
    return b"".join(chunks_of(hollow, state))


def _framed(field: int, length: int) -> bytes:
    """Return what stands before the bytes of a field: number and kind, and the length; base 128."""
    found = bytearray([field << 3 | 2])
    while length > 127:
        found.append(length & 127 | 128)
        length >>= 7
    found.append(length)
    return bytes(found)


# Making one, with torch.


def make(chain: nn.Module, shape: graph.Shape, outputs: Sequence[str]) -> bytes:
    """Return the template of a chain, proved on the chain's own weights.

    Traced with other weights than the chain has, so that a number that went from them into the
    graph shows. Raises ParityError where the network is not all in its state dict.
    """
    chain = graph.on_cpu(chain)
    graph.refuse_huge(graph.size_of(chain))
    try:
        model = graph.traced(_shaken(chain), shape, outputs, plain=True)
        template = _stripped(model, set(chain.state_dict()))
        state = {name: tensor.numpy() for name, tensor in chain.state_dict().items()}
        apart = graph.difference(filled(template, state).SerializeToString(), chain, shape)
    except ZooError:
        raise
    except Exception as error:  # of the exporter's and the runtime's there are many types
        raise ParityError(f"no graph of the network: {first_line(error)}") from error
    if not graph.agrees(apart, chain, graph.noise(shape)):
        raise ParityError(f"the network's graph differs from it by {apart:.1g}")
    return template


def _shaken(chain: nn.Module) -> nn.Module:
    """Return a copy in which no two tensors are equal: the exporter would make one of them."""
    import torch

    twin = copy.deepcopy(chain)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in twin.state_dict().items():
            if tensor.is_floating_point():
                scale = float(tensor.std()) if tensor.numel() > 1 else 0.0
                tensor += 0.05 * (scale or 1.0) * torch.randn(tensor.shape, generator=random)
                if name.endswith("running_var"):
                    tensor.abs_().add_(0.1)
    return twin


def _stripped(model: bytes, names: set[str]) -> bytes:
    """Return the graph without numbers, and without what only a reader of the graph would want."""
    import onnx

    proto = onnx.load_from_string(model)
    for tensor in proto.graph.initializer:
        if tensor.name not in names or tensor.data_type != onnx.TensorProto.FLOAT:
            raise ParityError(f"the network's graph has {tensor.name}, which is no weight of it")
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
    for node in proto.graph.node:
        node.ClearField("doc_string")
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        for dimension in value.type.tensor_type.shape.dim:
            dimension.ClearField("dim_value")
    proto.producer_name, proto.producer_version = "zoo", ""
    return proto.SerializeToString(deterministic=True)  # type: ignore[no-any-return]
