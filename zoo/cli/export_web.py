"""zoo export web: a run as a page that answers in the browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zoo.cli.console import Screen, out, print_json, talk
from zoo.cli.options import NETWORK, argument, flag, options, output, shared


@dataclass(frozen=True)
class Flags:
    run: Path = argument("A finished run folder.")
    int8: bool = flag("Take the file in int8, which is smaller.", NETWORK, False)
    trust_changed: bool = shared("trust_changed")
    runtime: Path | None = flag(
        "Folder or .tgz of the npm package onnxruntime-web. Default: npm fetches it, once.", NETWORK
    )
    output: Path = output("Folder to write, as site/.", Path("site"))
    json: bool = shared("json")


@options
def web(flags: Flags) -> None:
    """Write a folder with a page that answers in the browser: any static server will do.

    As `zoo export web runs/a -o site`, then `python -m http.server -d site`. Photos are not sent
    anywhere. RUN/model.onnx is in it, which is exported first where it is not there yet.
    """
    from zoo import extras
    from zoo.export import formats, run_file, web_runtime
    from zoo.export import web as site
    from zoo.export.records import Order
    from zoo.run import Run

    run = Run.open(flags.run, trusts=flags.trust_changed).finished()
    wanted = formats.Wanted(int8=flags.int8)
    site.check_run(run)
    site.check_place(flags.output)
    if not run_file.place_of(run, wanted).is_file():
        extras.need("`zoo export`", "torch")
    with Screen():
        runtime = web_runtime.find(flags.runtime, talk)
        order = Order(run_file.photos_of(run), run_file.place_of(run, wanted), say=talk)
        written = site.write(run, site.model_of(run, wanted, order), flags.output, runtime)
    made = "exported and compared with the run" if written.proved else "that was there"
    talk(
        f"{written.bytes / 1e6:.1f} MB, of which the network has {written.model_bytes / 1e6:.1f}: "
        f"the file of the run {made}; {written.runtime}"
    )
    talk(f"try it: python -m http.server -d {flags.output}")
    print_json(written.to_dict()) if flags.json else out(flags.output)
