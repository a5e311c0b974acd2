"""A signal ends every command soon, with its code, and leaves nothing unfinished behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from kit.warm import Warm

ROOT = Path(__file__).parents[1]
LATEST = 10.0  # seconds after a signal in which no command is alive, on a machine that is free
AT_ONCE = 2.0  # seconds after the second one
BUSY = 50.0  # seconds more for what runs beside much else: nothing here ends by itself before
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@dataclass
class Place:
    """Where the commands of a test write: all of it is looked through afterwards."""

    folder: Path

    def start(self, *words: object, program: str = "") -> subprocess.Popen[str]:
        """A process that hears signals by now. program: Python in the place of `zoo WORDS`."""
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        begin = ["-c", program] if program else ["-m", "zoo"]
        process = subprocess.Popen(
            [sys.executable, *begin, *map(str, words)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_for(lambda: process.poll() is not None or hears(process.pid))
        return process

    def unfinished(self) -> list[str]:
        """But what a resumable run and interrupted predictions are: kept on purpose."""
        left = [path for path in self.folder.rglob("*") if ".partial" in path.name]
        left += (self.folder / "tmp").glob("zoo-*")
        return sorted(str(path) for path in left if not path.name.endswith(".csv.partial"))


def hears(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def wait_for(what: Callable[[], bool], within: float = 60, pid: int = 0) -> None:
    """pid: of who is killed where it takes longer."""
    deadline = time.monotonic() + within
    while not what():
        if pid and time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
        assert time.monotonic() < deadline
        time.sleep(0.005)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def ended(process: subprocess.Popen[str], within: float) -> tuple[int, str]:
    """The exit code and what was said. Fails, and kills it, where it lives on."""
    try:
        _, said = process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    assert "Traceback" not in said, said
    return process.returncode, said


def family(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported file whose graph never returns."""
    from onnx import TensorProto, helper, save

    from zoo.catalog import Preprocess

    def value(name: str, kind: int, shape: list[object] | None) -> object:
        return helper.make_tensor_value_info(name, kind, shape)

    again = helper.make_graph(
        [helper.make_node("Identity", ["cond"], ["again"]),
         helper.make_node("Add", ["sum", "sum"], ["next"])],
        "body",
        [value("turn", TensorProto.INT64, []), value("cond", TensorProto.BOOL, []),
         value("sum", TensorProto.FLOAT, [None, 2])],
        [value("again", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, [None, 2])],
    )  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
         helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2, 3], keepdims=0),
         helper.make_node("Constant", [], ["axis"], value_ints=[1]),
         helper.make_node("Unsqueeze", ["mean", "axis"], ["one"]),
         helper.make_node("Concat", ["one", "one"], ["start"], axis=1),
         helper.make_node("Constant", [], ["nought"], value_float=0.0),
         helper.make_node("ReduceMax", ["mean"], ["most"], keepdims=0),
         helper.make_node("GreaterOrEqual", ["most", "nought"], ["true"]),
         helper.make_node("Loop", ["", "true", "start"], ["scores"], body=again)],
        "endless",
        [value("image", TensorProto.UINT8, ["N", "H", "W", 3])],
        [value("scores", TensorProto.FLOAT, ["N", 2])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    about = {"classes": json.dumps(["a", "b"]), "preprocess": json.dumps(Preprocess().to_dict()),
             "input": "image"}  # fmt: skip
    helper.set_model_props(model, {f"zoo.{name}": text for name, text in about.items()})
    path = tmp_path_factory.mktemp("endless") / "endless.onnx"
    save(model, path)
    return path


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_graph_that_never_returns_ends_with_the_first_signal(
    place: Place, endless: Path, photos: Path, number: int
) -> None:
    process = place.start("predict", endless, photos, "-o", "out.csv")
    wait_for(lambda: (place.folder / "out.csv.partial").exists() or process.poll() is not None)
    time.sleep(0.3)
    process.send_signal(number)
    code, said = ended(process, BUSY)
    assert (code, said.splitlines()[-2]) == (128 + number, "interrupted")
    assert os.listdir(place.folder) == ["tmp"]


STUCK = textwrap.dedent("""
    import sys
    from pathlib import Path
    import numpy as np, onnxruntime
    from zoo import disk, lock, watch
    from zoo.cli.console import Screen
    watch.PATIENCE = float(sys.argv[2])
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    with Screen(), lock.held(Path(".")), disk.scratch("x"), disk.replacing(Path("one")) as one:
        folder = one.with_name("many.partial")
        with disk.unfinished(folder):
            (folder / "deep").mkdir(parents=True)
            (folder / "deep/file").touch()
            print("stuck", flush=True)
            session.run(None, {"image": np.ones((1, 8, 8, 3), np.uint8)})
""")


@pytest.mark.parametrize(
    ("first", "second", "patience"),
    [
        (signal.SIGTERM, signal.SIGINT, 60),
        (signal.SIGINT, 0, 0.5),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((signal.SIGINT, signal.SIGINT, 60), (signal.SIGTERM, signal.SIGTERM, 60),
                         (signal.SIGTERM, 0, 0.5))
        ),
    ],
)  # fmt: skip
def test_a_main_thread_that_never_looks_is_ended(
    place: Place, endless: Path, first: int, second: int, patience: float
) -> None:
    """By the second signal at once, else when the time is up; what is unfinished is removed."""
    process = place.start(endless, patience, program=STUCK)
    assert process.stdout is not None
    assert process.stdout.readline() == "stuck\n"
    assert len(list(place.folder.iterdir())) == 4
    process.send_signal(first)
    if second:
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(second)
    code, said = ended(process, BUSY)
    assert code == 128 + (second or first)
    assert said.startswith("interrupted\nhint: run it again")
    assert place.unfinished() == []
    assert os.listdir(place.folder) == ["tmp"]


