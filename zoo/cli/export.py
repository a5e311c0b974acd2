"""zoo export: a run as one file that gives the same answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo import text
from zoo.cli.console import Screen, out, print_json, talk
from zoo.cli.flags import Grouped, TrustChanged
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.export.records import Exported, Rebuilt
    from zoo.run import Run

FEWEST = 16  # photos to choose those of the proof from

app = typer.Typer(
    help="Write a run in another format, proved equal.", no_args_is_help=True, cls=Grouped
)


@app.callback()
def formats() -> None:
    pass


@app.command("onnx")
def onnx(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File; else RUN/model.onnx.")
    ] = None,
    input: Annotated[
        str, typer.Option(help="image: uint8 RGB of any size; tensor: the bare network.")
    ] = "image",
    photos: Annotated[
        Path | None, typer.Option(help="Photos of the proof; else the run's validation photos.")
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Photos of the proof; else 4 to 16, what takes about a second."),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Compute in int8, measured beside fp32 first.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write an int8 file that often answers otherwise.")
    ] = False,
    trust_changed: TrustChanged = False,
    json: Annotated[bool, typer.Option("--json", help="The proof as JSON on stdout.")] = False,
) -> None:
    """One ONNX file: raw pictures in, probabilities out, compared with the run on real photos.

    The Preprocess and softmax are inside, class names are in the metadata. Of an autoencoder the
    picture comes out again, and its code. Where the file and the run disagree no file is left.
    """
    from zoo import weights
    from zoo.run import Run

    if input not in ("image", "tensor"):
        raise UsageError(f"--input {input}", "give `image` or `tensor`")
    opened = Run.open(run, trusts=trust_changed).finished()
    destination = output or run / ("model-int8.onnx" if int8 else "model.onnx")
    if not destination.parent.is_dir():
        raise UsageError(f"-o {output}: there is no folder {destination.parent}", "make it first")
    if destination.is_dir():
        raise UsageError(f"-o {output} is a folder", "give a file name, as model.onnx")
    if destination.suffix.lower() != ".onnx":
        raise UsageError(
            f"-o {output}: predict knows an exported file by .onnx", "give a name that ends so"
        )
    with Screen() as screen:
        from zoo.export import int8 as in_int8
        from zoo.export import onnx as in_fp32
        from zoo.export import reconstruction
        from zoo.export.records import Order

        chosen = photos_of_proof(opened, photos)
        order = Order(chosen, destination, input, count, force, screen.say)
        proof: Exported | Rebuilt
        if opened.record.get("task", "classify") == "reconstruct":
            refuse_int8(opened, int8)
            proof = reconstruction.export_run(opened, order)
        else:
            proof = (in_int8 if int8 else in_fp32).export_run(opened, order)
    name = f"{input}-int8" if int8 else input
    known = {**proof.to_dict(), "sha256": weights.hash_of(destination)}
    opened.update(exported={**opened.record.get("exported", {}), name: known})
    show(proof)
    print_json(proof.to_dict()) if json else out(destination)


def refuse_int8(run: Run, asked: bool) -> None:
    if asked:
        raise UsageError(
            f"--int8 of {run.folder}, an autoencoder: its agreement is measured by classes",
            "leave --int8 out",
        )


def photos_of_proof(run: Run, folder: Path | None) -> list[Path]:
    """Those asked for, else the run's validation photos, and training photos where they are few."""
    from zoo.predict.inputs import find

    if folder is not None:
        return [Path(item.file) for item in find(str(folder), sys.stdin).each]
    val = run.photos("val")
    return val + run.photos("train")[: max(0, FEWEST - len(val))]


def show(proof: Exported | Rebuilt) -> None:
    from zoo.export.records import Exported

    if not isinstance(proof, Exported):
        show_rebuilt(proof)
    elif proof.computes == "int8":
        show_int8(proof)
    else:
        show_classes(proof)
    if isinstance(proof, Exported) and proof.odd_photos:
        show_odd(proof)
    image = proof.input == "image"
    kind = "uint8 N,H,W,3, any size" if image else "float32 N,C,H,W, normalised"
    what = "classes and Preprocess are" if isinstance(proof, Exported) else "Preprocess is"
    talk(f"input: {kind}; {proof.bytes / 1e6:.1f} MB; {what} in the metadata")


def show_classes(proof: Exported) -> None:
    recalled = proof.reference != "torch"
    beside = f", beside the run's {proof.reference}" if recalled else ""
    what = "their probabilities" if recalled else "probabilities"
    talk(
        f"proved on {text.count(proof.photos, 'photo')} with {proof.runtime}{beside}: same "
        f"class on {proof.agree} of {proof.photos}, {what} differ by "
        f"{proof.max_diff:.1e} at most ({proof.mean_diff:.1e} on average), bare network "
        f"{proof.network_diff:.1e} on {proof.network_photos}"
    )
    if proof.agree_run is not None:
        talk(
            f"the file computes in fp32, the run predicts in {proof.precision}: same class on "
            f"{proof.agree_run} of {proof.photos}"
        )


def show_odd(proof: Exported) -> None:
    """What comes of photos that are stored otherwise than the run's own may be."""
    talk(
        f"on {text.count(proof.odd_photos or 0, 'photo')} of odd sizes and kinds, decoded as "
        f"README says: same class on {proof.odd_agree} of {proof.odd_photos}, probabilities "
        f"differ by {proof.odd_max_diff:.1e} at most ({proof.odd_worst})"
    )


def show_int8(proof: Exported) -> None:
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


def show_rebuilt(proof: Rebuilt) -> None:
    talk(
        f"proved on {text.count(proof.photos, 'photo')} with {proof.runtime}: values of the "
        f"reconstruction differ by {proof.max_diff:.1e} at most ({proof.mean_diff:.1e} on "
        f"average), of the code by {proof.code_diff:.1e} of its largest, bare network "
        f"{proof.network_diff:.1e}"
    )
    if proof.odd_max_diff is not None:
        talk(f"on photos of odd sizes and kinds they differ by {proof.odd_max_diff:.1e} at most")
    talk("outputs: reconstruction, code")
