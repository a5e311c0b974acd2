"""What the arithmetic units of this machine can do, measured: `python -m benchmarks.peak`.

Compiles peak.c with the C compiler that is there (cc) into a temporary folder and runs it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.measure import arguments, machine, numbers, show

SOURCE = Path(__file__).with_name("peak.c")
SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Peak:
    """GFLOP/s, a multiply-add being two: of all processors by the clock on the wall, and of one by
    its CPU time. bf16 and int8 are 0 where the processor has none. tiles: 1 where both are AMX's.
    """

    fp32: float
    bf16: float
    int8: float
    fp32_of_one: float
    bf16_of_one: float
    int8_of_one: float
    tiles: float = 0


def build(folder: Path) -> Path:
    """The program, in this folder."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("no C compiler: install gcc, peak.c is compiled with it")
    program = folder / "peak"
    subprocess.run([compiler, "-O2", "-pthread", str(SOURCE), "-o", str(program)], check=True)
    return program


def measured(program: Path, rounds: int = 1) -> list[Peak]:
    done = subprocess.run(
        [str(program), str(SECONDS), str(rounds)], capture_output=True, text=True, check=False
    )
    if done.returncode == 3:
        raise SystemExit("peak.c knows AVX2 and AVX-512, this processor has neither")
    done.check_returncode()
    return [Peak(*map(float, line.split())) for line in done.stdout.splitlines()]


def main() -> None:
    flags = arguments(__doc__).parse_args()
    print(machine()["cpu"])
    with tempfile.TemporaryDirectory() as folder:
        found = measured(build(Path(folder)), flags.repeat)
    rows = [
        [name, *numbers([asdict(peak)[name] for peak in found], 1)] for name in asdict(found[0])
    ]
    rows = [row for row in rows if row[0] != "tiles"]
    show(rows, ["GFLOP/s", "min", "median", "max", "n"])
    tiled = "bf16 and int8 by AMX tiles" if found[0].tiles else "AMX tiles: none here, not measured"
    print(tiled)


if __name__ == "__main__":
    main()