SAVING = textwrap.dedent("""
    import time
    from pathlib import Path
    from zoo import watch
    from zoo.cli.console import Screen
    watch.PATIENCE = 0.1
    with Screen():
        with watch.saving():
            print("saving", flush=True)
            time.sleep(1)
            Path("saved").touch()
        time.sleep(60)
""")


def test_what_a_run_goes_on_from_is_written_to_its_end(place: Place) -> None:
    process = place.start(program=SAVING)
    assert process.stdout is not None
    assert process.stdout.readline() == "saving\n"
    process.send_signal(signal.SIGTERM)
    assert ended(process, BUSY)[0] == 143
    assert (place.folder / "saved").exists()


def test_the_second_signal_comes_before_the_time_is_up(place: Place) -> None:
    from zoo import watch

    assert AT_ONCE < watch.PATIENCE < LATEST - 1


# Any command, at any moment.


@pytest.fixture(scope="module")
def many(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough pictures for seconds."""
    folder = tmp_path_factory.mktemp("many") / "photos"
    for kind in photos.iterdir():
        (folder / kind.name).mkdir(parents=True)
        for file in kind.iterdir():
            for number in range(20):
                os.link(file, folder / kind.name / f"{number}-{file.name}")
    return folder


STEPS = ("--weights", "none", "--no-freeze", "--views", "1", "--batch-size", "6")
COMMANDS: dict[str, tuple[object, ...]] = {
    "predict": ("predict", "RUN", "MANY", "-o", "out.csv"),
    "evaluate": ("evaluate", "RUN", "--data", "MANY"),
    "embed": ("embed", "RUN", "MANY", "-o", "out.npz"),
    "export": ("export", "onnx", "RUN", "-o", "out.onnx"),
    "bench": ("bench", "lenet", "--engine", "torch", "--seconds", "0.5"),
    "rank": ("rank", "MANY", "--models", "lenet/mnist"),
    "finetune": ("finetune", "lenet", "PHOTOS", *STEPS, "--epochs", "30", "-o", "run"),
    "frozen": ("finetune", "lenet/mnist", "MANY", "-o", "run"),
    "lr": ("lr", "lenet", "PHOTOS", *STEPS, "-o", "lr.csv"),
    "sweep": ("sweep", "lenet", "PHOTOS", "--weights", "none", "lr=0.01,0.1", "freeze=false",
              "views=1", "epochs=5", "batch_size=6", "--folds", "1", "-o", "sweep"),
    "reconstruct": ("reconstruct", "TWIN", "MANY", "-o", "pairs"),
    "report": ("report", "RUN", "-o", "page.html"),
}  # fmt: skip


@pytest.fixture(scope="module")
def command(
    run: Path, photos: Path, many: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], list[str]]:
    """The words of a command."""
    from zoo.cli import main

    names = {"RUN": str(run), "PHOTOS": str(photos), "MANY": str(many)}

    def words(name: str) -> list[str]:
        if name == "reconstruct" and "TWIN" not in names:
            twin = tmp_path_factory.mktemp("twin") / "run"
            made = ["train", "autoencoder", str(photos), "--epochs", "1", "-o", str(twin)]
            assert main(made) == 0
            names["TWIN"] = str(twin)
        return [names.get(str(word), str(word)) for word in COMMANDS[name]]

    return words


def stopped(place: Place, words: list[str], after: float, number: int, group: bool) -> None:
    """group: all processes get the signal, as from a terminal."""
    process = place.start(*words)
    time.sleep(after)
    (os.killpg if group else os.kill)(process.pid, number)
    try:
        code, said = ended(process, LATEST + BUSY)
    except ProcessLookupError:
        return
    late = code == 0  # the interpreter was being taken down
    assert late or code == 128 + number, (after, code, said)
    assert place.unfinished() == [], (after, said)
    wait_for(lambda: family(process.pid) == [])


@pytest.mark.parametrize(
    ("name", "moments"),
    [
        ("predict", (0.05, 1.5)),
        ("finetune", (1.5,)),  # in its first moments it does what predict does
        pytest.param("export", (0.05, 1.5), marks=pytest.mark.slow),
    ],
)
def test_a_command_ends_soon_after_a_signal(
    tmp_path: Path, command, name: str, moments: tuple[float, ...]
) -> None:
    for after in moments:
        place = Place(tmp_path / f"{after}")
        place.folder.mkdir()
        early = after < 1
        which = signal.SIGHUP if early else signal.SIGTERM
        stopped(place, command(name), after, which, group=early)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_ends_soon_after_any_of_30_signals(
    tmp_path: Path, warm: Warm, command, name: str
) -> None:
    """In processes that have imported torch, so that all moments are of the command's own work."""
    random = np.random.default_rng(sorted(COMMANDS).index(name))
    whole = warm_stopped(Place(tmp_path / "whole"), warm, command(name), None, 0, False)
    for number in range(30):
        place, after = Place(tmp_path / f"{number}"), float(random.uniform(0, whole))
        which, group = SIGNALS[number % 3], bool(number // 3 % 2)
        warm_stopped(place, warm, command(name), after, which, group)


def warm_stopped(
    place: Place, warm: Warm, words: list[str], after: float | None, number: int, group: bool
) -> float:
    """How long it took, stopped after so many seconds or not at all."""
    temporary, talk = place.folder / "tmp", place.folder / "talk.txt"
    temporary.mkdir(parents=True)
    environment = {"TMPDIR": str(temporary)}
    pid = warm.start(*words, talk=talk, environment=environment, cwd=str(place.folder))
    wait_for(lambda: not alive(pid) or hears(pid))
    began = time.monotonic()
    if after is not None:
        wait_for(lambda: not alive(pid) or time.monotonic() - began > after, 120)
        (os.killpg if group else os.kill)(pid, number)
    wait_for(lambda: not alive(pid), 120 if after is None else LATEST + BUSY, pid)
    took, code, said = time.monotonic() - began, warm.wait(pid), talk.read_text()
    assert code in ({0} if after is None else {0, 128 + number}), (after, code, said)
    assert code or after is None or took < after + 0.5, "it was over, or it did not look"
    assert "Traceback" not in said, (after, said)
    assert place.unfinished() == [], (after, said)
    wait_for(lambda: family(pid) == [])
    return took


SPAWNS = textwrap.dedent("""
    import multiprocessing, os, signal
    from zoo.watch import unheard
    signal.signal(signal.SIGINT, lambda *_: None)
    child = multiprocessing.get_context("spawn").Process(target=os._exit, args=(7,))
    with unheard(spawned=True):
        child.start()
    signal.signal(signal.SIGTERM, lambda *_: None)
    os.killpg(0, signal.SIGINT)
    child.join()
    raise SystemExit(child.exitcode != 7)
""")


def test_a_first_child_hears_no_ctrl_c_while_it_begins(place: Place) -> None:
    """A terminal sends it to the whole group, and a child that begins would show a traceback."""
    assert ended(place.start(program=SPAWNS), BUSY) == (0, "")
