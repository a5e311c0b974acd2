"""An autoencoder's run to one ONNX file with its proof: the picture again, and its code.

The file is whole or not there, as of classifiers; what is compared is every value of the two.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from zoo.disk import replacing
from zoo.engine import Array
from zoo.export.contract import compared, odd_photos
from zoo.export.graph import behind
from zoo.export.onnx import trace, write
from zoo.export.proof import (
    LIMITS,
    PHOTOS,
    PIXELS_MAX,
    About,
    Pictures,
    check,
    given,
    readable,
    torch_values,
)
from zoo.export.records import Order, Rebuilt
from zoo.network import Network, of_run
from zoo.run import Run

OUTPUTS = ("reconstruction", "code")
TOLERANCES = LIMITS | {"code_diff": PIXELS_MAX}
Values = tuple[Array, Array]  # N C S S, N D


def export_run(run: Run, order: Order) -> Rebuilt:
    """Write an autoencoder as a file and return it with its proof.

    Raises ParityError, and leaves no file, where the file and the run disagree.
    """
    from zoo.models.cut import halves
    from zoo.models.tap import WithCode

    net = of_run(run)
    encoder, decoder = halves(net.chain, net.spec.code)
    pictures = readable(order.photos, net.preprocess, order.most or PHOTOS)
    order.say("tracing the network")
    network = trace(net, WithCode(encoder, decoder), OUTPUTS)
    order.say(f"comparing with ONNX Runtime on {len(pictures)} photos")
    inputs = np.stack([pixels for _, pixels in pictures])
    chains = (net.chain, encoder)
    first, second = (torch_values(chain, net.preprocess, inputs) for chain in chains)
    facts, about = About.of(net), {"zoo.task": "reconstruct", "zoo.code": net.spec.code}
    odd = None
    with replacing(order.destination) as path:
        write(network, facts, "tensor", path, about)
        bare, ours, runtime = _file(path, "tensor", pictures, net)
        network_diff = max(_relative(ours[0], first), _relative(ours[1], second))
        if order.kind == "image":
            write(behind(net.preprocess, network), facts, "image", path, about)
            file, ours, runtime = _file(path, "image", pictures, net)
            photos = odd_photos([photo for photo, _ in pictures], net.preprocess)
            pairs = compared(photos, file, bare, net.preprocess)
            odd = max(float(np.abs(mine - other).max()) for mine, other in pairs)
        difference = np.abs(ours[0] - first)
        result = {
            "network_diff": network_diff,
            "max_diff": float(difference.max()),
            "mean_diff": float(difference.mean()),
            "code_diff": _relative(ours[1], second),
        }
        check(result, TOLERANCES)
    return Rebuilt(
        path=str(order.destination),
        bytes=order.destination.stat().st_size,
        input=order.kind,
        photos=len(pictures),
        runtime=runtime,
        precision=run.record["precision"],
        odd_max_diff=odd,
        **result,
    )


def _file(
    path: Path, kind: str, pictures: Pictures, net: Network
) -> tuple[Callable[[Array], Array], Values, str]:
    """Return a file as a function, what it gives picture by picture, and the runtime's name."""
    from zoo.engine.onnx import OnnxModel

    model = OnnxModel(path)
    found = (model.outputs(given(picture, kind, net.preprocess)) for picture in pictures)
    rebuilt, codes = zip(*found, strict=True)
    return model.run, (np.concatenate(rebuilt), np.concatenate(codes)), model.name


def _relative(ours: Array, theirs: Array) -> float:
    """Return the largest difference beside the largest value."""
    return float(np.abs(ours - theirs).max() / max(1.0, float(np.abs(theirs).max())))
