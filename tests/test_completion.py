"""What Tab offers, asked as bash, zsh and fish ask; and how quick the command line begins."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
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

    def tab(line: str | list[str], split: Callable[[str], list[str]] = str.split) -> list[str]:
        words = ["zoo", *(line.split(" ") if isinstance(line, str) else line)]
        monkeypatch.setenv("_ZOO_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "\n".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
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
        ("finetune --resume ", {"mob", "runs/first"}),
        ("export onnx m", {"mob"}),
        ("finetune resnet50 photos --cut ", set(catalog.find("resnet50").stages)),
        ("finetune resnet50 --cut layer", {"layer1", "layer2", "layer3", "layer4"}),
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
    assert all(one.startswith(line.rpartition(" ")[2]) for one in found)


@pytest.mark.parametrize("name", ["kleid ü", "a & b (2)", "it's", "5$"])
def test_the_name_of_a_run_comes_as_bash_must_have_it(offered, place, name):
    shutil.copytree(place / "mob", place / "runs" / name)
    [said] = offered("predict runs/" + name[:1], str.splitlines)
    assert shlex.split(said) == [f"runs/{name}"]
    for length in range(2, len(name) + 1):  # as far as typed by Tab, with its backslashes
        typed = re.sub(r"[^\w]", r"\\\g<0>", name[:length])
        assert offered(["predict", f"runs/{typed}"], str.splitlines) == [said], typed
    for begun in ("'", '"'):
        assert offered(f"predict {begun}runs/{name[:1]}", str.splitlines) == [f"runs/{name}"]


@pytest.mark.parametrize("line", ["predict mob ph", "check ", "finetune gone photos --cut ",
                                  "finetune /nowhere/x", "predict mob photos -o "])  # fmt: skip
def test_where_nothing_is_known_the_shell_offers_files(offered, line):
    assert [one for one in offered(line) if not one.startswith("-")] == []


def asked(shell: str, line: str, place: Path) -> subprocess.CompletedProcess[str]:
    """Ask in a process of its own, as the shell's script does."""
    about = {"_ZOO_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line,
             "_TYPER_COMPLETE_FISH_ACTION": "get-args"}  # fmt: skip
    code = "import sys; from zoo.__main__ import entry\ntry: entry()\nfinally:\n"
    code += " print([m for m in ('torch', 'numpy', 'rich', 'timm') if m in sys.modules], "
    code += "file=sys.stderr)"
    about |= {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=place, env=about, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_zsh_and_fish_ask_in_their_own_way_and_nothing_heavy_is_imported(place):
    answer = asked("zsh", "zoo embed mob photos --stage ", place)
    assert '"stem"\n"blocks"\n"classifier"' in answer.stdout
    assert answer.stderr == "[]\n"
    answer = asked("fish", "zoo finetune resnet5", place)
    assert "resnet50" in answer.stdout.split()
    assert answer.stderr == "[]\n"


# The script of `zoo --show-completion`, sourced, and asked as the shell does at Tab.
SHELLS = {
    "bash": """
        source /dev/stdin <<< "$(zoo --show-completion)"
        COMP_WORDS=(zoo train --recipe lenet-mn); COMP_CWORD=3
        _zoo_completion zoo
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    "zsh": """
        compdef() { asked=$1 }
        _arguments() { print -r -- "${1//[^a-z-]/}" }
        eval "$(zoo --show-completion)"
        words=(zoo train --recipe lenet-mn); CURRENT=4
        $asked
    """,
    "fish": """
        zoo --show-completion | source
        complete -C "zoo train --recipe lenet-mn"
    """,
}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_for_a_shell_works_in_it(shell, place, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    launcher = tmp_path / "bin" / "zoo"
    launcher.parent.mkdir()
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -m zoo "$@"\n')
    launcher.chmod(0o755)
    path = f"{launcher.parent}:{os.environ['PATH']}"
    bare = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = subprocess.run(
        [shell, *bare, "-c", SHELLS[shell]], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout == "lenet-mnist\n", done.stderr


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
           "_TYPER_COMPLETE_ARGS": "zoo finetune resnet50 photos --cut "}  # fmt: skip
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
