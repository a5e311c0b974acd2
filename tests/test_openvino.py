"""OpenVINO: the answers of plain torch, of each picture alone, and nothing said to anybody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from kit import ROOT

from zoo import catalog, models, network
from zoo.data.preprocess import normalise
from zoo.data.views import plain_view
from zoo.device import Device
from zoo.engine import compiled
from zoo.engine import select as choosing
from zoo.engine.openvino import BATCHES, TINY_BATCH, OpenVinoEngine, version
from zoo.engine.select import choose
from zoo.engine.torch import TorchEngine
from zoo.errors import UsageError
from zoo.models.cut import cut

CPU = Device("cpu", "fp32", 1, "a test")
SMALL = [row.name for row in catalog.ROWS.values() if row.macs < 50e6]
LARGE = [name for name in catalog.ROWS if name not in SMALL]
# One of each kind of network; the others in the slow run.
KINDS = {"mlp", "cnn", "lstm", "conv-autoencoder"}


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))


def lively(spec: catalog.ModelSpec) -> torch.nn.Sequential:
    """With the statistics of a network that has seen something: else folding is trivial."""
    torch.manual_seed(0)
    chain = models.build(spec)
    for module in chain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight.data, 0.5, 1.0)
    return chain.eval()


def pictures(preprocess: catalog.Preprocess, count: int, seed: int = 0) -> np.ndarray:
    shape = (count, preprocess.size, preprocess.size, preprocess.channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def key_for(tensors: str, preprocess: catalog.Preprocess, *more: str) -> str:
    """Whatever the chain is made of: these tests keep each in a store of its own."""
    return compiled.key_of({}, tensors, None, preprocess, *more)


def made(chain: torch.nn.Module, preprocess: catalog.Preprocess) -> compiled.Compiled:
    return compiled.make(key_for("some weights", preprocess), chain, preprocess)


def exact(chain: torch.nn.Module, preprocess: catalog.Preprocess, given: np.ndarray) -> np.ndarray:
    """Eager torch in fp32, NCHW, as everybody writes it."""
    values = torch.from_numpy(given).permute(0, 3, 1, 2).contiguous().float() / 255
    mean = torch.tensor(preprocess.mean).view(1, -1, 1, 1)
    std = torch.tensor(preprocess.std).view(1, -1, 1, 1)
    with torch.inference_mode():
        return chain((values - mean) / std).numpy()


def agree(name: str) -> None:
    """Both engines, the whole chain and its frozen part, within 1e-4 of the largest value."""
    spec = catalog.find(name)
    chain, preprocess = lively(spec), spec.preprocess
    given = pictures(preprocess, 3, seed=5)
    before = {key: value.clone() for key, value in chain.state_dict().items()}
    parts = [chain] if not spec.cut else [chain, cut(chain, spec.cut).frozen]
    for part in parts:
        truth = exact(part, preprocess, given)
        kept = compiled.make(key_for(str(len(part)), preprocess), part, preprocess)
        assert kept.shape == truth.shape[1:]
        for engine in (kept.engine("fp32", 1), TorchEngine(part, preprocess, CPU)):
            engine.start_worker()
            found = engine(given)
            assert found.dtype == np.float32
            assert found.shape == truth.shape
            assert np.abs(found - truth).max() <= 1e-4 * np.abs(truth).max(), engine.name
    after = chain.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize(
    "name", [n if n in KINDS else pytest.param(n, marks=pytest.mark.slow) for n in SMALL]
)
def test_both_engines_agree_with_plain_torch(name):
    agree(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_both_engines_agree_with_plain_torch_on_large_rows(name):
    agree(name)


@pytest.mark.parametrize(
    "name",
    ["lenet", *(pytest.param(one, marks=pytest.mark.slow) for one in ("resnet18", "alexnet"))],
)
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_an_answer_depends_on_the_picture_alone(name, precision):
    """The same bytes in any order, any fill of the batch, beside anything, for any workers."""
    if precision == "bf16" and not choosing.bf16():
        pytest.skip("this processor has no bf16")
    spec = catalog.find(name)
    kept = made(lively(spec), spec.preprocess)
    engine = kept.engine(precision, 1)
    size = engine.batch
    given, strangers = pictures(spec.preprocess, size), pictures(spec.preprocess, size, seed=1)
    together = engine(given)
    assert np.array_equal(engine(given[::-1])[::-1], together)
    for place in {0, 1, size // 2, size - 1}:
        assert np.array_equal(engine(given[place : place + 1])[0], together[place])
        beside = strangers.copy()
        beside[place] = given[0]
        assert np.array_equal(engine(beside)[place], together[0])
    two = kept.engine(precision, 2)
    batches = [given, strangers, given[::-1]] * 4
    with ThreadPoolExecutor(2, initializer=two.start_worker) as pool:
        found = list(pool.map(two, batches))
    for answer, batch in zip(found, batches, strict=True):
        assert np.array_equal(answer, engine(batch))


def test_an_answer_stays_when_the_next_is_made():
    spec = catalog.find("lenet")
    engine = made(lively(spec), spec.preprocess).engine("fp32", 1)
    first = engine(pictures(spec.preprocess, 4))
    kept = first.copy()
    engine(pictures(spec.preprocess, 4, seed=1))
    assert np.array_equal(first, kept)


def test_pictures_that_cannot_be_written_or_lie_otherwise_are_as_good():
    spec = catalog.find("lenet")
    engine = made(lively(spec), spec.preprocess).engine("fp32", 1)
    given = pictures(spec.preprocess, TINY_BATCH)
    truth = engine(given)
    frozen = given.copy()
    frozen.flags.writeable = False
    assert np.array_equal(engine(frozen), truth)
    turned = np.ascontiguousarray(given.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    assert not turned.flags.c_contiguous
    assert np.array_equal(engine(turned), truth)


def test_the_batch_fits_the_network():
    """Small pictures, then much computed with few weights, then many weights for little."""
    spec = catalog.find("lenet")
    assert made(lively(spec), spec.preprocess).engine("fp32", 1).batch == TINY_BATCH
    wide, found = catalog.Preprocess(size=80), []
    for width in (1, 25, 200):
        few = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 80 * 80, width))
        engine = compiled.make(key_for(str(width), wide), few, wide).engine("fp32", 3)
        found.append(engine.batch)
        assert (engine.workers, engine.decoders) == (3, 0)
    assert found == [batch for _, batch in reversed(BATCHES)]


def test_a_name_tells_version_and_precision():
    spec = catalog.find("perceptron")
    kept = made(lively(spec), spec.preprocess)
    assert kept.engine("fp32", 1).name == f"openvino {version()} cpu fp32"
    assert kept.engine("bf16", 1).name == f"openvino {version()} cpu bf16"
    with pytest.raises(UsageError, match="--precision fp16"):
        kept.engine("fp16", 1)


def test_a_quantised_graph_runs_in_int8():
    from zoo.engine.quantise import quantise

    spec = catalog.find("lenet")
    chain, preprocess = lively(spec), spec.preprocess
    given = pictures(preprocess, 32)
    values = np.stack([normalise(picture, preprocess) for picture in given])
    model = quantise(compiled.onnx_of(chain, preprocess), values)
    key = key_for("some weights", preprocess, "int8")
    kept = compiled.make(key, chain, preprocess, quantised=model)
    truth = exact(chain, preprocess, given)
    engine = kept.engine("int8", 1)
    apart = np.abs(engine(given) - truth).max() / np.abs(truth).max()
    assert 1e-4 < apart < 0.1
    assert engine.name.endswith("int8")
    with pytest.raises(AssertionError):
        kept.engine("fp32", 1)
    with pytest.raises(AssertionError):
        made(chain, preprocess).engine("int8", 1)


@pytest.mark.slow
def test_real_weights_on_real_photos(shared):
    """fp32 gives plain torch's classes; bf16 does so for nearly all (MobileNetV2 is its worst)."""
    photos = sorted((shared / "data" / "imagenet150").rglob("*.[jJ]*"))[:40]
    assert len(photos) == 40
    weights = shared / "weights" / "timm-mobilenetv2_100-keras.pth"
    net = network.pretrained("timm/mobilenetv2_100", str(weights))
    given = np.stack([plain_view(str(path), net.preprocess) for path in photos])
    kept = made(net.chain, net.preprocess)
    truth = exact(net.chain.eval(), net.preprocess, given)

    def answers(engine: OpenVinoEngine) -> np.ndarray:
        steps = range(0, len(given), engine.batch)
        return np.concatenate([engine(given[k : k + engine.batch]) for k in steps])

    found = answers(kept.engine("fp32", 1))
    assert np.abs(found - truth).max() <= 1e-4 * np.abs(truth).max()
    assert np.array_equal(found.argmax(1), truth.argmax(1))
    if choosing.bf16():
        rough = answers(kept.engine("bf16", 1))
        assert (rough.argmax(1) == truth.argmax(1)).sum() >= 34
        assert not np.array_equal(rough, found)


