"""zoo pull: published weights into the store, or from machine to machine as one tar."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from zoo import catalog
from zoo.catalog import ModelSpec, Weights
from zoo.cli.screen import Screen, count, out, print_json, table, talk
from zoo.errors import UsageError, WeightsError
from zoo.text import printable

if TYPE_CHECKING:
    from zoo.weights.bundle import Packed


class Pulled(NamedTuple):
    """A file that is in the store, and what is known of it."""

    packed: Packed
    path: Path

    def to_dict(self) -> dict[str, Any]:
        from dataclasses import asdict

        return {**asdict(self.packed), "path": str(self.path)}


def command(
    models: Annotated[
        list[str] | None, typer.Argument(help="Models: of the catalogue, torchvision/X, timm/X.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Tag, as `zoo info MODEL` lists them; else the default.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Also write them to this .tar, for another machine.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="Take all weights of such a .tar; no network.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="No network: only what is here already.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Download weights, verify them by sha256, and make them ready for use without a network.

    A .pth file is read once, in a locked process of its own, and kept as safetensors. Machines
    without a network: `zoo pull resnet50 --bundle w.tar` here, `zoo pull --from w.tar` there.
    """
    if source is not None and (models or weights or bundle):
        raise UsageError(
            "--from takes all that is in the bundle", "leave out models, --weights and --bundle"
        )
    if source is None and not models:
        raise UsageError("no model given", "`zoo pull MODEL`; `zoo list` has the names")
    if offline:
        os.environ["ZOO_OFFLINE"] = "1"
    with Screen() as screen:
        if source is not None:
            found = taken(source, screen)
        else:
            chosen = [choose(name, weights) for name in dict.fromkeys(models or [])]
            found = [pulled(spec, row, screen) for spec, row in chosen]
        if bundle is not None:
            write(bundle, found, screen)
    if json:
        print_json([one.to_dict() for one in found])
    else:
        out("\n".join(shelf(found)))


def choose(name: str, tag: str | None) -> tuple[ModelSpec, Weights]:
    """The row and the set of weights; every name is looked up before anything is downloaded."""
    if catalog.of_library(name):  # a library's, which takes seconds to import
        from zoo import models

        spec = models.resolve(name)
    else:
        spec = catalog.find(name)
    from zoo import weights

    chosen = weights.choose(spec, tag)
    if not isinstance(chosen, Weights):
        raise WeightsError(
            f"{name} has no published weights" + (f" '{tag}'" if tag else ""),
            "`zoo list --trained` shows the models that have some",
        )
    return spec, chosen


def pulled(spec: ModelSpec, row: Weights, screen: Screen) -> Pulled:
    """One file, downloaded unless it is here, verified, and converted where it is a pickle."""
    from zoo import weights
    from zoo.weights.bundle import Packed

    size = f"{row.size / 1e6:,.1f} MB, " if row.size else ""
    where = "here already" if weights.held(row) else row.url and f"from {row.url}"
    licence = f"licence {row.licence or 'not stated'}"
    talk(f"{spec.name} {row.tag}: {size}{licence}, {where or 'with no known address'}")
    path = weights.find(row, progress=screen.bytes, say=screen.say, model=spec.name)
    screen.close()
    weights.check(path)
    packed = Packed(
        file=row.file,
        sha256=weights.hash_of(path),
        bytes=path.stat().st_size,
        model=spec.name,
        tag=row.tag,
        licence=row.licence,
        source=row.source or row.url,
    )
    return Pulled(packed, path)


def taken(source: Path, screen: Screen) -> list[Pulled]:
    """All files of a bundle."""
    from zoo.weights.bundle import unpack

    kept = unpack(source, steps(f"reading {source.name}", screen))
    screen.close()
    return [Pulled(packed, path) for path, packed in kept.items()]


def write(bundle: Path, found: list[Pulled], screen: Screen) -> None:
    from zoo.weights.bundle import pack

    if not bundle.parent.is_dir():
        raise UsageError(f"--bundle {bundle}: there is no folder {bundle.parent}", "make it first")
    pack(bundle, {one.path: one.packed for one in found}, steps(f"writing {bundle.name}", screen))
    screen.close()
    talk(
        f"{bundle}: {count(len(found), 'file')}, {bundle.stat().st_size / 1e6:,.1f} MB; there: "
        f"`zoo pull --from {bundle.name}`"
    )


def steps(what: str, screen: Screen) -> Callable[[int, int | None], None]:
    """Progress of a copy, in MB."""
    return lambda done, total: screen.progress(
        f"{what} (MB)", done // 1_000_000, (total or 0) // 1_000_000
    )


def shelf(found: list[Pulled]) -> list[str]:
    rows = [
        (
            printable(one.packed.model),
            printable(one.packed.tag),
            printable(one.packed.licence) or "not stated",
            f"{one.packed.bytes / 1e6:,.1f} MB",
            one.packed.sha256[:12],
            str(one.path),
        )
        for one in found
    ]
    return table(rows, ("model", "weights", "licence", "size", "sha256", "file"), "   r")
