"""The command line: exit codes, two-line errors, and a stdout that holds data only."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from kit import ROOT, Answer, Command, loaded, picture, write_photos
from kit.hostile import inside
from kit.warm import Warm
from typer.main import get_command

from zoo import __version__, catalog, models, weights
from zoo.cli import app, quick
from zoo.cli.app import load
from zoo.cli.commands import GROUPS, OPTIONS
from zoo.cli.console import printable
from zoo.text import count

Here = Callable[..., Answer]
SCRATCH = ("--weights", "none", "--no-freeze", "--epochs", "1")


def refused(answer: Answer, *parts: str, code: int = 2) -> None:
    """Two lines on stderr and nothing else anywhere."""
    error, hint, *rest = answer.err.rstrip("\n").split("\n")
    assert answer.code == code
    assert answer.out == ""
    assert rest == []
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    for part in parts:
        assert part in answer.err
    assert "Traceback" not in answer.err
    assert "a fault of zoo" not in answer.err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is also the current one: whatever is left behind is found."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_nothing_on_a_terminal_moves_its_cursor() -> None:
    """Of names from outside: escape codes, a bell, a return, half a character, an isolate."""
    told = printable("a\x1b[2J\x07\rb\udc80\u2066\x9b31m\x7f\x00\n\tc")
    assert told.replace("\n", "").isprintable()
    assert told.startswith("a\\x1b[2J\\x07\\rb\\udc80")
    assert told.endswith("c")
    assert printable("naïve 写真 é") == "naïve 写真 é"


@pytest.mark.skipif(os.name != "posix", reason="no such names elsewhere")
def test_names_of_files_are_told_without_what_a_terminal_obeys(
    here: Here, exported: Path, photos: Path, tmp_path: Path
) -> None:
    name = "\x1b]0;owned\x07\x1b[31m"
    shutil.copy(photos / "disc" / "00.png", tmp_path)
    (tmp_path / f"{name}.txt").write_text("no picture")
    answers = [here("predict", exported, tmp_path), here("predict", tmp_path / name, tmp_path)]
    answers += [here("info", name), here("finetune", "lenet", tmp_path / name)]
    for answer in answers:
        assert "owned" in answer.err
        assert answer.err.replace("\n", "").isprintable(), answer.err


def test_one_is_singular() -> None:
    assert [count(n, "photo") for n in (0, 1, 1200)] == ["0 photos", "1 photo", "1,200 photos"]
    assert [count(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]


# The words of the command.


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["lst"], ["no such command 'lst'", "list", "`zoo --help`"]),
        (["list", "--famly", "vgg"], ["no such option", "--family", "`zoo list --help`"]),
        (["--nope"], ["no such option", "--nope"]),
        (["info"], ["missing argument", "model"]),
        (["info", "a", "b"], ["unexpected extra argument"]),
        (["predict", "a"], ["missing argument"]),
        (["predict", "a", "b", "--top", "x"], ["'--top'", "'x'"]),
        (["predict", "a", "b", "--top", "0"], ["'--top'", "0"]),
        (["predict", "a", "b", "--precision", "fp8"], ["--precision fp8", "fp32, bf16 or int8"]),
        (["finetune", "lenet", "x", "--epochs", "many"], ["'--epochs'", "many"]),
        (["export", "tflite", "x"], ["'tflite' is neither a run folder nor a format"]),
        (["export", "onnx", "x", "--input", "raw"], ["--input raw", "image or tensor"]),
        (["list", "--sort", "sise"], ["cannot sort by 'sise'", "did you mean size", "params"]),
        (["list", "--max-params", "lots"], ["--max-params lots", "30M"]),
        (["list", "--family", "vgggg"], ["no model fits"]),
    ],
)  # fmt: skip
def test_words_that_are_wrong(here: Here, words: list[str], parts: list[str]) -> None:
    refused(here(*words), *parts)


# Answered without a parser where the words need none.
PLAIN = (
    [], ["--help"], ["-h"], ["--version"], ["list"], ["list", "--wide"], ["list", "--json"],
    ["list", "--trained", "resnet*"], ["list", "vgg", "--json"],
)  # fmt: skip


@pytest.mark.parametrize("words", PLAIN)
def test_words_that_need_no_parser_are_answered_as_typer_answers_them(here, capsys, words):
    assert quick.answer(words) is not None
    capsys.readouterr()
    answer = here(*words)
    assert app.run(words, words, told_elsewhere=False) == answer.code
    assert capsys.readouterr() == (answer.out, answer.err)


def test_words_that_need_a_parser_are_left_to_typer(monkeypatch):
    for words in (["lists"], ["--offline", "list"], ["list", "--help"], ["list", "a", "b"],
                  ["list", "--sort", "size"], ["list", "--sort=size"], ["list", "--wid"],
                  ["list", "--"], ["list", ""], ["--help", "list"], ["info"]):  # fmt: skip
        assert quick.answer(words) is None, words
    monkeypatch.setenv("_ZOO_COMPLETE", "complete_zsh")
    assert quick.answer([]) is None
    assert quick.answer(["list"]) is None


def test_help_has_the_flags_that_typer_takes():
    command = get_command(app.app)
    context = command.make_context("zoo", ["list"])
    assert dict(one.get_help_record(context) for one in command.get_params(context)) == OPTIONS


def test_help_and_list_import_no_typer():
    code = "from zoo.cli import main; main({!r})"
    assert loaded(code.format(["--help"])).isdisjoint(("typer", "dataclasses"))
    assert loaded(code.format(["list"])).isdisjoint(("typer", "numpy", "shutil"))


def test_version_and_help(here: Here) -> None:
    assert here("--version") == Answer(0, f"zoo {__version__}\n", "")
    for words in (["--help"], ["-h"], ["finetune", "--help"], ["export", "onnx", "-h"]):
        answer = here(*words)
        assert (answer.code, answer.err) == (0, "")
        assert "Usage: zoo" in answer.out
    helped = here("--help").out
    for command in ("list", "info", "finetune", "predict", "export", "demo"):
        assert command in helped
    assert here().code == 2


def test_a_command_is_listed_with_the_first_sentence_of_its_help() -> None:
    """The list is data, so that it imports no command; it is what each says of itself."""
    for group in GROUPS.values():
        for name, line in group.items():
            first = inspect.cleandoc(load(name).help or "").partition("\n\n")[0]
            assert line == " ".join(first.split()), name


def test_help_names_every_flag_with_a_word_about_it(here: Here) -> None:
    helped = here("finetune", "--help").out
    for flag in ("--freeze", "--cut", "--head", "--views", "--balance", "--recipe", "--resume"):
        assert flag in helped


# The catalogue.


def test_list_has_a_line_for_each_model(here: Here) -> None:
    answer = here("list")
    header, *lines = answer.out.splitlines()
    assert header.startswith("model")
    assert set(catalog.ROWS) < {line.split()[0] for line in lines}
    assert answer.err.startswith("worth trying")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["resnet1"], {"resnet18", "resnet101", "resnet152"}),
        (["vgg1?"], {"vgg16", "vgg19"}),
        (["--family", "lenet"], {"lenet"}),
        (["--max-params", "1M", "--family", "lenet"], {"lenet"}),
        (["--family", "resnet", "--max-params", "30M"], {"resnet18", "resnet34", "resnet50"}),
        (["--family", "vgg", "--min-acc1", "74"], {"vgg19_bn"}),
    ],
)
def test_list_filters(here: Here, words: list[str], names: set[str]) -> None:
    _, *lines = here("list", *words).out.splitlines()
    found = {line.split()[0] for line in lines}
    assert {name for name in found if "/" not in name} == names  # our own


def test_list_sorts(here: Here) -> None:
    _, *lines = here("list", "--sort", "params").out.splitlines()
    every = {row.name: row for row in catalog.everything()}
    params = [every[line.split()[0]].params or float("inf") for line in lines]
    assert params == sorted(params)
    assert len(params) == len(every)


def test_list_as_json_is_the_catalogue(here: Here) -> None:
    answer = here("list", "--json")
    found = json.loads(answer.out)
    assert set(catalog.ROWS) < {row["name"] for row in found}
    (resnet,) = [row for row in found if row["name"] == "resnet50"]
    assert resnet["params"] == 25_557_032
    assert resnet["weights"][0]["tag"]
    assert json.loads(here("list", "no-such", "--json").out) == []


def test_info_shows_stages_the_cut_and_the_weights(here: Here) -> None:
    answer = here("info", "resnet50")
    assert answer.err == ""
    for stage in catalog.find("resnet50").stages:
        assert f"\n{stage} " in answer.out
    (cut,) = [line for line in answer.out.splitlines() if "<- cut" in line]
    assert cut.startswith("layer4 ")
    assert "2048 x 7 x 7" in cut
    for part in ("25,557,032", "imagenet1k_v2", "licence", "arXiv", "224 x 224"):
        assert part in answer.out
    found = json.loads(here("info", "lenet", "--json").out)
    assert sum(stage["params"] for stage in found["stage_table"]) == found["params"]


# What the commands are given.


def test_wrong_model_name_gets_the_nearest(here: Here, folder: Path, photos: Path) -> None:
    for words in (
        ["finetune", "resnet5", photos],
        ["info", "resnet5"],
        ["predict", "resnet5", "."],
    ):
        if words[0] == "predict":
            picture("disc", 0).save(folder / "a.png")
        refused(here(*words), "no model called 'resnet5'", "resnet50", "zoo list")
    assert os.listdir(folder) == ["a.png"]


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ([], "no class folders with photos"),
        (["a.png"], "no class folders with photos"),
        (["cat/a.png"], "only one class ('cat')"),
        (["cat/a.png", "empty/"], "only one class ('cat')"),
        (["train/cat/a.png", "train/dog/a.png", "val/fox/a.png"], "train has not: fox"),
        (None, "does not exist"),
    ],
)
def test_photos_without_classes(
    here: Here, folder: Path, tmp_path: Path, files: list[str] | None, what: str
) -> None:
    root = tmp_path / "photos"
    for file in files or []:
        path = root / file
        (path if file.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not file.endswith("/"):
            picture("disc", 0).save(path)
    if files == []:
        root.mkdir()
    refused(here("finetune", "lenet", root, *SCRATCH, "-o", "run"), what)
    assert os.listdir(folder) == []


def test_photos_of_which_none_can_be_read_leave_no_run(
    here: Here, folder: Path, tmp_path: Path
) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "photos" / name / f"{number}.jpg").write_text(f"<html>{name} {number}")
    for words in (SCRATCH, ("--weights", "none", "--freeze")):
        answer = here("finetune", "lenet", tmp_path / "photos", *words, "-o", "run")
        error, hint = answer.err.splitlines()[-2:]
        assert (answer.code, answer.out) == (2, "")
        assert error.startswith("error: none of the 6 photos in")
        assert hint.startswith("hint: ")
        assert os.listdir(folder) == []


def test_weights_that_are_missing_foreign_or_damaged(
    here: Here, folder: Path, tmp_path: Path, photos: Path, run: Path
) -> None:
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    cases = (
        ("resnet18", [], "resnet18-f37072fd.pth (46.8 MB) not found"),
        ("resnet18", ["--weights", "gone.pth"], "gone.pth"),
        ("resnet18", ["--weights", tmp_path / "page.pth"], "page.pth"),
        ("resnet18", ["--weights", run / "model.safetensors"], "lenet"),
        ("cnn", [], "cnn has no pretrained weights"),
    )
    for model, words, what in cases:
        refused(here("finetune", model, photos, *words, "-o", "run"), what)
        assert os.listdir(folder) == []


def test_what_was_taken_of_a_trainer_s_file_is_said(
    here: Here, folder: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By predict, embed and the plan, and in the run; the answers are those of the plain file."""
    inside(monkeypatch)
    state = models.build(catalog.find("lenet")).state_dict()
    weights.save(state, folder / "plain.safetensors")
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    args = Namespace(lr=0.1, folder=folder)
    torch.save({"state_dict": wrapped, "epoch": 3, "args": args}, folder / "a.pth")
    words, said = (
        (photos / "disc", "--weights"),
        "taken from the file: what is under `state_dict.module`",
    )
    plain, answer = (
        here("predict", "lenet", *words, name) for name in ("plain.safetensors", "a.pth")
    )
    assert (answer.code, answer.out) == (0, plain.out)
    assert said in answer.err
    assert "taken from" not in plain.err
    assert said in here("embed", "lenet", *words, "a.pth").err
    tuned = here("finetune", "lenet", photos, "--weights", "a.pth", "--epochs", "1", "-o", "run")
    assert tuned.code == 0, tuned.err
    assert said in tuned.err
    assert "(what is under `state_dict.module`)" in here("info", "run").out