# What it says to others.

QUIET = """
import socket, sys
from pathlib import Path
import numpy as np
from zoo.engine.openvino import OpenVinoEngine, capabilities, runtime

def forbidden(*_, **__):
    raise SystemExit("a socket was opened")

socket.socket = socket.create_connection = socket.getaddrinfo = forbidden
engine = OpenVinoEngine(Path(sys.argv[1]), "fp32", 2)
print(engine(np.zeros((2, 32, 32, 1), np.uint8)).shape, "FP32" in capabilities())
print(sorted(name for name in sys.modules if "telemetry" in name or "ovc" in name))
"""


def test_nothing_is_reported_and_nothing_written_at_home(tmp_path):
    spec = catalog.find("lenet")
    graph = made(lively(spec), spec.preprocess).folder / compiled.GRAPH
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home)}
    for name in ("CI", "TF_BUILD", "JENKINS_URL"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", QUIET, str(graph)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["(2, 10) True", "[]"]
    assert list(home.rglob("*")) == []


# Which engine, and why.


def test_auto_takes_openvino_on_a_cpu_and_torch_elsewhere(monkeypatch):
    engine, why = choose("auto", "cpu", "fp32")
    assert (engine, why.partition(" (")[0]) == ("openvino", "quickest on this CPU")
    assert choose("auto", "cuda:1", "bf16") == (
        "torch", "the device is cuda:1, openvino is for CPUs",
    )  # fmt: skip
    assert choose("auto", "mps", "fp32")[0] == "torch"
    monkeypatch.setattr(choosing, "version", lambda: None)
    assert choose("auto", "cpu", "fp32") == ("torch", "openvino is not installed")


def test_an_engine_that_is_asked_for_is_taken_or_refused():
    for name in ("torch", "openvino", "onnxruntime"):
        assert choose(name, "cpu", "fp32") == (name, "asked for")
    for words, what, hint in (
        (("tensorrt", "cpu", "fp32"), "--engine tensorrt", "auto, torch, openvino"),
        (("openvino", "cuda", "fp32"), "the device is cuda", "--engine torch"),
        (("onnxruntime", "mps", "fp32"), "runs on the CPU", "--device cpu"),
        (("torch", "cpu", "int8"), "--precision int8", "openvino or onnxruntime"),
        (("auto", "cuda", "int8"), "--precision int8", "fp32, bf16"),
    ):
        with pytest.raises(UsageError, match=what) as error:
            choose(*words)
        assert hint in error.value.hint


@pytest.mark.parametrize(
    ("processor", "engine", "bf16"),
    [
        ("model name\t: Old\nflags\t\t: fpu sse4_2 avx", "torch", False),
        ("model name\t: Mid\nflags\t\t: fpu avx2 fma", "openvino", False),
        ("model name\t: New\nflags\t\t: fpu avx2 avx512f avx512_bf16", "openvino", True),
        ("model name\t: Tiles\nflags\t\t: fpu avx2 avx512f amx_bf16", "openvino", True),
    ],
)
def test_other_processors(monkeypatch, processor, engine, bf16):
    monkeypatch.setattr(choosing, "cpuinfo", lambda: processor.splitlines())
    monkeypatch.setattr(choosing.platform, "machine", lambda: "x86_64")
    choosing.flags.cache_clear()
    try:
        assert choose("auto", "cpu", "fp32")[0] == engine
        if bf16:
            assert choose("auto", "cpu", "bf16")[0] == engine
        else:
            for wanted in ("auto", "torch"):
                with pytest.raises(UsageError, match="this CPU has no bf16") as error:
                    choose(wanted, "cpu", "bf16")
                assert "avx512_bf16" in error.value.hint
        assert choose("torch", "cuda", "bf16")[0] == "torch"
    finally:
        choosing.flags.cache_clear()


@pytest.mark.parametrize(("machine", "said"), [("x86_64", ""), ("aarch64", "Features : asimd")])
def test_no_avx2_is_no_reason_where_it_is_not_known_or_on_arm(monkeypatch, machine, said):
    monkeypatch.setattr(choosing, "cpuinfo", lambda: said.splitlines())
    monkeypatch.setattr(choosing.platform, "machine", lambda: machine)
    choosing.flags.cache_clear()
    try:
        assert choose("auto", "cpu", "fp32")[0] == "openvino"
    finally:
        choosing.flags.cache_clear()


def test_choosing_imports_nothing_heavy():
    code = (
        "import json, sys; from zoo.engine.select import choose; choose('auto', 'cpu', 'fp32');"
        "print(json.dumps([n for n in ('torch', 'openvino', 'onnxruntime') if n in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(ROOT), capture_output=True)
    assert json.loads(done.stdout) == []


# Threads that ask for a type's numpy name for the first time together, as `infer` does.
TOGETHER = """if True:
    import sys, threading
    sys.setswitchinterval(1e-6)
    from zoo.engine.openvino import runtime
    openvino, meeting = runtime(), threading.Barrier(4)
    def ask():
        meeting.wait()
        openvino.Type.u8.to_dtype()
    threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
"""


def test_the_first_answers_of_several_threads_do_not_wait_for_each_other_for_ever():
    """Most of such processes hang where nobody has asked before."""
    for _ in range(2):
        subprocess.run([sys.executable, "-c", TOGETHER], check=True, timeout=60)
