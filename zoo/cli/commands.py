"""Which commands there are, what each is for, and the module that is imported when one is typed."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import typer
from typer.main import get_command

from zoo.cli.sections import Grouped, Sectioned

# A group, and the commands in it with the first sentence of their help: to list them imports none.
_TABLE = """
Look
  list: List networks with their size, memory, accuracy, weights and licence.
  info: Show one network: its stages with shapes and memory, the cut, its variants and weights.
  explain: Draw which part of each photo speaks for its class, by Grad-CAM, or what a flag asks for.
  bench: Measure how fast a network runs here: images/s, latency and memory of each engine.
  recipes: List the recipes that come with zoo, or print one: `zoo train --recipe lenet-mnist`.
  demo: Draw letters, give LeNet a new head for them, predict and export: half a minute.
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


@functools.cache
def load(name: str) -> Any:
    """Return a command for typer's group of all; its module is imported here."""
    module = importlib.import_module(f"zoo.cli.{_MODULES.get(name, name.replace('-', '_'))}")
    alone = typer.Typer(rich_markup_mode=None, add_completion=False)
    if hasattr(module, "app"):
        alone.add_typer(module.app, name=name)
        alone.callback()(_nothing)
        return get_command(alone).commands[name]  # type: ignore[attr-defined]
    alone.command(name, cls=Sectioned)(module.command)
    return get_command(alone)


def _nothing() -> None:
    """Do nothing: typer makes a group of what has a callback."""


class Lazy(Grouped):
    """All commands of zoo, each imported where it is typed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(NAMES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return load(cmd_name) if cmd_name in NAMES else None

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        one = type(super().shell_complete(ctx, "--help")[0])  # typer's class of what Tab offers
        return [one(name) for name in NAMES if name.startswith(incomplete)]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for group, commands in GROUPS.items():
            with formatter.section(group):
                formatter.write_dl(list(commands.items()))
