"""What Tab offers, asked as bash, zsh and fish ask; and how quick the command line begins."""

from __future__ import annotations

import json
import os
import re
import resource
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from kit import ROOT

from zoo import cache, catalog, config, recipe
from zoo.cli import main
from zoo.cli.commands import NAMES


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two runs, one of them below runs/, and a folder of photos."""
    for name in ("mob", "runs/first"):
        (tmp_path / name).mkdir(parents=True)
        spec = {"stages": ["stem", "blocks", "classifier"]}
        (tmp_path / name / "run.json").write_text(json.dumps({"spec": spec}))
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def offered(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """What Tab offers behind some words, as bash asks for it."""

    def tab(line: str, split: Callable[[str], list[str]] = str.split) -> list[str]:
        monkeypatch.setenv("_ZOO_COMPLETE", "complete_bash")
        monkeypatch.setenv("ZOO_LINE", f"zoo {line}")
        monkeypatch.setenv("ZOO_PART", re.split(r"(?<!\\)[ =:]", line)[-1])
        with pytest.raises(SystemExit):
            main([])
        answer = capsys.readouterr()
        assert answer.err == ""
        return split(answer.out)

    return tab


def test_every_command_is_offered_and_a_part_of_its_name(offered):
    assert offered("") == list(NAMES)
    assert offered("fi") == ["finetune"]
    assert offered("weights ") == ["list", "verify", "path", "remove"]
    assert offered("config u") == ["unset"]


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("finetune resn", set(filter(lambda name: name.startswith("resn"), catalog.ROWS))),
        ("finetune mobilenetv2_1", {"mobilenetv2_100", "mobilenetv2_140"}),
        ("finetune ", {"mob", "runs/first", "resnet50", "timm/", "torchvision/"}),
        ("bench timm/mobilenetv4_conv_small.e2", {"timm/mobilenetv4_conv_small.e2400_r224_in1k"}),
        ("predict runs/", {"runs/first"}),
        ("predict ./ru", {"./runs/first"}),
        ("finetune --resume ", {"mob", "runs/first"}),
        ("export onnx m", {"mob"}),
        ("finetune resnet50 photos --cut ", set(catalog.find("resnet50").stages)),
        ("finetune resnet50 --cut layer", {"layer1", "layer2", "layer3", "layer4"}),
        ("finetune resnet50 --cut=layer", {"layer1", "layer2", "layer3", "layer4"}),
        ("embed mob photos --stage ", {"stem", "blocks", "classifier"}),
        ("finetune lenet photos --schedule ", {"cosine", "exponential", "constant"}),
        ("finetune lenet photos --loss m", {"mse", "mae"}),
        ("train --recipe lenet", {"lenet-mnist"}),
        ("recipes ", set(recipe.ours())),
        ("finetune lenet photos --head ", {"linear", "prototype", "knn:20", "mlp:512"}),
        ("finetune lenet photos --solver l", {"lbfgs"}),
        ("predict mob photos --precision ", {"fp32", "bf16", "int8"}),
        ("predict mob photos --device c", {"cpu", "cuda"}),
        ("pull resnet50 --weights ", {"imagenet1k_v1", "imagenet1k_v2"}),
        ("list --sort a", {"acc1", "acc5"}),
        ("train lenet mn", {"mnist"}),
        ("cache --kind ", set(cache.BY_NAME)),
        ("config set ", set(config.KEYS)),
        ("predict mob photos --rej", {"--reject-below"}),
    ],
)
def test_values_are_offered(offered, line, some):
    found = offered(line)
    assert some <= set(found)
    assert all(one.startswith(re.split("[ =]", line)[-1]) for one in found)


@pytest.mark.parametrize("name", ["kleid ü", "a & b (2)", "5$", "a$(echo b)`echo c`\"'d\\"])
def test_the_name_of_a_run_comes_as_bash_must_have_it(offered, place, name):
    shutil.copytree(place / "mob", place / "runs" / name)
    for length in range(1, len(name) + 1):  # as far as typed by Tab, with its backslashes
        typed = re.sub(r"[^\w]", r"\\\g<0>", name[:length])
        [said] = offered(f"predict runs/{typed}", lambda out: out[:-1].split("\n"))
        assert shlex.split(said) == [f"runs/{name}"], typed


@pytest.mark.parametrize(
    "words", [["--show-completion", "tcsh"], ["--install-completion", "a", "b"]]
)
def test_the_script_for_a_shell_that_is_not_known_is_refused(words, capsys):
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"error: {' '.join(words).replace(' ', ': ', 1)}\nhint: ")
    assert said.out == ""
    assert "bash, zsh, fish" in said.err


def test_a_name_that_a_line_cannot_hold_is_not_offered(offered, place):
    for name in ("two\nlines", "esc\x1b[31m", os.fsdecode(b"\xff")):
        shutil.copytree(place / "mob", place / "runs" / name)
    assert offered("predict runs/", str.splitlines) == ["runs/first"]


@pytest.mark.parametrize("line", ["predict mob ph", "check ", "finetune gone photos --cut ",
                                  "finetune /nowhere/x", "predict mob photos -o "])  # fmt: skip
def test_where_nothing_is_known_the_shell_offers_files(offered, line):
    assert [one for one in offered(line) if not one.startswith("-")] == []


@pytest.mark.parametrize("shell", ["complete_bash", "complete_fish"])  # zsh asks as fish does
def test_nothing_heavy_is_imported(place, shell):
    about = {**os.environ, "_ZOO_COMPLETE": shell, "ZOO_LINE": "zoo embed mob photos --stage ",
             "_TYPER_COMPLETE_FISH_ACTION": "get-args", "PYTHONPATH": str(ROOT)}  # fmt: skip
    code = "import sys; from zoo.__main__ import entry\ntry: entry()\nfinally:\n"
    code += " print([m for m in ('torch', 'numpy', 'rich', 'timm') if m in sys.modules], "
    code += "file=sys.stderr)"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=place, env=about, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert answer.stdout.split() == ["stem", "blocks", "classifier"]
    assert answer.stderr == "[]\n"


class Typist:
    """A shell on a terminal of its own, with the script of `zoo --install-completion`.

    There `zoo` writes down the words it was given, and nothing else.
    """

    LAUNCHER = """#!/bin/sh
    case "$_ZOO_COMPLETE$1" in ?*_*|--install-completion) exec "$PYTHON" -m zoo "$@" ;; esac
    printf '%s\\0' "$@" > "$HOME/part" && mv "$HOME/part" "$HOME/said"
    """
    BOTH = "both() { zle expand-or-complete; zle accept-line }; zle -N both; bindkey '^O' both\n"
    READY = b"\x1b[?2004h"  # what all three write where they wait for a line

    def __init__(self, shell: str, home: Path) -> None:
        import pty

        self.home, launcher = home, home / "bin" / "zoo"
        launcher.parent.mkdir(parents=True)
        launcher.write_text(self.LAUNCHER)
        launcher.chmod(0o755)
        about = {"HOME": str(home), "PATH": f"{launcher.parent}:{os.environ['PATH']}",
                 "PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "TERM": "xterm",
                 "LC_ALL": "C.UTF-8"}  # fmt: skip
        subprocess.run(
            ["zoo", "--install-completion", shell], env=about, check=True, capture_output=True
        )
        if shell == "zsh":  # it drops a Tab behind which a key waits already
            with (home / ".zshrc").open("a") as file:
                file.write(self.BOTH)
        self.keys = "\x0f" if shell == "zsh" else "\t\r"
        self.pid, self.terminal = pty.fork()
        if not self.pid:
            os.execvpe(shell, [shell, "-i"], about)
        self.wait(lambda seen: self.READY in seen)

    def wait(self, come: Callable[[bytes], object]) -> None:
        """Read what the shell shows until it has come."""
        seen, end = b"", time.monotonic() + 60
        while not come(seen):
            assert time.monotonic() < end, seen
            if select.select([self.terminal], [], [], 0.05)[0]:
                seen += os.read(self.terminal, 65536)

    def tab(self, line: str) -> list[str]:
        """Return the words that a line has after Tab and Enter."""
        os.write(self.terminal, f"{line}{self.keys}".encode())
        said = self.home / "said"
        self.wait(lambda seen: said.exists() and self.READY in seen)
        words = said.read_text().split("\0")[:-1]
        said.unlink()
        return words

    def leave(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


@pytest.fixture
def typist(request: pytest.FixtureRequest, place: Path, tmp_path: Path) -> Iterator[Typist]:
    if shutil.which(request.param) is None or sys.platform == "win32":
        pytest.skip(f"needs {request.param} and a terminal")
    one = Typist(request.param, tmp_path / "home")
    yield one
    one.leave()


ODD = [r"~e=q:\$(touch ran);`touch ran` kleid  ü # it's", '"5$HOME" & {a,b} [1] !x* "']


@pytest.mark.parametrize("typist", ["bash", "zsh", "fish"], indirect=True)
def test_what_tab_puts_into_a_line_names_the_same_folder_and_nothing_is_run(typist, place):
    assert typist.tab("zoo train --recipe lenet-mn") == ["train", "--recipe", "lenet-mnist"]
    assert typist.tab("zoo finetune resnet50 x --cut=avg")[3:] == ["--cut=avgpool"]
    for number, name in enumerate(ODD):
        shutil.copytree(place / "mob", place / f"{number}r" / name)
    for typed, number in ("./0r/", 0), ("0r/\\~e=q:", 0), ("'./0r/", 0), ('"./1r/', 1), ("1r/", 1):
        line, folder = f"zoo predict {typed}", f"{number}r/{ODD[number]}"
        assert typist.tab(line) == ["predict", "./" * ("./" in typed) + folder], line
    assert not [*place.rglob("ran")]


def seconds(*words: str, **more: str) -> float:
    """Return the CPU time of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *words], capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **more},
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_help_list_and_tab_begin_at_once():
    """At most so many times what typer itself takes to be imported: seconds are of a machine.

    The least of several tries counts: on a busy machine the same work takes up to twice as long.
    """
    tab = {"_ZOO_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args",
           "ZOO_LINE": "zoo finetune resnet50 photos --cut "}  # fmt: skip
    most, least = np.array([1.1, 1.9, 3.2]), np.full(4, np.inf)
    for _ in range(12):
        least = np.minimum(least, [
            seconds("-c", "import typer"), seconds("-m", "zoo", "--help"),
            seconds("-m", "zoo", "list"), seconds("-m", "zoo", **tab),
        ])  # fmt: skip
        typer, *ours = least
        if good := bool(np.all(ours < most * typer + 0.02)):
            break
    assert good, least
