"""zoo export: a run as one file that gives the same answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.screen import Screen, count, print_json, talk
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.export.onnx import Exported
    from zoo.export.reconstruction import Rebuilt
    from zoo.run import Run

FEWEST = 16  # photos of a proof

app = typer.Typer(help="Write a run in another format, proved equal.", no_args_is_help=True)


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
    json: Annotated[bool, typer.Option("--json", help="The proof as JSON on stdout.")] = False,
) -> None:
    """One ONNX file: raw pictures in, probabilities out, compared with the run on real photos.

    The Preprocess and softmax are inside, class names are in the metadata. Of an autoencoder the
    picture comes out again, and its code. Where the file and the run disagree no file is left.
    """
    from zoo.run import Run

    if input not in ("image", "tensor"):
        raise UsageError(f"--input {input}", "give `image` or `tensor`")
    opened = Run.open(run).finished()
    destination = output or run / "model.onnx"
    if not destination.parent.is_dir():
        raise UsageError(f"-o {output}: there is no folder {destination.parent}", "make it first")
    if destination.is_dir():
        raise UsageError(f"-o {output} is a folder", "give a file name, as model.onnx")
    with Screen(at_once=True) as screen:
        from zoo import network
        from zoo.export import onnx, reconstruction

        chosen = photos_of_proof(opened, photos)
        precision = opened.record["precision"]
        net = network.of_run(opened)
        export = reconstruction.export if net.spec.task == "reconstruct" else onnx.export
        proof = export(net, chosen, destination, input, screen.say, precision)
    opened.update(exported={**opened.record.get("exported", {}), input: proof.to_dict()})
    show(proof)
    print_json(proof.to_dict()) if json else print(destination)


def photos_of_proof(run: Run, folder: Path | None) -> list[Path]:
    """Those asked for, else the run's validation photos, and training photos where they are few."""
    from zoo.predict.inputs import find

    if folder is not None:
        return [Path(item.file) for item in find(str(folder), sys.stdin).each]
    val = run.photos("val")
    return val + run.photos("train")[: max(0, FEWEST - len(val))]


def show(proof: Exported | Rebuilt) -> None:
    from zoo.export.onnx import Exported

    show_classes(proof) if isinstance(proof, Exported) else show_rebuilt(proof)
    image = proof.input == "image"
    kind = "uint8 N,H,W,3, any size" if image else "float32 N,C,H,W, normalised"
    what = "classes and Preprocess are" if isinstance(proof, Exported) else "Preprocess is"
    talk(f"input: {kind}; {proof.bytes / 1e6:.1f} MB; {what} in the metadata")


def show_classes(proof: Exported) -> None:
    talk(
        f"proved on {count(proof.photos, 'photo')} with {proof.runtime}: same class on "
        f"{proof.agree} of {proof.photos}, probabilities differ by {proof.max_diff:.1e} at most "
        f"({proof.mean_diff:.1e} on average), bare network {proof.network_diff:.1e}"
    )
    if proof.agree_run is not None:
        talk(
            f"the file computes in fp32, the run predicts in {proof.precision}: same class on "
            f"{proof.agree_run} of {proof.photos}"
        )


def show_rebuilt(proof: Rebuilt) -> None:
    talk(
        f"proved on {count(proof.photos, 'photo')} with {proof.runtime}: values of the "
        f"reconstruction differ by {proof.max_diff:.1e} at most ({proof.mean_diff:.1e} on "
        f"average), of the code by {proof.code_diff:.1e} of its largest, bare network "
        f"{proof.network_diff:.1e}"
    )
    talk("outputs: reconstruction, code")
