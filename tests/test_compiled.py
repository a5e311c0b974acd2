"""The store of converted chains: whole or absent, the same numbers, never more than its limit."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from kit import ROOT
from torch import nn

from zoo import catalog, disk, models
from zoo.device import Device
from zoo.engine import compiled, store
from zoo.engine.compiled import GRAPH, STATE, WEIGHTS, find, folder, key_of, made_of, make
from zoo.engine.open import NetworkRef, open_engine
from zoo.errors import CacheError, ConversionError, RunError, UsageError
from zoo.head.layers import Linear

SPEC = catalog.find("lenet")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.delenv("ZOO_ENGINE_CACHE", raising=False)


@pytest.fixture(scope="module")
def chain():
    torch.manual_seed(0)
    return models.build(SPEC, 10)


def key(name: str = "weights") -> str:
    return key_of(made_of(SPEC), name, None, SPEC.preprocess)


def entries() -> list[str]:
    return sorted(path.name for path in folder().iterdir())


def test_a_key_depends_on_everything_the_answers_depend_on():
    made, pixels = made_of(SPEC, {"norm": "layer"}), SPEC.preprocess
    facts = (made, "abc", "conv1", pixels, "fp32")
    library = replace(SPEC, name="timm/lenet", builder="library")
    others = (
        (made_of(catalog.find("cnn"), {"norm": "layer"}), *facts[1:]),
        (made_of(SPEC, {"norm": "batch"}), *facts[1:]),
        (made_of(SPEC, {"norm": "layer"}, "mlp:9"), *facts[1:]),
        (made_of(library, {"norm": "layer"}), *facts[1:]),
        (made_of(replace(library, stages=("backbone", "head")), {"norm": "layer"}), *facts[1:]),
        *(
            ({**made, "versions": {**made["versions"], name: "0"}}, *facts[1:])
            for name in ("zoo", "torch")
        ),
        (made, "abd", *facts[2:]),
        (made, "abc", None, *facts[3:]),
        *(
            (made, "abc", "conv1", replace(pixels, **other), "fp32")
            for other in ({"size": 33}, {"channels": 3}, {"mean": (0.4,)}, {"std": (0.4,)})
        ),
        (*facts[:4], "int8"),
    )
    keys = {key_of(*facts), *(key_of(*other) for other in others)}
    assert len(keys) == 1 + len(others)
    assert {"zoo", "torch", "timm"} == set(made_of(library)["versions"])
    assert key_of(*facts[:4], "bf16") == key_of(*facts)
    assert key_of(made, "abc", "conv1", replace(pixels, fit="pad", crop=0.5)) == key_of(*facts)
    several = {"a": 1.0, "b": "x"}
    turned = dict(reversed(several.items()))
    assert key_of(made_of(SPEC, several), *facts[1:]) == key_of(made_of(SPEC, turned), *facts[1:])


def test_what_is_made_is_found_and_is_the_chain(chain):
    chain.train()
    modes = [module.training for module in chain.modules()]
    assert find(key()) is None
    made = make(key(), chain, SPEC.preprocess, {"model": "lenet", "after": None})
    assert [module.training for module in chain.modules()] == modes
    found = find(key())
    assert found is not None
    assert found.about == made.about == {"model": "lenet", "after": None}
    assert found.shape == (10,)
    state = chain.state_dict()
    assert list(found.state()) == list(state)
    for name, value in found.state().items():
        assert value.shape == tuple(state[name].shape)
        assert np.array_equal(value, state[name].numpy())
    assert entries() == [key()]


def test_numbers_without_axes_stay_so():
    chain = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(1800, 3))
    found = make(key("norm"), chain.to(memory_format=torch.channels_last), SPEC.preprocess)
    assert found.state()["1.num_batches_tracked"].shape == ()
    assert np.array_equal(found.state()["0.weight"], chain[0].weight.detach().numpy())


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-2])


def flipped(path):
    """A bit that the disk has turned, with the file's times as they were."""
    at = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))


