"""A base install, which has no torch: what works, and what every other command says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from kit import ROOT

from zoo import extras
from zoo.cli.commands import NAMES
from zoo.engine import store
from zoo.errors import MissingPackage

BASE = ("torch", "torchvision", "timm", "onnx", "onnxscript", "openvino", "matplotlib", "sklearn",
        "tensorboard", "mlflow", "wandb", "open_clip", "tokenizers", "obstore", "pyarrow", "ray",
        "fastapi", "uvicorn", "python_multipart")  # fmt: skip
# Runs commands in a process that finds none of these modules, and tells what each has said.
WITHOUT = """if True:
    import contextlib, io, json, sys
    from importlib.machinery import PathFinder

    blocked, commands = json.loads(sys.argv[1])

    class Finder(PathFinder):
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            if name.partition(".")[0] not in blocked:
                return PathFinder.find_spec(name, path, target)

        @classmethod
        def find_distributions(cls, context):
            return [] if context.name in blocked else PathFinder.find_distributions(context)

    sys.meta_path[:] = [Finder if one is PathFinder else one for one in sys.meta_path]
    from zoo.cli import main
    for words in commands:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
        print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""


def without(modules: tuple[str, ...], *commands: list[object]) -> list[tuple[int, str, str]]:
    """The exit code, stdout and stderr of each command, in a process without these modules."""
    words = [[str(word) for word in command] for command in commands]
    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT, json.dumps([modules, words])],
        env=dict(os.environ), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    lines = answer.stdout.splitlines()
    assert len(lines) == len(commands), answer.stderr
    return [tuple(json.loads(line)) for line in lines]


def test_every_module_is_in_the_extra_that_installs_it():
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra, lines in said["optional-dependencies"].items():
        names = {re.split(r"[ >=<\[;]", line)[0] for line in lines} - {extras.NAME}
        assert names == {extras.package(one) for one in extras.EXTRAS[extra]}, extra
    base = {re.split(r"[ >=<;]", line)[0] for line in said["dependencies"]}
    assert base.isdisjoint(map(extras.package, BASE))
    assert set(BASE) == {module for modules in extras.EXTRAS.values() for module in modules}


def test_the_extra_is_named_in_one_place_only():
    """Docs and README apart, nothing spells `pip install` out: how zoo is installed has a say."""
    for file in (ROOT / "zoo").rglob("*.py"):
        if file.name != "extras.py":
            assert "pip install" not in file.read_text(), file


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return what makes this an environment in which zoo is installed in some way."""

    def make(direct_url: dict[str, object] | None, receipt: str = "", pip: bool = False) -> None:
        site, place = tmp_path / "site", tmp_path / "an env"
        about = site / "zoo_transfer-9.dist-info"
        about.mkdir(parents=True)
        (place / "bin").mkdir(parents=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo-transfer\nVersion: 9\n")
        if direct_url:
            (about / "direct_url.json").write_text(json.dumps(direct_url))
        if receipt:
            (place / "uv-receipt.toml").write_text(receipt)
        (site / "pip.py").touch()
        monkeypatch.syspath_prepend(site)
        monkeypatch.setattr(sys, "prefix", str(place))
        monkeypatch.setattr(sys, "executable", str(place / "bin/python"))
        monkeypatch.delitem(sys.modules, "pip", raising=False)
        if not pip:
            monkeypatch.setitem(sys.modules, "pip", None)  # Python's way to say: not installed

    return make


@pytest.mark.parametrize(
    ("about", "added", "newer"),
    [
        (None, "'zoo-transfer[serve]'", "{pip} -U zoo-transfer"),
        ({"dir_info": {}}, "'{clone}[serve]'", "git -C '{clone}' pull && {pip} {anew}'{clone}'"),
        ({"dir_info": {"editable": True}}, "-e '{clone}[serve]'", "git -C '{clone}' pull"),
        ({"archive_info": {}}, "'{clone}/a.whl[serve]'", "{pip} -U zoo-transfer"),
        ({"dir_info": {}, "gone": True}, "fastapi uvicorn python-multipart",
         "{pip} -U zoo-transfer"),
        ({"vcs_info": {"vcs": "git"}}, "'zoo-transfer[serve] @ git+https://x.org/zoo.git'",
         "{pip} -U zoo-transfer"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("pip", [False, True])
def test_a_hint_is_a_command_for_the_way_zoo_is_installed(
    installed, tmp_path, monkeypatch, about, added, newer, pip
):
    """The folder of the clone has a blank and an accent in its name."""
    clone = tmp_path / "a clône"
    clone.mkdir()
    (clone / "a.whl").touch()
    if about:
        place = clone / "a.whl" if "archive_info" in about else clone
        url = "https://x.org/zoo.git" if "vcs_info" in about else place.as_uri()
        about = about | {"url": url + ("-gone" if "gone" in about else "")}
    installed(about, pip=pip)
    python = tmp_path / "an env"
    by = f"uv pip install --python '{python}'"
    if pip:
        by = f"'{python}/bin/python' -m pip install"
    anew = "" if pip else "--reinstall-package zoo-transfer "
    assert extras.install("serve") == f"{by} {added.format(clone=clone)}"
    assert extras.update() == newer.format(clone=clone, pip=by, anew=anew)
    if pip:  # the shell's own pip is this environment's
        (python / "bin/pip").touch(0o755)
        monkeypatch.setenv("PATH", str(python / "bin"))
        assert extras.install("serve") == f"pip install {added.format(clone=clone)}"
    else:
        monkeypatch.chdir(tmp_path)
        assert extras.pip() == "uv pip install --python 'an env'"


def test_a_uv_tool_is_asked_for_again_with_what_it_had(installed, tmp_path):
    receipt = """[tool]
