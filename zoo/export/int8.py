"""A run to an ONNX file that computes in int8, measured before it takes its name.

int8 is another function than the run's network, not the same one in other clothes. So how often it
answers alike is measured on the validation photos, through the file itself and from raw pixels, and
below 98 % there is no file unless it is forced.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import weights
from zoo.data.decode import decode, read_bytes
from zoo.data.preprocess import normalise
from zoo.disk import replacing
from zoo.engine import Array, skeleton
from zoo.errors import DisagreementError, ParityError
from zoo.export import onnx as whole
from zoo.export.graph import joined
from zoo.export.proof import (
    BARE,
    About,
    Pictures,
    answers,
    compare_network,
    compare_odd,
    computed,
    enough,
    readable,
    recalled,
)
from zoo.machine import cores
from zoo.metrics import ENOUGH
from zoo.network import model_file, of_run
from zoo.run import Run
from zoo.watch import check

if TYPE_CHECKING:
    import onnx

CALIBRATION, MEASURED = 64, 256  # photos


def export_run(
    run: Run,
    photos: Sequence[Path],
    destination: Path,
    kind: str = "image",
    say: whole.Say = whole.silent,
    most: int | None = None,
    *,
    force: bool = False,
) -> whole.Exported:
    """Writes `destination` in int8 and measures it on at most so many of the photos (256).

    Calibrated on the run's training photos, see `apart`. Raises DisagreementError, and leaves no
    file, where fewer than 98 % of the answers are those of fp32, unless forced.
    """
    from zoo.engine.quantise import quantise

    about = About.of_run(run)
    network, proof = exact(run, photos, about, say)
    named, learnt, photos = apart(run, photos)
    calibration = readable(learnt, about.preprocess, CALIBRATION)
    say(f"calibrating on {len(calibration)} {named}")
    inputs = np.stack([normalise(pixels, about.preprocess) for _, pixels in calibration])
    model = quantise(network, inputs)
    pictures = readable(photos, about.preprocess, most or MEASURED)
    say(f"measuring on {len(pictures)} photos")
    theirs = about.probabilities(scores_of(network, pictures, about))
    with replacing(destination) as path:
        write(model, about, kind, path)
        ours, runtime, odd = answers_of(path, kind, pictures, about, model)
        result = measured(run, pictures, ours, theirs, about)
        if not force:
            refuse(result["agree"], len(pictures))
    return whole.Exported(
        path=str(destination),
        bytes=destination.stat().st_size,
        input=kind,
        runtime=runtime,
        precision=run.record["precision"],
        computes="int8",
        calibrated=len(calibration),
        **odd,
        **result,
        **proof,
    )


def apart(run: Run, photos: Sequence[Path]) -> tuple[str, Sequence[Path], Sequence[Path]]:
    """What int8 is calibrated on, in words and files, and what it is measured on.

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


def exact(
    run: Run, photos: Sequence[Path], about: About, say: whole.Say
) -> tuple[bytes, dict[str, Any]]:
    """The bare network in fp32, compared with the run, and the result of that.

    Raises ParityError.
    """
    import onnx

    stored, recall = skeleton.find(whole.key_of(run)), recalled(run, photos, about, enough(run))
    if stored is not None and recall is not None:
        network = onnx.load_from_string(stored)
        skeleton.fill(network, weights.read_arrays(model_file(run)[0]))
        pictures, reference = recall
    else:
        net = of_run(run)
        say("computing the run's answers")
        network = whole.filled(net, whole.key_of(run))
        pictures = readable(photos, about.preprocess, enough(run))
        pixels = np.stack([pixels for _, pixels in pictures])
        reference = computed(whole.torch_scores(net, pixels, "fp32"), about)
    model = network.SerializeToString()
    apart = compare_network(scores_of(model, pictures, about), reference, about)
    if not apart <= BARE:
        raise ParityError(
            f"the network's graph disagrees with the run by {apart:.2g}, at most {BARE:g} is "
            "allowed",
            "please report it with the model's name; no file was written",
        )
    compared = {"network_photos": len(pictures), "reference": reference.source}
    return model, {"network_diff": apart, **compared}


def scores_of(model: bytes, pictures: Pictures, about: About) -> Array:
    """Class scores N x K of a bare network, a photo on each core."""
    from zoo.engine.graph import session

    opened = session(model, 1)

    def score(picture: tuple[Path, Array]) -> Array:
        check()
        given = {"tensor": normalise(picture[1], about.preprocess)[None]}
        return opened.run(None, given)[0]  # type: ignore[no-any-return]

    with ThreadPoolExecutor(cores()) as pool:
        return np.concatenate(list(pool.map(score, pictures)))


def answers_of(
    path: Path, kind: str, pictures: Pictures, about: About, network: bytes
) -> tuple[Array, str, dict[str, Any]]:
    """Probabilities N x K of the file, from raw pixels where it takes them; and the runtime.

    And how it does on odd photos beside `network`, which is in it.
    """
    from zoo.engine.graph import session
    from zoo.engine.onnx import OnnxModel

    model, alone = OnnxModel(path, threads=1), session(network, 1)

    def answer(picture: tuple[Path, Array]) -> Array:
        check()
        if kind == "image":
            return model.run(np.asarray(decode(read_bytes(picture[0])))[None])
        return about.probabilities(model.run(normalise(picture[1], about.preprocess)[None]))

    def scores(tensor: Array) -> Array:
        return alone.run(None, {"tensor": tensor})[0]  # type: ignore[no-any-return]

    with ThreadPoolExecutor(cores()) as pool:
        found = np.concatenate(list(pool.map(answer, pictures)))
        image = kind == "image"
        odd = compare_odd(pool, pictures, model.run, scores, about) if image else {}
    return found, model.name, odd


def write(model: bytes, about: About, kind: str, path: Path) -> None:
    import onnx

    network: onnx.ModelProto = onnx.load_from_string(model)
    if kind == "image":
        network = joined(network, about.preprocess, several=about.threshold is not None)
    whole.write(network, about, kind, path, {"zoo.precision": "int8"})


def measured(
    run: Run, pictures: Pictures, ours: Array, theirs: Array, about: About
) -> dict[str, Any]:
    """The fields of Exported that tell of the file beside fp32, and of both beside the labels."""
    difference = np.abs(ours - theirs)
    same = (answers(ours, about) == answers(theirs, about)).all(axis=1)
    result: dict[str, Any] = {
        "photos": len(pictures),
        "agree": int(same.sum()),
        "max_diff": float(difference.max()),
        "mean_diff": float(difference.mean()),
    }
    labels = dict(run.labelled("val"))
    known = [k for k, (photo, _) in enumerate(pictures) if labels.get(photo) in about.classes]
    if about.threshold is None and known:
        right = np.array([about.classes.index(labels[pictures[k][0]]) for k in known])
        result["accuracy"] = float((ours[known].argmax(axis=1) == right).mean())
        result["accuracy_fp32"] = float((theirs[known].argmax(axis=1) == right).mean())
    return result