def test_a_file_is_unchanged_by_its_length_and_its_hash(tmp_path):
    """Also one that was found so a moment ago, and is another one now."""
    path, content = tmp_path / "file", b"what was written"
    facts = len(content), hashlib.sha256(content).hexdigest()
    for now, good in ((content, True), (content[:-1], False), (content + b"!", False),
                      (content, True), (content[::-1], False)):  # fmt: skip
        path.unlink(missing_ok=True)
        path.write_bytes(now)
        for _ in range(2):
            assert store.unchanged(path, facts) is good


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        pytest.param(name, damage, marks=() if number in (0, 3, 5, 10) else pytest.mark.slow)
        for number, (damage, name) in enumerate(
            product((cut_short, flipped, os.unlink), (GRAPH, WEIGHTS, STATE, store.ABOUT))
        )
    ],
)
def test_a_damaged_folder_is_not_there_and_is_made_anew(chain, damage, name, caplog, monkeypatch):
    monkeypatch.setattr(disk, "_told", set())
    make(key(), chain, SPEC.preprocess)
    damage(folder() / key() / name)
    assert find(key(), state=True) is None
    told = "" if (damage, name) == (os.unlink, store.ABOUT) else f"{folder() / key()} is damaged"
    assert told in caplog.text
    assert make(key(), chain, SPEC.preprocess).engine("fp32", 1)(pictures(2)).shape == (2, 10)
    assert find(key(), state=True) is not None
    assert entries() == [key()]


def test_a_folder_under_another_name_is_not_taken_for_it(chain):
    make(key("one"), chain, SPEC.preprocess)
    shutil.copytree(folder() / key("one"), folder() / key("other"))
    assert find(key("one")) is not None
    assert find(key("other")) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": {}}', '{"files": {"x": 1}}'])
def test_a_record_that_says_nothing_is_no_record(chain, text):
    make(key(), chain, SPEC.preprocess)
    (folder() / key() / store.ABOUT).write_text(text)
    assert find(key()) is None


def test_a_record_that_was_edited_is_no_record(chain):
    make(key(), chain, SPEC.preprocess)
    about = folder() / key() / store.ABOUT
    before = about.read_text()
    about.write_text(json.dumps(json.loads(before) | {"edited": 1}))
    assert find(key()) is None
    about.write_text(before)
    assert find(key()) is not None


def test_a_copy_of_the_store_is_as_good(chain, tmp_path, monkeypatch):
    make(key(), chain, SPEC.preprocess)
    shutil.copytree(tmp_path / "engines", tmp_path / "other" / "engines", copy_function=shutil.copy)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "other"))
    assert find(key()) is not None


def pictures(count: int) -> np.ndarray:
    side, channels = SPEC.preprocess.size, SPEC.preprocess.channels
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), np.uint8)


def test_a_chain_that_openvino_runs_otherwise_is_refused():
    class Odd(nn.Module):
        """Says one thing when it is traced and another when it runs."""

        def forward(self, x):
            exporting = torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting()
            return x.flatten(1)[:, :3] * (2.0 if exporting else 1.0)

    with pytest.raises(ConversionError, match=r"cannot|differs") as error:
        make(key("odd"), nn.Sequential(Odd()), SPEC.preprocess)
    assert "--engine torch" in error.value.hint
    assert not folder().exists() or entries() == []


def test_a_graph_that_openvino_runs_otherwise_is_refused(chain, tmp_path):
    """Behind the exporter's own comparison: what is written is compared as well."""
    torch.manual_seed(1)
    other = models.build(SPEC, 10)
    model = compiled.onnx_of(other.eval(), SPEC.preprocess)
    compiled.write_graph(tmp_path / GRAPH, model, SPEC.preprocess)

    def prove(torchs):
        given = partial(compiled.by_torch, torchs, SPEC.preprocess)
        return compiled.prove(tmp_path / GRAPH, given, SPEC.preprocess, 1e-4)

    assert prove(other) == [10]
    with pytest.raises(ConversionError, match="it differs by"):
        prove(chain.eval())
    with pytest.raises(ConversionError, match=r"the shape \(2, 10\), not \(2, 11\)"):
        prove(models.build(SPEC, 11).eval())


def test_what_is_not_a_graph_is_refused(chain):
    with pytest.raises(ConversionError, match="OpenVINO cannot run this network"):
        make(key("junk"), chain, SPEC.preprocess, quantised=b"junk")
    assert entries() == []


