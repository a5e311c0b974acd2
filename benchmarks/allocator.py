"""What keeping freed memory buys: images/s of zoo's engine with and without, and plain PyTorch."""

from __future__ import annotations

import json

from benchmarks.measure import (
    arguments,
    machine,
    median,
    numbers,
    python,
    run,
    save,
    show,
    summary,
    warn_about_byte_code,
)

# name -> (what benchmarks.bare runs, ZOO_MALLOC)
JOBS = {
    "plain PyTorch, NCHW, batch 32, default": ("eager", "default"),
    "zoo's engine, default": ("engine", "default"),
    "zoo's engine, tuned": ("engine", "tuned"),
}
FIRST = next(iter(JOBS))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--models", nargs="+", default=["resnet50", "vgg16"], metavar="NAME")
    flags = parser.parse_args()
    warn_about_byte_code()
    facts = machine()
    run(python("-c", "import torchvision, zoo.engine.torch"))
    rates: dict[str, dict[str, list[float]]] = {m: {j: [] for j in JOBS} for m in flags.models}
    memory: dict[str, dict[str, float]] = {m: {} for m in flags.models}
    for _ in range(flags.repeat):
        for model in flags.models:
            for name, (kind, malloc) in JOBS.items():
                job = run(python("-m", "benchmarks.bare", kind, model), env={"ZOO_MALLOC": malloc})
                rates[model][name] += json.loads(job.out)["images_per_second"]
                memory[model][name] = max(memory[model].get(name, 0), job.memory)
    rows, ratios = [], {}
    for model in flags.models:
        plain = median(rates[model][FIRST])
        for name, values in rates[model].items():
            ratio = median(values) / plain
            ratios[f"{model}: {name}"] = round(ratio, 3)
            peak = f"{memory[model][name]:,.0f}"
            rows.append([f"{model}: {name}", *numbers(values, 1), f"{ratio:.2f}", peak])
    show(rows, ["images/s, higher is better", "min", "median", "max", "n", "x plain", "peak MB"])
    result = {
        "images_per_second": {
            model: {name: summary(values) for name, values in jobs.items()}
            for model, jobs in rates.items()
        },
        "ratio_to_plain": ratios,
        "peak_megabytes": memory,
    }
    save("allocator", facts, result)


if __name__ == "__main__":
    main()
