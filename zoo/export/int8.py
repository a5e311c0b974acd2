"""A run to an ONNX file that computes in int8, measured before it takes its name.

int8 is another function than the run's network, not the same one in other clothes. So how often it
answers alike is measured on the validation photos, through the file itself and from raw pixels, and
below 98 % there is no file unless it is forced.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo import weights
from zoo.data.preprocess import normalise
from zoo.disk import replacing
from zoo.engine import Array, graph, graph_template
from zoo.engine.exported import SUMS
from zoo.engine.quantise import CALIBRATION
from zoo.engine.select import flags, int8_sums
from zoo.errors import DisagreementError, ParityError
from zoo.export import basis, proof, written
from zoo.export import onnx as whole
from zoo.export.basis import About, Pictures, Recalled
from zoo.export.contract import odd_photos
from zoo.export.convert import measured
from zoo.export.graph import joined
from zoo.export.records import Exported, Fields, Order
from zoo.machine import cores
from zoo.metrics import ENOUGH
from zoo.network import model_file, of_run
from zoo.run import Run

if TYPE_CHECKING:
    import onnx

MEASURED = 256  # photos


def export_run(run: Run, order: Order) -> Exported:
    """Write a run's network in int8 and return it, measured on at most order.most photos (256).

    Calibrated on the run's training photos, see `_apart`. Raises DisagreementError, and leaves no
    file, where fewer than 98 % of the answers are those of fp32, unless forced.
    """
    from zoo.engine.quantise import quantise

    about, say = About.of_run(run), order.say
    network, exact = _exact(run, order, about)
    named, learnt, photos = _apart(run, order.photos)
    calibration = basis.readable(learnt, about.preprocess, CALIBRATION)
    say(f"calibrating on {len(calibration)} {named}")
    inputs = np.stack([normalise(pixels, about.preprocess) for _, pixels in calibration])
    model = quantise(network, inputs)
    pictures = basis.readable(photos, about.preprocess, order.most or MEASURED)
    say(f"measuring on {len(pictures)} photos")
    theirs = about.probabilities(_scores_of(network, pictures, about))
    with replacing(order.destination) as path:
        _write(model, about, order.kind, path)
        ours, odd = _answers_of(path, order.kind, pictures, about, model)
        result = measured(run, pictures, ours, theirs, about)
        if not order.force:
            refuse(result["agree"], len(pictures))
    result |= {"precision": run.record["precision"], "calibrated": len(calibration)}
    return Exported(computes="int8", **(order.written() | odd | result | exact))


def _apart(run: Run, photos: Sequence[Path]) -> tuple[str, Sequence[Path], Sequence[Path]]:
    """Return what int8 is calibrated on, in words and files, and what it is measured on.

    The training photos; where they are gone every second one of the others, so that none is both.
    """
    learnt = [path for path in run.photos("train") if path.is_file()]
    if learnt or len(photos) < 2:
        return "training photos", learnt or photos, photos
    return "of the photos: the run's training photos are gone", photos[1::2], photos[::2]


def refuse(agree: int, photos: int) -> None:
    """Raises DisagreementError for too few equal answers."""
    if agree < ENOUGH * photos:
        raise DisagreementError(
            f"in int8 the network answers {agree} of {photos} photos as in fp32: "
            f"{100 * agree / photos:.1f} %, at least {100 * ENOUGH:.0f} % are needed",
            "export it in fp32, without --int8; or take what there is: --force",
        )


def _exact(run: Run, order: Order, about: About) -> tuple[bytes, Fields]:
    """Return the bare network in fp32, compared with the run, and the result of that.

    Raises ParityError.
    """
    stored = graph_template.find(whole.key_of(run))
    recall = written.recalled(run, order.photos, about, basis.enough(run))
    if stored is not None and recall is not None:
        network = graph_template.filled(stored, weights.read_arrays(model_file(run)[0]))
        with suppress(ParityError):  # torch has the last word
            return _compared(network, recall, about)
    net = of_run(run)
    order.say("computing the run's answers")
    network = whole.filled(net, whole.key_of(run))
    pictures = basis.readable(order.photos, about.preprocess, basis.enough(run))
    pixels = np.stack([pixels for _, pixels in pictures])
    scores = basis.torch_values(net.chain, net.preprocess, pixels)
    reference = replace(basis.computed(scores, about), chain=graph.on_cpu(net.chain))
    return _compared(network, Recalled(pictures, reference), about)


def _compared(network: onnx.ModelProto, recall: Recalled, about: About) -> tuple[bytes, Fields]:
    """Return a bare network in fp32 and how far it is from the run. Raises ParityError."""
    model = network.SerializeToString()
    scores = _scores_of(model, recall.pictures, about)
    difference = proof.compare_network(scores, recall.reference, about)
    limit = proof.network_limit(difference, recall.pictures, recall.reference, about)
    if not difference <= limit:
        raise ParityError(
            f"the network's graph disagrees with the run by {difference:.2g}, at most "
            f"{limit:g} is allowed",
            "please report it with the model's name; no file was written",
        )
    compared = {"network_photos": len(recall.pictures), "reference": recall.reference.source}
    return model, {"network_diff": difference, **compared}


def _scores_of(model: bytes, pictures: Pictures, about: About) -> Array:
    """Return the class scores N x K of a bare network."""
    with ThreadPoolExecutor(cores()) as pool:
        kinds = ["tensor"] * len(pictures)
        return proof.each(pool, proof.as_function(model), pictures, kinds, about.preprocess)


def _answers_of(
    path: Path, kind: str, pictures: Pictures, about: About, network: bytes
) -> tuple[Array, Fields]:
    """Return the probabilities N x K of the file, from raw pixels where it takes them.

    And its runtime, and how it does on odd photos beside `network`, which is in it.
    """
    from zoo.engine.onnx import OnnxModel

    model = OnnxModel(path, threads=1)
    with ThreadPoolExecutor(cores()) as pool:
        kinds, result = [kind] * len(pictures), {"runtime": model.name}
        ours = proof.each(pool, model.run, pictures, kinds, about.preprocess)
        if kind == "tensor":
            return about.probabilities(ours), result
        photos = odd_photos([path for path, _ in pictures], about.preprocess)
        odd = proof.compare_odd(pool, photos, model.run, proof.as_function(network), about)
        return ours, odd | result


def _write(model: bytes, about: About, kind: str, path: Path) -> None:
    import onnx

    network = onnx.load_from_string(model)
    if kind == "image":
        network = joined(network, about.preprocess, several=about.threshold is not None)
    whole.write(network, about, kind, path, {"zoo.precision": "int8", SUMS: int8_sums(flags())})
