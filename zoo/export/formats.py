"""The formats of `zoo export`, as one table: its commands, their flags, the docs and tests read it.

Nothing heavy is imported here: `module` is, when a file of that format is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from zoo import extras
from zoo.errors import UsageError, meant
from zoo.export.records import Shape

if TYPE_CHECKING:
    from zoo.export.records import Exported, Order, Rebuilt
    from zoo.run import Run

    Writer = Callable[[Run, Order], Exported | Rebuilt]

FP32 = {"max_diff": 0.05, "mean_diff": 0.005}  # of a probability, from raw pixels


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write a run; several rows of a name are one command with a flag for each.

    name: the word behind `zoo export`. variant: the flag of a row that is not the command's first.
    file: its name in the run folder; a folder where that ends with a slash. what: the command's
    help. needs: modules that write it beside what zoo needs, of the pip extra `extra`. runtime:
    what opens the file again here, and so checks it; nothing where that runs elsewhere only.
    flags: those that not every format has. limits: how far answers may be from the ONNX file's; by
    none it is measured only, and must agree on 98 % of photos. module: of `export_run(run, order)`.
    """

    name: str
    file: str
    what: str
    module: str
    runtime: str
    for_whom: str
    variant: str = ""
    computes: str = "fp32"
    extra: str = ""
    needs: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    limits: dict[str, float] = field(default_factory=lambda: FP32)

    @property
    def title(self) -> str:
        """Return what is typed for it: `onnx --int8`."""
        return f"{self.name} --{self.variant}" if self.variant else self.name

    @property
    def suffix(self) -> str:
        """Return how its file's name ends; nothing for a folder."""
        return "" if self.file.endswith("/") else self.file[self.file.rindex(".") :]

    def writer(self) -> Writer:
        """Return what writes it. Raises MissingPackage where that is not installed."""
        extras.need(f"zoo export {self.title}", *self.needs, extra=self.extra)
        found: Writer = import_module(f"zoo.export.{self.module}").export_run
        return found


FORMATS = (
    Format(
        "onnx", "model.onnx", "Write one ONNX file, pictures in, probabilities out.",
        "onnx", "ONNX Runtime", "anything that runs ONNX",
        flags=("input", "unknown", "int8", "fp16", "size", "batch"),
    ),
    Format(
        "onnx", "model-int8.onnx", "", "int8", "ONNX Runtime", "small files on a CPU",
        variant="int8", computes="int8", limits={},
    ),
    Format(
        "onnx", "model-fp16.onnx", "", "fp16", "ONNX Runtime", "half the size; GPUs and phones",
        variant="fp16", computes="fp16", limits={},
    ),
    Format(
        "onnx", "model-HxW.onnx", "", "fixed", "ONNX Runtime",
        "OpenCV 4, TensorRT, phones: one size", variant="size",
    ),
    Format(
        "openvino", "model.xml", "Write an OpenVINO IR: a .xml with its .bin.",
        "openvino", "OpenVINO", "Intel's CPUs, GPUs and NPUs",
    ),
    Format(
        "torch-export", "model.pt2", "Write a program of torch.export, with its Preprocess.",
        "torch_export", "torch", "torch without zoo, AOTInductor, ExecuTorch",
        needs=("torch",), extra="train",
    ),
    Format(
        "hf", "hf/", "Write a folder that timm and transformers load, as the Hub has it.",
        "hf", "torch", "timm, transformers, the Hugging Face Hub",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """The file that is asked for: a format, and what is said of it. See Order.

    unknown: with a distance from the training photos. shape: of pictures, where it takes no others.
    """

    kind: str = "image"
    int8: bool = False
    unknown: bool = False
    format: str = "onnx"
    fp16: bool = False
    shape: Shape | None = None

    @property
    def row(self) -> Format:
        """Return its row of the table. Raises UsageError for what no file is at once."""
        said = {"int8": self.int8, "fp16": self.fp16, "size": self.shape is not None}
        variants = [name for name, given in said.items() if given]
        if len(variants) > 1:
            first, second = (f"--{name}" for name in variants[:2])
            raise UsageError(f"{first} with {second}: a file is one of them", f"leave {second} out")
        if self.shape is not None and self.kind == "tensor":
            raise UsageError(
                "--size with --input tensor: a tensor has the size that the network takes",
                "leave --size and --batch out, or --input",
            )
        if self.unknown and variants:
            raise UsageError(
                "--unknown is an output of a classifier in fp32, with pictures of any size",
                f"leave --unknown out, or --{variants[0]}",
            )
        return find(self.format, "".join(variants))


def rows(name: str) -> tuple[Format, ...]:
    """Return the rows of a command, the plain one first. Raises UsageError."""
    found = tuple(row for row in FORMATS if row.name == name)
    if not found:
        raise UsageError(
            f"there is no export to {name!r}",
            meant("format", name, names()) or f"give {', '.join(names())}",
        )
    return found


def find(name: str, variant: str = "") -> Format:
    """Return one row. Raises UsageError."""
    found = next((row for row in rows(name) if row.variant == variant), None)
    if found is None:
        raise UsageError(f"zoo export {name} has no --{variant}", f"see `zoo export {name} --help`")
    return found


def names() -> tuple[str, ...]:
    """Return the words behind `zoo export`, the default first."""
    return tuple(dict.fromkeys(row.name for row in FORMATS))


def table() -> str:
    """Return the table of docs/export.md."""
    lines = [
        "| `zoo export` | in the run folder | for | opened and checked here by | needs |",
        "|---|---|---|---|---|",
    ]
    for row in FORMATS:
        needs = f"extra `{row.extra}`" if row.extra else "–"
        by = row.runtime or "nothing: it says so"
        lines.append(f"| `{row.title}` | {row.file} | {row.for_whom} | {by} | {needs} |")
    return "\n".join(lines) + "\n"
