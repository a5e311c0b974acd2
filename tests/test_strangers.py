"""Folders and files from strangers, or edited by hand: refused in one line that names the field.

A run folder is copied and spoilt, in some sixty ways written down here and in others that
hypothesis makes up, and given to every command that reads one. None may end in a fault of zoo, in
a traceback, or not at all.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import itertools
import json
import os
import shutil
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from kit import Answer, Watcher, settings, tune
from safetensors.numpy import load_file, save_file

from zoo import catalog, records
from zoo.cli import main
from zoo.errors import Interrupted

SLOW = pytest.mark.slow
LONGEST = 120  # seconds for a command on a busy machine; each takes a fraction of one
NO_MAP = ("--picture", "none")
Edit = Callable[[Path], object]


def command(*words: object) -> Answer:
    """A command in this process, which must come to an end."""
    out, err = io.StringIO(), io.StringIO()

    def late(number: int, frame: object) -> None:
        pytest.fail(f"{words} does not end")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(word) for word in words])
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return Answer(code, out.getvalue(), err.getvalue())


def bearable(answer: Answer) -> Answer:
    assert answer.code in (0, 1, 2, 4), answer
    for word in ("a fault of zoo", "error: unexpected", "Traceback"):
        assert word not in answer.err, answer.err
    if answer.code:
        said = [line for line in answer.err.splitlines() if line.startswith(("error:", "hint:"))]
        assert [line.partition(":")[0] for line in said] == ["error", "hint"], answer.err
        assert max(map(len, said)) < 1500, answer.err
    return answer


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A folder with a finished `run` that was exported, and one that was `stopped`.

    And `photo.png`, and `other`: another finished run. Not to be changed.
    """
    folder = tmp_path_factory.mktemp("strangers")
    solved = ["--cut", "act4", "--views", "1", "--log", "csv"]
    assert command("finetune", "lenet/mnist", photos, "-o", folder / "run", *solved).code == 0
    assert command("export", "onnx", folder / "run").code == 0
    shutil.copytree(folder / "run", folder / "other")
    chosen = settings("lenet", photos, freeze=False, epochs=2, batch_size=12, log="csv")
    with pytest.raises(Interrupted):
        tune(folder / "stopped", chosen, Watcher("epoch", 4))
    shutil.copy(photos / "disc" / "00.png", folder / "photo.png")
    return folder


def words_of(verb: str, run: Path, good: Path) -> list[object]:
    return {
        "predict": ["predict", run, good / "photo.png"],
        "predict onnx": ["predict", run / "model.onnx", good / "photo.png"],
        "evaluate": ["evaluate", run],
        "evaluate onnx": ["evaluate", run / "model.onnx", "--data", good.parent],
        "export": ["export", "onnx", run, "-o", run.parent / "out.onnx"],
        "embed": [
            "embed",
            run,
            good / "photo.png",
            "-o",
            run.parent / "e.csv",
            "--picture",
            "none",
        ],
        "compare": ["compare", run, good / "other"],
        "resume": ["finetune", "--resume", run],
        "info": ["info", run],
        "bench": ["bench", run, "--engine", "openvino", "--seconds", "0.01"],
        "weights": ["predict", "lenet", good / "photo.png", "--weights", run],
    }[verb]


class Spoilt:
    """A copy of a run that was spoilt, to be given to commands."""

    def __init__(self, good: Path, folder: Path) -> None:
        self.good, self.folder, self.numbers = good, folder, itertools.count()

    def copy(self, edit: Edit, which: str = "run") -> Path:
        run = self.folder / str(next(self.numbers)) / "run"
        shutil.copytree(self.good / which, run)
        edit(run)
        return run

    def __call__(self, verb: str, edit: Edit) -> Answer:
        run = self.copy(edit, "stopped" if verb == "resume" else "run")
        return bearable(command(*words_of(verb, run, self.good)))


@pytest.fixture
def spoilt(good: Path, tmp_path: Path) -> Spoilt:
    return Spoilt(good, tmp_path)


# Edits