def test_settings_that_are_wrong_are_named_together(here: Here, folder: Path, photos: Path) -> None:
    (folder / "recipe.toml").write_text('lr = "3e-4"\nepoch = 3\n')
    answer = here("finetune", "lenet", photos, "--recipe", "recipe.toml", "--views", 0)
    refused(answer, "lr = '3e-4'", "unknown setting 'epoch' (did you mean epochs", "views = 0")
    refused(here("finetune", "lenet"), "'data' is missing")
    refused(here("train"), "'model' is missing; 'data' is missing", "zoo train MODEL PHOTOS")
    refused(here("finetune", "lenet", photos, "--no-freeze", "--cut", "conv3"), "--cut conv3")
    refused(here("finetune", "lenet", photos, "--recipe", "no.toml"), "no recipe at no.toml")
    assert os.listdir(folder) == ["recipe.toml"]


def test_unknown_stage_gets_the_list(here: Here, folder: Path, photos: Path) -> None:
    answer = here("finetune", "lenet", photos, "--weights", "none", "--cut", "conv9", "-o", "run")
    refused(answer, "conv9", "conv1", "conv3")
    assert os.listdir(folder) == []


def test_existing_run_is_never_overwritten(here: Here, run: Path, photos: Path) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in run.iterdir())
    refused(here("finetune", "lenet", photos, *SCRATCH, "-o", run), "exists already")
    assert sorted((path.name, path.stat().st_mtime_ns) for path in run.iterdir()) == before


