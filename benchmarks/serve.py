"""`zoo serve` beside bare ONNX Runtime and beside zoo's own pipeline, by a real client on loopback.

    python -m benchmarks.serve RUN PHOTOS [--requests 10000]

One connection: each photo is asked of the server, and then answered here by what a program without
zoo does (docs/export.md: decode, then an InferenceSession with its defaults), whose threads are
asleep before the next one. Eight connections: rounds of the server take turns with rounds of
`Predictor.rows` over the same photos. Last, many requests, whose rows are all compared and after
which the server's memory is looked at. Seconds of the processor are beside those of the clock: on a
machine that others use, trust those.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.measure import arguments, machine, median, save, show, verdict, zoo
from zoo import api
from zoo.export.contract import pixels
from zoo.predict.inputs import Input

CONNECTIONS, PHOTOS = 8, 120
AWAKE = 0.1  # seconds: threads of a session with ONNX Runtime's defaults spin so long for more
LONGEST = 100.0  # seconds for many requests
TICKS = os.sysconf("SC_CLK_TCK")
HEADERS = {"Content-Type": "application/octet-stream"}


@dataclass
class Server:
    """A server that answers. first: seconds from its start to the first answer."""

    place: tuple[str, int]
    pid: int
    first: float = 0.0
    first_cpu: float = 0.0

    def cpu(self) -> float:
        words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / TICKS

    def memory(self, what: str = "VmRSS") -> float:
        """Return MB that it has now, or at most by VmHWM."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(text.split(f"{what}:")[1].split()[0]) / 1024

    def line(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self.place, timeout=120)


def ask(line: http.client.HTTPConnection, photo: bytes) -> dict[str, Any]:
    line.request("POST", "/predict", photo, HEADERS)
    answer = line.getresponse()
    found = json.loads(answer.read())
    return found[0] if answer.status == 200 else {"label": None, "probability": 0.0, **found}


@contextmanager
def served(model: Path, photo: bytes) -> Iterator[Server]:
    began = time.perf_counter()
    words = zoo("serve", model, "--port", "0")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            parts = urlsplit(process.stdout.readline().decode().strip())
            server = Server((str(parts.hostname), int(parts.port or 0)), process.pid)
            ask(server.line(), photo)
            server.first, server.first_cpu = time.perf_counter() - began, server.cpu()
            yield server
        finally:
            process.terminate()


def one_connection(server: Server, file: Path, photos: Sequence[Path]) -> dict[str, float]:
    """Return milliseconds of the clock and the processor for a photo: the server's, and bare."""
    import onnxruntime

    session, line = onnxruntime.InferenceSession(str(file)), server.line()
    walls: dict[str, list[float]] = {"serve": [], "bare": []}
    spent = {"serve": 0.0, "bare": 0.0}
    for photo in photos:
        time.sleep(AWAKE)  # else those of the bare session take a core from the server
        data, used, began = photo.read_bytes(), server.cpu(), time.perf_counter()
        ask(line, data)
        walls["serve"].append(time.perf_counter() - began)
        spent["serve"] += server.cpu() - used
        used, began = time.process_time(), time.perf_counter()
        session.run(None, {"image": pixels(photo)})
        walls["bare"].append(time.perf_counter() - began)
        spent["bare"] += time.process_time() - used
    found = {f"{name} p50": 1e3 * median(each) for name, each in walls.items()}
    return found | {f"{name} cpu": 1e3 * each / len(photos) for name, each in spent.items()}


