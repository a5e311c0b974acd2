"""What a torch file asks for, read without running it: an early and cheap refusal, not the lock.

The lock is `torch.load(weights_only=True)` in a process of its own (convert_worker.py).
Before torch is even imported there, this walk over the pickle refuses whatever is not
in the language of state dicts: an allow-list, never a list of known bad names.

Trainers save their settings beside the weights. For the harmless classes among these (INERT)
torch gets a class of ours in place of theirs, which takes anything, keeps nothing and does
nothing: no module is imported by a name in a file, and no method of such a class is ever called.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from io import BufferedReader
from typing import IO, Any

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
    f"{module}.{name}"
    for module, names in {
        "collections": "OrderedDict Counter",
        "_codecs": "encode",
        "builtins": "bytearray set complex",
    }.items()
    for name in names.split()
)


class Nothing:
    """Stands for an object that is not a tensor: whatever it is made of is not looked at."""

    __slots__ = ()

    def __new__(cls, *arguments: object, **named: object) -> Nothing:
        return object.__new__(cls)

    def __init__(self, *arguments: object, **named: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class Mapping:
    """Stands for a dict of another kind, which may hold tensors: becomes an ordinary one."""

    def __new__(cls, *arguments: object, **named: object) -> Any:
        return OrderedDict()


class Sequence:
    """The same for a list."""

    def __new__(cls, *arguments: object, **named: object) -> Any:
        return []


OF_NUMPY = "scalar _reconstruct"
KINDS = "bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 str_"
PATHS = "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"
NODES = "AnyNode StringNode IntegerNode FloatNode BooleanNode EnumNode BytesNode PathNode"
# Modules and what of them is no code: settings, paths, times, numbers of numpy.
OBJECTS = {
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "pathlib": PATHS,
    "pathlib._local": PATHS,
    "datetime": "datetime date time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "uuid": "UUID",
    "builtins": "list dict tuple str int float bool bytes frozenset slice range object type",
    "copyreg": "_reconstructor",
    "typing": "Any Union Optional List Dict Tuple",
    "numpy": f"dtype ndarray {KINDS}",
    "numpy.core.multiarray": OF_NUMPY,
    "numpy._core.multiarray": OF_NUMPY,
    "numpy.core.numeric": "_frombuffer",
    "numpy._core.numeric": "_frombuffer",
    "numpy.random._pickle": "__randomstate_ctor __generator_ctor __bit_generator_ctor",
    "numpy.random._mt19937": "MT19937",
    "numpy.random._pcg64": "PCG64",
    "omegaconf.dictconfig": "DictConfig",
    "omegaconf.listconfig": "ListConfig",
    "omegaconf.base": "Metadata ContainerMetadata",
    "omegaconf.nodes": NODES,
    "ml_collections.config_dict.config_dict": "ConfigDict FrozenConfigDict",
    "torch.torch_version": "TorchVersion",
}
MAPPINGS = {
    "collections": "defaultdict",
    "easydict": "EasyDict",
    "addict.addict": "Dict",
    "munch": "Munch",
    "yacs.config": "CfgNode",
    "fvcore.common.config": "CfgNode",
    "mmcv.utils.config": "ConfigDict",
    "mmengine.config.config": "ConfigDict",
    "pytorch_lightning.utilities.parsing": "AttributeDict",
    "lightning.pytorch.utilities.parsing": "AttributeDict",
    "lightning.fabric.utilities.data": "AttributeDict",
    "lightning_fabric.utilities.data": "AttributeDict",
}
INERT: dict[str, Callable[..., Any]] = {
    f"{module}.{name}": stand_in
    for stand_in, kind in (
        (Nothing, OBJECTS),
        (Mapping, MAPPINGS),
        (Sequence, {"collections": "deque"}),
    )
    for module, names in kind.items()
    for name in names.split()
}
OLD_NAMES = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # as protocol 2 has them


class Refused(Exception):
    """Why a file is not weights, in a few words that follow its name."""


def check(file: BufferedReader, size: int) -> dict[str, str]:
    """Refuse what torch.save does not write for a state dict. Leaves the file at its start.

    Returns every global that the file names, with the key that stands before it.
    """
    asked: dict[str, str] = {}
    start = file.read(len(LEGACY))
    file.seek(0)
    if start.startswith(ZIP):
        asked = _check_archive(file, size)
    elif start == LEGACY:
        try:
            for _ in range(LEGACY_PICKLES):
                asked |= _walk(file)
        except ValueError as error:
            raise Refused("is damaged or cut short") from error
    else:
        raise Refused("is not a torch file")
    file.seek(0)
    return asked


def _check_archive(file: BufferedReader, size: int) -> dict[str, str]:
    """Refuse TorchScript, anything compressed, names that climb, a pickle of more than tensors."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check_members(members, size)
            (main,) = [member for member in members if member.filename.endswith("/data.pkl")]
            if main.file_size > PICKLE_BYTES:
                raise Refused(f"holds a pickle of {main.file_size} bytes")
            with archive.open(main) as pickled:
                asked = _walk(pickled)
                while pickled.read(1 << 16):  # to its end, where zipfile compares the checksum
                    pass
                return asked
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


def _walk(file: IO[bytes]) -> dict[str, str]:
    """Read one pickle's instructions. Raises Refused, and ValueError where it is not a pickle.

    Returns its globals with the last text before each: of what torch.save writes the key.
    """
    asked: dict[str, str] = {}
    for name, key in _globals(file):
        asked.setdefault(name, key)
        if name not in PLAIN and name not in INERT and not name.startswith("torch."):
            raise Refused(asks_for(name, key))
    return asked


def _globals(file: IO[bytes]) -> Iterator[tuple[str, str]]:
    last, text = "", ""
    texts: dict[object, str] = {}  # those that come again, by their number
    for step, (code, argument, _) in enumerate(pickletools.genops(file)):
        if code.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            yield f"{OLD_NAMES.get(module, module)}.{name}", text
        elif code.name not in KNOWN:
            raise Refused(f"holds more than tensors: the pickle instruction {code.name}")
        elif code.name == "BINUNICODE":
            text = str(argument)
        elif code.name in ("BINPUT", "LONG_BINPUT") and last == "BINUNICODE":
            texts[argument] = text
        elif code.name in ("BINGET", "LONG_BINGET"):
            text = texts.get(argument, text)
        if step > STEPS:
            return  # weights_only reads on, under limits
        last = code.name


def asks_for(name: str, key: str = "") -> str:
    where = f" (it stands under {shown(key)!r})" if key else ""
    return f"asks for {shown(name)}, which is code: refused, nothing was run{where}"
