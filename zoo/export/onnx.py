"""A run to one ONNX file with its proof.

The file is written beside its destination, compared with the run on real photos through ONNX
Runtime, and takes its name only when the two agree.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import __version__
from zoo.catalog import Preprocess
from zoo.data.decode import decode, read_bytes
from zoo.data.preprocess import normalise
from zoo.data.views import plain_view
from zoo.device import Device, cores
from zoo.disk import replacing, writing
from zoo.engine import Array
from zoo.errors import ImageError, InputError, ParityError, WriteError
from zoo.export.graph import OPSET, joined
from zoo.metrics import sigmoid, softmax
from zoo.network import Network

if TYPE_CHECKING:
    import onnx
    from torch import nn

BARE = 1e-4  # of the largest class score, for the network alone
PIXELS_MAX, PIXELS_MEAN = 0.05, 0.005  # of a probability, from raw pixels
PHOTOS = 32  # of the proof; spread over the validation photos
LIMIT = 2**31 - 2**20  # a protobuf message ends at 2 GB


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported file and the proof that it agrees with its run.

    network_diff: largest difference of a class score, relative to the largest score.
    max_diff, mean_diff: of a probability, from raw pixels. agree of photos: equal top-1, or with
    several labels a picture all of them equal. All of it beside the run in fp32, in which the file
    computes; where the run predicts in another precision, agree_run is the agreement with that.
    """

    path: str
    bytes: int
    input: str
    photos: int
    network_diff: float
    max_diff: float
    mean_diff: float
    agree: int
    runtime: str
    precision: str = "fp32"
    agree_run: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def export(
    net: Network,
    photos: list[Path],
    destination: Path,
    kind: str = "image",
    say: Callable[[str], None] = lambda text: None,
    precision: str = "fp32",
) -> Exported:
    """Writes `destination` and proves it on the photos. kind: `image` or `tensor`.

    Raises ParityError, and leaves no file, where the file and the run disagree.
    """
    pictures = readable(photos, net.preprocess)
    say("tracing the network")
    network = trace(net)
    say(f"comparing with ONNX Runtime on {len(pictures)} photos")
    inputs = [pixels for _, pixels in pictures]
    scores = torch_scores(net, np.stack(inputs), "fp32")
    with replacing(destination) as path:
        write(network, net, "tensor", path)
        bare = compare_network(path, inputs, scores, net)
        if kind == "image":
            whole = joined(network, net.preprocess, several=net.threshold is not None)
            write(whole, net, "image", path)
        result = compare(path, kind, pictures, scores, net, bare)
        check(result)
        if precision != "fp32":
            own = probabilities(torch_scores(net, np.stack(inputs), precision), net)
            result["agree_run"] = int(equal(own, probabilities(scores, net), net).sum())
    size = destination.stat().st_size
    return Exported(path=str(destination), bytes=size, precision=precision, **result)


def readable(photos: list[Path], preprocess: Preprocess) -> list[tuple[Path, Array]]:
    """Up to PHOTOS photos, spread over the list, each with the network's uint8 input.

    Raises InputError where none can be read.
    """
    places = np.linspace(0, len(photos) - 1, min(PHOTOS, len(photos))).astype(int)
    pictures = []
    for path in [photos[place] for place in places]:
        with suppress(ImageError):
            pictures.append((path, plain_view(path, preprocess)))
    if not pictures:
        where = photos[0].parent if photos else "the run's index.csv"
        raise InputError(
            f"none of the {len(photos)} validation photos can be read (looked in {where}), "
            "and without photos there is no proof",
            "give others with --photos FOLDER",
        )
    return pictures


