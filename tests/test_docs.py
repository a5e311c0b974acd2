"""What the documents say is what the code does."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

import zoo as package
from benchmarks import readme
from zoo import catalog, recipe
from zoo.cli import demo, main, train
from zoo.cli.commands import NAMES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RECIPES = sorted((ROOT / "recipes").rglob("*"))


def test_the_tables_of_readme_are_made_from_the_code():
    assert readme.filled(README) == README, "run: python -m benchmarks.readme"


def test_readme_has_few_small_pictures_that_are_described_and_there():
    shown = re.findall(r"!\[[^]]+\]\((docs/[^)]+)\)", README)
    folder = ROOT / "docs" / "pictures"
    assert sorted(ROOT / path for path in shown) == sorted(folder.iterdir())
    assert len(shown) <= 3
    assert all((ROOT / path).stat().st_size <= 150_000 for path in shown)


def test_every_command_is_in_readme_and_has_help(capsys):
    assert len(NAMES) >= 6
    for name in NAMES:
        assert f"zoo {name}" in README, name
        assert main([name, "--help"]) == 0
        assert len(capsys.readouterr().out.splitlines()) > 5


def test_every_flag_of_readme_exists(capsys):
    """Flags that README names behind `zoo COMMAND` are in that command's help."""
    lines = re.findall(r"^\$ (zoo .*)$", README, re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        words = shlex.split(line)[1:]
        command = words[:2] if words[0] == "export" else words[:1]
        assert main([*command, "--help"]) == 0
        help_text = capsys.readouterr().out
        for flag in [word for word in words if word.startswith("-")]:
            assert re.search(rf"{flag}\b", help_text), line


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


def test_version_is_the_first_of_the_changelog():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[(.+?)\]", text, re.MULTILINE)[1] == package.__version__


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "benchmarks/README.md"])
def test_links_lead_somewhere(name):
    path = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target