def test_what_is_no_run_is_refused_by_every_command(
    here: Here, folder: Path, photos: Path, run: Path
) -> None:
    for words in (["predict", photos, photos], ["finetune", "--resume", photos]):
        refused(here(*words), "is not a run folder", "zoo finetune")
    refused(here("export", "onnx", photos), "is a folder of photos, and no run", "zoo finetune")
    for words in (["predict", photos], ["info"], ["evaluate"], ["bench"]):
        words[1:1] = [f"{run}/gone.onnx"]
        refused(here(*words), "there is no file", f"`zoo export onnx {run}` makes one")
    (folder / "fake.onnx").write_text("<html>")
    refused(here("predict", "fake.onnx", photos), "fake.onnx is not an ONNX file")


def test_resume_takes_no_other_setting(here: Here, run: Path) -> None:
    refused(here("finetune", "--resume", run, "--epochs", 3), "epochs was given too")
    refused(here("finetune", "--resume", run, "--dry-run"), "dry_run was given too")
    refused(here("finetune", "--resume", run, "-o", "elsewhere"), "output was given too")


def test_resuming_a_finished_run_shows_it_again(here: Here, run: Path) -> None:
    answer = here("finetune", "--resume", run)
    assert (answer.code, answer.out) == (0, f"{run}\n")
    assert "finished already" in answer.err


