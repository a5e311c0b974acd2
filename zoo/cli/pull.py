"""zoo pull: published weights into the store, or into a folder for another machine."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from zoo import catalog
from zoo.catalog import ModelSpec, Weights
from zoo.cli.console import Screen, out, print_json, table, talk
from zoo.cli.names import full_name
from zoo.cli.options import argument, flag, options, shared
from zoo.errors import UsageError, WeightsError
from zoo.text import count, printable


@dataclass(frozen=True, slots=True)
class Pulled:
    """A file that is in the store, and what is known of it. path: where it lies."""

    file: str
    sha256: str
    bytes: int
    model: str
    tag: str
    licence: str
    source: str
    path: str


@dataclass(frozen=True)
class Flags:
    models: list[str] | None = argument(
        "Models whose weights are fetched: of `zoo list`, torchvision/X or timm/X; or "
        "hf-hub:ORG/NAME, a run that `zoo push` has published.",
        None,
    )
    weights: str | None = flag(
        "Tag of the weights, as `zoo info MODEL` lists them. Default: the first."
    )
    to: Path | None = flag(
        "Also copy them into this folder, which ZOO_WEIGHTS names elsewhere; for a run of the Hub "
        "the new folder, by default NAME."
    )
    offline: bool = flag("Take only what is here already; the network is not used.", default=False)
    json: bool = shared("json")


@options
def command(flags: Flags) -> None:
    """Download weights, verify them by sha256, and make them ready for use without a network.

    A .pth file is read once, in a locked process of its own, and kept as safetensors. For a
    machine without a network: `zoo pull resnet50 --to stick` here, ZOO_WEIGHTS=stick there.
    """
    models, to = flags.models, flags.to
    if not models:
        raise UsageError("no model given", "`zoo pull MODEL`; `zoo list` has the names")
    if flags.offline:
        os.environ["ZOO_OFFLINE"] = "1"
    if any(name.startswith("hf-hub:") for name in models):
        return _runs(models, to, flags.json)
    for name in models:
        _check_place(name)
    with Screen() as screen:
        chosen = [choose(full_name(name), flags.weights) for name in dict.fromkeys(models)]
        found = [pulled(spec, row, screen) for spec, row in chosen]
        for one in found if to else ():
            copy(one, Path(str(to)))
    if to:
        talk(f"{count(len(found), 'file')} in {to}; there: ZOO_WEIGHTS={to} zoo …")
    if flags.json:
        print_json([asdict(one) for one in found])
    else:
        out("\n".join(shelf(found)))


def _check_place(name: str) -> None:
    """Raise UsageError for the Hub written as elsewhere: hf:ORG/NAME, its address, ORG/NAME."""
    bare = re.sub(r"^(hf|hf_hub|https://huggingface\.co)[:/]", "", name)
    ours = catalog.of_library(bare) or catalog.base(bare) in catalog.ROWS
    if re.fullmatch(r"[\w.-]+/[\w.-]+", bare) and not ours:
        raise UsageError(
            f"there is no model called {name!r}",
            f"a run on the Hugging Face Hub is `zoo pull hf-hub:{bare}`; `zoo list` has the models",
        )


def _runs(names: list[str], to: Path | None, json: bool) -> None:
    """Fetch what `zoo push` has published, each into a folder of its own."""
    from zoo import weights
    from zoo.hub.pull import pull

    if to is not None and len(names) > 1:
        raise UsageError(f"--to {to} for {len(names)} runs", "pull them one by one")
    found = []
    with Screen() as screen:
        for name in names:
            source = weights.repository(name)
            if source is None or source.folder is not None:
                raise UsageError(f"{name} beside runs of the Hub", "pull models apart from runs")
            found.append(pull(source, to or Path(source.name.split("/")[1]), screen.bytes))
    for one in found:
        classes = count(one.classes, "class", "classes")
        talk(f"{one.source}: {classes}; zoo predict {one.path} PHOTOS")
    print_json([asdict(one) for one in found]) if json else out(
        "\n".join(one.path for one in found)
    )


def choose(name: str, tag: str | None) -> tuple[ModelSpec, Weights]:
    """Find the row and the set of weights, for every name before anything is downloaded."""
    spec = catalog.libraries.find(name, tag) if catalog.of_library(name) else catalog.find(name)
    if spec is None:  # only the library knows it, which takes seconds to import
        from zoo import models

        spec = models.resolve(name)
    from zoo import weights
    from zoo.network_published import row_of

    chosen = weights.choose(spec, tag)
    if isinstance(chosen, weights.Repository) and chosen.folder is None:
        config, _ = weights.fetched(chosen)
        _, chosen = row_of(spec, config, chosen)
    if not isinstance(chosen, Weights):
        raise WeightsError(
            f"{name} has no published weights" + (f" '{tag}'" if tag else ""),
            "`zoo list --trained` shows the models that have some",
        )
    return spec, chosen


def pulled(spec: ModelSpec, row: Weights, screen: Screen) -> Pulled:
    """Download a file unless it is here, verify it, and convert it where it is a pickle."""
    from zoo import weights

    size = f"{row.size / 1e6:,.1f} MB, " if row.size else ""
    where = "here already" if weights.held(row) else row.url and f"from {row.url}"
    licence = f"licence {row.licence or 'not stated'}"
    talk(f"{spec.name} {row.tag}: {size}{licence}, {where or 'with no known address'}")
    path = weights.find(row, progress=screen.bytes, say=talk, model=spec.name)
    weights.check(path)
    return Pulled(
        file=row.file,
        sha256=weights.hash_of(path),
        bytes=path.stat().st_size,
        model=spec.name,
        tag=row.tag,
        licence=row.licence,
        source=row.source or row.url,
        path=str(path),
    )


def copy(one: Pulled, folder: Path) -> None:
    """Copy the file into the folder, whole or not at all, and hash what came there."""
    from zoo import weights
    from zoo.disk import replacing, writing

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if (config := weights.config_beside(Path(one.path))) is not None:
        with replacing(folder / config.name) as temporary, writing(folder / config.name):
            shutil.copyfile(config, temporary)
    with replacing(folder / one.file) as temporary, writing(folder / one.file):
        shutil.copyfile(one.path, temporary)
        if weights.hash_of(temporary) != one.sha256:
            raise WeightsError(f"{one.path} was changed while it was copied", "run it again")


def shelf(found: list[Pulled]) -> list[str]:
    rows = [
        (
            printable(one.model),
            printable(one.tag),
            printable(one.licence) or "not stated",
            f"{one.bytes / 1e6:,.1f} MB",
            one.sha256[:12],
            one.path,
        )
        for one in found
    ]
    return table(rows, ("model", "weights", "licence", "size", "sha256", "file"), "   r")