def put(path: str, value: Any) -> Edit:
    """An edit of run.json: `preprocess.size` becomes this value; `...` takes it away."""

    def edit(run: Path) -> None:
        record = json.loads((run / "run.json").read_text())
        *above, last = path.split(".")
        place = record
        for name in above:
            place = place[name]
        if value is ...:
            del place[last]
        else:
            place[last] = value
        (run / "run.json").write_text(json.dumps(record))

    edit.__name__ = f"{path} = {str(value)[:20]}"
    return edit


def file(name: str, content: bytes | str) -> Edit:
    def edit(run: Path) -> None:
        data = content.encode() if isinstance(content, str) else content
        (run / name).write_bytes(data)

    edit.__name__ = f"{name} of {len(content)} bytes {content[:12]!r}"
    return edit


def cut_short(name: str) -> Edit:
    def edit(run: Path) -> None:
        data = (run / name).read_bytes()
        (run / name).write_bytes(data[: len(data) // 2])

    edit.__name__ = f"{name} cut short"
    return edit


def changed(name: str, old: bytes, new: bytes) -> Edit:
    def edit(run: Path) -> None:
        data = (run / name).read_bytes()
        assert old in data
        (run / name).write_bytes(data.replace(old, new))

    edit.__name__ = f"{name} with {new[:20]!r}"
    return edit


def instead(name: str, kind: str) -> Edit:
    """A folder, a pipe, a socket, a device or a link to nothing in the place of a file."""

    def edit(run: Path) -> None:
        path = run / name
        path.unlink(missing_ok=True)
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            here = os.getcwd()
            os.chdir(run)  # the name of a socket is short
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(name)
            os.chdir(here)
        elif kind == "huge":
            with path.open("wb") as empty:
                empty.truncate(10 << 30)
        else:
            path.symlink_to({"device": "/dev/zero", "nothing": "nowhere", "itself": name}[kind])

    edit.__name__ = f"{name} is {kind}"
    return edit


FIELDS = [
    put("format", 2),
    put("format", {}),
    put("status", ["finished"]),
    put("status", "done"),
    put("model", 7),
    put("model", "x" * 5000),
    put("model", "no-such-model"),
    put("model", ...),
    put("spec", []),
    put("spec", ...),
    put("spec.builder", 1),
    put("classes", "disc"),
    put("classes", []),
    put("classes", ["disc", "square"]),
    put("classes", ["disc", "disc", "square"]),
    put("classes", [1, 2, 3]),
    put("classes", [f"class {n}" for n in range(5000)]),
    put("classes", ["a\0b", "c", "d"]),
    put("classes", ["\ud800", "c", "d"]),
    put("classes", ...),
    put("task", "detect"),
    put("task", "reconstruct"),
    put("task", "multilabel"),
    put("threshold", "half"),
    put("threshold", float("nan")),
    put("variant", ["dropout"]),
    put("variant", {"activation": "evil"}),
    put("variant", {"pooling": 3}),
    put("head", "conv"),
    put("head", "mlp:99999"),
    put("linear_head", "no.such.layer"),
    put("linear_head", "conv1"),
    put("linear_head", 5),
    put("boundary", "nowhere"),
    put("boundary", 5),
    put("preprocess", None),
    put("preprocess", {}),
    put("preprocess.size", -3),
    put("preprocess.size", 0),
    put("preprocess.size", 10**9),
    put("preprocess.size", 33.5),
    put("preprocess.size", [32, 0]),
    put("preprocess.size", [32, 32, 3]),
    put("preprocess.size", 8),
    put("preprocess.crop", 0),
    put("preprocess.crop", 1e-9),
    put("preprocess.crop", float("nan")),
    put("preprocess.fit", "stretch"),
    put("preprocess.interpolation", "sharp"),
    put("preprocess.mean", []),
    put("preprocess.mean", [0.5, 0.5]),
    put("preprocess.mean", ["a"]),
    put("preprocess.std", [0]),
    put("preprocess.std", [float("nan")]),
    put("preprocess.std", 1),
    put("preprocess.channels", 4),
    put("preprocess.channels", 3),
    put("precision", "fp8"),
    put("precision", 16),
    put("data", ...),
    put("data", "photos"),
    put("data.root", 7),
    put("data.root", "/no/such/folder"),
    put("data.root", "a\0b"),
    put("data.train", "many"),
    put("results", 5),
    put("results", {"accuracy": "all"}),
    put("results", {}),
    put("results.accuracy", 10**400),
    put("seconds", "long"),
    put("seconds", ...),
    put("agreement_with_fp32", "most"),
    put("model_sha256", 5),
    put("model_sha256", "0" * 64),
    put("exported", []),
    put("exported", {"image": 5}),
    put("exported", {"image": {"agree": 3}}),
    put("exported", {"image": {"path": 3}}),
    put("evidence", {"seeds": {}}),
    put("phases", "first"),
    put("phases", [{}]),
    put("weights", "imagenet"),
    put("weights", {"tag": ["x"]}),
    put("best_epoch", []),
    put("zoo", {"a": 1}),
    put("cut", ["x"]),
    put("a field of a newer zoo", {"deep": [1, {"x": "\ud800"}]}),
]
KINDS = ("folder", "pipe", "socket", "device")
FILES = [
    file("run.json", b""),
    file("run.json", b"[]"),
    file("run.json", b"\xff\xfe\0\1" * 100),
    file("run.json", b"null"),
    file("run.json", b"[" * 100_000),
    file("run.json", b'{"format": 1, "status": "finished", "x": ' + b"[" * 99 + b"]" * 99 + b"}"),
    file("run.json", b'{"format": ' + b"9" * 5000 + b"}"),
    *(
        instead("run.json", kind)
        for kind in ("folder", "pipe", "socket", "device", "huge", "itself")
    ),
    cut_short("run.json"),
    file("model.safetensors", b""),
    file("model.safetensors", b"text" * 50),
    file("model.safetensors", struct.pack("<Q", 1 << 40) + b"{}"),
    file("model.safetensors", struct.pack("<Q", 2) + b"{}"),
    cut_short("model.safetensors"),
    *(
        instead("model.safetensors", kind)
        for kind in ("folder", "pipe", "socket", "device", "nothing")
    ),
    file("index.csv", b""),
    file("index.csv", b"a,b\n1,2\n"),
    file("index.csv", b"path,label,split,sha256\nx\n"),
    file("index.csv", b'path,label,split,sha256\n"x,disc,val,\n'),
    file("index.csv", b"path,label,split,sha256\n1,2,val,4,5,6\n"),
    file("index.csv", b"path,label,split,sha256\n\0,disc,val,\n"),
    file("index.csv", b"path,label,split,sha256\nx.png,unheard,val,\n"),
    file("index.csv", b"path,label,split\n" + b"x" * 200_000 + b",disc,val\n"),
    file("index.csv", bytes(range(256)) * 20),
    *(instead("index.csv", kind) for kind in ("folder", "pipe", "device", "nothing")),
    file("val.csv", b"a\n1\n"),
    file("val.csv", b"path,label,predicted,probability,correct\nx\n"),
    file("val.csv", b"path,label,predicted,probability,correct\nx,disc,disc,much,1\n"),
    file("val.csv", bytes(range(256)) * 20),
    *(instead("val.csv", kind) for kind in ("folder", "pipe", "device")),
    file("recipe.toml", b"= ="),
    file("recipe.toml", b"a = " + b"[" * 5000),
    *(instead("recipe.toml", kind) for kind in ("folder", "pipe", "nothing")),
    *(instead("risk_coverage.csv", kind) for kind in ("folder", "pipe")),
    file("metrics.jsonl", b"[]\n5\n{}\n"),
    instead("metrics.jsonl", "pipe"),
]


def named(edit: Edit) -> str:
    return edit.__name__  # type: ignore[attr-defined]


EDITS = FIELDS + FILES
VERBS = ("compare", "info", "export", "evaluate", "embed", "weights")


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(number, id=named(edit), marks=pytest.mark.slow if number % 2 else ())
        for number, edit in enumerate(EDITS)
    ],
)
def test_what_was_edited_is_no_fault_of_zoo(spoilt: Spoilt, number: int) -> None:
    for verb in ("predict", VERBS[number // 6 % len(VERBS)])[: 1 + (number % 6 == 0)]:
        spoilt(verb, EDITS[number])


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_no_edit_is_a_fault_of_zoo_to_any_command(spoilt: Spoilt, verb: str) -> None:
    for edit in EDITS:
        spoilt(verb, edit)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (put("preprocess.size", -3), "preprocess.size is -3, not a whole number from 1 to 4,096"),
        (put("preprocess.std", [0]), "preprocess.std[0] is 0, not a number from 1e-06"),
        (put("preprocess.mean", [0.5, 0.5]), "the length of preprocess.mean is 2, not 1 channels"),
        (put("classes", ["disc", "square"]), "classes lists 2 names, and model.safetensors has no"),
        (put("classes", ["a", "a", "b"]), "classes is 'a', not a list in which each is there once"),
        (put("threshold", float("nan")), "threshold is nan, not a number from 0 to 1"),
        (put("data.root", 7), "data.root is 7, not text of at most 8,192 characters"),
        (put("train_accuracy", [False]), "train_accuracy is [False], not a number from 0 to 1"),
        (put("head", "mlp:99999"), "head is mlp:99999, and model.safetensors has no layer"),
        (put("linear_head", "conv1"), "linear_head is conv1, which gives no 3 classes"),
        (put("classes", ...), "classes is None, not there"),
        (instead("run.json", "pipe"), "run.json cannot be read: it is a named pipe, not a file"),
        (instead("run.json", "huge"), "it has 10,737 MB, and 256 MB are the most"),
        (instead("model.safetensors", "pipe"), "it is a named pipe, not a file"),
        (file("run.json", b"[" * 100_000), "it is nested too deeply"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_field_is_named_in_one_line(spoilt: Spoilt, edit: Edit, said: str) -> None:
    answer = spoilt("predict", edit)
    assert answer.code == 2
    assert said in answer.err.splitlines()[0]


@pytest.mark.parametrize("count", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_no_edit_that_is_made_up_is_a_fault_of_zoo(
    good: Path, tmp_path_factory: pytest.TempPathFactory, count: int
) -> None:
    record = json.loads((good / "run" / "run.json").read_text())
    places = list(paths(record))
    odd = st.sampled_from(
        [None, True, -1, 0, 1, 2**70, 1e308, float("nan"), float("-inf"), "", "../x", "\0",
         "\ud800", "x" * 10_000, [], {}, [[]], [None], {"a": None}, "timm/hf_hub:a/b", "conv1"]
    )  # fmt: skip
    made = odd | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=5,
    )
    edits = st.lists(st.tuples(st.sampled_from(places), made), min_size=1, max_size=2)
    numbers = itertools.count()
    spoilt = Spoilt(good, tmp_path_factory.mktemp("made-up"))

    @examples(max_examples=count, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(edits)
    def check(chosen: list[tuple[tuple[Any, ...], Any]]) -> None:
        changed = copy.deepcopy(record)
        for (*above, last), value in chosen:
            place: Any = changed
            with contextlib.suppress(KeyError, IndexError, TypeError):
                for name in above:
                    place = place[name]
                place[last] = value
        run = spoilt.copy(file("run.json", json.dumps(changed)))
        turn = next(numbers)
        for verb in ("predict",) if turn % 5 else ("predict", VERBS[turn // 5 % len(VERBS)]):
            bearable(command(*words_of(verb, run, good)))
        shutil.rmtree(run)

    check()


def paths(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a record."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in pairs:
        if above[:1] == ("plan",):
            return
        yield (*above, key)
        if isinstance(each, dict | list):
            yield from paths(each, (*above, key))


# What a resume reads, and writes to


RESUMED = [
    file("checkpoint.safetensors", b"text"),
    cut_short("checkpoint.safetensors"),
    *(instead("checkpoint.safetensors", kind) for kind in ("pipe", "folder")),
    file("recipe.toml", b'model = "lenet"\ndata = "x\\u0000"\n'),
    file("recipe.toml", b'model = "lenet"\ndata = "."\nseed = 0x' + b"f" * 9000 + b"\n"),
    file("recipe.toml", b'model = "lenet"\ndata = "."\nclip = inf\n'),
    file("recipe.toml", b'model = "lenet"\ndata = "."\nunheard = 1\n'),
    file("recipe.toml", b'model = "timm/hf_hub:a/b"\ndata = "."\n'),
    changed("recipe.toml", b"epochs = 2", b"epochs = -2"),
    instead("recipe.toml", "pipe"),
    instead("metrics.jsonl", "pipe"),
    file("metrics.jsonl", b'[]\n{"epoch": "x"}\n{"epoch": 1, "lr": [1]}\n'),
    put("weights_sha256", ...),
    put("data.fingerprint", ...),
    put("feature_bytes", "many"),
    put("status", "finished"),
    put("status", "failed"),
    *(instead("lock", kind) for kind in ("pipe", "folder", "device")),
    file("lock", b"[]"),
]


@pytest.mark.parametrize("edit", RESUMED, ids=named)
def test_a_resume_of_what_was_edited_is_no_fault_of_zoo(
    spoilt: Spoilt, edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.lock.LEASE", 0.1)
    spoilt("resume", edit)


def holder(**values: Any) -> str:
    whole = {"pid": 1, "host": "h", "mode": "lease", "token": "ab", "duration": 0.1} | values
    return "".join(["filelock/2\n", *(f"{name}={value}\n" for name, value in whole.items())])


@pytest.mark.parametrize(
    "files",
    [
        {"lock": holder(token="/../../out/new")},
        {"lock": holder(pid="one")},
        {"lock": holder(pid=2**80)},
        {"lock": holder(mode="of a newer zoo")},
        {"lock": holder(duration=7)},
        {"lock": holder(), f"lock.break.1.{'0' * 32}": holder()},
    ],
)
def test_a_lock_that_was_forged_leads_nowhere(
    spoilt: Spoilt, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LEASE", "SILENT"):
        monkeypatch.setattr(f"zoo.lock.{name}", 0.1)

    def forge(run: Path) -> None:
        (run / "lock.").mkdir()
        (run.parent / "out").mkdir()
        (run.parent / "out" / "old").write_text("mine")
        for name, text in files.items():
            (run / name).write_text(text)
            os.utime(run / name, (1, 1))

    spoilt("resume", forge)
    (out,) = spoilt.folder.glob("*/out")
    assert [path.name for path in out.iterdir()] == ["old"]


@pytest.mark.parametrize(
    "name", ["tensorboard", "metrics.jsonl", "metrics.csv", "repeats", "checkpoint.safetensors"]
)
@pytest.mark.parametrize("which", ["stopped", "run"])
def test_no_link_in_a_run_is_followed_to_write_or_to_delete(
    spoilt: Spoilt, name: str, which: str
) -> None:
    run = spoilt.copy(lambda run: None, which)
    changed("recipe.toml", b'log = "csv"', b'log = "csv,tensorboard"')(run)
    outside = run.parent / "mine"
    outside.mkdir()
    for each in ("events.out.tfevents.1", "run.json", "metrics"):
        (outside / each).write_text("mine\n")
    shutil.rmtree(run / name, ignore_errors=True)
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(outside / ("metrics" if "." in name else ""))
    before = {path: path.read_bytes() for path in outside.iterdir()}
    answer = bearable(command("finetune", "--resume", run))
    assert answer.code == 2
    assert f"{run / name} is a link" in answer.err
    assert {path: path.read_bytes() for path in outside.iterdir()} == before


def test_an_export_replaces_a_link_and_not_what_it_points_to(spoilt: Spoilt) -> None:
    run = spoilt.copy(lambda run: (run / "model.onnx").unlink())
    (run.parent / "mine").write_text("mine")
    for name in ("model.onnx", "kept"):
        (run / name).symlink_to("../mine")
    assert bearable(command("export", "onnx", run)).code == 0
    assert (run.parent / "mine").read_text() == "mine"
    assert not (run / "model.onnx").is_symlink()


# A network that was changed


def flipped(name: str) -> Edit:
    def edit(run: Path) -> None:
        data = bytearray((run / name).read_bytes())
        data[-9 if name.endswith("tensors") else len(data) // 2] ^= 1
        (run / name).write_bytes(data)

    return edit


@pytest.mark.parametrize(
    "verb",
    ["predict", "evaluate", "export", "embed", "compare", pytest.param("bench", marks=SLOW)],
)
def test_a_changed_network_is_refused_unless_it_is_trusted(spoilt: Spoilt, verb: str) -> None:
    run = spoilt.copy(flipped("model.safetensors"))
    words = words_of(verb, run, spoilt.good)
    answer = bearable(command(*words))
    assert answer.code == 2
    assert "model.safetensors is not the file that the run has saved" in answer.err
    assert "--trust-changed" in answer.err
    assert bearable(command(*words, "--trust-changed")).code == 0


def test_a_head_of_another_shape_is_refused_though_it_is_trusted(spoilt: Spoilt) -> None:
    def narrower(run: Path) -> None:
        tensors = load_file(run / "model.safetensors")
        name = json.loads((run / "run.json").read_text())["linear_head"] + ".weight"
        tensors[name] = tensors[name][:, 1:].copy()
        save_file(tensors, run / "model.safetensors")

    words = words_of("predict", spoilt.copy(narrower), spoilt.good)
    answer = bearable(command(*words, "--trust-changed"))
    assert answer.code == 2
    assert "model.safetensors does not fit lenet: fc2.weight is 3x83, not 3x84" in answer.err


def test_a_changed_network_is_no_start_of_another(spoilt: Spoilt) -> None:
    answer = spoilt("weights", flipped("model.safetensors"))
    assert answer.code == 2
    assert "is not the file that the run has saved" in answer.err
    assert "hint: restore it; or --weights COPY takes a copy" in answer.err


def test_a_changed_export_is_refused_unless_it_is_trusted(spoilt: Spoilt) -> None:
    run = spoilt.copy(lambda run: None)
    words = words_of("predict onnx", run, spoilt.good)
    assert command(*words).code == 0
    flipped("model.onnx")(run)
    answer = bearable(command(*words))
    assert answer.code == 2
    assert "model.onnx is not the file that was exported" in answer.err
    assert "is not the file that was exported" not in command(*words, "--trust-changed").err


def test_the_hash_of_an_export_is_in_the_record(good: Path) -> None:
    record = json.loads((good / "run" / "run.json").read_text())
    digest = hashlib.sha256((good / "run" / "model.onnx").read_bytes()).hexdigest()
    assert record["exported"]["image"]["sha256"] == digest


# Exported files


def metadata(**values: str | None) -> Edit:
    def edit(run: Path) -> None:
        import onnx

        model = onnx.load(run / "model.onnx")
        known = {prop.key: prop.value for prop in model.metadata_props}
        known |= {f"zoo.{name}": value for name, value in values.items()}
        del model.metadata_props[:]
        for key, value in known.items():
            if value is not None:
                model.metadata_props.add(key=key, value=value)
        onnx.save(model, run / "model.onnx")

    edit.__name__ = str(values)[:40]
    return edit


ONNX = [
    file("model.onnx", b""),
    file("model.onnx", b"text " * 100),
    cut_short("model.onnx"),
    metadata(classes=None),
    metadata(classes="disc"),
    metadata(classes='["a", "b"]'),
    metadata(classes="[" * 100_000),
    metadata(classes='{"a": 1}'),
    metadata(classes="[1, 2, 3]"),
    metadata(preprocess=None),
    metadata(preprocess="[]"),
    metadata(preprocess='{"size": -1, "crop": 1, "mean": [0], "std": [1], "channels": 1}'),
    metadata(preprocess='{"size": 32, "crop": 1, "mean": [0], "std": [0], "channels": 1}'),
    metadata(preprocess='{"size": 32, "crop": NaN, "mean": [0], "std": [1], "channels": 1}'),
    metadata(input=None),
    metadata(input="video"),
    metadata(input="tensor"),
    metadata(threshold="nan"),
    metadata(threshold="half"),
    metadata(task="detect"),
    metadata(task="multilabel"),
]


@pytest.mark.parametrize("edit", ONNX, ids=named)
def test_an_exported_file_that_was_edited_is_refused(spoilt: Spoilt, edit: Edit) -> None:
    run = spoilt.copy(edit)
    (run / "model.onnx").rename(run.parent / "model.onnx")  # away from the record of its hash
    answer = bearable(command("predict", run.parent / "model.onnx", spoilt.good / "photo.png"))
    assert answer.code == 2
    assert f"{run.parent / 'model.onnx'}" in answer.err.splitlines()[0]


# Names that a library takes for more than a name


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Who was called, which nobody should be."""
    called: list[object] = []

    def connect(self: socket.socket, place: object) -> None:
        called.append(place)
        raise OSError("no network in a test")

    monkeypatch.setattr(socket.socket, "connect", connect)
    return called


REACH = [
    "timm/hf_hub:someone/model",
    "timm/hf-hub:someone/model",
    "timm/local-dir:/etc",
    "timm/local-dir:.",
    "timm/resnet18.hf_hub:x",
    "timm/../secret",
    "timm/",
    "timm/-x",
    "torchvision/../secret",
    "torchvision/resnet18:x",
    "timm/" + "x" * 5000,
    "timm/a\nb",
]


@pytest.mark.parametrize("name", REACH, ids=lambda name: name[:30])
def test_a_name_is_no_address(
    spoilt: Spoilt, name: str, photos: Path, no_network: list[object], tmp_path: Path
) -> None:
    def edit(run: Path) -> None:
        for field, value in (("model", name), ("spec.name", name), ("spec.builder", "library")):
            put(field, value)(run)
        if len(list(spoilt.folder.iterdir())) % 2:
            put("linear_head", ...)(run)

    (tmp_path / "r.toml").write_text(f"model = {json.dumps(name)}\ndata = {str(photos)!r}\n")
    answers = [
        spoilt("predict", edit),
        spoilt("predict", edit),
        spoilt("weights", edit),
        *(bearable(command(verb, name)) for verb in ("info", "bench")),
        bearable(command("predict", name, photos)),
        bearable(command("finetune", "--recipe", tmp_path / "r.toml", "-o", tmp_path / "run")),
        bearable(command("finetune", name, photos, "-o", tmp_path / "run")),
    ]
    assert [answer.code for answer in answers] == [2] * len(answers)
    assert no_network == []


# Lists and manifests


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", b""),
        ("m.csv", b"path,label\n\0,a\n"),
        ("m.csv", b"path,label\nx.png\n"),
        ("m.csv", b"path,label\nx.png,a,b,c\n"),
        ("m.csv", b"\xff\xfe" + "path,label\n".encode("utf-16-le")),
        ("m.csv", b"path,label\n" + b"x" * 300_000 + b",a\n"),
        ("m.csv", b"path," + b",".join(b"c%d" % n for n in range(20_000)) + b"\n"),
        ("m.csv", b'path,label\n"x.png,a\n'),
        ("m.csv", bytes(range(256)) * 50),
        ("m.parquet", b"PAR1 is not one PAR1"),
        ("m.parquet", b""),
        ("l.txt", b"\0\n\0\0\n"),
        ("l.txt", bytes(range(256)) * 50),
        ("l.txt", b"x" * 300_000),
        ("m.csv", None),
        ("l.txt", None),
    ],
)
def test_a_list_that_is_none_is_no_fault_of_zoo(
    good: Path, tmp_path: Path, name: str, content: bytes | None
) -> None:
    if content is None:
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(content)
    bearable(command("predict", good / "run", tmp_path / name))
    bearable(command("evaluate", good / "run", "--data", tmp_path / name))
    answer = bearable(command("finetune", "lenet", tmp_path / name, "-o", tmp_path / "run"))
    assert answer.code == 2


def test_a_run_of_a_newer_zoo_with_more_fields_opens(spoilt: Spoilt) -> None:
    run = spoilt.copy(put("preprocess.sharpen", 2))
    for field in ("spec.licence", "data.test", "results.test", "what is new"):
        put(field, {"accuracy": 0.9})(run)
    for verb in ("predict", "info", "compare", "embed"):
        assert bearable(command(*words_of(verb, run, spoilt.good))).code == 0


def test_every_preprocess_that_there_is_may_stand_in_a_run() -> None:
    for row in catalog.ROWS.values():
        for known in (row.preprocess, *(each.preprocess for each in row.weights)):
            records.PREPROCESS(known.to_dict(), "preprocess")
