"""zoo export: a run as one file that gives the same answers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from zoo import text
from zoo.cli.console import Screen, out, print_json, talk
from zoo.cli.export_web import web
from zoo.cli.options import NETWORK, argument, flag, force, options, output, shared
from zoo.cli.sections import Grouped, Sectioned

if TYPE_CHECKING:
    from zoo.export.records import Exported, Rebuilt
    from zoo.run import Run

PROOF = "Proof"

app = typer.Typer(
    help="Write a run as one file, checked to answer alike.", no_args_is_help=True, cls=Grouped
)


@app.callback()
def formats() -> None:
    pass


app.command("web", cls=Sectioned)(web)


@dataclass(frozen=True)
class Flags:
    run: Path = argument("A finished run folder.")
    input: Literal["image", "tensor"] = flag(
        "What the file takes: image is uint8 RGB of any size, tensor is what the network takes.",
        NETWORK,
        "image",
    )
    unknown: bool = flag(
        "Add an output `distance` from the training photos; the metadata say which is unusual.",
        NETWORK,
        False,
    )
    int8: bool = flag("Compute in int8, measured beside fp32 first.", NETWORK, False)
    trust_changed: bool = shared("trust_changed")
    photos: Path | None = flag("Photos to compare on. Default: the run's validation photos.", PROOF)
    count: int | None = flag(
        "Photos to compare at most. Default: 4 to 16, what takes about a second.", PROOF, min=1
    )
    force: bool = force("write one that answers otherwise than the run for over 2 % of photos")
    output: Path | None = output("File. Default: RUN/model.onnx, or RUN/model-int8.onnx.")
    json: bool = shared("json")


@app.command("onnx", cls=Sectioned)
@options
def onnx(flags: Flags) -> None:
    """Write one ONNX file, pictures in, probabilities out, that agrees with the run on photos.

    Preprocess and softmax are inside, class names are in the metadata. For an autoencoder the
    picture comes out again, and its code. Where file and run disagree no file is left.
    """
    from zoo.export import run_file
    from zoo.export.records import Order
    from zoo.predict import writers
    from zoo.run import Run

    run = Run.open(flags.run, trusts=flags.trust_changed).finished()
    wanted = run_file.Wanted(flags.input, flags.int8, flags.unknown)
    place = run_file.place_of(run, wanted)
    destination = flags.output or place
    writers.check(destination, (".onnx",))
    with Screen() as screen:
        photos = _photos_of_proof(run, flags.photos)
        order = Order(photos, destination, most=flags.count, force=flags.force, say=screen.say)
        proof = run_file.write(run, wanted, order)
    _show(proof)
    print_json(proof.to_dict()) if flags.json else out(destination)


def _photos_of_proof(run: Run, folder: Path | None) -> Sequence[Path]:
    """Return a folder's photos, else the run's own."""
    from zoo.export.run_file import photos_of
    from zoo.predict.inputs import find

    if folder is not None:
        return [Path(item.file) for item in find(str(folder), sys.stdin).each]
    return photos_of(run)


def _show(proof: Exported | Rebuilt) -> None:
    from zoo.export.records import Exported

    if not isinstance(proof, Exported):
        _show_rebuilt(proof)
    elif proof.computes == "int8":
        _show_int8(proof)
    else:
        _show_classes(proof)
    if isinstance(proof, Exported) and proof.odd_photos:
        _show_odd(proof)
    image = proof.input == "image"
    kind = "uint8 N,H,W,3, any size" if image else "float32 N,C,H,W, normalised"
    what = "classes and Preprocess are" if isinstance(proof, Exported) else "Preprocess is"
    talk(f"input: {kind}; {proof.bytes / 1e6:.1f} MB; {what} in the metadata")


def _show_classes(proof: Exported) -> None:
    recalled = proof.reference != "torch"
    beside = f", beside the run's {proof.reference}" if recalled else ""
    what = "their probabilities" if recalled else "probabilities"
    talk(
        f"checked on {text.count(proof.photos, 'photo')} with {proof.runtime}{beside}: same "
        f"class on {proof.agree} of {proof.photos}, {what} differ by "
        f"{proof.max_diff:.1e} at most ({proof.mean_diff:.1e} on average), bare network "
        f"{proof.network_diff:.1e} on {proof.network_photos}"
    )
    if proof.distance_diff is not None:
        talk(f"output distance differs by {100 * proof.distance_diff:.2g} % at most")
    if proof.agree_run is not None:
        talk(
            f"the file computes in fp32, the run predicts in {proof.precision}: same class on "
            f"{proof.agree_run} of {proof.photos}"
        )


def _show_odd(proof: Exported) -> None:
    """Say how it does on photos that are stored otherwise than the run's own may be."""
    talk(
        f"on {text.count(proof.odd_photos or 0, 'photo')} of odd sizes and kinds, decoded as "
        f"docs/export.md says: same class on {proof.odd_agree} of {proof.odd_photos}, "
        f"probabilities differ by {proof.odd_max_diff:.1e} at most ({proof.odd_worst})"
    )


def _show_int8(proof: Exported) -> None:
    accuracy = ""
    if proof.accuracy is not None and proof.accuracy_fp32 is not None:
        accuracy = (
            f"; accuracy {100 * proof.accuracy:.1f} %, in fp32 {100 * proof.accuracy_fp32:.1f} %"
        )
    talk(
        f"int8, calibrated on {text.count(proof.calibrated or 0, 'photo')}: the same "
        f"answer as in fp32 on {proof.agree} of {proof.photos} photos with {proof.runtime}, "
        f"probabilities differ by {proof.max_diff:.1e} at most ({proof.mean_diff:.1e} on average)"
        f"{accuracy}"
    )
    talk(
        f"in fp32 the network was compared with the run first: "
        f"{proof.network_diff:.1e} on {text.count(proof.network_photos or 0, 'photo')}"
    )


def _show_rebuilt(proof: Rebuilt) -> None:
    talk(
        f"checked on {text.count(proof.photos, 'photo')} with {proof.runtime}: values of the "
        f"reconstruction differ by {proof.max_diff:.1e} at most ({proof.mean_diff:.1e} on "
        f"average), of the code by {proof.code_diff:.1e} of its largest, bare network "
        f"{proof.network_diff:.1e}"
    )
    if proof.odd_max_diff is not None:
        talk(f"on photos of odd sizes and kinds they differ by {proof.odd_max_diff:.1e} at most")
    talk("outputs: reconstruction, code")
