"""What all tests share: a small folder of photos, the command in and out of process."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from kit import ROOT, Answer, Command, write_photos
from kit.warm import Warm
from threadpoolctl import threadpool_limits

from zoo.cli import main

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling

# Networks of the catalogue that others of their family stand for, except where all is run.
LARGE = {"resnet34", "resnet101", "resnet152", "resnet200", "vgg16_bn", "vgg19", "vgg19_bn"}

# These build the same networks of libraries, a second or two each, which a process builds once.
OF_LIBRARIES = {
    f"tests/test_{name}.py" for name in ("backbones", "library", "listing", "text_heads")
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    """Let one process run the files of `OF_LIBRARIES`; the others go one by one, as ever."""
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "of libraries" if file in OF_LIBRARIES else file

    return Together(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is asked of every network is asked of the large ones in the slow run."""
    for item in items:
        case = getattr(item, "callspec", None)
        if case and any(isinstance(one, str) and one in LARGE for one in case.params.values()):
            item.add_marker(pytest.mark.slow)


def pytest_configure() -> None:
    """Let BLAS have one thread, here and in xdist's workers and all that tests start.

    Two that wait for each other spin: on a busy machine a matrix of 784 x 784 is decomposed in 4.4
    CPU seconds by two and in 0.13 by one.
    """
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    threadpool_limits(1, user_api="blas")  # NumPy is imported by now where there are no workers
    gc.disable()  # until all tests are collected: a tenth of what that takes


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """The tests themselves and torch are no garbage: it need not be looked for among them.

    pytest puts its handlers on each logger that tells the root nothing, and takes them off, six
    times a test: torch has forty of them, which was nearly half of what an empty test costs.
    """
    for logger in logging.getLogger().manager.loggerDict.values():
        if isinstance(logger, logging.Logger) and logger.name.startswith("torch"):
            logger.propagate = True
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees the user's cache, the network or the width that xdist says a screen has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("ZOO_OFFLINE", "1")
        patch.setenv("ZOO_CONFIG", str(tmp_path_factory.mktemp("config") / "config.toml"))
        for name in ("ZOO_WEIGHTS", "ZOO_DEVICE"):
            patch.delenv(name, raising=False)
        patch.delenv("COLUMNS", raising=False)
        patch.setattr(os, "fsync", lambda handle: None)  # no test cuts the power
        os.unsetenv("COLUMNS")  # readline sets it where only other processes see it
        yield


@pytest.fixture(scope="session", autouse=True)
def parsed_once() -> Iterator[None]:
    """typer builds all commands anew at each call: 40 ms of each of a thousand calls."""
    from typer import main as typer_main

    from zoo.cli.app import app

    command = typer_main.get_command(app)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer_main, "get_command", lambda _: command)
        yield


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Two threads that wait for each other on a busy machine are tenfold slower than one."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = Path(os.environ.get("ZOO_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip("needs the shared data: set ZOO_SHARED to its folder")
    return folder


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a folder that all of xdist's workers have: the first one that asks makes it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = root / "shared" / name, root / f"{name}.done"
        with FileLock(root / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of one that failed
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def photos(once: Callable[..., Path]) -> Path:
    """3 classes of 12 pictures. Shared by all tests: copy it to change it."""
    return once("photos", write_photos)


@pytest.fixture(scope="session")
def zoo() -> Command:
    """`zoo …` in a process of its own. cwd, input and environment can be given by name."""

    def run(
        *words: object, cwd: Path | None = None, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        return subprocess.run(
            [sys.executable, "-m", "zoo", *map(str, words)],
            cwd=cwd,
            input=stdin,
            env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=900,  # for what hangs: on a busy machine a minute's work takes ten
        )

    return run


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """The same in processes that are forked from one that has imported torch."""
    server = Warm()
    yield server
    server.close()


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """The same in this process, which is faster."""

    def run(*words: object) -> Answer:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory, once: Callable[..., Path]) -> Path:
    """A finished run of LeNet on `photos` that knows its classes apart. Not to be changed.

    Each of xdist's workers has a copy: commands lock the run that they read.
    """
    words = ["--weights", "none", "--no-freeze", "--views", "1"]
    pace = ["--epochs", "60", "--batch-size", "6", "--lr", "0.003"]

    def trained(folder: Path) -> None:
        assert main(["finetune", "lenet", str(photos), *words, *pace, "-o", str(folder)]) == 0

    return shutil.copytree(once("run", trained), tmp_path_factory.mktemp("runs") / "lenet")


@pytest.fixture(scope="session")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as a file, outside its folder."""
    path = tmp_path_factory.mktemp("exported") / "lenet.onnx"
    assert main(["export", "onnx", str(run), "-o", str(path)]) == 0
    return path
