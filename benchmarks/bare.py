"""Forward passes, or decoding, and nothing else, in a process of its own; prints a line of JSON.

    python -m benchmarks.bare photos MODEL FOLDER    the frozen part over decoded photos
    python -m benchmarks.bare engine MODEL           images/s of zoo's engine
    python -m benchmarks.bare decode FOLDER          the best known way to decode, in threads

`photos` and `engine` use zoo's engines in zoo's worker threads; --engine says which (torch),
--precision in what (fp32). torch runs under zoo's allocator settings (ZOO_MALLOC=default:
without them). What OpenVINO runs is converted once and kept in $ZOO_CACHE.
"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SECONDS, ROUNDS = 4.0, 3
COMPARED = 20  # photos


def main() -> None:
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("photos", "engine", "decode"))
    parser.add_argument("names", nargs="+", metavar="MODEL | FOLDER")
    parser.add_argument("--engine", choices=("torch", "openvino", "auto"), default="torch")
    parser.add_argument("--precision", choices=("fp32", "bf16", "int8"), default="fp32")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a round (4)")
    flags = parser.parse_args()
    what = {"photos": photos, "engine": engine, "decode": decoding}[flags.what]
    print(json.dumps(what(flags, *flags.names)))


def photos(flags: Namespace, name: str, folder: str) -> dict[str, Any]:
    """Wall and CPU seconds of a first and of a second pass over every photo's plain view."""
    engine, preprocess = zoo_engine(flags, name, frozen=True)
    paths = sorted(Path(folder).rglob("*.jpg"))
    pixels, seconds = decoded(paths, preprocess)
    passes = []
    for _ in range(2):
        cpu = time.process_time()
        passes.append({"wall": forward_seconds(engine, pixels), "cpu": time.process_time() - cpu})
    found = {"photos": len(pixels), "passes": passes, "decode": seconds}
    return {**found, "engine": engine.name}


def engine(flags: Namespace, name: str) -> dict[str, Any]:
    import numpy as np

    model, preprocess = zoo_engine(flags, name, frozen=False)
    size = preprocess.size
    pictures = list(np.random.default_rng(0).integers(0, 256, (64, size, size, 3), np.uint8))
    found = rate(lambda: forward_seconds(model, pictures), len(pictures), flags.seconds)
    return {**found, "engine": model.name}


def decoding(flags: Namespace, folder: str) -> dict[str, Any]:
    """Seconds of a second pass; and how far zoo's own plain view is from an exact one, of 255."""
    import numpy as np

    from zoo.catalog import Preprocess
    from zoo.data.views import plain_view

    preprocess = Preprocess()
    paths = sorted(Path(folder).rglob("*.jpg"))
    decoded(paths, preprocess)
    _, seconds = decoded(paths, preprocess)
    pairs = [(plain_view(str(path), preprocess), exact(path)) for path in paths[:COMPARED]]
    apart = [float(np.abs(a.astype(int) - b.astype(int)).mean()) for a, b in pairs]
    return {"photos": len(paths), "decode": seconds, "pixel_error": max(apart)}


# Decoding


def decoded(paths: Sequence[Path], preprocess: Any) -> tuple[list[Any], float]:
    """uint8 S S 3 of each photo, and the seconds that a thread for each core took."""
    from zoo.machine import cores

    began = time.perf_counter()
    with ThreadPoolExecutor(cores()) as pool:
        pixels = list(pool.map(lambda path: quickest(path, preprocess), paths))
    return pixels, time.perf_counter() - began


def quickest(path: Path, preprocess: Any) -> Any:
    """The centre crop by the quickest way known here that keeps the picture what it is.

    JPEG's own reduction as long as twice the size stays, then one resize of the box. Written
    without zoo's decoder, which it is a measure for.
    """
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        least = round(2 * preprocess.size / preprocess.crop)
        image.draft("RGB", (least, least))
        photo = image.convert("RGB")
    side, (width, height) = preprocess.crop * min(photo.size), photo.size
    box = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
    shape = (preprocess.size, preprocess.size)
    return np.asarray(photo.resize(shape, Image.Resampling.BILINEAR, box=box))


def exact(path: Path) -> Any:
    """As torchvision does it: all pixels, Resize(256), CenterCrop(224)."""
    import numpy as np
    from PIL import Image
    from torchvision import transforms

    plain = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    with Image.open(path) as image:
        return np.asarray(plain(image.convert("RGB")))


# Forward passes


def zoo_engine(flags: Namespace, name: str, *, frozen: bool) -> tuple[Any, Any]:
    wanted = flags.engine
    if wanted == "auto":
        from zoo.engine.select import choose

        wanted = choose("auto", "cpu", flags.precision)[0]
    make = {"torch": of_torch, "openvino": of_openvino}[wanted]
    return make(name, frozen, flags.precision)


def of_torch(name: str, frozen: bool, precision: str) -> tuple[Any, Any]:
    from zoo import device
    from zoo.engine.torch import TorchEngine

    device.tune_allocator()
    chain, preprocess = chain_of(name, frozen)
    return TorchEngine(chain, preprocess, device.choose("cpu", precision)), preprocess


def of_openvino(name: str, frozen: bool, precision: str) -> tuple[Any, Any]:
    """Kept from one process to the next, so that torch is not in this one."""
    from zoo import catalog
    from zoo.engine import compiled

    row = catalog.find(name)
    after = row.cut if frozen else None
    key = compiled.key_of(compiled.made_of(row), "bare", after, row.preprocess, precision)
    found = compiled.find(key)
    if found is None:
        chain, preprocess = chain_of(name, frozen)
        quantised = in_int8(chain, preprocess) if precision == "int8" else None
        found = compiled.make(key, chain, preprocess, quantised=quantised)
    return found.engine(precision), row.preprocess


def in_int8(chain: Any, preprocess: Any) -> bytes:
    """Quantised on noise: speed is all that is asked of it."""
    import numpy as np

    from zoo.engine.graph import to_onnx
    from zoo.engine.quantise import quantise

    shape = (8, preprocess.channels, preprocess.size, preprocess.size)
    noise = np.random.default_rng(0).standard_normal(shape, np.float32)
    return quantise(to_onnx(chain, preprocess.shape), noise)


def chain_of(name: str, frozen: bool) -> tuple[Any, Any]:
    from zoo import network
    from zoo.models.cut import cut

    net = network.pretrained(name, "none")
    return cut(net.chain, net.spec.cut).frozen if frozen else net.chain, net.preprocess


def forward_seconds(engine: Any, pixels: list[Any]) -> float:
    from zoo.engine.pipeline import forward

    began = time.perf_counter()
    for _ in forward(pixels, lambda image: image, engine):
        pass
    return time.perf_counter() - began


def rate(one: Callable[[], float], images: int, least: float) -> dict[str, Any]:
    """Images per second in rounds of some seconds each, after a first call that is not counted."""
    one()
    rates = []
    for _ in range(ROUNDS):
        seconds = calls = 0.0
        while seconds < least:
            seconds += one()
            calls += 1
        rates.append(calls * images / seconds)
    return {"images_per_second": rates}


if __name__ == "__main__":
    main()
