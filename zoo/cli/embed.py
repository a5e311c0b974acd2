"""zoo embed: what a network makes of each picture, as numbers, with a map of them."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zoo.cli import inline
from zoo.cli.console import Screen, print_json, talk
from zoo.cli.options import (
    NETWORK,
    flag,
    force,
    network,
    options,
    output,
    pictures,
    setting,
    shared,
)
from zoo.cli.tally import Tally
from zoo.errors import UsageError
from zoo.text import count, percent

if TYPE_CHECKING:
    from zoo.predict import inputs
    from zoo.predict.embed import Embedder, Embedding, Sample

MAP = "Map"
MAP_ROWS = 5_000
MAP_VALUES = 2**26  # of the features that a map is made from: 256 MB


@dataclass(frozen=True)
class Flags:
    model: str = network("A run folder, or a model of `zoo list`.")
    inputs: list[str] = pictures()
    stage: str | None = flag(
        "Stage whose output is written, as layer3; `zoo info MODEL` lists them. Default: the last "
        "one before the head, or an autoencoder's code.",
        NETWORK,
    )
    flat: bool = flag("Write all of an output of C x H x W, not its mean.", NETWORK, False)
    weights: str | None = shared("weights")
    trust_changed: bool = shared("trust_changed")
    device: str = setting("device")
    map: Literal["pca", "tsne"] = flag("How the map is computed: pca or tsne.", MAP, "pca")
    colours: Literal["class", "error"] = flag(
        "What the map shows: class, with a ring around what a run takes for another class, or "
        "error, what is right and wrong alone.",
        MAP,
        "class",
    )
    picture: str | None = flag(
        "PNG of the map, or none for no map. Default: beside the output, as FILE.pca.png.", MAP
    )
    seed: int = flag("Seed of the map, and of --weights none.", MAP, 0)
    output: Path | None = output("File to write: .parquet, .csv or .npz. Default: CSV on stdout.")
    force: bool = force()
    csv_safe: bool = shared("csv_safe")
    json: bool = shared("json")


@options
def command(flags: Flags) -> None:
    """Write the features of every picture, a row each, and draw a map of them by class.

    They are the code of an autoencoder, what a classifier's head sees, or what leaves any stage.
    """
    from zoo.predict import embedding_files, inputs, writers
    from zoo.predict.embed import Sample

    writers.check(flags.output, embedding_files.SUFFIXES)
    writers.check_safe(flags.csv_safe, flags.output)
    place = _place_of_map(flags)
    if flags.json and flags.output is None:
        raise UsageError("--json without -o: stdout has the features", "give a file with -o")
    found = inputs.find_all(flags.inputs, sys.stdin)
    if flags.output is None and sys.stdout.isatty():
        raise UsageError(
            "a row of features is hundreds of numbers, which a terminal cannot show",
            "give a file: -o features.parquet, or .csv or .npz; or a pipe: `… | head`",
        )
    tally = Tally()
    with Screen() as screen:
        ours = _opened(flags, found, screen, maps=place is not None)
        sample = Sample(min(MAP_ROWS, max(1, MAP_VALUES // ours.width)), flags.seed)
        rows = ours.rows(found.each)
        counted = tally.counting(_sampled(rows, sample) if place else rows, found.total, screen)
        screen.rows_go_to(flags.output)
        embedding_files.write(counted, flags.output, ours.width, sys.stdout, flags.csv_safe)
        tally.show(" ".join(flags.inputs), found, flags.output)
        drawn = _draw(place, flags, sample, ours) if place else {}
    if flags.json:
        print_json(_summary(flags, ours, tally) | drawn)


def _place_of_map(flags: Flags) -> Path | None:
    """Return where the map goes; None for none. Raises UsageError."""
    from zoo.predict import writers

    if flags.picture == "none" or (flags.picture is None and flags.output is None):
        return None
    if flags.picture is None:
        assert flags.output is not None
        return flags.output.with_name(f"{flags.output.name}.{flags.map}.png")
    writers.check(Path(flags.picture), (".png",), "--picture")
    return Path(flags.picture)


def _opened(flags: Flags, found: inputs.Inputs, screen: Screen, maps: bool) -> Embedder:
    """Return what gives the features, and classes where a map needs them and no folder says."""
    from zoo.predict import folder_labels
    from zoo.predict.embed import Wanted, open_embedder
    from zoo.predict.predictor import Opening

    first = list(itertools.islice(found.each, 1))
    found.each = itertools.chain(first, found.each)
    known = any(map(folder_labels.known, first))
    run = os.path.isdir(flags.model)  # of another network the names are its own
    wanted = Wanted(flags.stage, flags.flat, guesses=maps and (run or not known))
    how = Opening(flags.weights, flags.device, seed=flags.seed, trusts=flags.trust_changed)
    ours = open_embedder(flags.model, wanted, how, screen.bytes)
    if flags.colours == "error" and (not (run and ours.classes) or ours.several):
        raise UsageError(
            f"--colours error with {flags.model}, which tells none of your classes apart",
            "give the run of a classifier; or leave --colours out, for classes",
        )
    _describe(ours)
    return ours


def _sampled(rows: Iterable[Embedding], sample: Sample) -> Iterator[Embedding]:
    for row in rows:
        if row.status == "ok":
            sample.add(row)
        yield row


def _describe(ours: Embedder) -> None:
    talk(ours.about)
    shape = " x ".join(f"{length:,}" for length in ours.shape)
    more = "; --flat keeps all" if len(ours.shape) > 1 and ours.how != "flat" else ""
    talk(
        f"features: {ours.width:,} numbers, what leaves {ours.stage} ({shape}; {ours.how}{more}): "
        f"{ours.why}"
    )


def _draw(place: Path, flags: Flags, sample: Sample, ours: Embedder) -> dict[str, object]:
    """Write the map and say what it shows; where there are too few pictures there is none."""
    from zoo.report import projection, scatter

    rows, name = sample.rows, flags.model
    if len(rows) < projection.FEWEST:
        talk(f"no map: {count(len(rows), 'picture is', 'pictures are')} too few")
        return {"picture": None}
    if flags.map == "tsne" and len(rows) >= 1000:
        talk(f"t-SNE of {len(rows):,} pictures: about a second for each 100 on one core")
    projected = projection.project(sample.features(), flags.map, flags.seed)
    classes = [row.label or row.guess for row in rows]
    known = () if ours.several else ours.classes
    wrong = [row.label != row.guess if row.guess and row.label in known else None
             for row in rows]  # fmt: skip
    guessed = sum(1 for row in rows if row.guess and not row.label)
    colours = "predicted class" if guessed > len(rows) / 2 else "class"
    some = f"{len(rows):,}" + (f" of {sample.seen:,}" if len(rows) < sample.seen else "")
    title = f"{Path(name).name if Path(name).is_dir() else name}, {ours.stage}"
    colours = flags.colours if flags.colours == "error" else colours
    told = f"{title}: {some} pictures, by {colours}"
    scatter.draw(place, projected, classes, told, wrong, flags.colours)
    what = "t-SNE" if flags.map == "tsne" else "PCA"
    if projected.explained:
        what += f", {percent(sum(projected.explained))} of the variance"
    shown = f", coloured by {colours}" if any(classes) else ""
    bad, judged = wrong.count(True), len(wrong) - wrong.count(None)
    errors = f"; {bad:,} of {judged:,} are taken for another class" if judged else ""
    talk(f"map of {some} pictures in {place} ({what}{shown}{errors})")
    inline.show(Path(place))
    about = {"picture": str(place), "map": flags.map, "explained": projected.explained}
    return about | ({"wrong": bad, "judged": judged} if judged else {})


def _summary(flags: Flags, ours: Embedder, tally: Tally) -> dict[str, object]:
    return {
        "model": flags.model,
        "stage": ours.stage,
        "why": ours.why,
        "shape": list(ours.shape),
        "features": ours.width,
        "how": ours.how,
        "rows": tally.statuses.total(),
        "errors": tally.statuses["error"],
        "output": str(flags.output),
    }
