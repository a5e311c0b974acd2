"""Other ways to run ResNet-50 in fp32 on a CPU, and whether a picture's answer stays the same.

Each variant runs in a process of its own under the tuned allocator: W worker threads, each with T
threads of torch, batches of B. `alone` compares the features of one picture, to the last bit,
with itself at other places of the batch, beside other pictures, and in a padded batch.
"per CPU s" hardly depends on what else the machine does; threads that wait for each other count.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

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

PICTURES, SECONDS = 64, 3.0


@dataclass(frozen=True, slots=True)
class Variant:
    """form: eager, folded (convolution and BatchNorm in one), or frozen (torch.jit, optimised)."""

    workers: int
    threads: int
    batch: int
    form: str = "eager"
    channels_last: bool = True

    def __str__(self) -> str:
        layout = "channels last" if self.channels_last else "NCHW"
        return f"{self.workers} x {self.threads}, batch {self.batch:2}, {self.form}, {layout}"


VARIANTS = (
    Variant(2, 1, 8),  # zoo's engine on two cores
    Variant(2, 1, 4),
    Variant(2, 1, 16),
    Variant(1, 2, 8),
    Variant(1, 2, 16),
    Variant(1, 2, 32),
    Variant(2, 1, 8, channels_last=False),
    Variant(2, 1, 8, "folded"),
    Variant(2, 1, 8, "folded", channels_last=False),
    Variant(1, 2, 8, "folded"),
    Variant(2, 1, 8, "frozen"),
    Variant(2, 1, 8, "frozen", channels_last=False),
)


def main() -> None:
    flags = arguments(__doc__).parse_args()
    warn_about_byte_code()
    facts = machine()
    rates: dict[Variant, list[float]] = {variant: [] for variant in VARIANTS}
    per_cpu: dict[Variant, list[float]] = {variant: [] for variant in VARIANTS}
    answers: dict[Variant, dict[str, Any]] = {}
    for _ in range(flags.repeat):
        for variant in VARIANTS:
            text = json.dumps(asdict(variant))
            answer = json.loads(run(python("-m", "benchmarks.engines", "--child", text)).out)
            rates[variant].append(answer["images_per_second"])
            per_cpu[variant].append(answer["images_per_cpu_second"])
            before = answers.setdefault(variant, answer)
            answer["same"] = before["same"] and answer["same"]
            answers[variant] = answer
    ours = median(rates[VARIANTS[0]])
    rows = [
        [
            str(variant),
            *numbers(values, 1),
            f"{median(values) / ours:.2f}",
            f"{median(per_cpu[variant]):.1f}",
            f"{answers[variant]['prepare_seconds']:.2f}",
            f"{answers[variant]['difference']:.0e}",
            "yes" if answers[variant]["same"] else f"NO {answers[variant]['moved']:.0e}",
        ]
        for variant, values in rates.items()
    ]
    header = ["workers x threads; images/s", "min", "median", "max", "n", "x zoo", "per CPU s"]
    show(rows, [*header, "prepare s", "rel. diff.", "alone"])
    result = {
        "variants": [
            {
                **asdict(variant),
                **answers[variant],
                "images_per_second": summary(values),
                "images_per_cpu_second": summary(per_cpu[variant]),
            }
            for variant, values in rates.items()
        ]
    }
    save("engines", facts, result)


# In the process of one variant.


def child(variant: Variant) -> dict[str, Any]:
    import numpy as np
    import torch

    from zoo import device, network
    from zoo.engine.torch import Normalise
    from zoo.finetune.cut import cut

    device.tune_allocator()
    net = network.pretrained("resnet50", "none")
    lively(net.chain)
    chain = cut(net.chain, net.spec.cut).frozen
    place = device.choose("cpu")
    normalise = Normalise(net.preprocess, place)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (PICTURES, 224, 224, 3), np.uint8)
    with torch.inference_mode():
        exact = chain(normalise(torch.from_numpy(pixels[: variant.batch])))
    began = time.perf_counter()
    model = prepared(chain, variant)
    prepare = time.perf_counter() - began

    def call(batch: Any) -> Any:
        with torch.inference_mode():
            x = normalise(torch.from_numpy(batch))
            if not variant.channels_last:
                x = x.contiguous()
            return model(x).numpy()

    def start() -> None:
        torch.set_num_threads(variant.threads)

    with ThreadPoolExecutor(variant.workers, initializer=start) as pool:
        batches = [pixels[k : k + variant.batch] for k in range(0, PICTURES, variant.batch)]
        features = np.concatenate(list(pool.map(call, batches)))  # also the first, slow call
        done, began, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - began < SECONDS:
            done += sum(map(len, pool.map(call, batches)))
        rate = done / (time.perf_counter() - began)
        per_cpu = done / (time.process_time() - cpu)
        moved = pool.submit(largest_move, call, pixels, features, variant.batch).result()
    scale = float(exact.abs().max())
    difference = float(np.abs(features[: variant.batch] - exact.numpy()).max()) / scale
    return {
        "images_per_second": rate,
        "images_per_cpu_second": per_cpu,
        "prepare_seconds": prepare,
        "difference": difference,
        "same": moved == 0,
        "moved": moved / scale,
    }


def lively(chain: Any) -> None:
    """Gives BatchNorm statistics that are not those of a fresh network, else folding is trivial."""
    import torch

    torch.manual_seed(0)
    for module in chain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight.data, 0.5, 1.0)


def prepared(chain: Any, variant: Variant) -> Any:
    """The chain in the form of the variant."""
    import torch

    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    chain = chain.eval().to(memory_format=layout)
    if variant.form == "folded":
        return folded(chain)
    if variant.form == "frozen":
        example = torch.zeros(variant.batch, 3, 224, 224).to(memory_format=layout)
        with torch.no_grad():
            traced = torch.jit.freeze(torch.jit.trace(chain, example))
            return torch.jit.optimize_for_inference(traced)
    return chain


def folded(chain: Any) -> Any:
    """A copy in which each convolution has the BatchNorm behind it in its weights.

    Their names tell which belong together: conv1 and bn1, downsample.0 and downsample.1.
    """
    import copy

    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    chain = copy.deepcopy(chain)
    for parent in list(chain.modules()):
        children = list(parent.named_children())
        for (name, conv), (next_name, norm) in pairwise(children):
            if isinstance(conv, torch.nn.Conv2d) and isinstance(norm, torch.nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, next_name, torch.nn.Identity())
    return chain


def largest_move(call: Any, pixels: Any, features: Any, batch: int) -> float:
    """How far the features of a picture move when its place, or its company, changes."""
    import numpy as np

    largest = 0.0
    strangers = (pixels[-batch:], np.zeros_like(pixels[:batch]))
    for number, place in enumerate((0, 1, batch // 2, batch - 1)):
        company = strangers[number % 2].copy()
        company[place] = pixels[0]
        largest = max(largest, float(np.abs(call(company)[place] - features[0]).max()))
    padded = np.repeat(pixels[:1], batch, axis=0)  # as the engine pads a short batch
    return max(largest, float(np.abs(call(padded) - features[0]).max()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(Variant(**json.loads(sys.argv[2])))))
    else:
        main()
