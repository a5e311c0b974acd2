"""Files that try to run code, or to be more than they are: each writes a canary if it runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import tempfile
import zipfile
from argparse import Namespace
from collections import defaultdict
from functools import partial
from io import BufferedRandom, BufferedReader
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as to_bytes
from torch import nn

from kit.warm import Warm
from zoo.weights import convert, convert_worker
from zoo.weights.tensors import shown, write


class Reduce:
    """Pickles as a call."""

    def __init__(self, call: object, *arguments: object) -> None:
        self.made = (call, arguments)

    def __reduce__(self) -> tuple:
        return self.made


class Whole(nn.Module):
    """A module of our own: saved whole, it asks for this very class."""


LEGACY_START = b"".join(
    pickle.dumps(part, 2)
    for part in (
        0x1950A86A20F9469CFC6C,
        1001,
        {"protocol_version": 1001, "little_endian": True, "type_sizes": {}},
    )
)


def saved(thing: object, new: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(thing, file, _use_new_zipfile_serialization=new)
    return file.getvalue()


def as_zip(data: bytes, method: int = zipfile.ZIP_STORED, extra: str = "") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
        if extra:
            archive.writestr(extra, b"x")
    return file.getvalue()


def as_legacy(data: bytes) -> bytes:
    return LEGACY_START + data + b"\x80\x02]."


def pickles_that_run(canary: Path) -> dict[str, bytes]:
    """Bare pickles, most of which plain `pickle.loads` would run."""
    command = f"touch {canary}"
    shell = Reduce(os.system, command)
    text = b"X" + struct.pack("<I", len(command)) + command.encode()
    program = f"open({str(canary)!r}, 'w').close()"
    call = b"cposix\nsystem\n" + text + b"\x85R"
    return {
        "reduce": pickle.dumps(shell, 2),
        "reduce protocol 0": pickle.dumps(shell, 0),
        "stack global": pickle.dumps(shell, 4),
        "nested in a dict": pickle.dumps({"state_dict": {"w": [shell]}}, 2),
        "exec": pickle.dumps(Reduce(exec, program), 2),
        "eval": pickle.dumps(Reduce(eval, f"__import__('os').system({command!r})"), 2),
        "inst": b"\x80\x02(" + text + b"iposix\nsystem\n.",
        "obj": b"\x80\x02(cposix\nsystem\n" + text + b"o.",
        "build": b"\x80\x02ctorch._utils\n_rebuild_tensor\n}X\x0c\x00\x00\x00__setstate__"
        b"cposix\nsystem\nsb" + text + b"b.",
        "a pickle in a pickle": pickle.dumps(Reduce(pickle.loads, pickle.dumps(shell)), 2),
        "importlib": pickle.dumps(Reduce(__import__, "os"), 2),
        "set item": b"\x80\x02]K\x00" + call + b"s.",
        "newobj": b"\x80\x02cposix\nsystem\n" + text + b"\x85\x81.",
        "newobj ex": b"\x80\x04cposix\nsystem\n" + text + b"\x85}\x92.",
        "extension": b"\x80\x02\x82\x01.",
        "text persistent id": b"Pposix.system\n.",
        "persistent id that calls": b"\x80\x02(X\x07\x00\x00\x00storage" + call + b"tQ.",
        "persistent id of code": b"\x80\x02cposix\nsystem\nQ.",
        "a torch file in a torch file": pickle.dumps(
            Reduce(torch.storage._load_from_bytes, saved({"x": shell}, False)), 2
        ),
        "a class that is passed over": pickle.dumps(Reduce(type, "X", (), {"a": 1}), 2),
        "code in what is passed over": pickle.dumps({"args": Namespace(hook=shell)}, 2),
        "code that makes a default": pickle.dumps({"d": defaultdict(os.system)}, 2),
        "code that is kept for later": pickle.dumps({"d": partial(os.system, command)}, 2),
        "state for what is passed over": b"\x80\x02cargparse\nNamespace\n)\x81}X\x0c\x00\x00\x00"
        b"__setstate__cposix\nsystem\nsb" + text + b"b.",
        "a call by torch of what is passed over": b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n"
        b"(cargparse\nNamespace\ncargparse\nNamespace\n("
        + text
        + b"t}X\x01\x00\x00\x00a"
        + text
        + b"stR.",
        "torch's own loader": pickle.dumps(Reduce(torch.load, str(canary)), 2),
    }


def corpus(canary: Path) -> dict[str, tuple[str, bytes]]:
    """More than 60 files by what they try: (suffix, bytes)."""
    bare = pickles_that_run(canary)
    shell = Reduce(os.system, f"touch {canary}")
    state = {"w": torch.ones(2), "x": shell}
    pth = {f"{name}, bare": data for name, data in bare.items()}
    pth |= {f"{name}, zip": as_zip(data) for name, data in bare.items()}
    pth |= {f"{name}, legacy": as_legacy(data) for name, data in bare.items()}
    for form, new in (("zip", True), ("legacy", False)):
        pth[f"torch.save {form}"] = saved(state, new)
        pth[f"whole module {form}"] = saved(Whole(), new)
    run, good = as_zip(bare["reduce"]), as_zip(pickle.dumps({}, 2))
    pth |= {
        "TorchScript": as_zip(bare["reduce"], extra="archive/constants.pkl"),
        "TorchScript code": as_zip(bare["reduce"], extra="archive/code/x.py"),
        "compressed": as_zip(bare["reduce"], zipfile.ZIP_DEFLATED),
        "zip slip": as_zip(pickle.dumps({}, 2), extra="archive/../../evil"),
        "zip with an absolute name": as_zip(pickle.dumps({}, 2), extra="/evil"),
        "two pickles": as_zip(pickle.dumps({}, 2), extra="archive/x/data.pkl"),
        "broken checksum": run.replace(b"touch", b"tough", 1),
        "no directory": run[: run.index(b"PK\x01\x02")],
        "7z renamed": b"7z\xbc\xaf\x27\x1c" + run,
        "shell script before a zip": b"#!/bin/sh\ntouch " + bytes(canary) + b"\n" + run,
        "torch 0.1": _tar(bare["reduce"]),
        "a numpy object": b"\x93NUMPY\x01\x00\x10\x00{'descr': '|O'}\n" + bare["reduce"],
        "zip of zip": as_zip(good, extra="archive/inner.zip"),
    }
    files = {name: (".pth", data) for name, data in pth.items()}
    return files | {name: (".safetensors", data) for name, data in _safetensors(run).items()}


def _safetensors(run: bytes) -> dict[str, bytes]:
    whole = to_bytes({"a": torch.ones(2)})
    giant = {"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    text = json.dumps(giant).encode()
    return {
        "a pickle named safetensors": pickle.dumps(Reduce(os.system, "true"), 2),
        "a torch file named safetensors": run,
        "a legacy file named safetensors": saved({"x": Reduce(os.system, "true")}, False),
        "safetensors and a zip behind": whole + run,
        "a zip and safetensors behind": run + whole,
        "header of 100 GB": struct.pack("<Q", 100 << 30)[:8] + b"{}",
        "header of 2 GB": struct.pack("<Q", 2 << 30) + b"{" + bytes(100),
        "tensor of 4 TB": struct.pack("<Q", len(text)) + text + bytes(8),
        "twins": struct.pack("<Q", 8) + b'{"a":1,"' + b'a":2}',
    }


def _tar(data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("pickle")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def inside(patch: pytest.MonkeyPatch) -> None:
    """Let the reading process's work be done in this one: no limits, and no second to wait."""

    def run(
        file: BufferedReader, result: BufferedRandom, limits: list[int], wall: float
    ) -> tuple[int, str]:
        size = os.fstat(file.fileno()).st_size
        file.seek(0)
        try:
            write(result, convert_worker.state_dict(file, size))
        except convert_worker.Refused as error:
            return convert.REFUSED, shown(error, 300)
        result.flush()
        return 0, ""

    patch.setattr(convert, "_run", run)


def forked(patch: pytest.MonkeyPatch, warm: Warm) -> None:
    """Let the reading process, with its limits, be forked from one that has imported torch."""

    def run(
        file: BufferedReader, result: BufferedRandom, limits: list[int], wall: float
    ) -> tuple[int, str]:
        given, made = (f"/proc/{os.getpid()}/fd/{one.fileno()}" for one in (file, result))
        with tempfile.NamedTemporaryFile("r+") as talk:
            code = warm.run(*limits, talk=Path(talk.name), out=Path(made), torch_file=given)
            return code, (talk.read().splitlines() or [""])[-1]

    patch.setattr(convert, "_run", run)
