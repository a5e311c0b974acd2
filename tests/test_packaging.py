"""What is in the wheel and in the source archive; and a folder of any name is one to work in.

`.ci/wheel` builds them, and installs the wheel without what development takes.
"""

from __future__ import annotations

import contextlib
import csv
import http.client
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from kit import ROOT, Command, Here, write_photos
from kit.served import served

LARGEST = 5_000_000  # bytes of a wheel that is unpacked


def _files(target: str) -> dict[str, Path]:
    """Return what goes into an archive, by its name in it."""
    from hatchling.builders.sdist import SdistBuilder
    from hatchling.builders.wheel import WheelBuilder

    builder = {"wheel": WheelBuilder, "sdist": SdistBuilder}[target](str(ROOT))
    with builder.config.set_build_data({"artifacts": [], "force_include": {}}):
        return {one.distribution_path: Path(one.path) for one in builder.recurse_included_files()}


def _there(*folders: str) -> set[str]:
    """Return the files of some folders that are no traces of work."""
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return {
        path.relative_to(ROOT).as_posix()
        for path in paths
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_is_the_package_with_its_recipes_and_pages_and_nothing_else() -> None:
    found = _files("wheel")
    recipes = {f"zoo/{name}" for name in _there("recipes")}
    assert set(found) == _there("zoo") | recipes
    assert {name.partition("/")[0] for name in found} == {"zoo"}
    kinds = {Path(name).suffix for name in found}
    assert kinds == {".py", ".pyi", ".typed", ".toml", ".csv", ".tsv", ".json", ".onnx", ".j2",
                     ".html", ".js", ".css", ".safetensors"}  # fmt: skip
    assert sum(path.stat().st_size for path in found.values()) < LARGEST
    for name in ("zoo/py.typed", "zoo/report/templates/report.html.j2", "zoo/serve/page.html",
                 "zoo/recipes/lenet-mnist.toml", "zoo/weights/shipped/lenet-mnist.safetensors",
                 "zoo/catalog/libraries.tsv", "zoo/export/page/site.html"):  # fmt: skip
        assert name in found


def test_the_source_archive_has_what_its_tests_need() -> None:
    found = set(_files("sdist"))
    folders = ("zoo", "recipes", "tests", "benchmarks", "docs", ".ci", ".github")
    assert _there(*folders) <= found
    singles = {name for name in found if "/" not in name}
    assert singles >= {"README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE",
                       "NOTICE", "Dockerfile", "mkdocs.yml"}  # fmt: skip
    tops = {name.partition("/")[0] for name in found - singles}
    assert tops == set(folders)


def test_the_metadata_are_true() -> None:
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pythons = {line.rpartition(" ")[2] for line in said["classifiers"] if "Python :: 3." in line}
    least = said["requires-python"].removeprefix(">=")
    assert min(pythons, key=lambda text: int(text.split(".")[1])) == least
    forge = (ROOT / ".github/workflows/ci.yml").read_text()
    run = {
        text
        for line in re.findall(r"python: \[(.+?)\]", forge)
        for text in re.findall(r"3\.\d+", line)
    }
    assert pythons == run, "a version is promised where a forge runs it"
    assert "License :: " not in "".join(said["classifiers"])  # said by an SPDX name
    assert said["license"] == "Apache-2.0"
    assert "urls" not in said or all(url.startswith("https://") for url in said["urls"].values())


def test_a_folder_with_blanks_and_letters_of_several_scripts(
    here: Here, zoo: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photos, run, cache, exported file and working folder have such names."""
    place = tmp_path / "mes photos é 日本"
    write_photos(place / "les vues" / "ŝildoj", each=4)
    monkeypatch.chdir(place)
    monkeypatch.setenv("ZOO_CACHE", str(place / "le cache ü"))
    photos = Path("les vues", "ŝildoj")
    words = ("--weights", "none", "--views", "1", "--cut", "act4", "-o", "la course 写真")
    done = here("finetune", "lenet", photos, *words)
    assert done.code == 0, done.err
    assert "la course 写真" in done.out
    assert (place / "la course 写真" / "report.html").is_file()
    done = here("export", "onnx", "la course 写真", "-o", "le modèle.onnx")
    assert done.code == 0, done.err

    answer = zoo("predict", "le modèle.onnx", photos, "-o", "réponses.csv", cwd=place)
    assert answer.returncode == 0, answer.stderr
    with (place / "réponses.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["ok"] * 12
    photo = place / photos / rows[0]["path"]
    with (
        served(place / "le modèle.onnx") as server,
        contextlib.closing(http.client.HTTPConnection(*server.place, timeout=30)) as line,
    ):
        line.request("POST", "/predict", photo.read_bytes(), {"Content-Type": "image/png"})
        (row,) = json.loads(line.getresponse().read())
    assert row["label"] == rows[0]["label"]


def test_the_script_that_tries_the_wheel_is_one() -> None:
    assert subprocess.run(["bash", "-n", ROOT / ".ci/wheel"], check=False).returncode == 0
    assert ".ci/wheel" in (ROOT / ".ci/run").read_text()
