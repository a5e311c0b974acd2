"""What the documents say is what the code does."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from kit import ROOT, Here, write_photos

import zoo as package
from benchmarks import pages, readme, rows
from zoo import catalog, recipe
from zoo.catalog import lectures
from zoo.cli import demo, main, train
from zoo.cli.commands import NAMES

README = (ROOT / "README.md").read_text()
PAGES = pages.pages()
RECIPES = sorted((ROOT / "recipes").rglob("*"))


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def page(request):
    return request.param


def test_every_page_is_in_the_list_of_pages():
    assert {page.name for page in (ROOT / "docs").glob("*.md")} == {p.name for p in PAGES[1:]}
    index = (ROOT / "docs/index.md").read_text()
    for one in PAGES[1:]:
        assert one.name == "index.md" or f"({one.name})" in index, one


def test_readme_is_read_in_a_minute():
    lines = README.splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 120


def test_the_tables_are_made_from_the_code(page):
    text = page.read_text()
    assert readme.filled(text) == text, "run: python -m benchmarks.readme"


def test_every_table_is_on_one_page():
    named = [name for p in PAGES for name in re.findall(r"<!-- begin (\w+) -->", p.read_text())]
    assert sorted(named) == sorted(readme.TABLES)


def test_pictures_are_small_described_and_used():
    shown = {
        (page.parent / path).resolve()
        for page in PAGES
        for path in re.findall(r"!\[[^]]+\]\(([^)]+)\)", page.read_text())
    }
    assert shown == set((ROOT / "docs" / "pictures").iterdir())
    assert all(path.stat().st_size <= 150_000 for path in shown)
    assert len(re.findall(r"!\[", README)) == 1


def test_links_lead_somewhere():
    for one in (*PAGES, ROOT / "CHANGELOG.md", ROOT / "benchmarks/README.md"):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", one.read_text()):
            if not target.startswith("http"):
                assert (one.parent / target).exists(), f"{one.name}: {target}"


def commands_of(text: str) -> list[list[str]]:
    """Return the words behind each `zoo` that the blocks of a page begin a command with."""
    blocks = re.findall(r"^```(?:console|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", "").splitlines()]
    typed = [re.sub(r"^\$ ", "", line) for line in lines if re.match(r"\$ |[\w.]+[ =]", line)]
    parts = [part for line in typed for part in re.split(r" (?:\||&&|;|do) ", line)]
    starts = r"(?:\w+=\S+ )*(?:uv run (?:--[\w-]+ (?:train )?)*|.* -m )?zoo (.*)"
    found = [re.fullmatch(starts, part.strip()) for part in parts]
    return [shlex.split(match[1].split("; done")[0], comments=True) for match in found if match]


def test_every_command_is_on_a_page_and_has_help(capsys):
    assert len(NAMES) >= 6
    told = "".join(page.read_text() for page in PAGES if page.name != "reference.md")
    for name in NAMES:
        assert re.search(rf"zoo {name}\b", told), name
        assert main([name, "--help"]) == 0
        said = capsys.readouterr().out
        assert len(said.splitlines()) > 5
        assert "prove" not in said.lower()


def test_every_flag_of_the_pages_exists(capsys):
    """Flags that a page names behind `zoo COMMAND` are in that command's help."""
    lines = [words for page in PAGES for words in commands_of(page.read_text())]
    assert len(lines) >= 50
    for words in lines:
        command = words[: 2 if words[0] in ("export", "weights", "config") else 1]
        assert main([*command, "--help"]) == 0
        help_text = capsys.readouterr().out
        for flag in [word for word in words if re.match(r"--?[a-z]", word)]:
            assert re.search(rf"(^|\s){flag}\b", help_text), words


