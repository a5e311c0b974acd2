"""zoo serve: answers over HTTP."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.cli.console import Screen, out, talk
from zoo.cli.options import flag, network, options, setting, shared
from zoo.errors import UsageError
from zoo.settings.setting import HARDWARE
from zoo.text import count

if TYPE_CHECKING:
    from fastapi import FastAPI

    from zoo.serve.app import Limits

ACCESS, LIMITS = "Access", "Limits"


@dataclass(frozen=True)
class Flags:
    model: str = network("A run folder, an .onnx file, or a model of `zoo list`.")
    weights: str | None = shared("weights")
    trust_changed: bool = shared("trust_changed")
    device: str = setting("device")
    engine: str = flag("What runs the network: auto, torch or openvino.", HARDWARE, "auto")
    host: str = flag(
        "Address to listen on: 127.0.0.1 is reached from this machine alone, 0.0.0.0 from all that "
        "reach it; give a --token then.", ACCESS, "127.0.0.1",
    )  # fmt: skip
    port: int = flag("Port to listen on; 0 is any that is free.", ACCESS, 8000, min=0, max=65535)
    token: str | None = flag(
        "Word that requests must carry, as `Authorization: Bearer WORD`. Default: that of "
        "$ZOO_SERVE_TOKEN, which `ps` does not show; else none.", ACCESS,
    )  # fmt: skip
    max_mb: int = flag("Megabytes of a request.", LIMITS, 32, min=1, max=512)
    queue: int = flag("Pictures that may wait; more are refused, by 503.", LIMITS, 128, min=1)


@options
def command(flags: Flags) -> None:
    """Answer over HTTP: photos in, rows of `zoo predict` out, and a page to drop photos on.

    As `zoo serve runs/a`, then `curl -F files=@photo.jpg http://127.0.0.1:8000/predict?top=3`.
    stdout gets the address once it is ready. Ctrl-C and SIGTERM stop it when what it has taken is
    answered (6 s at most), with 130 or 143.
    """
    from zoo import serve

    serve.check_installed()
    token = flags.token if flags.token is not None else os.environ.get("ZOO_SERVE_TOKEN")
    if token == "":
        raise UsageError("the token is empty", "give a word of your own, or leave --token out")
    from zoo.serve import server
    from zoo.serve.app import Limits

    with server.bound(flags.host, flags.port) as listening:
        names = server.hosts(flags.host)
        limits = Limits(flags.queue, flags.max_mb * 1_000_000, token, names)
        app = _opened(flags, limits)
        if token is None and not server.is_loopback(flags.host):
            talk(f"warning: whoever reaches {flags.host} may ask; --token WORD asks for a word")
        host = f"[{flags.host}]" if ":" in flags.host else flags.host
        out(f"http://{host}:{listening.getsockname()[1]}/")
        sys.stdout.flush()
        server.run(app, listening)
    talk(f"stopped: {count(app.state.desk.answered, 'picture')} answered")


def _opened(flags: Flags, limits: Limits) -> FastAPI:
    """Return the application over the network, which is opened. Raises ZooError."""
    from zoo import api
    from zoo.serve.app import create

    with Screen():
        model = api.load(
            flags.model,
            weights=flags.weights,
            device=flags.device,
            engine=flags.engine,
            trust_changed=flags.trust_changed,
        )
        app = create(model, limits)
    ours = app.state.desk.predictor
    talk(f"{ours.about}; {count(len(ours.classes), 'class', 'classes')}")
    return app
