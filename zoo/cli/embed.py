"""zoo embed: what a network makes of each picture, as numbers, with a map of them."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.console import SAFE, Screen, print_json, talk
from zoo.cli.flags import TrustChanged
from zoo.cli.predict import show_left_out
from zoo.errors import DataError, UsageError
from zoo.text import count, percent, printable

if TYPE_CHECKING:
    from zoo.predict.embed import Embedder, Embedding, Sample

MAP_ROWS = 5_000
MAP_VALUES = 2**26  # of the features that a map is made from: 256 MB


def command(
    model: Annotated[str, typer.Argument(help="A run folder, or a model's name.")],
    inputs: Annotated[str, typer.Argument(help="Folder, picture, 'glob', list.txt, or - (stdin).")],
    stage: Annotated[str | None, typer.Option(help="After which; see `zoo info MODEL`.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help=".parquet, .csv or .npz; else stdout.")
    ] = None,
    picture: Annotated[
        str | None, typer.Option(help="PNG of the map, or none; else beside the output.")
    ] = None,
    map: Annotated[str, typer.Option(help="pca, or tsne.")] = "pca",
    flat: Annotated[
        bool, typer.Option("--flat", help="All of a map of C x H x W, not its mean.")
    ] = False,
    weights: Annotated[str | None, typer.Option(help="For a model's name: tag or file.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the map, and of --weights none.")] = 0,
    csv_safe: Annotated[bool, typer.Option("--csv-safe", help=SAFE)] = False,
    trust_changed: TrustChanged = False,
    json: Annotated[bool, typer.Option("--json", help="What was done, as JSON on stdout.")] = False,
) -> None:
    """One row of features for every picture, in order, and a map of them coloured by class.

    Of an autoencoder its code, of a classifier what its head sees, or what leaves any stage.
    """
    from zoo.predict import embedding_files, writers
    from zoo.predict import inputs as sources
    from zoo.predict.embed import Sample, Wanted, open_embedder
    from zoo.predict.predictor import Opening

    writers.check(output, embedding_files.SUFFIXES)
    writers.check_safe(csv_safe, output)
    place = place_of_map(output, picture, map)
    if json and output is None:
        raise UsageError("--json without -o: stdout has the features", "give a file with -o")
    found = sources.find(inputs, sys.stdin)
    with Screen() as screen:
        first, found.each = peeked(found.each)
        wanted = Wanted(stage, flat, guesses=place is not None and not labelled(first))
        how = Opening(weights, device, seed=seed, trusts=trust_changed)
        ours = open_embedder(model, wanted, how, screen.bytes)
        describe(ours)
        sample = Sample(min(MAP_ROWS, max(1, MAP_VALUES // ours.width)), seed)
        counts = {"ok": 0, "error": 0}

        def rows() -> Iterator[Embedding]:
            for done, row in enumerate(ours.rows(found.each), start=1):
                counts[row.status] += 1
                if place is not None and row.status == "ok":
                    sample.add(row)
                yield row
                screen.progress("pictures", done, found.total)

        embedding_files.write(rows(), output, ours.width, sys.stdout, csv_safe)
        if not sum(counts.values()):
            raise DataError(f"{inputs} names no pictures", "give one path a line")
        where = f" in {output}" if output else ""
        errors = f", {counts['error']:,} of them " if counts["error"] else ""
        errors += "an error" if counts["error"] == 1 else "errors" if counts["error"] else ""
        screen.say(f"{count(sum(counts.values()), 'row')}{where}{errors}")
        show_left_out(found)
        about = draw(place, map, sample, ours, model, seed) if place else {}
    if json:
        print_json(summary(ours, model, counts, output) | about)


def place_of_map(output: Path | None, picture: str | None, method: str) -> Path | None:
    """Where the map goes; None for none. Raises UsageError before anything is computed."""
    if method not in ("pca", "tsne"):
        raise UsageError(
            f"--map {method}: there is no such map",
            "it is pca or tsne; leave --map out for pca, or give --picture none for no map",
        )
    if picture == "none" or (picture is None and output is None):
        return None
    if picture is None:
        assert output is not None
        return output.with_name(f"{output.name}.{method}.png")
    place = Path(picture)
    if place.suffix.lower() != ".png":
        raise UsageError(
            f"--picture {picture} is no name of a PNG",
            f"it ends in .png: give {printable(place.stem or 'map')}.png, or none for no map",
        )
    if not place.parent.is_dir():
        raise UsageError(f"--picture {picture}: there is no folder {place.parent}", "make it first")
    if place.is_dir():
        raise UsageError(f"--picture {picture} is a folder", "give a file name")
    return place


def peeked(each: Iterator[Any]) -> tuple[Any, Iterator[Any]]:
    """The first input, and all of them."""
    first = next(each, None)
    return first, each if first is None else itertools.chain([first], each)


def labelled(first: Any) -> bool:
    """Whether pictures lie in class folders, so that nobody has to ask the network."""
    from zoo.predict import folder_labels

    return first is not None and bool(folder_labels.known(first))


def describe(ours: Embedder) -> None:
    talk(ours.about)
    shape = " x ".join(f"{length:,}" for length in ours.shape)
    wide = len(ours.shape) > 1 and ours.how != "flat"
    more = "; --flat keeps all" if wide else ""
    talk(
        f"features: {ours.width:,} numbers, what leaves {ours.stage} ({shape}; {ours.how}{more}): "
        f"{ours.why}"
    )


def draw(
    place: Path, method: str, sample: Sample, ours: Embedder, model: str, seed: int
) -> dict[str, Any]:
    """Writes the map and says what it shows; where there are too few pictures there is none."""
    from zoo.report import projection, scatter

    kept = sample.rows
    if len(kept) < projection.FEWEST:
        talk(f"no map: {count(len(kept), 'picture is', 'pictures are')} too few")
        return {"picture": None}
    if method == "tsne" and len(kept) >= 1000:
        talk(f"t-SNE of {len(kept):,} pictures: about a second for each 100 on one core")
    made = projection.project(sample.features(), method, seed)
    classes = [row.label or row.guess for row in kept]
    guessed = sum(1 for row in kept if row.guess and not row.label)
    colours = "predicted class" if guessed > len(kept) / 2 else "class"
    name = Path(model).name if Path(model).is_dir() else model
    some = f"{len(kept):,} of {sample.seen:,}" if len(kept) < sample.seen else f"{len(kept):,}"
    scatter.draw(place, made, classes, f"{name}, {ours.stage}: {some} pictures, by {colours}")
    what = "t-SNE" if method == "tsne" else "PCA"
    if made.explained:
        what += f", {percent(sum(made.explained))} of the variance"
    known = f", coloured by {colours}" if any(classes) else ""
    talk(f"map of {some} pictures in {place} ({what}{known})")
    return {"picture": str(place), "map": method, "explained": made.explained}


def summary(
    ours: Embedder, model: str, counts: dict[str, int], output: Path | None
) -> dict[str, Any]:
    return {
        "model": model,
        "stage": ours.stage,
        "why": ours.why,
        "shape": list(ours.shape),
        "features": ours.width,
        "how": ours.how,
        "rows": sum(counts.values()),
        "errors": counts["error"],
        "output": str(output),
    }