def test_every_test_that_shows_a_promise_exists():
    """And is of the long suite only where the page says so."""
    text = (ROOT / "docs/security.md").read_text()
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`( \*\(slow\)\*)?", text)
    assert len(named) >= 90
    assert len(re.findall(r"::test_", text)) == len(named)
    there = {}
    for file in {file for file, _, _ in named}:
        for one in ast.parse((ROOT / "tests" / file).read_text()).body:
            if isinstance(one, ast.FunctionDef):
                there[file, one.name] = [ast.unparse(mark) for mark in one.decorator_list]
    for file, name, slow in named:
        assert (file, name) in there, f"{file}::{name}"
        assert ("pytest.mark.slow" in there[file, name]) is bool(slow), f"{file}::{name}"


def test_pages_say_checked_and_not_proved(page):
    assert not re.search(r"\bprove[ds]?\b|\bmissed\b", page.read_text(), re.IGNORECASE)


# The commands, as a reader types them.


def weights_of(place: Path) -> tuple[Path, bool]:
    """Return a folder with MobileNetV2's weights, and whether they are real ones."""
    shared = Path(os.environ.get("ZOO_SHARED") or ROOT.parent / "shared")
    real = shared / "weights" / "timm-mobilenetv2_100-keras.pth"
    return pages.stand_in(place, real if real.exists() else None), real.exists()


def typed(page: Path, folder: Path, variables: dict[str, str], compare: bool) -> list[str]:
    """Run the commands of a page; return how what they print differs from what is on it."""
    wrong = []
    for step in pages.steps(page.read_text()):
        printed = pages.run(step.command, folder, variables)
        if compare and step.output.strip():
            told = pages.difference(step.output, printed)
            wrong += [f"{page.name}: $ {step.command}\n{told}"] if told else []
    return wrong


def test_the_commands_of_readme_follow_each_other(here: Here, tmp_path, monkeypatch, capsys):
    """With a small network in the place of README's, all in this process.

    The slow run types them, and reads what they print.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    text = README.replace("timm/mobilenetv2_100", "lenet")
    for step in pages.steps(text):
        first, *words = shlex.split(step.command)
        if first == "zoo":
            answer = here(*words)
            assert answer.code == 0, (step.command, answer.err)
        else:
            pages.run(step.command, tmp_path, os.environ)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 5
    capsys.readouterr()
    exec(code, {})  # our own page
    assert "mugs" in capsys.readouterr().out


@pytest.mark.slow
def test_the_commands_of_readme_print_what_it_says(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    weights, real = weights_of(tmp_path / "weights")
    variables = pages.environment(folder, weights)
    wrong = typed(PAGES[0], folder, variables, real)
    assert not wrong, "run: python -m benchmarks.readme --write\n" + "\n".join(wrong)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 5
    (folder / "five.py").write_text(code)
    printed = pages.run(f"{shlex.quote(sys.executable)} five.py", folder, variables)
    assert "mugs" in printed
    assert "leaves" in printed or not real


@pytest.mark.slow
def test_the_commands_of_all_pages_print_what_they_say(tmp_path):
    weights, real = weights_of(tmp_path / "weights")
    wrong = []
    with tempfile.TemporaryDirectory() as home:  # short: its paths are not wrapped
        folder = Path(home) / "here"
        folder.mkdir()
        variables = pages.environment(folder, weights)
        for one in PAGES:
            wrong += typed(one, folder, variables, real)
    assert not wrong, "run: python -m benchmarks.readme --write\n" + "\n".join(wrong)


def test_a_command_that_prints_something_else_is_told():
    text = "```console\n$ echo one\none 1\n…\nlast 3 kB\n$ true\n```\n"
    first, second = pages.steps(text)
    assert (first.command, first.output) == ("echo one", "one 1\n…\nlast 3 kB\n")
    assert (second.command, second.output) == ("true", "")
    assert pages.difference(first.output, "one\n 2.5\nmore\nlast 4 MB\n") == ""
    assert "-last" in pages.difference(first.output, "one 2\nmore\nother 4 MB\n")
    assert pages.with_outputs(text, [(first, "one 9\na\nb\nlast 8 kB\n")]) == text.replace(
        "one 1", "one 9"
    ).replace("last 3", "last 8")


def test_an_architecture_is_added_as_its_page_says(here: Here, tmp_path, monkeypatch):
    """The chain and the row of the page train, predict and export like any other."""
    photos = write_photos(tmp_path / "photos", each=3)
    page = (ROOT / "docs/architecture.md").read_text()
    chain, row = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    module = ModuleType("zoo.models.nin")
    exec(chain, module.__dict__)  # our own page
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert chain.count("\n") + row.count("\n") < 60
    spec = eval(row, {"_row": lectures._row})
    monkeypatch.setitem(catalog.ROWS, spec.name, spec)
    found = rows.measured("nin")
    assert {key: getattr(spec, key) for key in found} == found
    words = ("train", "nin", photos, "--epochs", 1, "-o", tmp_path / "run")
    assert here(*words).code == 0
    assert here("export", "onnx", tmp_path / "run").code == 0
    assert here("predict", tmp_path / "run/model.onnx", photos).code == 0


# Recipes, versions.


def test_every_recipe_can_be_used():
    assert RECIPES
    for path in RECIPES:
        assert path.suffix == ".toml", path
        usage = path.read_text().splitlines()[1]
        values = tomllib.loads(path.read_text())
        if "zoo train" in usage:
            assert usage == f"# zoo train --recipe recipes/{path.name}"
            values = train.from_scratch({}, path) | values
        else:
            assert "zoo finetune" in usage, "a recipe says how it is used"
        made = recipe.make({"model": "lenet", "data": "photos"} | values)
        catalog.check_variant(catalog.find(made.model), made.variant)


def test_the_demo_uses_its_recipes():
    """The flags that the demo shows are the recipe's values, so its numbers have a recipe."""
    commands = [words for _, words in demo.steps(Path("x")) if words[0] == "finetune"]
    for name, words in zip(("demo-letters",), commands, strict=True):
        values = tomllib.loads((ROOT / "recipes" / f"{name}.toml").read_text())
        assert words[1] == values.pop("model")
        assert ("--freeze" in words) == values.pop("freeze")
        assert len(values) >= 2
        for key, value in values.items():
            flag = "--" + key.replace("_", "-")
            assert words[words.index(flag) + 1] == str(value), flag


def test_version_is_the_first_of_the_changelog_and_of_the_citation():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[(.+?)\]", text, re.MULTILINE)[1] == package.__version__
    cited = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.+)$", cited, re.MULTILINE)[1] == package.__version__


def test_the_changelog_is_one_line_an_entry_without_words_of_the_inside():
    text = (ROOT / "CHANGELOG.md").read_text()
    entries = [line for line in text.splitlines()[5:] if line and not line.startswith("#")]
    assert all(line.startswith("- ") for line in entries)
    for word in ("house", "room"):
        assert not re.search(rf"\b{word}s?\b", text.replace("room for", "")), word


def test_ci_finds_the_test_command_of_readme():
    lines = re.findall(r"^.* && uv run pytest$", README, re.MULTILINE)
    assert lines == ["pip install uv && uv run pytest"]
    assert subprocess.run(["bash", "-n", ROOT / ".ci/run"], check=False).returncode == 0
