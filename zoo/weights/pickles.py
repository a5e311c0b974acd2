"""What a torch file asks for, read without running it: an early and cheap refusal, not the lock.

The lock is `torch.load(weights_only=True)` in a process of its own (child.py). Before torch is
even imported there, this walk over the pickle's instructions refuses whatever is not in the
language of state dicts: an allow-list, never a list of known bad names.
"""

from __future__ import annotations

import pickletools
import zipfile
from io import BufferedReader
from typing import IO

from zoo.weights.tensors import shown

ZIP = b"PK\x03\x04"
# torch.save before 1.6: its magic number, pickled with protocol 2.
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
LEGACY_PICKLES = 5  # magic number, protocol, machine, the object, the keys of its storages
PICKLE_BYTES = 64_000_000
STEPS = 3_000_000  # instructions that are looked at; some thirty to a tensor

# The instructions that weights_only knows, by pickletools' names.
KNOWN = frozenset(
    {
        *("PROTO", "STOP", "GLOBAL", "REDUCE", "BUILD", "NEWOBJ", "BINPERSID", "MARK"),
        *("APPEND", "APPENDS", "SETITEM", "SETITEMS", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("NONE", "NEWFALSE", "NEWTRUE", "EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"),
        *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"),
        *("BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT"),
    }
)
# Besides names of torch itself, of which weights_only has its own list.
PLAIN = frozenset(
    f"{module} {name}"
    for module, names in {
        "collections": "OrderedDict Counter",
        "_codecs": "encode",
        "builtins": "bytearray set complex",
        "__builtin__": "bytearray set complex",
    }.items()
    for name in names.split()
)


class Refused(Exception):
    """Why a file is not weights, in a few words that follow its name."""


def check(file: BufferedReader, size: int) -> None:
    """Refuse what torch.save does not write for a state dict. Leaves the file at its start."""
    start = file.read(len(LEGACY))
    file.seek(0)
    if start.startswith(ZIP):
        _check_archive(file, size)
    elif start == LEGACY:
        try:
            for _ in range(LEGACY_PICKLES):
                _walk(file)
        except ValueError as error:
            raise Refused("is damaged or cut short") from error
    else:
        raise Refused("is not a torch file")
    file.seek(0)


def _check_archive(file: BufferedReader, size: int) -> None:
    """Refuse TorchScript, anything compressed, names that climb, a pickle of more than tensors."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check_members(members, size)
            (main,) = [member for member in members if member.filename.endswith("/data.pkl")]
            if main.file_size > PICKLE_BYTES:
                raise Refused(f"holds a pickle of {main.file_size} bytes")
            with archive.open(main) as pickled:
                _walk(pickled)
                while pickled.read(1 << 16):  # to its end, where zipfile compares the checksum
                    pass
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, RuntimeError) as error:
        raise Refused("is damaged or cut short") from error


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    names = [member.filename for member in members]
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise Refused("is a TorchScript program, not weights")
    if sum(name.endswith("/data.pkl") for name in names) != 1:
        raise Refused("is a zip archive, not weights")
    if len({name.partition("/")[0] for name in names}) > 1 or len(set(names)) < len(names):
        raise Refused("is a zip archive of another kind than torch.save writes")
    if any(".." in name.split("/") or "\\" in name or name.startswith("/") for name in names):
        raise Refused("holds names that climb out of their folder")
    stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
    if not stored or sum(member.file_size for member in members) > size:
        raise Refused("is a compressed archive, which torch.save does not write")


def _walk(file: IO[bytes]) -> None:
    """Read one pickle's instructions. Raises Refused, and ValueError where it is not a pickle."""
    for step, (code, argument, _) in enumerate(pickletools.genops(file)):
        if code.name == "GLOBAL":
            name = str(argument)  # module, a space, name
            if name not in PLAIN and not name.startswith(("torch.", "torch ")):
                raise Refused(asks_for(name.replace(" ", ".")))
        elif code.name not in KNOWN:
            raise Refused(f"holds more than tensors: the pickle instruction {code.name}")
        if step > STEPS:
            return  # weights_only reads on, under limits


def asks_for(name: str) -> str:
    return f"asks for {shown(name)}, which is code: refused, nothing was run"
