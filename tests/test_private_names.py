"""The private names of other packages that zoo uses: all of them, and what each must still do.

A new version may change them without a word. Here that shows before a user sees it.
"""

from __future__ import annotations

import copy
import re
from importlib import import_module
from pathlib import Path

import torch
from kit import ROOT
from torch import nn
from typer import _completion_shared

THEIRS = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "onnxscript", "openvino", "typer",
          "huggingface_hub")  # fmt: skip
IMPORTED = {
    "torch.utils._python_dispatch.TorchDispatchMode": "stages are counted and graphs are watched",
    "torch.utils._pytree.tree_leaves": "the tensors in what an operator takes or gives",
    "torch.utils._pytree.tree_map": "the same, with something else in their place",
    "torch.nn.modules.batchnorm._BatchNorm": "all kinds of BatchNorm",
    "torch._compile._disable_dynamo": "marks methods without torch's compiler being imported",
    "typer._completion_shared": "scripts of shells, which ours take the place of",
    "torchvision.transforms._presets.ImageClassification": "a type alone: how photos are prepared",
}
ATTRIBUTES = {
    "_DropoutNd": "all kinds of dropout",
    "_NormBase": "BatchNorm and InstanceNorm",
    "_foreach_lerp_": "the running mean of weights in one call",
    "_cdata": "which storages are the same",
    "_modules": "a shallow copy of a module with other children",
    "_parameters": "the same, with other parameters",
    "_buffers": "the same, with other buffers",
    "_completion_scripts": "typer's script of each shell",
    "_get_shell_name": "the shell that zoo was typed in",
}
PYTHONS = {"_replace", "_asdict", "_exit", "_run_exitfuncs"}  # named tuples, os, atexit


def test_no_other_private_name_is_used() -> None:
    text = "\n".join(file.read_text() for file in (ROOT / "zoo").rglob("*.py"))
    theirs = rf"(?:{'|'.join(THEIRS)})[\w.]*"
    found = set()
    for module, names in re.findall(rf"^ *from ({theirs}) import \(?([^)\n]+)", text, re.M):
        names = [f"{module}.{name.split()[0]}" for name in names.split("#")[0].split(",") if name]
        found |= {name for name in names if "._" in name}
    found |= {name for name in re.findall(rf"^ *import ({theirs})", text, re.M) if "._" in name}
    assert found == IMPORTED.keys()
    code = re.sub(r"^ *(from|import) .*$", "", text, flags=re.M)
    code = re.sub(r"""\"[^"\n]*\"|#.*$""", "", code, flags=re.M)
    ours = re.findall(r"(?:def|class) (_\w+)|\bself\.(_\w+)|^ *(_\w+)(?: =|: )", text, re.M)
    written = {name for names in ours for name in names if name}
    used = set(re.findall(r"\.(_[A-Za-z]\w*)", code))
    assert used - written - PYTHONS == ATTRIBUTES.keys() - written


def test_each_is_there() -> None:
    for name in IMPORTED:
        module, _, last = name.rpartition(".")
        assert hasattr(import_module(module), last), name


def test_a_dispatch_mode_sees_every_operator_and_its_tensors() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves, tree_map

    seen = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append((func.name(), len(tree_leaves(args))))
            return func(*args, **(kwargs or {}))

    with Watching():
        torch.add(torch.ones(2), torch.ones(2))
    assert ("aten::add.Tensor", 2) in seen
    assert tree_map(lambda one: one + 1, {"a": [1, (2,)]}) == {"a": [2, (3,)]}


def test_every_batch_norm_is_one_and_no_other_norm_is() -> None:
    from torch.nn.modules.batchnorm import _BatchNorm

    for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm):
        assert issubclass(kind, _BatchNorm)
    assert not issubclass(nn.GroupNorm, _BatchNorm)
    assert not issubclass(nn.LayerNorm, _BatchNorm)
    assert issubclass(nn.InstanceNorm2d, nn.modules.batchnorm._NormBase)
    assert issubclass(nn.Dropout2d, nn.modules.dropout._DropoutNd)


def test_a_running_mean_of_many_tensors_is_that_of_each() -> None:
    old, new = [torch.zeros(2), torch.ones(3)], [torch.ones(2), torch.zeros(3)]
    torch._foreach_lerp_(old, new, 0.25)
    assert [tensor.tolist() for tensor in old] == [[0.25] * 2, [0.75] * 3]


def test_views_share_a_storage_and_clones_do_not() -> None:
    tensor = torch.zeros(4)
    assert tensor[1:].untyped_storage()._cdata == tensor.untyped_storage()._cdata
    assert tensor.clone().untyped_storage()._cdata != tensor.untyped_storage()._cdata


def test_a_shallow_copy_of_a_module_can_have_other_children() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    other = copy.copy(model)
    other._modules = {**model._modules, "0": nn.Identity()}
    assert isinstance(other[0], nn.Identity)
    assert isinstance(model[0], nn.Linear)
    assert set(model[0]._parameters) == {"weight", "bias"}
    assert set(model[1]._buffers) == {"running_mean", "running_var", "num_batches_tracked"}


def test_errors_of_a_compiler_are_known_by_where_they_are_from() -> None:
    """The files alone: importing them takes seconds."""
    for name in ("_dynamo", "_inductor"):
        assert (Path(torch.__file__).parent / name / "exc.py").is_file()


def test_typer_has_a_script_for_each_shell() -> None:
    assert {"bash", "zsh", "fish"} <= _completion_shared._completion_scripts.keys()
    assert (_completion_shared._get_shell_name() or "") in {"", *_completion_shared.Shells}
