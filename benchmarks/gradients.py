"""What share of a step the gradients of two processes take to be added up: torchrun, gloo.

    python -m benchmarks.gradients [--steps 7]

ResNet-18 in whole, 16 photos of 224 x 224 a process, on this machine. They are added up in one
piece behind the backward pass: if they were during it, that share is the most that could be saved.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import arguments, machine, median, run, save, show, verdict

PHOTOS, MOST = 16, 0.10


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--steps", type=int, default=7)
    flags = parser.parse_args()
    if "RANK" in os.environ:
        steps(flags.steps)
        return
    torchrun = Path(sys.executable).with_name("torchrun")
    words = [torchrun, "--nproc-per-node", "2", "-m", "benchmarks.gradients"]
    done = run([*words, "--steps", str(flags.steps)], env={"OMP_NUM_THREADS": "1"})
    found: dict[str, Any] = json.loads(done.out)
    rows = found["steps"][1:]  # the first makes what the others use again
    show([[f"{value:.3f}" for value in row] for row in rows], ("pass, s", "CPU s", "sum, s"))
    share = median([total / (wall + total) for wall, _, total in rows])
    bar = verdict("share of a step that adding up takes", share, MOST, at_most=True)
    save("gradients", machine(), {**found, "bars": [bar]})


def steps(count: int) -> None:
    """Print seconds of the passes, by a clock and of CPU, and of adding up, for each step."""
    import torch
    from torch.nn.functional import cross_entropy

    from zoo import catalog, models
    from zoo.train.distributed import torchrun

    torch.manual_seed(0)
    photos, labels = torch.rand(PHOTOS, 3, 224, 224), torch.arange(PHOTOS)
    with torchrun() as ranks:
        net, rows = models.build(catalog.find("resnet18")).train(), []
        for _ in range(count):
            net.zero_grad(set_to_none=True)
            began, cpu = time.perf_counter(), time.process_time()
            loss = cross_entropy(net(photos), labels)
            loss.backward()
            wall, cpu = time.perf_counter() - began, time.process_time() - cpu
            ranks.barrier()  # whoever is quicker waits in either way
            began = time.perf_counter()
            ranks.all_reduce_gradients(net, loss.item(), 0.5)
            rows.append((wall, cpu, time.perf_counter() - began))
    if ranks.main:
        parameters = sum(each.numel() for each in net.parameters())
        print(json.dumps({"parameters": parameters, "steps": rows}))


if __name__ == "__main__":
    main()