# How much is kept.


def aged(name: str, chain: nn.Module, seconds: float) -> None:
    make(key(name), chain, SPEC.preprocess)
    about = folder() / key(name) / store.ABOUT
    then = about.stat().st_mtime - seconds
    os.utime(about, (then, then))


def limited(monkeypatch, count: float) -> None:
    """Room for so many of the folders that are there."""
    sizes = [store.size(path) for path in folder().iterdir()]
    monkeypatch.setenv("ZOO_ENGINE_CACHE", str(count * max(sizes) / 1e9))


def test_the_longest_unused_goes_first(chain, monkeypatch):
    aged("old", chain, 300)
    aged("used", chain, 400)
    aged("young", chain, 100)
    assert find(key("used")) is not None  # which makes it the youngest
    limited(monkeypatch, 3.5)
    make(key("new"), chain, SPEC.preprocess)
    assert entries() == sorted(key(name) for name in ("used", "young", "new"))


def test_what_was_just_made_stays_even_alone_above_the_limit(chain, monkeypatch):
    aged("old", chain, 300)
    monkeypatch.setenv("ZOO_ENGINE_CACHE", "0")
    make(key("new"), chain, SPEC.preprocess)
    assert entries() == [key("new")]


def test_what_is_in_use_stays(chain, monkeypatch):
    aged("old", chain, 300)
    held = find(key("old"))
    then = os.stat(held.folder / store.ABOUT).st_mtime - 300
    os.utime(held.folder / store.ABOUT, (then, then))
    monkeypatch.setenv("ZOO_ENGINE_CACHE", "0")
    make(key("new"), chain, SPEC.preprocess)
    assert len(held.state()) == len(chain.state_dict())
    del held
    make(key("newer"), chain, SPEC.preprocess)
    assert entries() == [key("newer")]


def test_where_what_is_in_use_stays_the_next_makes_room(chain, monkeypatch):
    for name, seconds in (("old", 300), ("older", 400), ("young", 100)):
        aged(name, chain, seconds)
    lease = store.lock(folder() / key("older"))
    limited(monkeypatch, 3.5)
    make(key("new"), chain, SPEC.preprocess)
    store.unlock(lease)
    assert entries() == sorted(key(name) for name in ("older", "young", "new"))


def test_what_a_killed_process_left_is_swept(chain):
    aged("old", chain, 300)
    left, recent = folder() / ".x.partial", folder() / ".y.partial"
    for path in (left, recent):
        path.mkdir()
    then = left.stat().st_mtime - 2 * store.STALE
    os.utime(left, (then, then))
    make(key("new"), chain, SPEC.preprocess)
    assert not left.exists()
    assert recent.exists()


@pytest.mark.parametrize("said", ["much", "-1", "nan"])
def test_a_limit_that_is_no_size_is_refused(chain, monkeypatch, said):
    monkeypatch.setenv("ZOO_ENGINE_CACHE", said)
    with pytest.raises(UsageError, match=f"ZOO_ENGINE_CACHE={said}") as error:
        make(key(), chain, SPEC.preprocess)
    assert "GB" in error.value.hint
    assert not folder().exists()  # before the work, not after


def test_a_store_that_cannot_be_written_says_so(chain, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    assert find(key()) is None
    with pytest.raises(CacheError, match="cannot write") as error:
        make(key(), chain, SPEC.preprocess)
    assert "ZOO_CACHE" in error.value.hint


# Several processes, and none of torch.

MAKE = """
import sys, torch
from zoo import catalog, models
from zoo.engine import compiled
torch.set_num_threads(1)
torch.manual_seed(0)
spec = catalog.find("lenet")
made = compiled.make(sys.argv[1], models.build(spec, 10), spec.preprocess, {"who": sys.argv[2]})
print(made.about["who"], len(made.state()))
"""
USE = """
import json, sys
import numpy as np
from zoo.engine import compiled
found = compiled.find(sys.argv[1])
answer = found.engine("fp32", 2)(np.full((3, 32, 32, 1), 7, np.uint8))
print(json.dumps([answer.tolist(), found.about, len(found.state()), "torch" in sys.modules]))
"""


def process(code: str, *words: str) -> str:
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_two_processes_make_one_folder_and_a_third_needs_no_torch(chain):
    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(lambda who: process(MAKE, key(), who), "ab"))
    assert {line.split()[0] for line in said} <= {"a", "b"}
    assert entries() == [key()]
    answer, about, tensors, torch_too = json.loads(process(USE, key()))
    assert about["who"] in "ab"
    assert tensors == len(chain.state_dict())
    assert torch_too is False
    given = np.full((3, 32, 32, 1), 7, np.uint8)
    assert np.array_equal(find(key()).engine("fp32", 1)(given), np.array(answer, np.float32))


