"""Classes of ours in place of those that trainers save beside the weights: settings, paths, times.

torch gets them for the harmless names of INERT, which is all that a file may ask for besides
torch's own. They take anything, keep nothing and do nothing: no module is imported by a name in a
file, and no method of such a class is ever called.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import Any


class Nothing:
    """Stands for an object that is not a tensor: whatever it is made of is not looked at."""

    __slots__ = ()

    def __new__(cls, *arguments: object, **named: object) -> Nothing:
        return object.__new__(cls)

    def __init__(self, *arguments: object, **named: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class Array(Nothing):
    """Stands for an array of NumPy's, so that a file of nothing else can be told what it is."""

    __slots__ = ()


class Mapping:
    """Stands for a dict of another kind, which may hold tensors: becomes an ordinary one."""

    def __new__(cls, *arguments: object, **named: object) -> Any:
        return OrderedDict()


class Sequence:
    """The same for a list."""

    def __new__(cls, *arguments: object, **named: object) -> Any:
        return []


KINDS = "bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 str_"
PATHS = "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"
NODES = "AnyNode StringNode IntegerNode FloatNode BooleanNode EnumNode BytesNode PathNode"
# Modules and what of them is no code: settings, paths, times, numbers of numpy.
OBJECTS = {
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "pathlib pathlib._local": PATHS,
    "datetime": "datetime date time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "uuid": "UUID",
    "builtins": "list dict tuple str int float bool bytes frozenset slice range object type",
    "copyreg": "_reconstructor",
    "typing": "Any Union Optional List Dict Tuple",
    "numpy": f"dtype {KINDS}",
    "numpy.core.multiarray numpy._core.multiarray": "scalar",
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
ARRAYS = {
    "numpy": "ndarray",
    "numpy.core.multiarray numpy._core.multiarray": "_reconstruct",
    "numpy.core.numeric numpy._core.numeric": "_frombuffer",
}
MAPPINGS = {
    "collections": "defaultdict",
    "easydict": "EasyDict",
    "addict.addict": "Dict",
    "munch": "Munch",
    "yacs.config fvcore.common.config": "CfgNode",
    "mmcv.utils.config mmengine.config.config": "ConfigDict",
    "pytorch_lightning.utilities.parsing lightning.pytorch.utilities.parsing": "AttributeDict",
    "lightning.fabric.utilities.data lightning_fabric.utilities.data": "AttributeDict",
}
INERT: dict[str, type] = {
    f"{module}.{name}": stand_in
    for stand_in, kind in (
        (Nothing, OBJECTS),
        (Array, ARRAYS),
        (Mapping, MAPPINGS),
        (Sequence, {"collections": "deque"}),
    )
    for modules, names in kind.items()
    for module, name in itertools.product(modules.split(), names.split())
}
