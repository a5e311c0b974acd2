"""`zoo export web`: a folder with a page that answers in the browser like `zoo predict`."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit import Here
from kit.browser import browser_page, faint, keep, too_wide
from kit.site import packed, shown
from PIL import Image

from zoo.export import web, web_runtime

LOADED = 60_000  # ms that a page may take on a busy machine


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files of the runtime's names, as of another version."""
    folder = tmp_path_factory.mktemp("runtime") / "dist"
    folder.mkdir()
    for name, _ in web_runtime.FILES.values():
        (folder / name).write_bytes(name.encode())
    return folder


def test_a_site_is_written_whole_in_the_place_of_one_of_ours_only(
    run: Path, stand_in: Path, here: Here, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    told = here("export", "web", run, "-o", site, "--runtime", stand_in.parent, "--json")
    record = json.loads(told.out)
    assert {file.name for file in site.iterdir()} == web.NAMES
    assert record["bytes"] == sum(file.stat().st_size for file in site.iterdir())
    assert "another version" in record["runtime"]
    facts = json.loads((site / "model.json").read_text())
    assert facts["classes"] == ["disc", "square", "stripes"]
    assert (site / "model.onnx").read_bytes() == (run / "model.onnx").read_bytes()
    again = json.loads(here("export", "web", run, "-o", site, "--runtime", stand_in, "--json").out)
    assert not again["proved"]  # the run's file is there
    (site / "mine.txt").write_text("x")
    refused = here("export", "web", run, "-o", site, "--runtime", stand_in)
    assert refused.code == 2
    assert "mine.txt" in refused.err
    assert (site / "mine.txt").read_text() == "x"
    assert [file.name for file in tmp_path.iterdir()] == ["site"]


def test_its_page_names_no_other_address_and_its_policy_forbids_them() -> None:
    page = web.part("site.html")
    assert "default-src 'none'" in page
    assert "unsafe-inline" not in page
    for name in (*web.COPIED, "site.html", "photos.html"):
        text = web.part(name).replace("http://localhost:8000", "")
        assert "://" not in text, name
        assert "innerHTML" not in text, name  # names of classes and files are a stranger's


def test_what_the_runtime_cannot_be_had_from_is_told(
    run: Path, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*words: object) -> str:
        answer = here("export", "web", run, "-o", tmp_path / "site", *words)
        assert answer.code == 2, answer
        assert not (tmp_path / "site").exists()
        return " ".join(answer.err.split())

    assert "ZOO_OFFLINE is set" in refused()
    assert "cannot be read" in refused("--runtime", tmp_path)
    package = tmp_path / "other.tgz"
    with tarfile.open(package, "w:gz") as file:
        file.addfile(tarfile.TarInfo("package/package.json"), io.BytesIO())
    assert "it has no file ort.wasm" in refused("--runtime", package)
    package.write_bytes(b"\x1f\x8b not gzip")
    assert "cannot be read" in refused("--runtime", package)
    monkeypatch.setenv("ZOO_OFFLINE", "0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "npm, which is not installed" in refused()
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error no such registry' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.defpath}")
    assert "no such registry" in refused()
    npm.write_text("#!/bin/sh\necho other > onnxruntime-web.tgz\n")
    assert "so it is another file" in refused()
    npm.unlink()


def test_what_is_kept_of_the_runtime_is_compared_each_time(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of other bytes in the cache are not taken."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    kept = tmp_path / "web" / f"{web_runtime.PACKAGE}-{web_runtime.VERSION}"
    kept.mkdir(parents=True)
    for name, _ in web_runtime.FILES.values():
        (kept / name).write_bytes((stand_in / name).read_bytes())
    with pytest.raises(web_runtime.UsageError, match="ZOO_OFFLINE"):
        web_runtime.find(None, print)
    digests = {
        name: (theirs, hashlib.sha256(theirs.encode()).hexdigest())
        for name, (theirs, _) in web_runtime.FILES.items()
    }
    monkeypatch.setattr(web_runtime, "FILES", digests)
    assert web_runtime.find(None, print).source.endswith("of the cache")


# In Chromium, with the runtime that npm fetches.


@pytest.fixture(scope="module")
def site(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("site") / "site"
    packed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_OFFLINE", "1")
        from zoo.cli import main

        assert main(["export", "web", str(run), "-o", str(folder), "--runtime", str(packed())]) == 0
    with shown(folder) as address:
        yield address


def answers(page: Any, files: list[Path]) -> dict[str, dict[str, float]]:
    """Give a page these files and return the probability of each class, by the file's name."""
    page.set_input_files("#files", files)
    done = page.locator("#photos li:has(progress), #photos li:has(.bad)")
    done.nth(len(files) - 1).wait_for(timeout=240_000)
    return dict(page.evaluate(
        """() => [...document.querySelectorAll("#photos li")].map((card) => [
          card.querySelector(".name").textContent,
          Object.fromEntries([...card.querySelectorAll("progress")].map(
            (bar) => [bar.getAttribute("aria-label"), bar.value]))])"""
    ))  # fmt: skip


def ready(page: Any) -> None:
    page.get_by_text("Ready.").wait_for(timeout=LOADED)


def rows_of(here: Here, model: Path, photos: Path) -> dict[str, dict[str, str]]:
    out = here("predict", model, photos).out
    return {Path(row["path"]).name: row for row in csv.DictReader(out.splitlines())}


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_a_page_answers_without_a_network_and_looks_right(
    site: str, photos: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    with browser_page(site, width=width, scheme=scheme, camera=True) as page:
        ready(page)
        page.context.set_offline(True)
        found = answers(page, [photos / "disc/00.png", photos / "stripes/01.png"])
        assert {name: max(each, key=each.__getitem__) for name, each in found.items()} == {
            "00.png": "disc", "01.png": "stripes",
        }  # fmt: skip
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "files"
        page.get_by_role("button", name="Camera").click()
        page.evaluate(
            """new Promise((seen) => { const video = document.querySelector("video");
            video.readyState > 1 ? seen() : video.onloadeddata = seen; })"""
        )
        page.get_by_role("button", name="Take the photo").click()
        page.get_by_text("camera 1.png").wait_for()
        page.get_by_role("status").filter(has_text="camera 1.png").wait_for(state="attached")
        page.get_by_text("How exact is it").click()
        assert faint(page) == []
        assert too_wide(page) <= 0
        keep(page, f"web-{width}-{scheme}", tmp_path)


@pytest.mark.browser
def test_what_is_no_picture_costs_its_own_card(site: str, photos: Path, tmp_path: Path) -> None:
    bad, clear, turned = (tmp_path / name for name in ("<b>bad.png", "clear.png", "turned.png"))
    bad.write_bytes(b"no picture")
    image = Image.open(photos / "disc/00.png").convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(turned, exif=exif)
    image.putalpha(0)  # all of it is transparent, so all is white
    image.save(clear)
    with browser_page(site) as page:
        ready(page)
        found = answers(page, [bad, photos / "square/00.png", clear, turned])
        assert found["<b>bad.png"] == {}
        assert len(found["00.png"]) == len(found["clear.png"]) == len(found["turned.png"]) == 3
        assert page.get_by_text("not a picture in a format that this browser reads").count() == 1
        assert page.locator("b").count() == 1  # the page's own


@pytest.mark.browser
@pytest.mark.slow
def test_50_photos_get_the_class_of_the_csv_and_its_probability_to_a_thousandth(
    shared: Path, here: Here, tmp_path: Path
) -> None:
    """PNGs, by a network with published weights, as `zoo predict RUN` answers them."""
    files, run = tmp_path / "png", tmp_path / "run"
    files.mkdir()
    photos = sorted((shared / "data/hymenoptera/val").rglob("*.jpg"))[::3][:50]
    for number, photo in enumerate(photos):
        Image.open(photo).convert("RGB").save(files / f"{number:02}.png")
    weights = shared / "weights/timm-mobilenetv2_100-keras.pth"
    words = ["timm/mobilenetv2_100", shared / "data/hymenoptera", "--weights", weights]
    assert here("finetune", *words, "-o", run).code == 0
    assert here("export", "web", run, "-o", tmp_path / "site", "--runtime", packed()).code == 0
    assert sum(file.stat().st_size for file in (tmp_path / "site").iterdir()) < 25_000_000
    rows = rows_of(here, run, files)
    with shown(tmp_path / "site") as address, browser_page(address) as page:
        ready(page)
        found = answers(page, sorted(files.iterdir()))
    assert len(found) == len(rows) == 50
    apart = 0.0
    for name, each in found.items():
        label = max(each, key=each.__getitem__)
        assert label == rows[name]["label"], name
        apart = max(apart, abs(each[label] - float(rows[name]["probability"])))
    assert apart < 1e-3
