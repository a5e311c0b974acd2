"""The commands of README and of the pages in docs/, run in order as a reader types them.

In a block that begins with ```console each line after `$ ` is run by bash, in one folder for all
pages, at 80 columns and without the network. Where a command has output on the page, that is what
it printed; where it has none, it only has to succeed. MobileNetV2's weights come from a folder.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WEIGHTS = "timm--mobilenetv2_100.ra_in1k.safetensors"  # the name that zoo looks for
# What differs between machines and between two runs: units, the processor, numbers, the words of
# one and of several.
_MASKS = (
    (r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?", "#"),
    (r"# (?:[kMGT]?B|ms|s|min|h|µs)\b", "# unit"),
    (r"\b(?:avx|amx|sse|neon)\w*", "isa"),
    (r"\bcores?\b", "cores"),
)


class Step(NamedTuple):
    """A command of a page and what the page says that it prints; lines are those of the page."""

    command: str
    output: str
    begin: int  # characters of the page before the output, and before its end
    end: int


def pages() -> list[Path]:
    """Return README and the pages in the order in which mkdocs.yml has them."""
    listed = re.findall(r"^ +- .*?([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    return [ROOT / "README.md", *(ROOT / "docs" / name for name in listed)]


def steps(text: str) -> list[Step]:
    """Return the commands of a page, in order."""
    found = []
    for block in CONSOLE.finditer(text):
        parts = re.split(r"^\$ ", block[1], flags=re.MULTILINE)
        at = block.start(1) + len(parts[0])
        for part in parts[1:]:
            lines, count = part.splitlines(keepends=True), 1
            while lines[count - 1].endswith("\\\n"):
                count += 1
            begin = at + 2 + sum(map(len, lines[:count]))
            at += 2 + len(part)
            found.append(Step("".join(lines[:count]).strip(), text[begin:at], begin, at))
    return found


def environment(folder: Path, weights: Path) -> dict[str, str]:
    """Return what the commands see: a home of their own, 80 columns, no network, no GPU."""
    bin = folder.parent / "bin"
    bin.mkdir(exist_ok=True)
    (bin / "zoo").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m zoo "$@"\n')
    (bin / "zoo").chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZOO_")}
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "PYTHONDONTWRITEBYTECODE", "COLUMNS"):
        kept.pop(name, None)
    return {
        **kept,
        "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
        "HOME": str(folder.parent), "COLUMNS": "80", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1",
        "ZOO_OFFLINE": "1", "ZOO_WEIGHTS": str(weights), "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip


def run(command: str, folder: Path, variables: Mapping[str, str]) -> str:
    """Return what a command prints, stdout and stderr as they come. RuntimeError where it fails.

    Before `head` it writes its rows at once, as for a reader: where line after line would come,
    what it says behind them would hang on whether `head` has left by then.
    """
    variables = dict(variables)
    if "| head" in command:
        variables.pop("PYTHONUNBUFFERED", None)
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=variables, timeout=600,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"`{command}` ends with {done.returncode}:\n{done.stdout}")
    return done.stdout.replace(variables["HOME"], "~")


def masked(text: str) -> list[str]:
    """Return the words of an output without what may differ: figures, units, line ends."""
    text = " ".join(text.split())
    for pattern, mask in _MASKS:
        text = re.sub(pattern, mask, text)
    return text.split()


def difference(page: str, printed: str) -> str:
    """Return how two outputs differ once figures are masked; nothing where they agree.

    A line `…` on the page stands for lines that are left out.
    """
    before, after = (masked(part) for part in _around(page))
    found = masked(printed)
    if after:
        found = found[: len(before)] + found[-len(after) :]
    lines = difflib.unified_diff(before + after, found, "page", "printed", lineterm="", n=4)
    return "\n".join(lines)


def _around(output: str) -> tuple[str, str]:
    """Return the lines of an output before and after the one that says that some are left out."""
    before, _, after = output.partition("…\n")
    return before, after


def with_outputs(text: str, found: list[tuple[Step, str]]) -> str:
    """Return a page with what its commands print now, where it shows an output at all."""
    for step, printed in reversed(found):
        if step.output.strip():
            lines = [line.rstrip() for line in printed.rstrip("\n").split("\n")]
            first, last = (part.count("\n") for part in _around(step.output))
            if first and last:
                lines = [*lines[:first], "…", *lines[-last:]]
            text = text[: step.begin] + "\n".join(lines) + "\n" + text[step.end :]
    return text


def stand_in(folder: Path, source: Path | None) -> Path:
    """Write MobileNetV2's weights as the hub names them: of a file, else random ones."""
    from zoo import weights

    folder.mkdir(parents=True, exist_ok=True)
    if source is not None:
        tensors = weights.read(source)
    else:
        import timm

        tensors = timm.create_model("mobilenetv2_100").state_dict()
    weights.save(tensors, folder / WEIGHTS)
    return folder


def rewrite(source: Path | None, folder: Path, only: Collection[str] = ()) -> list[str]:
    """Run all pages, or README and some, in a new folder and write their outputs into them.

    Returns the commands whose output has changed and, with why, those that fail: what the page has
    of these stays.
    """
    place = folder / "here"
    place.mkdir(parents=True)
    variables, changed = environment(place, stand_in(folder / "weights", source)), []
    for page in pages():
        if only and page.name not in ("README.md", *only):
            continue
        text = page.read_text()
        found = []
        for step in steps(text):
            print(f"{page.name}: $ {step.command}", file=sys.stderr, flush=True)
            try:
                printed = run(step.command, place, variables)
            except RuntimeError as error:
                changed.append(f"{page.name}: {error}")
                continue
            found.append((step, printed))
            if step.output.strip() and difference(step.output, printed):
                changed.append(f"{page.name}: {step.command}")
        page.write_text(with_outputs(text, found))
    return changed
