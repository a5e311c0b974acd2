"""No file runs code, however it comes in; who reads it is locked in."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from kit import ROOT, Answer, Command, later
from kit.hostile import LEGACY_START, as_zip, corpus, forked, inside
from kit.warm import Warm

from zoo.catalog import ROWS
from zoo.errors import ReaderDied, WeightsError
from zoo.weights import (
    cache_folder,
    convert,
    convert_worker,
    hash_of,
    let_go,
    read,
    read_ahead,
    read_arrays,
    save,
)
from zoo.weights.convert_worker import Refused

Here = Callable[..., Answer]
LONGEST = 10.0  # seconds a file, beyond the start of a process


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def weights_folder() -> Path:
    folder = cache_folder() / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def is_refusal(answer: Answer, form: str, codes: tuple[int, ...] = (2,)) -> None:
    assert answer.code in codes, (form, answer)
    errors = [line for line in answer.err.splitlines() if line.startswith(("error:", "hint:"))]
    assert [line.split(":")[0] for line in errors] == ["error", "hint"], (form, answer)
    assert "unexpected" not in answer.err, (form, answer)
    assert "Traceback" not in answer.err, (form, answer)


# The ways in: each writes the file where it belongs and gives the words of a command


def by_predict(file: Path, data: bytes, photos: Path, run: Path) -> list[object]:
    file.write_bytes(data)
    return ["predict", "lenet", photos, "--weights", file]


def by_finetune(file: Path, data: bytes, photos: Path, run: Path) -> list[object]:
    file.write_bytes(data)
    out = file.with_name("out")
    shutil.rmtree(out, ignore_errors=True)
    return ["finetune", "lenet", photos, "--weights", file, "--epochs", "1", "-o", out]


def by_evaluate(file: Path, data: bytes, photos: Path, run: Path) -> list[object]:
    file.write_bytes(data)
    return ["evaluate", "lenet", photos, "--weights", file]


def _poisoned(file: Path, data: bytes, run: Path) -> Path:
    folder = file.with_name("poisoned")
    if not folder.exists():
        shutil.copytree(run, folder)
    (folder / "model.safetensors").write_bytes(data)
    return folder


def by_run_predict(file: Path, data: bytes, photos: Path, run: Path) -> list[object]:
    return ["predict", _poisoned(file, data, run), photos]


def by_run_export(file: Path, data: bytes, photos: Path, run: Path) -> list[object]:
    return ["export", "onnx", _poisoned(file, data, run)]


def by_run_finetune(file: Path, data: bytes, photos: Path, run: Path) -> list[object]:
    words = by_finetune(file, data, photos, run)
    return [*words[:4], _poisoned(file, data, run), *words[5:]]


def by_verify(file: Path, data: bytes, photos: Path, run: Path) -> list[object]:
    (weights_folder() / file.name).write_bytes(data)
    return ["weights", "verify"]


def by_path(file: Path, data: bytes, photos: Path, run: Path) -> list[object]:
    (weights_folder() / file.name).write_bytes(data)
    return ["weights", "path", file.name]


def by_cache(file: Path, data: bytes, photos: Path, run: Path) -> list[object]:
    """The file of a model of the catalogue, which torch.hub would open unchecked."""
    (weights_folder() / ROWS["alexnet"].weights[0].file).write_bytes(data)
    return ["predict", "alexnet", photos]


def by_folder(file: Path, data: bytes, photos: Path, run: Path) -> list[object]:
    folder = file.with_name("mine")
    folder.mkdir(exist_ok=True)
    (folder / ROWS["alexnet"].weights[0].file).write_bytes(data)
    os.environ["ZOO_WEIGHTS"] = str(folder)
    return ["pull", "alexnet"]


WAYS = (by_predict, by_finetune, by_evaluate, by_run_predict, by_run_export, by_run_finetune,
        by_verify, by_path, by_cache, by_folder)  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_hostile_file_runs_by_any_way_in(
    way: Callable[..., list[object]],
    here: Here,
    run: Path,
    photos: Path,
    tmp_path: Path,
    canary: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inside(monkeypatch)
    monkeypatch.setenv("ZOO_WEIGHTS", "")  # and back to what it was, at the end
    files = corpus(canary)
    assert len(files) >= 60
    if way is not by_predict:  # the same reader: every second form is 40
        files = dict(list(files.items())[::2])
    few = photos_of_one_class_each(photos, tmp_path)
    here(*way(tmp_path / "x.pth", b"", few, run))  # what the first one imports is not the file's
    for form, (suffix, data) in files.items():
        words = way(tmp_path / f"x{suffix}", data, few, run)
        began = time.process_time()
        is_refusal(here(*words), form)
        assert time.process_time() - began < LONGEST, form
        assert not canary.exists(), form
        shutil.rmtree(weights_folder())
    assert not list((cache_folder() / "converted").glob("*.safetensors"))


def photos_of_one_class_each(photos: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "few"
    for kind in sorted(photos.iterdir()):
        (folder / kind.name).mkdir(parents=True)
        for photo in sorted(kind.iterdir())[:2]:
            shutil.copy(photo, folder / kind.name)
    return folder


def test_the_canary_lives(canary: Path) -> None:
    """Without `weights_only` these files do run: the tests here prove something."""
    alive = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _, data in corpus(canary).values():
            try:
                torch.load(io.BytesIO(data), weights_only=False)
            except Exception:
                alive += 0
            if canary.exists():
                alive += 1
                canary.unlink()
    assert alive >= 25


@pytest.mark.parametrize("forced", ["0", "1"])
def test_weights_only_itself_holds_without_the_early_refusal(
    forced: str, tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """weights_only alone, and with the environment that switches torch's default off."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    path = tmp_path / "x"
    for form, (_, data) in corpus(canary).items():
        path.write_bytes(data)
        with path.open("rb") as file:
            try:
                convert_worker.state_dict(file, len(data))
            except (Refused, MemoryError):
                continue
            finally:
                assert not canary.exists(), form
        pytest.fail(form)