def in_parallel(server: Server, photos: Sequence[bytes], count: int) -> list[dict[str, Any]]:
    """Return the rows of so many requests at CONNECTIONS, photo after photo."""
    rows: list[dict[str, Any]] = [{}] * count

    def some(first: int) -> None:
        line = server.line()
        for number in range(first, count, CONNECTIONS):
            rows[number] = ask(line, photos[number % len(photos)])

    threads = [threading.Thread(target=some, args=(first,)) for first in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return rows


def eight_connections(
    server: Server, model: Path, photos: Sequence[bytes], rounds: int
) -> dict[str, float]:
    """Return images/s, and milliseconds of the processor a photo, of the server and the engine."""
    ours = api.load(model).predictor()
    inputs = [Input(str(k), str(k), data) for k, data in enumerate(photos)]
    list(ours.rows(inputs[:8]))
    rate: dict[str, list[float]] = {"serve": [], "engine": []}
    spent = {"serve": 0.0, "engine": 0.0}
    for _ in range(rounds):
        used, began = server.cpu(), time.perf_counter()
        in_parallel(server, photos, len(photos))
        rate["serve"].append(len(photos) / (time.perf_counter() - began))
        spent["serve"] += server.cpu() - used
        used, began = time.process_time(), time.perf_counter()
        list(ours.rows(inputs))
        rate["engine"].append(len(photos) / (time.perf_counter() - began))
        spent["engine"] += time.process_time() - used
    found = {f"{name} rate": median(each) for name, each in rate.items()}
    total = rounds * len(photos)
    return found | {f"{name} cpu": 1e3 * each / total for name, each in spent.items()}


def many(server: Server, model: Path, photos: Sequence[bytes], count: int) -> dict[str, float]:
    """Return how many rows of many are wrong, and MB before and after the last three quarters."""
    inputs = [Input(str(k), str(k), data) for k, data in enumerate(photos)]
    right = [
        (row.labels[0], row.probabilities[0]) for row in api.load(model).predictor().rows(inputs)
    ]
    wrong, memory = 0, []
    for _ in range(4):
        for number, row in enumerate(in_parallel(server, photos, count // 4)):
            label, probability = right[number % len(photos)]
            wrong += row["label"] != label or abs(row["probability"] - probability) > 1e-6
        memory.append(server.memory())
    return {"requests": 4 * (count // 4), "wrong": wrong, "before": memory[0], "after": memory[-1]}


def measured(model: Path, file: Path, photos: Sequence[Path], flags: Any) -> dict[str, Any]:
    datas = [photo.read_bytes() for photo in photos]
    with served(model, datas[0]) as server:
        found: dict[str, Any] = {"first": server.first, "first cpu": server.first_cpu}
        time.sleep(3)  # the second session is opened meanwhile
        found["one"] = one_connection(server, file, photos)
        found["eight"] = eight_connections(server, model, datas, flags.repeat)
        if flags.requests:
            most = int(LONGEST * found["eight"]["serve rate"])
            found["many"] = many(server, model, datas, min(flags.requests, most))
    return found


def bars(name: str, found: dict[str, Any]) -> list[dict[str, Any]]:
    one, eight = found["one"], found["eight"]
    pairs = [(f"{kind}, one connection", one[f"serve {key}"] / one[f"bare {key}"], 1.15)
             for kind, key in (("p50", "p50"), ("processor", "cpu"))]  # fmt: skip
    told = [
        verdict(f"{name}: {what}, of bare", value, bar, at_most=True) for what, value, bar in pairs
    ]
    rate, spent = (
        eight["serve rate"] / eight["engine rate"],
        eight["engine cpu"] / eight["serve cpu"],
    )
    told += [
        verdict(f"{name}: seconds to the first answer", found["first"], 2.5, at_most=True),
        verdict(f"{name}: the same, of the processor", found["first cpu"], 2.5, at_most=True),
        verdict(f"{name}: images/s at 8 connections, of the engine's", rate, 0.9, at_most=False),
        verdict(f"{name}: the same by processor time", spent, 0.9, at_most=False),
    ]
    if "many" in found:
        grown = found["many"]["after"] / found["many"]["before"]
        told += [
            verdict(f"{name}: wrong rows", found["many"]["wrong"], 0, at_most=True),
            verdict(f"{name}: memory after, of that before", grown, 1.05, at_most=True),
        ]
    return told


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("run", type=Path, help="a run, exported to RUN/model.onnx")
    parser.add_argument("photos", type=Path)
    parser.add_argument(
        "--requests", type=int, default=10_000, help="at most, in the last part (10,000)"
    )
    flags = parser.parse_args()
    facts, file = machine(), flags.run / "model.onnx"
    if not file.exists():
        parser.error(f"there is no {file}: `zoo export onnx {flags.run} -o {file}` makes it")
    photos = sorted(flags.photos.rglob("*.jpg"))[:PHOTOS]
    result: dict[str, Any] = {}
    for name, model in (("file", file), ("run", flags.run)):
        result[name] = measured(model, file, photos, flags)
        flags.requests = 0  # the run's path through the server is the same
    keys = ("serve p50", "bare p50", "serve cpu", "bare cpu")
    show([[name, *(f"{each['one'][key]:.1f}" for key in keys)] for name, each in result.items()],
         ["ms, one connection", *keys])  # fmt: skip
    keys = ("serve rate", "engine rate", "serve cpu", "engine cpu")
    show([[name, *(f"{each['eight'][key]:.1f}" for key in keys)] for name, each in result.items()],
         ["8 connections", *keys])  # fmt: skip
    if "many" in result["file"]:
        print(result["file"]["many"])
    result["bars"] = [one for name in ("file", "run") for one in bars(name, result[name])]
    result["load_at_end"] = round(os.getloadavg()[0], 2)
    save("serve", facts, result)


if __name__ == "__main__":
    main()
