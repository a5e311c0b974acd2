"""The programs of docs/consumers.md, run as they stand there: they answer like `zoo predict`."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import pytest
from kit import ROOT
from kit.browser import browser_page
from kit.site import packed, shown
from PIL import Image

from zoo import api
from zoo.cli import main

PAGE = (ROOT / "docs/consumers.md").read_text(encoding="utf-8")


def program(title: str) -> str:
    (found,) = re.findall(rf'```\w+ title="{title}"\n(.*?)```', PAGE, re.DOTALL)
    assert isinstance(found, str)
    return found


@pytest.fixture(scope="module")
def two(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A PNG, and a JPEG of it without loss of colour resolution."""
    folder = tmp_path_factory.mktemp("two")
    image = Image.open(photos / "stripes/03.png").convert("RGB").resize((301, 203))
    image.save(folder / "a.png")
    image.save(folder / "b.jpg", quality=95)
    return [folder / "a.png", folder / "b.jpg"]


def told(model: Path, photo: Path) -> list[float]:
    """Return the probabilities in the order of the classes."""
    net = api.load(str(model))
    (row,) = net.predict([str(photo)], top=len(net.classes))
    by_name = dict(zip(row.labels, row.probabilities, strict=True))
    return [by_name[name] for name in net.classes]


def agrees(words: list[str], model: Path, two: list[Path], folder: Path, apart: float) -> None:
    """Run a program on both photos, and compare what it prints last."""
    for photo in two:
        done = subprocess.run(
            [*words, str(model), str(photo)], cwd=folder, capture_output=True, text=True,
            timeout=300, env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/ml.db"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads(done.stdout.strip().splitlines()[-1])
        if isinstance(found, dict):
            assert list(found) == list(api.load(str(model)).classes)
            found = list(found.values())
        assert found == pytest.approx(told(model, photo), abs=apart), photo


@pytest.mark.parametrize(
    ("title", "needs", "apart"),
    [
        ("Python", (), 1e-6),
        ("OpenCV", ("cv2",), 1e-3),
        pytest.param("MLflow", ("mlflow", "pandas"), 1e-6, marks=pytest.mark.slow),
    ],
)
def test_a_python_program(
    title: str,
    needs: tuple[str, ...],
    apart: float,
    exported: Path,
    two: list[Path],
    tmp_path: Path,
) -> None:
    for name in needs:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}")
    (tmp_path / "program.py").write_text(program(title))
    agrees([sys.executable, "program.py"], exported, two, tmp_path, apart)


def test_tritons_config_says_what_the_file_takes_and_gives(exported: Path) -> None:
    import onnxruntime

    session, text = onnxruntime.InferenceSession(str(exported)), program("Triton")
    kinds = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}
    said = re.findall(r'name: "(\w+)" data_type: (\w+) dims: \[ (.*?) \]', text)
    classes = session.get_outputs()[0].shape[1]
    found = [
        (
            one.name,
            kinds[one.type],
            ", ".join("-1" if isinstance(n, str) else str(n) for n in one.shape),
        )
        for one in (*session.get_inputs(), *session.get_outputs())
    ]
    assert [(*head, dims.replace("-1, 2", f"-1, {classes}")) for *head, dims in said] == found
    assert "max_batch_size: 0" in text


@functools.cache
def node_modules() -> Path | str:
    """Return a folder with what the program for node needs, or why there is none."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return "needs node and npm"
    folder = Path(mkdtemp(prefix="zoo-node-"))
    (folder / "package.json").write_text('{"private": true}')
    words = [
        npm,
        "install",
        "--ignore-scripts",
        "--silent",
        "onnxruntime-node@1.30.0",
        "sharp@0.34",
    ]
    done = subprocess.run(words, cwd=folder, capture_output=True, timeout=300)
    return folder if done.returncode == 0 else "npm cannot fetch onnxruntime-node here"


@pytest.mark.browser
def test_the_program_for_node(exported: Path, two: list[Path]) -> None:
    folder = node_modules()
    if isinstance(folder, str):
        pytest.skip(folder)
    (folder / "program.mjs").write_text(program("node"))
    agrees(["node", "program.mjs"], exported, two, folder, 1e-3)
    shutil.rmtree(folder)


@pytest.mark.browser
def test_the_program_for_a_browser(run: Path, two: list[Path], tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert main(["export", "web", str(run), "-o", str(site), "--runtime", str(packed())]) == 0
    (site / "program.js").write_text(program("browser"))
    (site / "index.html").write_text('<link rel="icon" href="data:,"><input type="file">')
    with shown(site) as address, browser_page(address) as page:
        for photo in two:
            page.set_input_files("input", photo)
            found = page.evaluate(
                """async () => (await import("./program.js")).answer(
                document.querySelector("input").files[0])"""
            )
            assert found == pytest.approx(told(run / "model.onnx", photo), abs=1e-3), photo