# One of these is in any file that does what is looked for below: the others are not parsed.
LOADING = re.compile(
    r"load|hub|state_dict|eval|exec|trust_|weights_only|pretrained|pickle|marshal|shelve|dill"
)
WORDS = ("weights_only", "trust_remote_code", "pretrained")


def test_nothing_else_loads_a_pickle() -> None:
    """Walks the syntax of every file: one call of torch.load in one file, and no way around it."""
    found = []
    for file in sorted((ROOT / "zoo").rglob("*.py")):
        text = file.read_text("utf-8")
        for node in ast.walk(ast.parse(text)) if LOADING.search(text) else ():
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                words = {k.arg: ast.unparse(k.value) for k in node.keywords if k.arg in WORDS}
                if name.endswith("torch.load") or (name == "load" and "torch" in ast.unparse(node)):
                    found.append((file.name, words.get("weights_only")))
                assert not name.startswith(("torch.hub", "hub.")), file
                assert not name.endswith(("load_state_dict_from_url", "get_state_dict")), file
                assert name not in ("torch.jit.load", "pickle.load", "pickle.loads", "eval", "exec")
                assert not {"trust_remote_code"} & set(words), file
                assert words.get("weights_only") != "False", file
                # What zoo export has written itself is opened as its users will open it.
                made = not name.endswith("list_models") and file.name != "hf.py"
                assert not made or words.get("pretrained", "False") == "False", file
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", "")}
                assert not names & {
                    "pickle",
                    "torch.hub",
                    "marshal",
                    "shelve",
                    "dill",
                    "cloudpickle",
                }
    assert found == [("convert_worker.py", "True")]


def test_nothing_is_claimed_of_a_scanner() -> None:
    for name in ("README.md", "CHANGELOG.md"):
        text = (ROOT / name).read_text("utf-8").lower()
        assert "picklescan" not in text
        assert "scanned" not in text


# Old torch