def test_export_to_a_place_that_is_not_there(here: Here, folder: Path, run: Path) -> None:
    refused(here("export", "onnx", run, "-o", "gone/a.onnx"), "there is no folder gone")
    refused(here("export", "onnx", run, "-o", folder), "is a folder")
    assert os.listdir(folder) == []


def test_place_where_no_run_can_be_made(here: Here, folder: Path, photos: Path) -> None:
    (folder / "file").touch()
    answer = here("finetune", "lenet", photos, *SCRATCH, "-o", "file/run")
    error, hint = answer.err.splitlines()[-2:]
    assert (answer.code, answer.out) == (4, "")
    assert error.startswith("error: cannot make the run folder file/run")
    assert hint.startswith("hint: ")
    assert os.listdir(folder) == ["file"]


@pytest.mark.parametrize("command", ["predict", "export", "finetune"])
def test_full_disk_is_one_error_and_leaves_nothing_that_looks_whole(
    command: str, tmp_path: Path, photos: Path, run: Path, warm: Warm
) -> None:
    """No file can grow beyond some bytes."""
    largest, *words = {
        "predict": (600, "predict", run, photos, "-o", tmp_path / "out.csv"),
        "export": (50_000, "export", "onnx", run, "-o", tmp_path / "out.onnx"),
        "finetune": (20_000, "finetune", "lenet", photos, *SCRATCH, "-o", tmp_path / "run"),
    }[command]
    talk, said = tmp_path / "talk", tmp_path / "said"
    code = warm.run(*words, talk=talk, out=said, often=False, largest=largest)
    *_, error, hint = talk.read_text().splitlines()
    assert (code, said.read_text()) == (5, "")
    assert "Traceback" not in talk.read_text()
    assert "File too large" in error, talk.read_text()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    left = {path.name for path in tmp_path.iterdir()}
    if command == "finetune":
        assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "started"
        assert not (tmp_path / "run" / "model.safetensors").exists()
    else:
        assert left - {"talk", "said"} <= {"out.csv.partial"}