requirements = [
    { name = "zoo-transfer", extras = ["train"], directory = "%s" },
    { name = "timm" },
]
"""
    installed({"dir_info": {}, "url": tmp_path.as_uri()}, receipt % tmp_path)
    for build, flag in (("2.15.0", ""), ("2.15.0+cpu", " --torch-backend cpu")):  # else CUDA's come
        about = tmp_path / "site" / "torch-9.dist-info"
        about.mkdir(exist_ok=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {build}\n")
        again = f"uv tool install{flag} '{tmp_path}"
        assert extras.install("serve") == f"{again}[train,serve]' --with timm"
        assert extras.install("train") == f"{again}[train]' --with timm"
    assert extras.update() == (
        f"git -C {tmp_path} pull && uv tool upgrade --reinstall-package zoo-transfer zoo-transfer"
    )


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    from zoo.cli import main

    file = tmp_path_factory.mktemp("exported") / "model.onnx"
    assert main(["export", "onnx", str(run), "-o", str(file)]) == 0
    return file


def test_a_base_install_answers_with_exported_files(exported, run, photos, tmp_path):
    rows = tmp_path / "a.csv"
    answers = without(
        BASE,
        ["--help"], ["list"], ["recipes"], ["info", exported],
        ["info", run], ["info", "resnet50"], ["runs", run.parent],
        ["predict", exported, photos, "-o", rows],
        ["evaluate", exported, "--data", photos], ["check", photos],
        ["demo", "--photos", tmp_path / "photos"], ["weights", "list"], ["cache"], ["config"],
        ["doctor"],
    )  # fmt: skip
    for code, _, err in answers:
        assert (code, "Traceback" in err) == (0, False), err
    assert len(rows.read_text().splitlines()) > 10
    assert ",ok," in rows.read_text()


def test_every_other_command_says_which_extra_it_needs(exported, run, photos, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(run, changed)
    needs = {
        ("finetune", "lenet", photos, "-o", tmp_path / "r"): "train",
        ("train", "lenet", photos, "-o", tmp_path / "r"): "train",
        ("rank", photos): "train",
        ("sweep", "lenet", photos, "lr=0.1,0.2", "-o", tmp_path / "s"): "train",
        ("lr", "lenet", photos): "train",
        ("distill", run, photos, "--student", "lenet", "-o", tmp_path / "d"): "train",
        ("demo", "-o", tmp_path / "demo"): "train",
        ("explain", run, photos, "-o", tmp_path / "e"): "train",
        ("bench", run, "--seconds", "0.01"): "train",
        ("predict", run, photos): "train",
        ("evaluate", run, "--data", photos): "train",
        ("embed", run, photos, "-o", tmp_path / "e.csv"): "train",
        ("next", run, photos): "train",
        ("report", changed): "train",
        ("export", "onnx", run, "-o", tmp_path / "a.onnx"): "train",
        ("info", "timm/resnet18"): "train",
        ("predict", "timm/resnet18", photos): "train",
        ("evaluate", exported, "--data", photos, "--plot", tmp_path / "c.png"): "plots",
        ("serve", exported): "serve",
        ("predict", exported, photos, "-o", tmp_path / "a.parquet"): "parquet",
        ("plan", photos, "-o", tmp_path / "job", "--model", exported): "scale",
        ("estimate", tmp_path / "job"): "scale",
        ("work", tmp_path / "job"): "scale",
        ("verify", tmp_path / "job"): "scale",
        ("merge", tmp_path / "job"): "scale",
    }
    for (words, extra), (code, out, err) in zip(
        needs.items(), without(BASE, *map(list, needs)), strict=True
    ):
        assert code == 2, (words, err)
        what, hint = err.strip().splitlines()[-2:]
        assert what.startswith("error: "), err
        assert re.search(r" needs [a-z, -]+, which (is|are) not installed$", what), (words, err)
        assert f"`{extras.install(extra)}` installs" in hint, (words, err)
        assert out == "", words
    assert sorted(path.name for path in tmp_path.iterdir()) == ["changed"]
    elsewhere = {"list", "info", "recipes", "check", "runs", "pull", "cache", "config", "doctor",
                 "weights", "compare", "add-class", "reconstruct", "push"}  # fmt: skip
    assert {words[0] for words in needs} | elsewhere == set(NAMES)


def test_without_locks_and_limits_of_files_a_command_answers(
    here, run, photos, tmp_path, monkeypatch
):
    """Windows has neither module: the graph is made in a cache of its own, and kept."""
    for name in ("resource", "fcntl"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    answer = here("predict", run, photos / "disc")
    assert (answer.code, answer.out.count(",ok,")) == (0, 12), answer.err
    (place,) = (tmp_path / "engines").iterdir()
    assert store.lock(place) == store.lock(place, exclusive=True) == store.NO_LOCKS
    assert here("doctor").code == 0
    answer = here("cache", "--clear", "--kind", "engines", "--force")
    assert (answer.code, place.exists()) == (0, False), answer.err


@pytest.mark.slow
def test_a_system_without_limits_and_locks_of_files_answers_too(exported, run, photos):
    """Windows has neither module."""
    answers = without(
        ("resource", "fcntl"), ["predict", exported, photos], ["predict", run, photos],
        ["cache"], ["doctor"], ["bench", exported, "--seconds", "0.01"],
    )  # fmt: skip
    assert [code for code, _, _ in answers] == [0] * 5, answers
    for _, out, _ in answers[:2]:
        assert ",ok," in out


def test_python_raises_it_too(run, photos):
    code = WITHOUT.replace("from zoo.cli import main", f"""
    import zoo
    from zoo.errors import MissingPackage
    for call in (lambda: zoo.load({str(run)!r}), lambda: zoo.finetune("lenet", {str(photos)!r})):
        try:
            call()
        except MissingPackage as error:
            print(error.what, "|", error.hint)
    """)  # fmt: skip
    answer = subprocess.run(
        [sys.executable, "-c", code, json.dumps([BASE, []])],
        capture_output=True, text=True, timeout=60, env=dict(os.environ), cwd=Path(run).parent,
    )  # fmt: skip
    assert answer.stdout.count("[train]'`") == 2, answer.stderr


def test_several_missing_packages_are_one_sentence():
    with pytest.raises(MissingPackage) as caught:
        extras.need("a flight", "wings_of_wax", "feathers_of_wax", extra="train", instead="walk")
    assert caught.value.what == (
        "a flight needs wings_of_wax and feathers_of_wax, which are not installed"
    )
    assert caught.value.hint == f"`{extras.install('train')}` installs them; walk"


def test_an_import_of_something_else_that_fails_is_no_missing_extra():
    assert extras.told(ModuleNotFoundError("No module named 'x'", name="x.y"), "zoo") is None
