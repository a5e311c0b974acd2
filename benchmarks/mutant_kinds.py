"""What a mutant is: one place in a file that says something else, and all that a file can have."""

from __future__ import annotations

import ast
import copy
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
_CALLED = (ast.FunctionDef, ast.AsyncFunctionDef)
_NAMED = (*_CALLED, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: the file below zoo/, its line, what stood there and what stands there now.

    Its name has the function it is in and no line, so that it stays itself where others move.
    """

    file: str
    line: int
    was: str
    now: str
    start: int  # the place in the file's text
    stop: int
    inside: str  # the function or class
    around: str  # a digest of that function, or of the statement that is in none
    which: int  # of those with the same words in one function, from 1 on

    @property
    def name(self) -> str:
        number = f" #{self.which}" if self.which > 1 else ""
        return f"{self.file} {self.inside}: {self.was} -> {words(self.now)}{number}"

    def applied(self, text: str) -> str:
        """Return the file's text with the change; an AssertionError where it is another text."""
        assert words(text[self.start : self.stop]) == self.was, f"{self.name}: not here"
        return text[: self.start] + self.now + text[self.stop :]


def candidates(file: str, text: str) -> Iterator[Mutant]:
    """Yield every mutant of a file; annotations, docstrings, messages and decorators stay."""
    starts = [0]
    for row in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(row.encode()))
    raw = text.encode()

    def place(line: int, column: int) -> int:
        return len(raw[: starts[line - 1] + column].decode())

    seen: Counter[tuple[str, str, str]] = Counter()
    for scope, node in nodes(ast.parse(text)):
        inside, around = described(scope)
        for changed in changes(node):
            start = place(node.lineno, node.col_offset)  # type: ignore[attr-defined]
            stop = place(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
            now = ast.unparse(changed)
            if isinstance(node, ast.expr):
                now = f"({now})"
            line: int = node.lineno  # type: ignore[attr-defined]
            was = words(text[start:stop])
            seen[inside, was, now] += 1
            which = seen[inside, was, now]
            yield Mutant(file, line, was, now, start, stop, inside, around, which)


def described(scope: tuple[ast.AST, ...]) -> tuple[str, str]:
    """Return the name of what something is in, and a digest of the innermost."""
    inside = ".".join(one.name for one in scope if isinstance(one, _NAMED))
    return inside, hashlib.sha256(ast.dump(scope[-1]).encode()).hexdigest()[:12]


def words(text: str) -> str:
    """Return a piece of code on one line."""
    return " ".join(text.split())


def nodes(
    tree: ast.AST, scope: tuple[ast.AST, ...] = ()
) -> Iterator[tuple[tuple[ast.AST, ...], ast.AST]]:
    """Yield the nodes whose change can change what the program does, and what each is in.

    The last of that is the innermost function, or the statement that is in none.
    """
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list", "type_params", "bases", "exc"):
            continue
        for child in value if isinstance(value, list) else [value]:
            talk = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if isinstance(child, ast.AST) and not talk and not isinstance(child, ast.JoinedStr):
                called = any(isinstance(one, _CALLED) for one in scope)
                own = isinstance(child, _NAMED) or (isinstance(child, ast.stmt) and not called)
                inner = (*scope, child) if own else scope
                yield inner, child
                yield from nodes(child, inner)


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in a node's place."""
    other = copy.deepcopy(node)
    match other:
        case ast.Compare(ops=[op]) if type(op) in SWAPS:
            other.ops = [SWAPS[type(op)]()]
            yield other
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in SWAPS:
            other.op = SWAPS[type(op)]()
            yield other
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(value * 2 + 1)
        case ast.UnaryOp(op=ast.Not()):
            yield other.operand
        case ast.IfExp():
            yield ast.IfExp(ast.UnaryOp(ast.Not(), other.test), other.body, other.orelse)
        case ast.Raise() | ast.AugAssign() | ast.Expr(value=ast.Call()) | ast.Continue():
            yield ast.Pass()
        case ast.Return(value=ast.expr()) if not isinstance(other.value, ast.Constant):
            yield ast.Return(ast.Constant(None))