# stdout is data, stderr is talk.


def test_finetune_prints_the_run_alone_and_every_choice_with_its_reason(
    here: Here, folder: Path, photos: Path
) -> None:
    answer = here("finetune", "lenet", photos, *SCRATCH, "-o", "run")
    assert (answer.code, answer.out) == (0, "run\n")
    for part in (
        "no GPU found",
        "photos",
        "precision",
        "accuracy",
        "macro-F1",
        "next: `zoo predict run FOLDER`",
    ):
        assert part in answer.err
    assert {"recipe.toml", "index.csv", "run.json", "metrics.jsonl", "model.safetensors"} <= set(
        os.listdir("run")
    )


def test_dry_run_writes_nothing(here: Here, folder: Path, photos: Path) -> None:
    answer = here("finetune", "lenet", photos, "--weights", "none", "-o", "run", "--dry-run")
    assert (answer.code, answer.out) == (0, "")
    assert "frozen" in answer.err
    assert "dry run" in answer.err
    assert os.listdir(folder) == []


def test_json_results_parse(here: Here, run: Path) -> None:
    found = json.loads(here("finetune", "--resume", run, "--json").out)
    assert found["run"] == str(run)
    assert 0 <= found["results"]["accuracy"] <= 1


def test_a_real_process_says_the_same_with_the_same_code(zoo: Command, tmp_path: Path) -> None:
    done = zoo("finetune", "resnet5", tmp_path)
    refused(Answer(done.returncode, done.stdout, done.stderr), "resnet50")
    done = zoo("list", "resnet18")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)  # what it was made from
    assert "resnet18" in done.stdout


def test_a_reader_that_leaves_is_no_fault(tmp_path: Path, exported: Path) -> None:
    root = write_photos(tmp_path / "photos", each=3)
    names = tmp_path / "list.txt"
    names.write_text(f"{root / 'disc' / '00.png'}\n" * 3000)
    words = [sys.executable, "-m", "zoo", "predict", str(exported), str(names)]
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(60) == 1
    assert "error" not in err
    assert "Traceback" not in err


def test_a_share_for_validation_beside_a_val_part_is_refused(here, tmp_path, photos):
    import shutil

    for part in ("train", "val"):
        shutil.copytree(photos, tmp_path / "photos" / part)
    words = ["finetune", "lenet", tmp_path / "photos", "--weights", "none", "--dry-run"]
    words.append("--keep-duplicates")
    answer = here(*words, "--val-fraction", "0.5")
    assert answer.code == 2
    assert "--val-fraction 0.5 would do nothing" in answer.err
    assert here(*words).code == 0


WRONG = (
    (["--unfreeze", "fc"], "expected STAGE@EPOCH"),
    (["--unfreeze", "fc@40"], "--unfreeze fc@40 in 30 epochs"),
    (["--solver", "lbfgs", "--epochs", "5"], "epochs would do nothing"),
    (["--penalty", "0.1", "--epochs", "5"], "is of lbfgs"),
    (["--weights", "nowhere.pth"], "no weights file nowhere.pth"),
)
# Each of the command lines, and whether torch was imported for it.
TOLD = """
import contextlib, io, json, sys
from zoo.cli import main
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(words)
    print(json.dumps([code, err.getvalue(), "torch" in sys.modules]))
"""


def test_a_wrong_flag_is_told_before_torch_is_imported(photos):
    cases = [
        (["finetune", model, str(photos), *words], what)
        for model in ("resnet50", "timm/resnet50")
        for words, what in WRONG
    ]
    given = json.dumps([words for words, _ in cases])
    done = subprocess.run(
        [sys.executable, "-c", TOLD, given], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    for (words, what), line in zip(cases, done.stdout.splitlines(), strict=True):
        code, err, torch_too = json.loads(line)
        assert (code, torch_too) == (2, False), (words, err)
        assert what in err, words
