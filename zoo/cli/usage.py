"""What to do about words that typer does not know: its own errors, answered with a hint of ours."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from typing import Any

from typer.exceptions import TyperException

from zoo import catalog, config
from zoo.catalog import holds_run
from zoo.cli import words
from zoo.cli.arguments import told_photos
from zoo.cli.sections import TYPED, usage_of
from zoo.errors import nearest


def told(error: TyperException, all_typed: Sequence[str]) -> tuple[str, str]:
    """Return what is wrong with the words of a command, and what to do."""
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", None) or " ".join(["zoo", *all_typed[:1]])
    show = getattr(error, "format_message", lambda: str(error))
    what = str(show()).rstrip(".")
    hint = ""
    command, typed = getattr(context, "command", None), _typed(context)
    if option := getattr(error, "option_name", None):
        what, hint = _option(error, option, command, what, path)
    elif word := re.match(r"No such command '(.*?)'", what):
        what, hint = _command(word[1], command, context, path)
    elif path.endswith(" config set") and what.startswith("Missing") and "=" in "".join(typed):
        hint = f"with a blank: `{path} {' '.join(typed).replace('=', ' ', 1)}`"
    elif what.startswith("Missing"):
        hint = f"`{path} {usage_of(command, context)}`; `{path} --help` says more"
    elif extra := re.match(r"Got unexpected extra argument\(s\) \((.*)\)", what, re.DOTALL):
        what, hint = _extra(extra[1], typed, path, f"{path} {usage_of(command, context)}")
    elif param := getattr(error, "param", None):
        said = " ".join(str(getattr(param, "help", "") or "").split())
        hint = f"{param.opts[-1]}: {said}" if said and param.opts[0].startswith("-") else ""
        what, point = _number(what)
        hint = point or hint
    return what[:1].lower() + what[1:], hint or f"run `{path} --help`"


def _typed(context: Any) -> list[str]:
    return list(context.meta.get(TYPED, ())) if context is not None else []


def _option(
    error: TyperException, option: str, command: Any, what: str, path: str
) -> tuple[str, str]:
    """Return what to do about a flag that there is not, or that lacks its value."""
    ours = [name for one in getattr(command, "params", ()) for name in one.opts]
    if "requires an argument" in what or option in ours:
        return what, f"give a value behind it; `{path} --help` says which"
    hint = words.flag_like(option, ours) or ""
    hint = hint or _of_another(option, path)
    names = [one[2:] for one in ours if one.startswith("--")]
    if not hint and (near := nearest(option.lstrip("-"), names, 1, least=0.6)):
        hint = f"{near.replace('mean ', 'mean --')} `{path} --help` lists all"
    return f"No such option: {option}", hint


def _of_another(option: str, path: str) -> str:
    """Return which command has a setting that this one has not; nothing for other flags."""
    from zoo.settings import table

    one = table().get(option.lstrip("-").replace("-", "_"))
    if one is None or path.split()[-1] in one.commands:
        return ""
    return f"it is a flag of `zoo {one.commands[0]}`; `{path} --help` lists those of this command"


def _number(what: str) -> tuple[str, str]:
    """Return typer's words on a value that is no number in ours, and what to do about a comma."""
    wrong = re.search(r"'([^']*)' is not a valid (int|float)(?: range)?", what)
    if wrong is None:
        return what, ""
    kind = {"int": "a whole number", "float": "a number"}[wrong[2]]
    with_point = re.sub(r"^(-?\d+),(\d+)$", r"\1.\2", wrong[1])
    hint = f"with a point: {with_point}" if with_point != wrong[1] and wrong[2] == "float" else ""
    return what.replace(wrong[0], f"'{wrong[1]}' is not {kind}"), hint


def _command(word: str, command: Any, context: Any, path: str) -> tuple[str, str]:
    """Return what to do about a command that there is not."""
    what, known = f"No such command '{word}'", command.list_commands(context)
    if path.endswith(" export"):
        what = f"'{word}' is neither a run folder nor a format of `zoo export`"
        if word == "all":
            return what, f"`{path} --all RUN` writes each format"
        if near := nearest(word, known, 1):
            return what, near
        return what, f"formats: {', '.join(known)}; `zoo export RUN` writes ONNX"
    if path.endswith(" config") and word in config.KEYS:
        return what, f"`{path} set {word} VALUE`"
    ours_for = words.command_like(word, known)
    if ours_for in known:
        return what, f"`{path} {ours_for}` does that here"
    if holds_run(word) or catalog.is_exported(word):
        return what, f"it is a network: `zoo info {shlex.quote(word)}`, `zoo predict` and others"
    if told_photos(word):
        return what, f"a command comes first: `zoo check {shlex.quote(word)}`, `zoo --help`"
    near = nearest(word, known, 1)
    return what, f"{near} `{path} --help` lists all".strip()


def _extra(extra: str, typed: Sequence[str], path: str, usage: str) -> tuple[str, str]:
    """Return what to do about more words than a command takes: a glob that the shell wrote out."""
    first = extra.split()[0] if extra.strip() else extra
    what = f"Got unexpected extra argument(s) ({extra})" if len(extra) < 100 else (
        f"Got more words than it takes, from '{first}' on")  # fmt: skip
    paths = [word for word in typed if os.path.exists(word)]
    if hint := _rejoined(extra.split(), typed, path):
        return what, hint
    if path.endswith(" list"):
        return what, "put a glob in quotes, or the shell writes it out: `zoo list 'resnet*'`"
    name = path.split()[-1]
    if name in ("rank", "check") and typed and (holds_run(typed[0]) or not told_photos(typed[0])):
        flag = {"rank": "--models", "check": "--model"}[name]
        rest = " ".join(map(shlex.quote, typed[1:2]))
        return what, f"the photos come first: `{path} {rest} {flag} {shlex.quote(typed[0])}`"
    folder = os.path.dirname(paths[-1]) if paths else ""
    if folder and sum(os.path.dirname(one) == folder for one in paths) > 1:
        return what, (
            f"if the shell wrote out a glob, name the folder instead: {shlex.quote(folder)}; "
            f"`{usage}`"
        )
    return what, f"`{usage.strip()}`; what has a blank in it goes into quotes"


def _rejoined(extra: Sequence[str], typed: Sequence[str], path: str) -> str:
    """Return the command that was meant where words of one value stand apart, or are turned round.

    `--models A B`, `add-class RUN mugs FOLDER`, `export RUN onnx`, `demo FOLDER`, `cache prune`,
    `cache --clear features`; else nothing.
    """
    words, name = list(typed), path.split()[-1]
    if not extra or any(word not in words for word in extra):
        return ""
    rest = [word for word in words if word not in extra]
    said = ""
    if name == "rank" and "--models" in rest[:-1]:
        at = rest.index("--models") + 1
        rest[at] = ",".join([rest[at].rstrip(","), *(word.strip(",") for word in extra)])
        said = "commas and no blanks between the models: "
    elif name == "add-class" and len(extra) == 1 and words.index(extra[0]) == 2:
        rest[1] = f"{rest[1].rstrip('=')}={extra[0].lstrip('=')}"
    elif name == "onnx" and extra == ["onnx"]:
        pass
    elif name == "cache" and len(extra) == 1:
        flags = {"prune": ["--prune", "--older", "30d"], "clear": ["--clear"]}
        kind = ["--kind", *extra] if rest else []
        rest = flags.get(extra[0], [*rest, *kind])
    elif name == "demo" and len(extra) == 1 and not rest:
        rest = ["--photos", *extra]
    else:
        return ""
    return f"{said}`{shlex.join([*path.split(), *rest])}`"
