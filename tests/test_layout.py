"""What is printed fits the width that there is, and has every word whole."""

from __future__ import annotations

import base64
import io
import json
import shlex

import pytest
from kit import ROOT, write_photos

from zoo.cli import inline, layout, main

COMMANDS = (
    "list", "list 'resnet*' --wide", "info resnet50", "info cnn", "recipes", "recipes lenet-mnist",
    "weights list", "--help", "finetune --help", "finetune lenet/mnist PHOTOS --dry-run", "runs",
)  # fmt: skip


@pytest.fixture
def say(tmp_path, monkeypatch, capsys):
    """A command's words, out and err, on a screen of some width or none."""
    write_photos(tmp_path / "PHOTOS")
    monkeypatch.chdir(tmp_path)

    def command(text: str, width: int | None) -> str:
        monkeypatch.setenv("COLUMNS", "" if width is None else str(width))
        main(shlex.split(text))
        return "\n".join(capsys.readouterr())

    return command


@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_is_wider_than_the_screen_and_no_word_is_broken(command, say):
    words = set(say(command, None).split())
    for width in (60, 80, 120):
        shown = say(command, width)
        for line in shown.splitlines():
            assert layout.cells_of(line) <= width, line
        if "help" not in command and "left out" not in shown:  # typer's; with columns fewer
            for part in set(shown.split()) - words - {"·"}:  # of a path that is wider than its room
                assert any(part in word for word in words if len(word) > width // 4), part


def test_words_wrap_and_a_command_stays_whole():
    text = "  hint: say `zoo pull lenet` and then nothing more"
    assert layout.wrapped(text, None) == [text]
    assert layout.wrapped(text, 24, "    ") == [
        "  hint: say",
        "    `zoo pull lenet` and",
        "    then nothing more",
    ]
    assert layout.wrapped("a `command that is far too long`", 20) == [
        "a `command that is",
        "far too long`",
    ]
    assert layout.cells_of("写真 é") == 6


def test_a_table_wraps_its_words_or_lists_its_rows():
    rows = [("a", "12", "one two three four five"), ("b", "7", "six")]
    assert layout.table(rows, ("x", "n", "words"), " r", 24) == [
        "x   n  words",
        "a  12  one two three",
        "       four five",
        "b   7  six",
    ]
    wide = [("a" * 30, "b" * 30)]
    assert layout.table(wide, ("x", "name"), "", 40) == ["x     " + "a" * 30, "name  " + "b" * 30]
    empty = [("a" * 30, "", "b" * 30)]
    assert layout.table(empty, ("x", "none", "name"), "", 40) == [
        "x     " + "a" * 30,
        "name  " + "b" * 30,
    ]


def test_recipes_are_found_by_name_from_anywhere(say, tmp_path):
    names = [path.stem for path in (ROOT / "recipes").glob("*.toml")]
    assert names
    assert {one["name"] for one in json.loads(say("recipes --json", None))} == set(names)
    assert "lenet-mnist" in say("train --recipe lenet-mints --dry-run", None)
    (tmp_path / "lenet-mnist").write_text("nonsense = 7\n")  # a file that is there wins
    assert "nonsense" in say("train --recipe lenet-mnist lenet PHOTOS --dry-run", None)


def test_runs_are_listed_newest_first_and_a_broken_one_is_named(say, tmp_path):
    command = "finetune lenet/mnist PHOTOS --freeze -o {} --views 1"
    for name in ("old", "in/new"):
        say(command.format(f"runs/{name}"), None)
    (tmp_path / "runs/torn").mkdir()
    (tmp_path / "runs/torn/run.json").write_text("{")
    said = say("runs", None)
    assert said.index("in/new") < said.index("runs/old")
    assert "left out: runs/torn/run.json cannot be read" in said
    shown = json.loads(say("runs runs --depth 1 --json", None).split("\nleft out")[0])
    assert [(one["run"], one["status"]) for one in shown] == [("runs/old", "finished")]
    assert "is no folder" in say("runs nowhere", None)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("finetune a b --wd 1", "--weight-decay says"),
        ("finetune a b --imgsz 96", "--size says"),
        ("finetune a b --img_size=96", "--size says"),
        ("finetune a b -b 3", "--batch-size says"),
        ("finetune a b -e 3", "--epochs says"),
        ("finetune a b --name x", "--output says"),
        ("finetune a b --project x", "--output says"),
        ("finetune a b --pretrained", "published weights are the default"),
        ("finetune a b -j 4", "--workers says"),
        ("finetune a b --dropout 0.1", "--variant dropout=P says"),
        ("predict a b --imgsz 96", "a run has its size"),
        ("predict a b --conf 0.4", "--reject-below says"),
        ("predict a b --threshold 0.4", "--reject-below says"),
        ("predict a b --topk 3", "--top says"),
        ("predict a b --workers 3", "uses all cores"),
        ("predict a b --batch 3", "finds the batch size by itself"),
        ("predict a b --half", "--precision bf16 says"),
        ("evaluate a --val-split 0.1", "run `zoo evaluate --help`"),
        ("fit a b", "`zoo finetune` does that here"),
        ("models", "`zoo list` does that here"),
        ("run", "`zoo runs` does that here"),
        ("eval a", "`zoo evaluate` does that here"),
        ("val a", "`zoo evaluate` does that here"),
        ("predcit a b", "did you mean predict?"),
        ("export onx a", "did you mean onnx?"),
        ("export no/where", "`zoo finetune MODEL PHOTOS`"),
        ("weights lst", "did you mean list?"),
    ],
)
def test_a_word_of_another_tool_is_answered_in_ours(typed, hint, say):
    assert hint in say(typed, None)


def test_help_and_version_have_their_other_names(say):
    assert say("help predict", None) == say("predict --help", None)
    assert say("help", None) == say("--help", None)
    assert say("-V", None) == say("--version", None)


@pytest.mark.parametrize(
    ("about", "begins"),
    [
        ({"TERM": "xterm-kitty"}, "\033_Ga=T,f=100,q=2,m=1;"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "\033_Ga=T,f=100,q=2,m=1;"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "\033]1337;File=inline=1;"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "\033]1337;File=inline=1;"),
        ({"TERM": "xterm-256color"}, ""),
        ({"TERM": "dumb", "TERM_PROGRAM": "iTerm.app"}, ""),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, ""),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux-0/default,1,0"}, ""),
        ({}, ""),
    ],
)
def test_a_picture_goes_to_a_terminal_that_shows_it_and_to_no_other(about, begins):
    png, stream = bytes(range(256)) * 40, io.StringIO()
    assert inline.draw(png, stream, about) == bool(begins)
    text = stream.getvalue()
    assert text.startswith(begins)
    if not begins:
        assert text == ""
    elif "1337" in begins:
        assert base64.b64decode(text.rstrip("\n\a").partition(":")[2]) == png
    else:
        parts = [part.partition(";") for part in text.strip("\n").split("\033\\") if part]
        assert all(len(data) <= 4096 for _, _, data in parts)
        assert [head[-3:] for head, _, _ in parts] == ["m=1"] * (len(parts) - 1) + ["m=0"]
        assert base64.b64decode("".join(data for _, _, data in parts)) == png


def test_nothing_is_drawn_where_it_is_piped(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm-kitty")
    (tmp_path / "a.png").write_bytes(b"x")
    assert not inline.show(tmp_path / "a.png")
    assert capsys.readouterr().err == ""
