"""A file that is not wholly right is refused, and it costs no memory to find out."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import random
import struct
import subprocess
import sys
import time
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from kit import ROOT
from safetensors.torch import save as to_bytes
from torch import nn

from zoo.catalog.spec import ModelSpec, Weights
from zoo.errors import WeightsError
from zoo.weights import find, load, read, save


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    return tmp_path / "cache" / "weights"


# What a safetensors file may be


def raw(text: str, data: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text.encode() + data


def entry(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


ONE = json.dumps(entry(0, 8, [2]))
MALFORMED = {
    "a name twice": raw(f'{{"a":{ONE},"a":{ONE}}}', bytes(8)),
    "a field twice": raw('{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
                         bytes(8)),
    "a header longer than the file": raw(f'{{"a":{ONE}}}', bytes(8), 1 << 40),
    "a header that ends in a tensor": raw(f'{{"a":{ONE}}}', bytes(8), 30),
    "an overlap": raw(json.dumps({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}), bytes(12)),
    "a hole": raw(json.dumps({"a": entry(0, 8, [2]), "b": entry(12, 20, [2])}), bytes(20)),
    "a tail": raw(json.dumps({"a": entry(0, 8, [2])}), bytes(8) + b"PK\x03\x04"),
    "too little data": raw(json.dumps({"a": entry(0, 8, [2])}), bytes(4)),
    "a shape that overflows": raw(json.dumps({"a": entry(0, 8, [1 << 63, 1 << 63])}), bytes(8)),
    "an unknown type": raw(json.dumps({"a": entry(0, 8, [1], "OBJ")}), bytes(8)),
    "a truth of 2": raw(json.dumps({"a": entry(0, 2, [2], "BOOL")}), b"\1\2"),
    "nothing": raw("", b""),
}  # fmt: skip


@pytest.mark.parametrize("form", MALFORMED)
def test_malformed_safetensors_are_refused(form: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(MALFORMED[form])
    began = time.process_time()
    with pytest.raises(WeightsError) as refused:
        read(path)
    assert time.process_time() - began < 5
    assert f"{refused.value.what}{refused.value.hint}".isprintable()


@pytest.mark.slow
def test_a_file_costs_its_size_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save({f"w{i}": torch.ones(5_000_000) for i in range(10)}, path)
    code = (
        "import resource, sys, torch; from pathlib import Path; from zoo.weights import read\n"
        "torch.set_num_threads(1); torch.isfinite(torch.ones(9))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "found = read(Path(sys.argv[1]))\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)"
    )
    words = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < path.stat().st_size + 64_000_000


@pytest.mark.parametrize("count", [60, pytest.param(10_000, marks=pytest.mark.slow)])
def test_random_bytes_never_pass_a_pinned_hash(count: int, tmp_path: Path, cache: Path) -> None:
    """And without a hash they give an error or numbers, quickly, and nothing else."""
    tensors = {f"layer{i}.weight": torch.randn(4, 3) for i in range(8)}
    data, draw, path = to_bytes(tensors), random.Random(0), cache / "x.safetensors"
    row = Weights("v1", "", path.name, hashlib.sha256(data).hexdigest(), len(data))
    cache.mkdir(parents=True)
    refused = 0
    for _ in range(count):
        flipped = bytearray(data)
        for _ in range(draw.choice((1, 1, 1, 4))):
            flipped[draw.randrange(len(data))] ^= draw.randrange(1, 256)
        if bytes(flipped) == data:
            continue
        path.write_bytes(flipped)
        began = time.process_time()
        with contextlib.suppress(WeightsError):
            read(tmp_path / copied(path, tmp_path))
        with pytest.raises(WeightsError, match="not found"):
            find(row)
        assert time.process_time() - began < 5
        refused += 1
        for aside in cache.glob("*.bad*"):
            aside.unlink()
    assert refused > 0.99 * count


def copied(path: Path, folder: Path) -> str:
    """Under a name that no hash is known of."""
    (folder / "free.safetensors").write_bytes(path.read_bytes())
    return "free.safetensors"


# Whose tensors they are


def chain() -> nn.Sequential:
    body = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 2, 3), bn=nn.BatchNorm2d(2)))
    return nn.Sequential(OrderedDict(body=body, flatten=nn.Flatten(), fc=nn.Linear(8, 3)))


SPEC = ModelSpec(
    name="tiny", family="tiny", builder="x.y", paper="", year=2026, params=0, macs=0,
    stages=("body", "flatten", "fc"), cut="body", head="fc",
)  # fmt: skip
FLOATS = [name for name, t in chain().state_dict().items() if t.is_floating_point()]


def mutations() -> dict[str, dict[str, torch.Tensor | None]]:
    """20 and more files of other models, or damaged ones: what differs from the right one."""
    state = chain().state_dict()
    made: dict[str, dict[str, torch.Tensor | None]] = {}
    for name in FLOATS:
        made[f"{name} is missing"] = {name: None}
        made[f"{name} is longer"] = {name: torch.cat([state[name], state[name]])}
    made |= {
        "one is unexpected": {"body.conv2.weight": torch.ones(1)},
        "ten are unexpected": {f"more.{i}": torch.ones(1) for i in range(10)},
        "transposed": {"fc.weight": state["fc.weight"].T},
        "integers": {"fc.weight": state["fc.weight"].long()},
        "doubles out of range": {"fc.weight": state["fc.weight"].double() + 1e300},
        "renamed": {"fc.weight": None, "head.weight": state["fc.weight"]},
        "a dimension more": {"fc.bias": state["fc.bias"][None]},
        "all of them": dict.fromkeys(FLOATS) | {"x": torch.ones(1)},
    }
    return made


def test_files_of_other_models_name_five_tensors(tmp_path: Path) -> None:
    assert len(mutations()) >= 20
    for form, change in mutations().items():
        target = chain()
        before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
        state = {**chain().state_dict(), **change}
        path = tmp_path / "x.safetensors"
        save({name: tensor for name, tensor in state.items() if tensor is not None}, path)
        with pytest.raises(WeightsError, match="does not fit tiny") as refused:
            load(target, SPEC, path)
        differences = refused.value.what.split(": ", 1)[1].split(", ")
        assert 1 <= len(differences) <= 5, form
        assert all(torch.equal(before[n], t) for n, t in target.state_dict().items()), form


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_are_refused(tmp_path: Path, name: str, value: float) -> None:
    state = chain().state_dict()
    state[name].view(-1)[-1] = value
    save(state, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="holds NaN or infinity"):
        load(chain(), SPEC, tmp_path / "x.safetensors")


def test_nothing_is_loaded_loosely() -> None:
    loads = 0
    for file in (ROOT / "zoo").rglob("*.py"):
        text = file.read_text("utf-8")
        for node in ast.walk(ast.parse(text)) if "load_state_dict" in text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("load_state_dict"):
                loads += 1
                assert "strict=False" not in ast.unparse(node), file
    assert loads