def test_torch_runs_what_has_no_graph_where_that_is_forgiven(tmp_path, monkeypatch, chain):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))  # nothing can be kept there
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))  # nor anywhere else
    place = Device("cpu", "fp32", 1, "")
    ref = NetworkRef("lenet", made_of(SPEC), "weights", None, SPEC.preprocess, lambda: chain)
    ready = open_engine(ref, "openvino", place)
    assert ready.compiled is None
    assert ready.engine.name.startswith("torch")
    assert "cannot write" in ready.note
    with pytest.raises(CacheError, match="cannot write"):
        open_engine(ref, "openvino", place, forgiven=(ConversionError,))
    with pytest.raises(CacheError, match="removed meanwhile"):
        open_engine(replace(ref, build=None), "openvino", place)
    with pytest.raises(UsageError, match="int8 of lenet is measured out on photos"):
        open_engine(ref, "openvino", replace(place, precision="int8"))


def test_a_head_that_takes_other_features_than_its_network_gives_is_refused(chain):
    head = Linear(np.ones((3, 83), np.float32), np.zeros(3, np.float32))
    made, names = made_of(SPEC), [name for name, _ in chain.named_children()]
    ref = NetworkRef("lenet", made, "w", names[-2], SPEC.preprocess, lambda: chain, head)
    ready = open_engine(ref, "openvino", Device("cpu", "fp32", 1, ""))
    with pytest.raises(RunError, match=r"gives 84 numbers, and the head in .* takes 83"):
        ready.engine(np.zeros((1, 32, 32, 1), np.uint8))


def test_what_stands_beside_a_picture_changes_no_bit_of_what_its_head_says(chain):
    random, names = np.random.default_rng(0), [name for name, _ in chain.named_children()]
    head = Linear(random.normal(size=(10, 84)).astype(np.float32), np.zeros(10, np.float32))
    ref = NetworkRef("lenet", made_of(SPEC), "w", names[-2], SPEC.preprocess, lambda: chain, head)
    engine = open_engine(ref, "openvino", Device("cpu", "fp32", 1, "")).engine
    pixels = random.integers(0, 256, (16, 32, 32, 1), np.uint8)
    alone = np.concatenate([engine(pixels[n : n + 1]) for n in range(16)])
    assert np.array_equal(engine(pixels), alone)


def test_where_the_cache_takes_nothing_a_graph_lasts_as_long_as_its_engine(
    tmp_path, monkeypatch, chain
):
    (tmp_path / "file").write_text("")
    (tmp_path / "tmp").mkdir()
    ref = NetworkRef("lenet", made_of(SPEC), "weights", None, SPEC.preprocess, lambda: chain)
    place, given = Device("cpu", "fp32", 1, ""), np.full((3, 32, 32, 1), 7, np.uint8)
    kept = open_engine(ref, "openvino", place)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    alone = open_engine(ref, "openvino", place)
    assert alone.compiled is not None
    assert alone.compiled.folder.parent.parent == tmp_path / "tmp"
    assert np.array_equal(alone.engine(given), kept.engine(given))
    del alone
    gc.collect()
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_nothing_that_is_found(chain):
    """At any moment: from before the first file to after the last."""
    found = 0
    for step in ("write_graph", "prove", "store.seal", "store.settle", "store.sweep"):
        die = f"compiled.{step} = lambda *_, **__: os._exit(9)\n"
        code = MAKE.replace("torch.set_num", "import os\n" + die + "torch.set_num")
        command = [sys.executable, "-c", code, key(), "x"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 9, done.stderr
        there = find(key())
        assert (there is not None) == (step == "store.sweep")
        found += there is not None
    assert found == 1
