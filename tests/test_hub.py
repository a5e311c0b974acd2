"""zoo push and zoo pull hf-hub:…, against a stand-in for the Hub's API."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
from kit import sha256
from kit.hub import TOKEN, hub

from zoo.hub.card import text_of

NAME = "someone/shapes"


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    from zoo.cli import main

    folder = tmp_path_factory.mktemp("pushed") / "run"
    shutil.copytree(run, folder)
    assert main(["export", "onnx", str(folder)]) == 0
    return folder


@pytest.fixture
def there(monkeypatch):
    with hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.delenv("ZOO_OFFLINE", raising=False)
        yield server


def test_what_was_pushed_is_pulled_and_answers_alike(exported, there, here, photos, tmp_path):
    answer = here("push", exported, NAME, "--licence", "mit")
    assert answer.code == 0, answer.err
    assert there.private[NAME]
    files = there.files[NAME]
    assert {"model.onnx", "README.md", "zoo.json", "confusion.png"} <= files.keys()
    card = files["README.md"].decode()
    assert 'license: "mit"' in card
    assert "95 % interval" in card
    told = json.loads(files["zoo.json"])
    assert told["run"]["classes"] == json.loads((exported / "run.json").read_text())["classes"]
    everything = b"".join(content for name, content in files.items() if name != "confusion.png")
    assert str(photos).encode() not in everything, "a path of this machine"
    assert not any(photo.name.encode() in everything for photo in photos.rglob("*.png"))
    answer = here("pull", f"hf-hub:{NAME}", "--to", tmp_path / "mine")
    assert answer.code == 0, answer.err
    assert answer.out.strip() == str(tmp_path / "mine/model.onnx")
    assert sha256(tmp_path / "mine/model.onnx") == sha256(exported / "model.onnx")
    rows = [
        here("predict", file, photos).out
        for file in (exported / "model.onnx", tmp_path / "mine/model.onnx")
    ]
    assert rows[0] == rows[1]
    assert ",ok," in rows[0]


def test_a_dry_run_shows_the_card_and_asks_nobody(exported, here, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    answer = here("push", exported, NAME, "--dry-run")
    assert answer.code == 0
    assert "model.onnx" in answer.err
    assert "nothing was published" in answer.err


def test_a_second_push_replaces_the_first_one(exported, there, here):
    assert here("push", exported, NAME).code == 0
    there.files[NAME]["old.bin"] = b"of another time"
    assert here("push", exported, NAME).code == 0
    assert "old.bin" not in there.files[NAME]


def test_a_public_repository_is_not_added_to_by_mistake(exported, there, here):
    there.files[NAME], there.private[NAME] = {}, False
    answer = here("push", exported, NAME)
    assert answer.code == 2
    assert "--public" in answer.err
    assert there.files[NAME] == {}
    assert here("push", exported, NAME, "--public").code == 0
    assert "model.onnx" in there.files[NAME]


def test_what_is_pushed_was_exported_from_the_run_as_it_is(exported, here, tmp_path):
    """Without a file it is exported first; another file, or other weights since, are refused."""
    folder = shutil.copytree(exported, tmp_path / "run")
    (folder / "model.onnx").unlink()
    answer = here("push", folder, NAME, "--dry-run")
    assert answer.code == 0, answer.err
    note = json.loads((folder / "run.json").read_text())["exported"]["image"]
    assert sha256(folder / "model.onnx") == note["sha256"]
    with open(folder / "model.onnx", "ab") as file:
        file.write(b" ")
    answer = here("push", folder, NAME, "--dry-run")
    assert answer.code == 2
    assert "is not the file that was exported from this run" in answer.err
    assert "zoo export onnx" in answer.err


def test_no_token_and_no_such_name_are_said(exported, there, here, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    answer = here("push", exported, NAME)
    assert answer.code == 2
    assert "401" in answer.err
    assert "hf auth login" in answer.err
    assert here("push", exported, "no-slash").code == 2
    assert there.files == {}
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert "ZOO_OFFLINE" in here("push", exported, NAME).err


@pytest.mark.parametrize("lie", ["other", "short"])
def test_a_file_that_is_not_what_was_pushed_is_not_kept(
    exported, there, here, tmp_path, lie, monkeypatch
):
    monkeypatch.setattr(sys.modules["zoo.weights.fetch"], "PAUSES", (0.0,))
    assert here("push", exported, NAME).code == 0
    there.lie = lie
    answer = here("pull", f"hf-hub:{NAME}", "--to", tmp_path / "mine")
    assert answer.code in (2, 4), answer.err
    assert "Traceback" not in answer.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "facts",
    [b"", b"[]", b"{}", b'{"files": {"model.onnx": "short"}}', b'{"files": ["model.onnx"]}',
     b'{"files": {"model.onnx": 3}}', b"[" * 100_000],
)  # fmt: skip
def test_facts_that_say_nothing_are_refused(there, here, tmp_path, facts):
    there.files[NAME], there.private[NAME] = {"zoo.json": facts, "model.onnx": b"x"}, False
    answer = here("pull", f"hf-hub:{NAME}", "--to", tmp_path / "mine")
    assert answer.code == 2, answer.err
    assert "zoo push" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_somebody_else_is_no_model(there, here, tmp_path):
    import hashlib

    for content in (b"no onnx", b""):
        said = {"files": {"model.onnx": hashlib.sha256(content).hexdigest(), "../x": "0" * 64}}
        there.files[NAME] = {"zoo.json": json.dumps(said).encode(), "model.onnx": content}
        there.private[NAME] = False
        answer = here("pull", f"hf-hub:{NAME}", "--to", tmp_path / "mine")
        assert answer.code == 2, answer.err
        assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_said(there, here, tmp_path, monkeypatch):
    answer = here("pull", "hf-hub:nobody/nothing", "--to", tmp_path / "mine")
    assert answer.code == 2
    assert "404" in answer.err
    assert here("pull", "hf-hub:../x").code == 2
    assert here("pull", f"hf-hub:{NAME}", "--to", tmp_path).code == 2  # exists
    assert here("pull", f"hf-hub:{NAME}", "lenet").code == 2


def test_names_in_a_card_are_text():
    facts = {
        "zoo": "1", "model": "timm/x", "weights": {"tag": "", "licence": ""},
        "classes": ["<b>a</b>|", "![x](y)\n# b"], "phases": [], "preprocess": {"size": 9},
        "data": {"name": "a`b", "train": 1, "val": 2, "test": 0}, "results": {"accuracy": 0.5},
        "classes_table": [{"name": name, "photos": 1, "precision": 1.0, "recall": 1.0}
                          for name in ("<b>a</b>|", "![x](y)\n# b")]
        + [{"name": "none of it", "photos": 0, "precision": None, "recall": None}],
    }  # fmt: skip
    card = text_of(facts, NAME, 'mit"\nx: y', ["README.md"])
    assert r"\<b\>a\</b\>\|" in card
    assert r"\!\[x\]\(y\)" in card
    assert card.splitlines()[3] == 'license: "mit\\"\\nx: y"'
    assert "| none of it | 0 | - | - |" in card
    assert not any(line.startswith("# b") for line in card.splitlines())