def trace(
    net: Network, module: nn.Module | None = None, outputs: Sequence[str] = ("logits",)
) -> onnx.ModelProto:
    """The chain as ONNX: `tensor` float32 N C S S -> `logits` N K, N dynamic.

    module: another one that takes the same input, and the names of what it gives.
    """
    import torch

    size, channels = net.preprocess.size, net.preprocess.channels
    chain = (module or net.chain).eval().cpu().to(memory_format=torch.contiguous_format)
    example = torch.zeros(2, channels, size, size)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            chain,
            (example,),
            input_names=["tensor"],
            output_names=list(outputs),
            dynamic_shapes=({0: torch.export.Dim("N")},),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def write(
    model: onnx.ModelProto, net: Network, kind: str, path: Path, more: dict[str, str] | None = None
) -> None:
    """Adds what a reader needs to know, checks the model and writes it. more: metadata."""
    import onnx

    about = {
        "zoo.version": __version__,
        "zoo.model": net.spec.name,
        "zoo.input": kind,
        "zoo.classes": json.dumps(net.classes, ensure_ascii=False),
        "zoo.preprocess": json.dumps(net.preprocess.to_dict()),
        **({} if net.threshold is None else {"zoo.task": "multilabel"}),
        **({} if net.threshold is None else {"zoo.threshold": f"{net.threshold:g}"}),
        **(more or {}),
    }
    del model.metadata_props[:]
    for key, value in about.items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name, model.producer_version = "zoo", __version__
    if model.ByteSize() > LIMIT:
        raise WriteError(
            f"the model has {model.ByteSize() / 1e9:.2f} GB, an ONNX file holds 2 GB",
            "choose a smaller network: `zoo list --sort params`",
        )
    onnx.checker.check_model(model)
    with writing(path):
        path.write_bytes(model.SerializeToString())


def torch_scores(net: Network, inputs: Array, precision: str) -> Array:
    """Class scores of the run's own engine: N x K."""
    from zoo.engine.torch import TorchEngine

    device = Device("cpu", precision, cores(), "the proof is made on the CPU")
    engine = TorchEngine(net.chain, net.preprocess, device)
    parts = [inputs[at : at + engine.batch] for at in range(0, len(inputs), engine.batch)]
    return np.concatenate([engine(part) for part in parts])


def compare_network(path: Path, inputs: list[Array], scores: Array, net: Network) -> float:
    """Largest difference of a class score of the bare network, relative to the largest."""
    from zoo.engine.onnx import OnnxModel

    model = OnnxModel(path)
    ours = np.concatenate([model.run(normalise(pixels, net.preprocess)[None]) for pixels in inputs])
    return float(np.abs(ours - scores).max() / max(1.0, float(np.abs(scores).max())))


def compare(
    path: Path,
    kind: str,
    pictures: list[tuple[Path, Array]],
    scores: Array,
    net: Network,
    bare: float,
) -> dict[str, Any]:
    """The proof: probabilities of the file beside those of the run, photo by photo."""
    from zoo.engine.onnx import OnnxModel

    model = OnnxModel(path)
    ours = []
    for photo, pixels in pictures:
        if kind == "image":
            ours.append(model.run(np.asarray(decode(read_bytes(photo)))[None])[0])
        else:
            ours.append(probabilities(model.run(normalise(pixels, net.preprocess)[None]), net)[0])
    theirs, mine = probabilities(scores, net), np.stack(ours)
    difference = np.abs(theirs - mine)
    same, clear = equal(theirs, mine, net), margin(theirs, net) > PIXELS_MAX
    if not same[clear].all():
        raise ParityError(
            f"the exported file gives another class than the run on {int((~same & clear).sum())} "
            f"of {len(same)} photos",
            "please report it with the model's name; no file was written",
        )
    return {
        "input": kind,
        "photos": len(pictures),
        "network_diff": bare,
        "max_diff": float(difference.max()),
        "mean_diff": float(difference.mean()),
        "agree": int(same.sum()),
        "runtime": model.name,
    }


def probabilities(scores: Array, net: Network) -> Array:
    return softmax(scores) if net.threshold is None else sigmoid(scores)


def equal(ours: Array, theirs: Array, net: Network) -> Array:
    """For each photo whether these probabilities give the same answer."""
    if net.threshold is None:
        return np.asarray(ours.argmax(axis=1) == theirs.argmax(axis=1))
    return np.asarray(((ours >= net.threshold) == (theirs >= net.threshold)).all(axis=1))


def margin(ours: Array, net: Network) -> Array:
    """How far the answer to each photo is from being another one."""
    if net.threshold is not None:
        return np.asarray(np.abs(ours - net.threshold).min(axis=1))
    ranked = np.sort(ours, axis=1)
    return np.asarray(ranked[:, -1] - ranked[:, -2])


def check(result: dict[str, Any]) -> None:
    """Raises ParityError above the tolerances."""
    limits = {"network_diff": BARE, "max_diff": PIXELS_MAX, "mean_diff": PIXELS_MEAN}
    for name, limit in limits.items():
        if not result[name] <= limit:
            raise ParityError(
                f"the exported file disagrees with the run: {name} is {result[name]:.2g}, "
                f"at most {limit:g} is allowed",
                "please report it with the model's name; no file was written",
            )
