"""The rules of the house, walked over every file: who imports whom, and what is never said."""

from __future__ import annotations

import ast
import gc
import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from kit import ROOT, loaded

FILES = sorted((ROOT / "zoo").rglob("*.py"))

# Which rooms a room may import, besides itself; lazy and typing imports count. FREE: for all.
FREE = {"", "config", "errors", "extras", "text", "watch"}
LOW = {"catalog", "data", "disk", "machine"}
ENGINE = LOW | {"device", "head", "models", "records", "weights"}
VERB = ENGINE | {"datasets", "engine", "features", "head", "metrics", "network",
                 "network_published", "network_ref", "recipe", "run", "settings",
                 "train"}  # fmt: skip
MAY: dict[str, set[str]] = {
    **{name: set() for name in (*FREE, "catalog", "disk", "machine")},
    "settings": {"head"},
    "data": {"catalog", "disk", "machine"},
    "device": {"data", "machine"},
    "models": {"catalog", "head"},
    "head": {"data", "machine", "metrics"},
    "metrics": {"catalog", "data"},
    "records": {"disk", "head"},
    "recipe": {"disk", "records", "settings"},
    "lock": {"disk"},
    "run": {"data", "disk", "lock", "records"},
    "weights": {"catalog", "disk", "lock", "machine"},
    "datasets": {"catalog", "data", "disk", "lock", "weights"},
    "engine": ENGINE,
    "network": {
        "catalog",
        "device",
        "head",
        "models",
        "network_published",
        "records",
        "run",
        "weights",
    },
    "network_published": {"catalog", "models", "weights"},
    "network_ref": ENGINE | {"engine", "network", "network_published", "run"},
    "features": LOW | {"engine", "head", "weights"},
    "train": ENGINE | {"engine", "features", "metrics"},
    "finetune": VERB,
    "predict": VERB,
    "export": VERB,
    "bench": VERB,
    "scale": VERB | {"finetune", "predict"},
    "explain": VERB,
    "check": VERB,
    "report": {"data", "disk", "machine", "metrics", "run"},
    "cache": LOW | {"engine", "features", "weights"},
    "doctor": {"device", "disk", "engine", "machine"},
    "api": VERB | {"explain", "finetune", "predict", "export", "report"},
    "serve": VERB | {"api", "export", "predict"},
    "hub": VERB | {"export", "report"},
    "cli": VERB
    | {"api", "bench", "cache", "check", "doctor", "explain", "export", "finetune", "predict"}
    | {"hub", "report", "scale", "serve"},
    "__main__": {"cli"},
}
# Files of models/ that build a network: they know the building blocks beside them only.
ADAPTERS = {"__init__", "library", "from_torchvision", "from_timm", "structure", "meter", "tap",
            "assembly", "chain", "cut", "sides", "head", "sizes", "pieces",
            "lazy_compiler"}  # fmt: skip
# What may be imported where a file begins, besides the standard library and zoo.
AT_TOP = {
    "data": {"numpy", "PIL"},
    "settings": set(),
    "recipe": set(),
    "run": set(),
    "models": {"torch", "numpy"},
    "engine": {"numpy", "PIL"},
    "metrics": {"numpy"},
    "features": {"numpy", "PIL"},
    "head": {"numpy"},
    "train": {"numpy", "PIL"},
    "finetune": {"numpy"},
    "predict": {"numpy", "PIL"},
    "export": {"numpy", "PIL"},
    "report": {"numpy", "PIL"},
    "explain": {"numpy", "PIL"},
    "check": {"numpy", "PIL"},
    "bench": {"numpy", "PIL"},
    "scale": {"numpy"},
    "serve": {"fastapi", "h11", "numpy", "python_multipart", "starlette", "uvicorn"},
    "cli": {"typer"},
}
# What a command that only reads the catalogue must not load.
HEAVY = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "onnxscript", "openvino", "rich",
         "numpy", "PIL", "pydantic", "safetensors", "huggingface_hub", "pyarrow", "matplotlib",
         "sklearn", "scipy", "jinja2", "obstore", "ray", "fastapi", "uvicorn")  # fmt: skip


