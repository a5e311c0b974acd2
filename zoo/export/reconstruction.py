"""An autoencoder's run to one ONNX file with its proof: the picture again, and its code.

The file is whole or not there, as of classifiers; what is compared is every value of the two.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.disk import replacing
from zoo.engine import Array
from zoo.export import basis, proof
from zoo.export.basis import About, Pictures
from zoo.export.contract import compared, odd_photos
from zoo.export.graph import behind
from zoo.export.onnx import trace, write
from zoo.export.records import Fields, Order, Rebuilt
from zoo.network import Network, of_run
from zoo.run import Run

if TYPE_CHECKING:
    import onnx

OUTPUTS = ("reconstruction", "code")
TOLERANCES = proof.LIMITS | {"code_diff": proof.PIXELS_MAX}
Values = tuple[Array, Array]  # N C S S, N D


def export_run(run: Run, order: Order) -> Rebuilt:
    """Write an autoencoder as a file and return it with its proof.

    Raises ParityError, and leaves no file, where the file and the run disagree.
    """
    from zoo.models.cut import halves
    from zoo.models.tap import WithCode

    net = of_run(run)
    pictures = basis.readable(order.photos, net.preprocess, order.most or basis.PHOTOS)
    order.say("tracing the network")
    network = trace(net, WithCode(*halves(net.chain, net.spec.code)), OUTPUTS)
    order.say(f"comparing with ONNX Runtime on {len(pictures)} photos")
    with replacing(order.destination) as path:
        result = _proved(path, order.kind, network, net, pictures)
    result |= {"photos": len(pictures), "precision": run.record["precision"]}
    return Rebuilt(**(order.written() | result))


def _proved(
    path: Path, kind: str, network: onnx.ModelProto, net: Network, pictures: Pictures
) -> Fields:
    """Write the file and return how far it is from the run; raises ParityError."""
    from zoo.models.cut import halves

    inputs = np.stack([pixels for _, pixels in pictures])
    chains = (net.chain, halves(net.chain, net.spec.code)[0])
    rebuilt, codes = (basis.torch_values(chain, net.preprocess, inputs) for chain in chains)
    facts, about = About.of(net), {"zoo.task": "reconstruct", "zoo.code": net.spec.code}
    write(network, facts, "tensor", path, about)
    bare, ours, runtime = _file(path, "tensor", pictures, net)
    result: Fields = {"runtime": runtime}
    result["network_diff"] = max(_relative(ours[0], rebuilt), _relative(ours[1], codes))
    if kind == "image":
        write(behind(net.preprocess, network), facts, "image", path, about)
        file, ours, _ = _file(path, "image", pictures, net)
        odd = odd_photos([photo for photo, _ in pictures], net.preprocess)
        pairs = [compared(each, file, bare, net.preprocess) for each in odd]
        differences = [np.abs(pair[0] - pair[1]).max() for pair in pairs if pair is not None]
        result["odd_max_diff"] = float(max(differences))
    difference = np.abs(ours[0] - rebuilt)
    result["max_diff"], result["mean_diff"] = float(difference.max()), float(difference.mean())
    result["code_diff"] = _relative(ours[1], codes)
    proof.check(result, TOLERANCES)
    return result


def _file(
    path: Path, kind: str, pictures: Pictures, net: Network
) -> tuple[Callable[[Array], Array], Values, str]:
    """Return a file as a function, what it gives picture by picture, and the runtime's name."""
    from zoo.engine.onnx import OnnxModel

    model = OnnxModel(path)
    found = (model.outputs(proof.given(picture, kind, net.preprocess)) for picture in pictures)
    rebuilt, codes = zip(*found, strict=True)
    return model.run, (np.concatenate(rebuilt), np.concatenate(codes)), model.name


def _relative(ours: Array, theirs: Array) -> float:
    """Return the largest difference beside the largest value."""
    return float(np.abs(ours - theirs).max() / max(1.0, float(np.abs(theirs).max())))
