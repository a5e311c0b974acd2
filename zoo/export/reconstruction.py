"""An autoencoder's run to one ONNX file with its proof: the picture again, and its code.

The file is whole or not there, as of classifiers; what is compared is every value of the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.decode import decode, read_bytes
from zoo.data.preprocess import normalise
from zoo.device import Device
from zoo.disk import replacing
from zoo.engine import Array
from zoo.errors import ParityError
from zoo.export.contract import compared, odd_photos
from zoo.export.graph import behind
from zoo.export.onnx import trace, write
from zoo.export.proof import BARE, PHOTOS, PIXELS_MAX, PIXELS_MEAN, About, readable
from zoo.machine import cores
from zoo.network import Network

OUTPUTS = ("reconstruction", "code")
Values = tuple[Array, Array]  # N C S S, N D


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """An exported autoencoder and the proof that it agrees with its run.

    network_diff: largest difference of a value of picture or code for the same input, relative to
    the largest value. max_diff, mean_diff: of a reconstruction's values, code_diff: largest of a
    code's, relative to its largest; all three from raw pixels. odd_max_diff: of a reconstruction's
    values on photos of odd sizes and kinds (see zoo.export.contract). In fp32, in which the file
    computes; precision is the run's own.
    """

    path: str
    bytes: int
    input: str
    photos: int
    network_diff: float
    max_diff: float
    mean_diff: float
    code_diff: float
    runtime: str
    precision: str = "fp32"
    odd_max_diff: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def export(
    net: Network,
    photos: list[Path],
    destination: Path,
    kind: str = "image",
    say: Callable[[str], None] = lambda text: None,
    precision: str = "fp32",
    most: int | None = None,
) -> Rebuilt:
    """Writes `destination` and proves it on the photos. kind: `image` or `tensor`.

    Raises ParityError, and leaves no file, where the file and the run disagree.
    """
    from zoo.engine.onnx import OnnxModel
    from zoo.models.cut import halves
    from zoo.models.tap import WithCode

    pictures = readable(photos, net.preprocess, most or PHOTOS)
    say("tracing the network")
    network = trace(net, WithCode(*halves(net.chain, net.spec.code)), OUTPUTS)
    say(f"comparing with ONNX Runtime on {len(pictures)} photos")
    theirs = torch_values(net, np.stack([pixels for _, pixels in pictures]))
    facts, about = About.of(net), {"zoo.task": "reconstruct", "zoo.code": net.spec.code}
    with replacing(destination) as path:
        write(network, facts, "tensor", path, about)
        normal = [normalise(pixels, net.preprocess) for _, pixels in pictures]
        ours, runtime = file_values(path, normal)
        alone, odd = OnnxModel(path), None
        bare = max(relative(mine, other) for mine, other in zip(ours, theirs, strict=True))
        if kind == "image":
            write(behind(net.preprocess, network), facts, "image", path, about)
            raw = [np.asarray(decode(read_bytes(photo))) for photo, _ in pictures]
            ours, runtime = file_values(path, raw)
            photos_of = odd_photos([photo for photo, _ in pictures], net.preprocess)
            pairs = compared(photos_of, OnnxModel(path).run, alone.run, net.preprocess)
            odd = max(float(np.abs(mine - other).max()) for mine, other in pairs)
        difference = np.abs(ours[0] - theirs[0])
        result = {
            "network_diff": bare,
            "max_diff": float(difference.max()),
            "mean_diff": float(difference.mean()),
            "code_diff": relative(ours[1], theirs[1]),
        }
        check(result)
    return Rebuilt(
        path=str(destination),
        bytes=destination.stat().st_size,
        input=kind,
        photos=len(pictures),
        runtime=runtime,
        precision=precision,
        odd_max_diff=odd,
        **result,
    )


def torch_values(net: Network, inputs: Array) -> Values:
    """What the run's own engine gives in fp32, and the code on its way."""
    from zoo.engine.torch import TorchEngine
    from zoo.models.cut import halves

    device = Device("cpu", "fp32", cores(), "the proof is made on the CPU")
    encoder, _ = halves(net.chain, net.spec.code)

    def values(chain: Any) -> Array:
        engine = TorchEngine(chain, net.preprocess, device)
        parts = [inputs[at : at + engine.batch] for at in range(0, len(inputs), engine.batch)]
        return np.concatenate([engine(part) for part in parts])

    return values(net.chain), values(encoder)


def file_values(path: Path, pictures: list[Array]) -> tuple[Values, str]:
    """What the file gives, picture by picture, and the runtime's name."""
    from zoo.engine.onnx import OnnxModel

    model = OnnxModel(path)
    rebuilt, codes = zip(*(model.outputs(picture[None]) for picture in pictures), strict=True)
    return (np.concatenate(rebuilt), np.concatenate(codes)), model.name


def relative(ours: Array, theirs: Array) -> float:
    """The largest difference beside the largest value."""
    return float(np.abs(ours - theirs).max() / max(1.0, float(np.abs(theirs).max())))


def check(result: dict[str, float]) -> None:
    """Raises ParityError above the tolerances; those of classifiers."""
    limits = {
        "network_diff": BARE,
        "max_diff": PIXELS_MAX,
        "mean_diff": PIXELS_MEAN,
        "code_diff": PIXELS_MAX,
    }
    for name, limit in limits.items():
        if not result[name] <= limit:
            raise ParityError(
                f"the exported file disagrees with the run: {name} is {result[name]:.2g}, "
                f"at most {limit:g} is allowed",
                "please report it with the model's name; no file was written",
            )