class Import(NamedTuple):
    """One imported module, `zoo.data.decode` or `numpy`, where, and at which level."""

    file: Path
    line: int
    module: str
    top: bool
    typing: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


@pytest.fixture(scope="module", autouse=True)
def _kept() -> Iterator[None]:
    """All trees are kept until the last test: looking for garbage among them is half of it."""
    gc.disable()
    yield
    gc.enable()


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def nodes_of(file: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree_of(file)))


def room(file: Path) -> str:
    parts = file.relative_to(ROOT / "zoo").with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def modules(node: ast.AST) -> list[str]:
    """The modules a statement imports; `from zoo import run` is zoo.run."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports hide the room"
        assert node.module is not None
        if node.module == "zoo":
            return [f"zoo.{a.name}" if a.name != "__version__" else "zoo" for a in node.names]
        return [node.module]
    return []


def imports(file: Path) -> Iterator[Import]:
    tree = tree_of(file)

    def walk(node: ast.AST, top: bool, typing: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            for module in modules(child):
                yield Import(file, child.lineno, module, top, typing)  # type: ignore[attr-defined]
            if isinstance(child, ast.expr):  # imports nothing
                continue
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            guard = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            yield from walk(child, top and not inside, typing or guard)

    return walk(tree, True, False)


@cache
def all_imports() -> tuple[Import, ...]:
    return tuple(found for file in FILES for found in imports(file))


def test_the_walk_sees_the_house() -> None:
    rooms = {room(file) for file in FILES}
    assert {"errors", "catalog", "models", "data", "weights", "engine", "cli"} <= rooms
    assert rooms <= MAY.keys(), "a new room: say in MAY whom it may import"
    assert any(not found.top for found in all_imports())
    assert any(found.typing for found in all_imports())
    assert len(all_imports()) > 200


def test_rooms_import_only_the_rooms_below_them() -> None:
    wrong = []
    for found in all_imports():
        if found.module.split(".")[0] == "zoo":
            mine, theirs = room(found.file), room_of(found.module)
            if theirs not in MAY[mine] | FREE | {mine}:
                wrong.append(str(found))
    assert wrong == []


def test_no_two_files_import_each_other_in_a_circle() -> None:
    """Lazy and typing imports count: a circle is a circle to whoever reads it."""
    names = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in FILES}
    names = {name.removesuffix(".__init__"): file for name, file in names.items()}
    ways: dict[str, set[str]] = {name: set() for name in names}
    for name, file in names.items():
        for node in nodes_of(file):
            if isinstance(node, ast.Import):
                ways[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                ways[name] |= {each if each in names else node.module for each in full}
        ways[name] &= names.keys() - {name}
    assert sum(map(len, ways.values())) > 400
    while ends := {name for name, others in ways.items() if not others}:
        ways = {name: others - ends for name, others in ways.items() if name not in ends}
    assert ways == {}, "these lead to each other"


def test_network_files_know_only_their_building_blocks() -> None:
    for found in all_imports():
        if room(found.file) == "models" and found.file.stem not in ADAPTERS:
            of_ours = room_of(found.module) if found.module.startswith("zoo") else "models"
            assert of_ours in ("models", "errors"), found  # a chain that cannot be built says so


def test_errors_and_the_package_itself_need_nothing() -> None:
    for found in all_imports():
        if room(found.file) in ("", "errors", "text"):
            assert found.module.split(".")[0] in sys.stdlib_module_names, found


def test_each_room_loads_only_what_it_may_when_it_is_imported() -> None:
    allowed = sys.stdlib_module_names | {"zoo"}
    wrong = [
        str(found)
        for found in all_imports()
        if found.top
        and not found.typing
        and found.module.split(".")[0] not in allowed | AT_TOP.get(room(found.file), set())
    ]
    assert wrong == []


def test_commands_load_errors_and_catalog_only_until_they_run() -> None:
    for found in all_imports():
        ours = found.module.startswith("zoo") and found.top and not found.typing
        if room(found.file) == "cli" and ours:
            light = found.module in ("zoo.export.formats", "zoo.export.records")  # tables
            assert light or room_of(found.module) in FREE | {"catalog", "settings", "cli"}, found


def test_torch_free_rooms_never_import_torch() -> None:
    for found in all_imports():
        if room(found.file) in (*FREE, "catalog", "data", "head", "settings", "recipe", "run"):
            assert found.module.split(".")[0] not in ("torch", "torchvision", "timm"), found


# What is never said.


@cache
def calls(file: Path) -> list[tuple[ast.Call, str]]:
    nodes = (node for node in nodes_of(file) if isinstance(node, ast.Call))
    return [(node, ast.unparse(node.func)) for node in nodes]


def test_weights_files_are_opened_in_one_room_and_run_no_code() -> None:
    loads = 0
    for file in FILES:
        for call, name in calls(file):
            if name == "torch.load":
                loads += 1
                assert room(file) == "weights", file
                only = [k.value for k in call.keywords if k.arg == "weights_only"]
                assert [ast.unparse(value) for value in only] == ["True"], file
    assert loads >= 1


NEVER = ("eval", "exec", "compile", "__import__", "pickle.load", "pickle.loads", "pickle.Unpickler",
         "joblib.load", "os.system", "torch.jit.load")  # fmt: skip


def test_nothing_runs_code_from_a_file() -> None:
    for file in FILES:
        for call, name in calls(file):
            assert name not in NEVER, f"{file}:{call.lineno} {name}"
            assert not name.startswith(("torch.hub", "hub.")), f"{file}:{call.lineno} {name}"
            for keyword in call.keywords:
                value = ast.unparse(keyword.value)
                assert (keyword.arg, value) not in (
                    ("weights_only", "False"), ("allow_pickle", "True"), ("shell", "True"),
                ), f"{file}:{call.lineno}"  # fmt: skip
    for found in all_imports():
        for name in ("pickle", "torch.hub", "marshal", "shelve", "dill", "joblib"):
            assert found.module != name, found


def test_only_cli_prints() -> None:
    """print(…, file=FILE) writes a file; stdout and stderr belong to cli.

    A warning of our own, Doubtful, is one that cli tells and a caller in Python may silence.
    """
    printed = 0
    for file in FILES:
        for call, name in calls(file):
            to = [ast.unparse(k.value) for k in call.keywords if k.arg == "file"]
            if name == "print" and (not to or "sys." in to[0]):
                printed += 1
                assert room(file) == "cli", f"{file}:{call.lineno}"
            if name == "warnings.warn" and "Doubtful" in map(ast.unparse, call.args):
                continue
            if name in ("sys.stdout.write", "sys.stderr.write", "rich.print", "warnings.warn"):
                assert room(file) == "cli", f"{file}:{call.lineno}"
    assert printed >= 3


def test_files_and_functions_stay_short() -> None:
    """About 300 lines and about 40: this is where about ends."""
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        assert text.count("\n") <= 340, file
        for node in nodes_of(file):
            if isinstance(node, ast.FunctionDef):
                first = node.body[0]
                body = first.end_lineno if ast.get_docstring(node) else first.lineno - 1
                assert node.end_lineno - body <= 60, f"{file} {node.name}"  # type: ignore[operator]


def test_a_function_that_no_other_file_names_begins_with_an_underscore() -> None:
    """Those with a decorator are called by who gave it to them."""
    files = [
        file for room in ("zoo", "tests", "benchmarks") for file in (ROOT / room).rglob("*.py")
    ]
    said = {file: set(re.findall(r"\w+", file.read_text(encoding="utf-8"))) for file in files}
    files_with = Counter(word for words in said.values() for word in words)
    for file in FILES:
        for node in tree_of(file).body:
            if isinstance(node, ast.FunctionDef) and not node.decorator_list:
                assert node.name.startswith("_") or files_with[node.name] > 1, f"{file} {node.name}"


def test_the_reading_lists_are_short() -> None:
    """The files that `zoo/finetune/__init__.py` names for whoever is new, and their lines."""
    map_of_it = (ROOT / "zoo/finetune/__init__.py").read_text(encoding="utf-8")
    lines = []
    for part in map_of_it.split("for training in steps:"):
        files = [line.strip() for line in part.splitlines() if line.startswith("    zoo/")]
        lines.append(sum((ROOT / file).read_text().count("\n") for file in files))
    first, steps = lines
    assert 900 < first <= 1300
    assert 400 < steps <= 690


def test_every_file_says_what_it_is() -> None:
    for file in FILES:
        assert ast.get_docstring(tree_of(file)), file


def test_a_docstring_begins_with_a_sentence_and_not_with_of_or_as() -> None:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for file in FILES:
        for node in nodes_of(file):
            if isinstance(node, kinds):
                said = ast.get_docstring(node) or ""
                assert not said.startswith(("Of ", "As ")), f"{file}: {said.splitlines()[0]}"
        for call, _ in calls(file):
            helps = [k.value for k in call.keywords if k.arg == "help"]
            for text in (each.value for each in helps if isinstance(each, ast.Constant)):
                assert not str(text).startswith(("Of ", "As ")), f"{file}: {text}"


def test_test_modules_import_the_kit_and_never_each_other() -> None:
    """Nor is one imported in the code that a test gives to another process."""
    files = sorted((ROOT / "tests").rglob("*.py"))
    apart = {file.stem for file in files if file.parent == ROOT / "tests"}
    assert {file.stem for file in files if not file.stem.startswith("test_")} >= {"conftest"}
    # What is on a line behind `import`, or on one that ends inside a text.
    found = re.compile(rf"\b(?:from|import)\b(?:[^\n\\]|\\(?!n))*?\b({'|'.join(apart)})\b")
    for file in files:
        assert not (one := found.search(file.read_text("utf-8"))), f"{file}: {one[0]}"


def test_nobody_is_named_utils_base_or_trainer() -> None:
    for file in FILES:
        assert file.stem not in ("utils", "util", "base", "helpers", "common", "misc"), file
        for node in nodes_of(file):
            assert not (isinstance(node, ast.ClassDef) and node.name.endswith("Trainer")), file


# What a fresh interpreter loads.


def after_each(commands: list[list[str]], banned: tuple[str, ...], code: int | None) -> str:
    """Code that runs commands one after the other, and names the first that loads too much."""
    return f"""