def test_old_torch_refuses_pth_and_reads_safetensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "torch_version", lambda: "2.9.1+cu128")
    torch.save({"w": torch.ones(1)}, tmp_path / "x.pth")
    save({"w": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=r"need torch 2\.10, this is 2\.9\.1"):
        read(tmp_path / "x.pth")
    assert read(tmp_path / "x.safetensors").keys() == {"w"}


# The reading process


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return {"a": torch.randn(3, 4), "b": torch.arange(3), "c": torch.tensor([True, False])}


def test_a_pth_is_read_by_a_child_once(
    tmp_path: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.pth"
    torch.save({"model_state_dict": state, "args": Namespace(lr=0.1, folder=tmp_path)}, path)
    monkeypatch.setenv("HF_TOKEN", "secret")
    started = watched(monkeypatch)
    for _ in range(2):
        found = read(path)
        assert found.keys() == {f"model_state_dict.{name}" for name in state}
        assert all(torch.equal(found[f"model_state_dict.{name}"], state[name]) for name in state)
    assert len(started) == 1
    assert "-I" in started[0]["words"]
    assert not [name for name in started[0]["env"] if "TOKEN" in name or "TORCH" in name]
    kept = convert.converted_path(hashlib.sha256(path.read_bytes()).hexdigest())
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    # What was kept is trusted no more than its pin: one flipped bit, and it is made again.
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    inside(monkeypatch)  # it costs no second process
    assert torch.equal(read(path)["model_state_dict.a"], state["a"])
    assert kept.read_bytes() == whole
    kept.with_name(kept.name + ".sha256").unlink()
    kept.unlink()
    kept.symlink_to(path)
    assert convert._open_kept(kept) is None  # a link is not followed


def watched(patch: pytest.MonkeyPatch) -> list[dict]:
    """What children were started, as they are."""
    started: list[dict] = []
    popen = subprocess.Popen

    def start(words: list[str], **more: object) -> object:
        started.append({"words": words, "env": more["env"]})
        return popen(words, **more)  # type: ignore[call-overload]

    patch.setattr(convert.subprocess, "Popen", start)
    return started


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_converts_in_memory(
    tmp_path: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, "memfd_create"):
        pytest.skip("needs files in memory")
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    assert torch.equal(read(tmp_path / "x.pth")["a"], state["a"])


def test_a_child_at_its_limit_is_exit_3(
    tmp_path: Path,
    state: dict[str, torch.Tensor],
    run: Path,
    photos: Path,
    here: Here,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "x.pth"
    torch.save(state, path)
    before = tree(tmp_path / "cache")
    monkeypatch.setattr(convert, "SECONDS", 0)
    with pytest.raises(ReaderDied, match=r"killed by SIG(XCPU|KILL)"):
        read(path)
    monkeypatch.undo()
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(convert, "WALL", 0.05)
    is_refusal(here("predict", "lenet", photos, "--weights", path), "wall", (3,))
    assert tree(tmp_path / "cache") == before


def test_a_reading_process_that_cannot_be_started_is_not_blamed_on_the_file(
    tmp_path: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(state, tmp_path / "x.pth")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(ReaderDied, match="could not be started: No such file") as refused:
        read(tmp_path / "x.pth")
    assert refused.value.exit_code == 3


@pytest.mark.slow
def test_a_file_that_wants_terabytes_ends_its_child_alone(tmp_path: Path) -> None:
    """The legacy form allots what a pickle asks for before it reads: 256 GB here."""
    huge = (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpu\x8a\x05\x00\x00\x00\x00\x10NtQK\x00K\x01\x85K\x01\x85"
        b"\x89ccollections\nOrderedDict\n)RtR."
    )
    data = LEGACY_START + b"\x80\x02}X\x01\x00\x00\x00w" + huge[2:-1] + b"s."
    path = tmp_path / "x.pth"
    path.write_bytes(data + pickle.dumps(["0"], 2) + bytes(64))
    with pytest.raises(WeightsError) as refused:
        read(path)
    assert refused.value.exit_code in (2, 3)
    assert not tree(tmp_path / "cache" / "converted")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_file_that_wants_more_memory_than_it_may_is_given_up_for_that(
    whole: bool, tmp_path: Path, warm: Warm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 GB, which this machine may well have: what says no is the child's own limit."""
    if not whole:  # from the start of its Python on
        forked(monkeypatch, warm)
    path = tmp_path / "x.pth"
    asked = 2 << 30
    floats = b"\x8a\x05" + (asked // 4).to_bytes(5, "little")
    data = b"}X\x01\x00\x00\x00w" + TENSOR.replace(b"SIZE", floats) + b"s."
    path.write_bytes(LEGACY_START + b"\x80\x02" + data + pickle.dumps(["0"], 2) + bytes(64))
    with pytest.raises(ReaderDied, match="needed more memory than 4 times the file and 1 GB"):
        read(path)


TENSOR = (  # SIZE: of its storage, which the legacy form allots before it reads
    b"ctorch._utils\n_rebuild_tensor_v2\n(((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuSIZENtQK\x00K\x01\x85K\x01\x85"
    b"\x89ccollections\nOrderedDict\n)RtR"
)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")
@pytest.mark.parametrize(
    ("memory", "end"),
    [
        (16 << 20, convert.LIMIT),
        pytest.param(1 << 30, convert.REFUSED, marks=pytest.mark.slow),
    ],
)
def test_the_pickle_itself_has_the_limit_too(
    memory: int, end: int, tmp_path: Path, warm: Warm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text of 50 MB in the pickle, of which the child may have 16."""
    forked(monkeypatch, warm)
    path, result = tmp_path / "x.pth", tmp_path / "result"
    text = b"\x80\x02X" + (50_000_000).to_bytes(4, "little") + b"a" * 50_000_000
    path.write_bytes(as_zip(text + b"cposix\nsystem\n."))
    with path.open("rb") as file, result.open("wb+") as out:
        assert convert._run(file, out, [memory, 60, 1 << 20], 60.0)[0] == end


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")
def test_the_limit_of_memory_holds_and_cannot_be_raised_again() -> None:
    code = (
        "import resource\n"
        "from zoo.weights import convert_worker as child\n"
        "child._limit_memory(1 << 26)\n"
        "print(len(set(resource.getrlimit(resource.RLIMIT_AS))) == 1)\n"
        "try: bytearray(1 << 27)\n"
        "except MemoryError: print('none')\n"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "none"]


def tree(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file()) if folder.exists() else []


def may_cut_itself_off() -> bool:
    """Whether the kernel lets this user have a network of its own; asked without our code."""
    ways = ("-n", "-rn") if shutil.which("unshare") else ()
    return any(
        subprocess.run(["unshare", way, "true"], stderr=subprocess.DEVNULL).returncode == 0
        for way in ways
    )


@pytest.mark.skipif(not may_cut_itself_off(), reason="the kernel does not allow it")
def test_the_child_has_no_network_where_the_kernel_allows() -> None:
    code = (
        "from zoo.weights import convert_worker; convert_worker._cut_off()\n"
        "print([line.split(':')[0].strip() for line in open('/proc/self/net/dev')][2:])"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['lo']"


def test_the_child_dies_with_its_parent(tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("Linux only")
    code = (
        "import subprocess, sys, time\n"
        "inner = 'from zoo.weights.convert_worker import _cut_off; _cut_off();' \\\n"
        "        'print(1, flush=True); import time; time.sleep(60)'\n"
        "p = subprocess.Popen([sys.executable, '-c', inner], stdout=subprocess.PIPE)\n"
        "assert p.stdout.readline(); print(p.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    for _ in range(1200):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("it lives")


@pytest.mark.slow
def test_no_hostile_file_runs_in_real_processes(
    zoo: Command, photos: Path, tmp_path: Path, canary: Path
) -> None:
    """Whole commands, each with a reading process of its own, under torch's dangerous switch."""
    files = corpus(canary)
    forms = ["reduce, zip", "a torch file in a torch file, legacy"]
    for form in forms:
        path = tmp_path / "x.pth"
        path.write_bytes(files[form][1])
        done = zoo(
            "predict", "lenet", photos, "--weights", path, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1"
        )
        is_refusal(Answer(done.returncode, done.stdout, done.stderr), form, (2, 3))
        assert not canary.exists(), form


@pytest.mark.slow
@pytest.mark.parametrize("forced", ["0", "1"])
def test_no_hostile_file_runs_in_a_real_child(
    forced: str, tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    for form, (suffix, data) in corpus(canary).items():
        path = tmp_path / f"x{suffix}"
        path.write_bytes(data)
        with pytest.raises(WeightsError) as refused:
            read(path)
        assert refused.value.exit_code in (2, 3), form
        assert not canary.exists(), form
    assert not tree(tmp_path / "cache" / "converted")


def test_a_file_that_is_read_ahead_is_the_file_that_lies_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read once for its hash and its numbers; what is put in its place is read anew."""
    path, other, last = (tmp_path / f"{name}.safetensors" for name in "abc")
    for place, number in ((path, 1.0), (other, 2.0), (last, 3.0)):
        save({"w": torch.full((300, 1000), number), "n": torch.tensor(3)}, place)
        os.utime(place, (1e9, 1e9))
    later(monkeypatch)  # a file as new as this is not trusted to keep its times
    read_ahead(path)
    digest = hash_of(path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    found = read_arrays(path)
    assert (found["w"] == 1).all()
    assert int(found["n"]) == 3
    read_ahead(other)
    hash_of(other)
    save({"w": torch.full((300, 1000), float("nan")), "n": torch.tensor(3)}, other)
    with pytest.raises(WeightsError, match="was changed after it was verified"):
        read_arrays(other)
    hash_of(last)
    save({"w": torch.zeros(2)}, last)
    read_ahead(last, keep=False)
    with last.open("rb") as file:
        let_go(last, file)  # when it has hashed what took the place of what was verified
    with pytest.raises(WeightsError, match="was changed after it was verified"):
        read_arrays(last)
    read_ahead(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="No such file"):
        hash_of(tmp_path / "none.safetensors")


def test_numbers_that_are_read_ahead_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, large = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save({"w": torch.tensor([1.0, float("inf"), -float("inf")])}, path)
    save({"w": torch.full((4,), 3e38)}, large)  # finite, though the sum is not
    later(monkeypatch)
    for one in (path, large):
        read_ahead(one)
    with pytest.raises(WeightsError, match="NaN or infinity"):
        read_arrays(path)
    assert read_arrays(large)["w"].max() == np.float32(3e38)


def test_a_changed_file_is_another_file(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    """Hash and content are of one open file: what is swapped in between is seen."""
    path = tmp_path / "x.pth"
    path.write_bytes(as_zip(pickle.dumps({}, 2)))
    hash_of(path)
    torch.save(state, path)
    with pytest.raises(WeightsError, match="changed after it was verified"):
        read(path)
