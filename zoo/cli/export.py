"""zoo export: a run as one file that gives the same answers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from zoo import text
from zoo.cli.console import Screen, out, print_json, print_table, talk
from zoo.cli.export_web import web
from zoo.cli.options import NETWORK, argument, flag, force, options, output, shared
from zoo.cli.sections import Grouped, Sectioned
from zoo.errors import UsageError
from zoo.export.formats import Format, Wanted, find, names
from zoo.export.records import Order, Shape

if TYPE_CHECKING:
    from zoo.export.every import Outcome
    from zoo.export.records import Exported, Rebuilt
    from zoo.run import Run

PROOF, LONGEST = "Proof", 16384

app = typer.Typer(
    help="Write a run as one file, checked to answer alike.", no_args_is_help=True, cls=Grouped
)


@app.callback(invoke_without_command=True)
def every(
    all: Annotated[
        Path | None,
        typer.Option(
            "--all",
            metavar="RUN",
            help="Write a run in every format that can be written here, into its folder, and print "
            "a table of them.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print that table as JSON.")] = False,
) -> None:
    if all is None:
        return
    from zoo.export.every import every as each
    from zoo.export.run_file import photos_of
    from zoo.run import Run

    run = Run.open(all).finished()
    with Screen():
        order = Order(photos_of(run), run.folder, say=talk)
        found = list(each(run, order))
    if json:
        print_json(
            [
                {"format": one.row.title, "why": one.why}
                | (one.proof.to_dict() if one.proof else {})
                for one in found
            ]
        )
        return
    header = ("format", "file", "MB", "differs", "agree", "accuracy", "ms")
    print_table([_line(one) for one in found if one.proof], header, "  rrrrr")
    for one in found:
        if not one.proof:
            talk(f"{one.row.title}: {one.why}")


def _line(one: Outcome) -> tuple[str, ...]:
    """Return a line of the table of all formats."""
    proof = one.proof
    assert proof is not None
    assert proof.latency_ms is not None
    return (
        one.row.title,
        Path(proof.path).name,
        f"{proof.bytes / 1e6:.1f}",
        f"{proof.max_diff:.1e}" if proof.max_diff else "0",
        f"{proof.agree} of {proof.photos}",
        text.percent(proof.accuracy),
        f"{proof.latency_ms:.0f}",
    )


app.command("web", cls=Sectioned)(web)


@dataclass(frozen=True)
class Flags:
    """What every format has."""

    run: Path = argument("A finished run folder.")
    trust_changed: bool = shared("trust_changed")
    photos: Path | None = flag("Photos to compare on. Default: the run's validation photos.", PROOF)
    count: int | None = flag("Photos to compare at most. Default: 64.", PROOF, min=1)
    force: bool = force("write one that answers otherwise than the run for over 2 % of photos")
    output: Path | None = output("Where it goes. Default: in the run folder.")
    json: bool = shared("json")


@dataclass(frozen=True)
class OnnxFlags(Flags):
    """What ONNX has besides."""

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
    fp16: bool = flag("Store and compute in fp16, measured beside fp32 first.", NETWORK, False)
    size: str | None = flag(
        "Take pictures of one size only, HxW, as 480x640: for OpenCV 4, TensorRT and phones.",
        NETWORK,
    )
    batch: int | None = flag("Take so many pictures a call, and no others.", NETWORK, min=1)
    count: int | None = flag(
        "Photos to compare at most. Default: 4 to 16, what takes about a second; 64 for --fp16.",
        PROOF, min=1,
    )  # fmt: skip
    output: Path | None = output("File. Default: RUN/model.onnx, or RUN/model-int8.onnx.")


@app.command("onnx", cls=Sectioned)
@options
def onnx(flags: OnnxFlags) -> None:
    """Write one ONNX file, pictures in, probabilities out, that agrees with the run on photos.

    Preprocess and softmax are inside, class names are in the metadata. For an autoencoder the
    picture comes out again, and its code. Where file and run disagree no file is left.
    """
    shape = None
    if flags.size is not None or flags.batch is not None:
        shape = Shape(flags.batch, *(_sides(flags.size) if flags.size else ()))
    _carry_out(flags, Wanted(flags.input, flags.int8, flags.unknown, fp16=flags.fp16, shape=shape))


def _command(row: Format) -> Callable[..., None]:
    """Return the command of a format that has no flags of its own."""

    def command(flags: Flags) -> None:
        _carry_out(flags, Wanted(format=row.name))

    command.__doc__ = (
        f"{row.what}\n\nFor {row.for_whom}. It is compared with the run's ONNX file on photos, "
        "which agrees with the run; where the two disagree nothing is left."
    )
    return command


for _name in names()[1:]:
    _row = find(_name)
    app.command(_name, cls=Sectioned)(options(_command(_row)))


def _sides(text: str) -> tuple[int, int]:
    """Return height and width. Raises UsageError."""
    height, mark, width = text.lower().partition("x")
    if not (mark and height.isdecimal() and width.isdecimal() and 8 <= int(height) <= LONGEST
            and 8 <= int(width) <= LONGEST):  # fmt: skip
        raise UsageError(
            f"--size {text}: a size is HEIGHTxWIDTH in pixels, 8 to {LONGEST} each",
            "as in --size 480x640",
        )
    return int(height), int(width)


def _carry_out(flags: Flags, wanted: Wanted) -> None:
    """Write what is asked for, and say how well it agrees."""
    from zoo import device, weights

    if wanted.row.title == "onnx":
        device.tune_allocator()
        weights.read_ahead(flags.run / "model.safetensors")  # beside the imports
    from zoo.export import run_file
    from zoo.predict import writers
    from zoo.run import Run

    run = Run.open(flags.run, trusts=flags.trust_changed).finished()
    place = run_file.place_of(run, wanted)
    destination = flags.output or place
    run_file.keep_apart(run, destination)
    if wanted.row.suffix:
        writers.check(destination, (wanted.row.suffix,))
    with Screen():
        photos = _photos_of_proof(run, flags.photos)
        order = Order(photos, destination, most=flags.count, force=flags.force, say=talk)
        proof = run_file.write(run, wanted, order)
    _show(proof, wanted.shape)
    print_json(proof.to_dict()) if flags.json else out(destination)


def _photos_of_proof(run: Run, folder: Path | None) -> Sequence[Path]:
    """Return a folder's photos, else the run's own."""
    from zoo.export.run_file import photos_of
    from zoo.predict.inputs import find

    if folder is not None:
        return [Path(item.file) for item in find(str(folder), sys.stdin).each]
    return photos_of(run)


def _show(proof: Exported | Rebuilt, shape: Shape | None = None) -> None:
    from zoo.export.records import Exported

    if not isinstance(proof, Exported):
        _show_rebuilt(proof)
    elif proof.latency_ms is not None:
        _show_converted(proof)
    elif proof.computes == "int8":
        _show_int8(proof)
    else:
        _show_classes(proof)
    if isinstance(proof, Exported) and proof.odd_photos:
        _show_odd(proof)
    image = proof.input == "image"
    size = f"only {shape}" if shape else "any size"
    kind = f"uint8 N,H,W,3, {size}" if image else "float32 N,C,H,W, normalised"
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


def _show_converted(proof: Exported) -> None:
    """Say how a file of another format answers beside the ONNX file."""
    talk(
        f"checked on {text.count(proof.photos, 'photo')} with {proof.runtime}, beside the ONNX "
        f"file: same class on {proof.agree} of {proof.photos}, probabilities differ by "
        f"{proof.max_diff:.1e} at most ({proof.mean_diff:.1e} on average){_accuracy(proof)}; "
        f"{proof.latency_ms:.0f} ms a picture on one core"
    )


def _accuracy(proof: Exported) -> str:
    """Return the accuracy beside that of fp32, where the classes of photos are known."""
    if proof.accuracy is None or proof.accuracy_fp32 is None:
        return ""
    return f"; accuracy {100 * proof.accuracy:.1f} %, in fp32 {100 * proof.accuracy_fp32:.1f} %"


def _show_odd(proof: Exported) -> None:
    """Say how it does on photos that are stored otherwise than the run's own may be."""
    found = "the network sees the same pixels"
    if proof.odd_worst is not None:
        found = (
            f"same class on {proof.odd_agree} of {proof.odd_photos}, "
            f"probabilities differ by {proof.odd_max_diff:.1e} at most ({proof.odd_worst})"
        )
    talk(
        f"on {text.count(proof.odd_photos or 0, 'photo')} of odd sizes and kinds, decoded as "
        f"docs/export.md says: {found}"
    )


def _show_int8(proof: Exported) -> None:
    talk(
        f"int8, calibrated on {text.count(proof.calibrated or 0, 'photo')}: the same "
        f"answer as in fp32 on {proof.agree} of {proof.photos} photos with {proof.runtime}, "
        f"probabilities differ by {proof.max_diff:.1e} at most ({proof.mean_diff:.1e} on average)"
        f"{_accuracy(proof)}"
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