import sys, zoo.cli
def load(words):
    names = {{name.split('.')[0] for name in sys.modules}} & {{*{banned!r}}}
    assert not names, (words, names)
load("import zoo.cli")
for words in {commands!r}:
    code = zoo.cli.main(words)
    assert {code!r} in (None, code), (words, code)
    load(words)
"""


def test_what_needs_no_network_loads_nothing_heavy() -> None:
    commands = [
        ["list"], ["list", "--json"], ["list", "--sort", "acc1"], ["--help"], ["--version"],
        ["finetune", "--help"], ["predict", "--help"], ["list", "--nope"], ["lst"],
        ["finetune", "--epochs", "x"], ["info", "resnet5"],
    ]  # fmt: skip
    assert "typer" in loaded(after_each(commands, HEAVY, None))


def test_bad_settings_and_bad_folders_are_found_before_torch_is(
    photos: Path, tmp_path: Path
) -> None:
    commands = [
        ["finetune", "lenet", str(tmp_path), "--lr", "-1"],
        ["finetune", "lenet", str(tmp_path)],
        ["finetune", "resnet5", str(photos)],
        ["predict", "run", str(tmp_path)],
        ["predict", "run", str(tmp_path), "-o", "out.xlsx"],
    ]
    loaded(after_each(commands, ("torch", "torchvision", "timm", "onnxruntime", "rich"), 2))


def test_a_predict_of_an_own_chain_loads_neither_torchvision_nor_timm(
    run: Path, photos: Path
) -> None:
    words = ["predict", str(run), str(photos)]
    names = loaded(f"import zoo.cli\nassert zoo.cli.main({words!r}) == 0")
    assert names.isdisjoint(("torchvision", "timm", "pyarrow"))


def test_no_machine_is_named_in_the_project() -> None:
    """Neither somebody's folders, nor a registry of packages."""
    words = [f"/{name}/" for name in ("home", "work", "root")]  # spelt so as not to find itself
    words.append("/".join((".org", "simple")))
    for folder in ("zoo", "tests", "recipes", "benchmarks", ".ci"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".toml", ".md", ".sh") or path.name == "run":
                text = path.read_text(encoding="utf-8") if path.is_file() else ""
                for word in words:
                    assert word not in text, f"{path} names {word}"
