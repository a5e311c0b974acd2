"""What a command costs before it does anything: CPU seconds with byte code cached."""

from __future__ import annotations

import compileall

from benchmarks.measure import (
    ROOT,
    arguments,
    machine,
    median,
    numbers,
    python,
    run,
    save,
    show,
    summary,
    verdict,
    warn_about_byte_code,
    zoo,
)

# name -> (command, its exit code)
JOBS = {
    "python -c pass": (python("-c", "pass"), 0),
    "zoo --help": (zoo("--help"), 0),
    "zoo list": (zoo("list"), 0),
    "zoo finetune --bad-flag": (zoo("finetune", "--bad-flag"), 2),
    "python -c 'import torch'": (python("-c", "import torch"), 0),
}
BAR, BARRED = 0.12, ("zoo --help", "zoo list")


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(repeat=10)
    repeat = parser.parse_args().repeat
    warn_about_byte_code()
    facts = machine()
    compileall.compile_dir(ROOT / "zoo", quiet=1)
    for command, code in JOBS.values():
        run(command, code=code)  # not counted: keeps the byte code of everything it imports
    cpu: dict[str, list[float]] = {name: [] for name in JOBS}
    wall: dict[str, list[float]] = {name: [] for name in JOBS}
    for _ in range(repeat):
        for name, (command, code) in JOBS.items():
            job = run(command, code=code)
            cpu[name].append(job.cpu)
            wall[name].append(job.wall)
    empty = median(cpu["python -c pass"])
    show(
        [
            [name, *numbers(cpu[name], 3), f"{median(wall[name]):.3f}", f"{ratio:.1f}"]
            for name in JOBS
            for ratio in [median(cpu[name]) / empty]
        ],
        ["job", "CPU s min", "median", "max", "n", "wall s", "x pass"],
    )
    print()
    bars = [verdict(f"CPU s of {name}", median(cpu[name]), BAR, at_most=True) for name in BARRED]
    result = {
        "bars": bars,
        "cpu_seconds": {name: summary(values) for name, values in cpu.items()},
        "wall_seconds": {name: summary(values) for name, values in wall.items()},
        "ratio_to_python_pass": {name: round(median(cpu[name]) / empty, 2) for name in JOBS},
    }
    save("startup", facts, result)


if __name__ == "__main__":
    main()
