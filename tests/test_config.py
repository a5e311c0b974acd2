"""zoo config: the file, what goes before it, and what is not taken from it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest
from kit import Answer

from zoo import config
from zoo.device import choose
from zoo.disk import cache_folder
from zoo.errors import UsageError

Here = Callable[..., Answer]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of a file of settings that is not there yet; nothing is in the environment."""
    monkeypatch.setenv("ZOO_CONFIG", str(tmp_path / "own" / "config.toml"))
    for name in ("ZOO_CACHE", "ZOO_WEIGHTS", "ZOO_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "own" / "config.toml"


@pytest.mark.parametrize("kind", ["cache", "config"])
@pytest.mark.parametrize("told", ["", "/elsewhere", "not/absolute"])
def test_folders_are_where_platformdirs_has_them(
    kind: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for home in (tmp_path, "", "not/absolute"):
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv(f"XDG_{kind.upper()}_HOME", told)
        theirs = getattr(platformdirs, f"user_{kind}_path")("zoo", appauthor=False)
        assert config.user_folder(kind) == theirs  # type: ignore[arg-type]


def test_set_shows_and_unset_forgets(here: Here, file: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'a "cache" of mine'
    assert here("config", "set", "cache", folder).code == 0
    assert cache_folder() == folder
    told = json.loads(here("config", "--json").out)
    assert told["file"] == str(file)
    assert told["cache"] == {"value": str(folder), "from": str(file)}
    assert here("config", "get", "cache").out == f"{folder}\n"
    assert here("config", "path").out == f"{file}\n"
    assert str(folder) in here("config").out
    assert here("config", "unset", "cache").code == 0
    assert config.value("cache") == ""
    assert cache_folder() != folder
    assert "does not say cache" in here("config", "unset", "cache").err


def test_the_environment_goes_before_the_file_and_a_flag_before_both(
    here: Here, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here("config", "set", "device", "cpu")
    assert choose("auto").reason == f"as {file} says"
    monkeypatch.setenv("ZOO_DEVICE", "cuda:7")
    assert config.origin("device") == "$ZOO_DEVICE"
    assert choose("cpu").reason == "asked for"
    answer = here("config", "set", "device", "mps")
    assert "$ZOO_DEVICE is set in this environment, and goes before it" in answer.err
    with pytest.raises(UsageError, match="cuda:7"):
        choose("auto")


def test_weights_are_looked_for_where_the_file_says(here: Here, file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    here("config", "set", "weights", tmp_path / "mine")
    (tmp_path / "mine" / "resnet18-f37072fd.pth").write_bytes(b"x")
    rows = {row["name"]: row for row in json.loads(here("list", "resnet18", "--json").out)}
    assert rows["resnet18"]["weights"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("x[", "is not TOML"),
        ("a = " + "[" * 5000, "is not TOML"),
        ('wieghts = "a"', "no setting 'wieghts'; did you mean weights?"),
        ("device = 3", "device = 3: expected auto, cpu"),
        ('device = "tpu"', "device = 'tpu': expected auto, cpu"),
        ('cache = "a\\u001b[2J"', "expected a folder"),
        ('cache = ""', "expected a folder"),
        (f'cache = "{"a" * 5000}"', "expected a folder"),
        ("#" * 70_000, "70,000 bytes"),
        ("[cache]\nfolder = 1", "expected a folder"),
    ],
)
def test_a_broken_or_hostile_file_is_an_error_that_names_it(
    here: Here, file: Path, text: str, what: str
) -> None:
    file.parent.mkdir()
    file.write_text(text)
    answer = here("weights", "path")
    assert answer.code == 2
    assert what in answer.err
    assert str(file) in answer.err
    assert answer.err.count("\n") == 2
    assert all(line.isprintable() for line in answer.err.splitlines())
    assert here("--help").code == 0


def test_a_pipe_is_no_file_of_settings(here: Here, file: Path) -> None:
    file.parent.mkdir()
    os.mkfifo(file)
    assert "it is no plain file" in here("weights", "path").err


def test_a_change_is_seen_at_once(here: Here, file: Path) -> None:
    for device in ("cpu", "mps", "cuda"):
        here("config", "set", "device", device)
        assert config.value("device") == device
    assert os.listdir(file.parent) == ["config.toml"]
