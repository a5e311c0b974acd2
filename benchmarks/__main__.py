"""`python -m benchmarks NAME …` is `python -m benchmarks.NAME …`; without a name, what there is."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path


def main() -> None:
    folder = Path(__file__).parent
    names = [path.stem for path in sorted(folder.glob("*.py")) if "main()" in path.read_text()]
    names = [name for name in names if not name.startswith("__")]
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        for name in names:
            said = ast.get_docstring(ast.parse((folder / f"{name}.py").read_text())) or ""
            print(f"{name:16}{said.splitlines()[0]}")
        sys.exit(2 if sys.argv[1:] else 0)
    name = sys.argv.pop(1)
    runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
