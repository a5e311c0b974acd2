"""`zoo …` in processes of their own that need not import torch first: forked from one that has.

The server has one thread when it forks, and has computed nothing: a child is as a process that was
just started, three seconds later. It reads requests, one JSON object a line, from stdin.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# What the commands import beside what their own modules do, and these commands.
MODULES = ("torch", "torch.utils.flop_counter", "torch.nested._internal.nested_tensor",
           "torch.fx.experimental._constant_symnode", "torch.onnx", "torch.onnx.ops", "onnx",
           "numpy.random", "PIL.BmpImagePlugin", "PIL.GifImagePlugin",
           "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "PIL.PpmImagePlugin", "jinja2.ext",
           "filelock._soft._lease", "tomli_w", "tomllib", "threadpoolctl",
           "typer._click.decorators", "zoo.api.page", "zoo.cache",
           "zoo.cli.finetune_report", "zoo.engine.torch",
           "zoo.finetune.backbones", "zoo.finetune.begin", "zoo.finetune.examine",
           "zoo.finetune.inputs", "zoo.finetune.job", "zoo.finetune.kept_features",
           "zoo.finetune.plan", "zoo.models.auxiliary", "zoo.models.cut", "zoo.models.lenet",
           "zoo.models.meter", "zoo.models.perceptron", "zoo.models.pieces", "zoo.models.sizes",
           "zoo.models.tap", "zoo.network", "zoo.predict.agreement", "zoo.predict.policy",
           "zoo.predict.predictor", "zoo.predict.sorting", "zoo.predict.writers",
           "zoo.report.next_steps", "zoo.report.run_page", "zoo.scale.plan")  # fmt: skip
COMMANDS = ("finetune", "predict")


class Warm:
    """The server, seen from a test."""

    def __init__(self) -> None:
        one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, **one, "PYTHONPATH": path, "ZOO_TRACEBACK": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(
        self, *words: object, talk: Path, out: Path | None = None, often: bool = True, **limits: Any
    ) -> int:
        """The pid of `zoo WORDS`. limits: see `child`."""
        files = {"talk": str(talk), **({"out": str(out)} if out else {})}
        return int(self.ask(words=[*map(str, words)], often=often, **files, **limits))

    def wait(self, pid: int) -> int:
        """The exit code of a process, negative for a signal."""
        return int(self.ask(wait=pid))

    def run(self, *words: object, talk: Path, often: bool = True, **limits: Any) -> int:
        return self.wait(self.start(*words, talk=talk, often=often, **limits))

    def seconds(self, *words: object, talk: Path) -> float:
        """How long a command takes that must succeed."""
        began = time.monotonic()
        code = self.run(*words, talk=talk)
        assert code == 0, talk.read_text()
        return time.monotonic() - began

    def close(self) -> None:
        self.process.communicate(timeout=60)


def serve() -> None:
    import importlib

    gc.disable()
    for name in MODULES:
        importlib.import_module(name)
    import torch

    from zoo.cli import app
    from zoo.engine import openvino

    for name in COMMANDS:
        app.load(name)
    if openvino.version():
        openvino.runtime()
    gc.enable()
    gc.freeze()  # nothing of it is garbage: no child looks for any in it
    torch.set_num_threads(1)
    os.fsync = lambda handle: None  # a process that is killed loses nothing that it has written
    assert len(os.listdir("/proc/self/task")) == 1
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                child(**request)
        print(json.dumps(answer), flush=True)


def child(
    words: list[str],
    talk: str,
    often: bool,
    out: str | None = None,
    largest: int | None = None,
    environment: dict[str, str] | None = None,
    cwd: str | None = None,
    falls: tuple[str, int] | None = None,
    torch_file: str | None = None,
) -> None:
    """Run a command; never return.

    talk, out: where its stderr and its stdout go, which is nowhere if not said.
    torch_file: its stdin, if it is what reads those; words are its limits then.
    often: a checkpoint at each step. largest: bytes of a file. falls: a folder, and at which of
    the events in it (a file is opened, gets its name, …) the process kills itself.
    """
    import math
    import resource
    import traceback

    from zoo import watch
    from zoo.cli import main
    from zoo.train import checkpoint
    from zoo.weights import convert_worker

    code = 99
    try:
        if cwd:
            os.chdir(cwd)
            os.setsid()
        how = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        handles = [os.open(path, how, 0o600) for path in (out or os.devnull, talk)]
        for number, handle in enumerate((os.open(torch_file or os.devnull, os.O_RDONLY), *handles)):
            os.dup2(handle, number)
        os.environ.update(environment or {})
        if often:
            checkpoint.SECONDS, checkpoint.SHARE = 0.0, math.inf
        if largest:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        if falls:
            sys.addaudithook(falling(*falls))
        if torch_file:
            os._exit(convert_worker.main(words))
        watch.listen()
        code = main(words)
        watch.leave(code)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def falling(folder: str, number: int) -> Callable[[str, tuple[object, ...]], None]:
    """Return a hook that kills the process at so many-th of the events in a folder."""
    left = [number]

    def hook(event: str, words: tuple[object, ...]) -> None:
        if event in ("open", "os.rename", "os.remove", "os.mkdir") and folder in str(words[0]):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook


if __name__ == "__main__":
    serve()
