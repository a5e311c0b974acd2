"""Which commands there are and what each is for: one table, which typer and `zoo --help` both read.

Nothing of typer is imported here: to show this takes a third of the time of importing it.
"""

from __future__ import annotations

import sys

from zoo import __version__
from zoo.cli.layout import width_of, wrapped

ABOUT = "A model zoo and transfer-learning tool: photos in, a checked ONNX file out."
# A group, and the commands in it with the first sentence of their help: to list them imports none.
_TABLE = """
Look
  list: List networks with their size, memory, accuracy, weights and licence.
  info: Show one network: its stages with shapes and memory, the cut, its variants and weights.
  explain: Draw which part of each photo speaks for its class, by Grad-CAM, or what a flag asks for.
  bench: Measure how fast a network runs here: images/s, latency and memory of each engine.
  recipes: List the recipes that come with zoo, or print one: `zoo train --recipe lenet-mnist`.
  demo: Draw letters, give LeNet a new head for them, predict and export: a minute.
Train
  check: Look for what is wrong with photos: broken files, duplicates, leaks, wrong labels, drift.
  finetune: Retrain a network's head on your photos; everything goes into a run folder.
  train: Train a network from random weights: classes, or for an autoencoder its own input.
  rank: Compare backbones on your photos: cross-validated accuracy, with time, size and licence.
  sweep: Fine-tune with every combination of some settings, and say which is best.
  lr: Find a learning rate: 100 steps with a rising rate, and where the loss falls.
  add-class: Add a class to a run from a folder of its photos; 3 photos suffice. RUN stays as it is.
  distill: Train a smaller network on what a run answers, with labels or without.
Judge
  report: Write a page of a run: how good it is, what goes wrong, what to do next, how it was made.
  evaluate: Measure accuracy, macro-F1 and calibration error (ECE) of each run, and of all together.
  compare: Compare runs: the settings in which they differ, their scores, and a test for each pair.
  runs: List the runs below a folder, newest first: network, photos, score, state and date.
Use
  predict: Name what every picture shows: a row each, in order, or the reason why there is none.
  embed: Write the features of every picture, a row each, and draw a map of them by class.
  next: Name photos to label next: those that a network is unsure of, and no two alike.
  reconstruct: Draw pictures beside what comes back, and write the error of each to errors.csv.
  export: Write a run as one file, checked to answer alike.
  serve: Answer over HTTP: photos in, rows of `zoo predict` out, and a page to drop photos on.
Scale
  plan: Read a source once and write down which photos a job has, in shards.
  estimate: Say how long a job will take, on how many machines, and what holds it up.
  work: Do the shards of a job that are not done yet; run it as often, and as many, as you like.
  verify: Compare all parts of a job with its plan: how many rows, of which photos, and unharmed.
  merge: Write all rows of a job in the plan's order, as `zoo predict` or `zoo embed` does.
Store
  push: Publish a run on the Hugging Face Hub: its exported file, a model card, and what timm loads.
  pull: Download weights, verify them by sha256, and make them ready for use without a network.
  cache: List what is kept on this machine to be quick, by kind; make room, or clear it.
  config: Show or change your defaults of the weights folder, the cache and the device.
  doctor: Look at this installation: versions, devices, engines, folders, and what is slow and why.
  weights: What is in the store: list, verify, path, remove.
"""
_MODULES = {"list": "list_models", "next": "next_photos"}  # where it is not the name
# Of `zoo` itself. Two of them are typer's own, and its words.
OPTIONS = {
    "--version": "Print the version.",
    "--offline": "Work without the network.",
    "--install-completion": "Install completion for the current shell.",
    "--show-completion": "Show completion for the current shell, to copy it or customize the "
    "installation.",
    "-h, --help": "Show this message and exit.",
}
HELP = ("-h", "--help")
# Columns of a help text, as typer has them; where nobody says how many there are.
WIDEST, NARROWEST, USUAL = 120, 50, 80


def _groups() -> dict[str, dict[str, str]]:
    """Return the table: a sentence of each command by its name, in its group."""
    found: dict[str, dict[str, str]] = {}
    for line in _TABLE.strip().splitlines():
        name, _, text = line.strip().partition(": ")
        if text:
            found[next(reversed(found))][name] = text
        else:
            found[name] = {}
    return found


GROUPS = _groups()
NAMES = tuple(name for group in GROUPS.values() for name in group)


def module_of(name: str) -> str:
    """Return the module of a command."""
    return f"zoo.cli.{_MODULES.get(name, name.replace('-', '_'))}"


def version_text() -> str:
    """Return what `zoo --version` prints."""
    return f"zoo {__version__}"


def help_text() -> str:
    """Return what `zoo --help` prints, in the width of the terminal."""
    width = max(min(width_of(sys.stdout) or USUAL, WIDEST) - 2, NARROWEST)
    lines = ["Usage: zoo [OPTIONS] COMMAND [ARGS]...", "", *wrapped(f"  {ABOUT}", width, "  ")]
    for title, rows in (("Options", OPTIONS), *GROUPS.items()):
        lines += ["", f"{title}:", *_listed(rows, width)]
    return "\n".join(lines)


def _listed(rows: dict[str, str], width: int) -> list[str]:
    """Return names with their texts beside them."""
    column = max(map(len, rows)) + 4
    indent = " " * column
    return [
        line
        for name, text in rows.items()
        for line in wrapped(f"  {name}".ljust(column) + text, width, indent)
    ]
