"""Which engine runs a chain here, and why, in a few words. Needs no torch."""

from __future__ import annotations

import functools
import platform
from collections.abc import Collection
from pathlib import Path

from zoo.engine.openvino import version
from zoo.errors import UsageError, meant

ENGINES = ("auto", "torch", "openvino", "onnxruntime")
PRECISIONS = {
    "torch": ("fp32", "bf16"),
    "openvino": ("fp32", "bf16", "int8"),
    "onnxruntime": ("fp32", "int8"),
}
ARM = ("arm64", "aarch64")
# As Linux spells what a processor can do, the widest first.
VECTORS = ("avx512f", "avx2", "asimd")
BF16 = ("amx_bf16", "avx512_bf16", "bf16")


def choose(
    wanted: str, device_name: str, precision: str, engines: tuple[str, ...] = ENGINES
) -> tuple[str, str]:
    """Return torch, openvino or onnxruntime, and the reason as a short phrase.

    wanted: `auto` or one of the three, as --engine has it. engines: those that are advised. Raises
    UsageError for an engine that cannot run here or not in this precision, and for bf16 on a CPU
    that has it not.
    """
    if wanted not in ENGINES:
        raise UsageError(
            f"--engine {wanted}: there is no such engine",
            f"{meant('engine', wanted, ENGINES)} give one of {', '.join(ENGINES)}".strip(),
        )
    if device_name == "cpu" and precision == "bf16" and not bf16():
        raise UsageError(
            f"--precision bf16: this CPU has no bf16 ({_processor()})",
            "bf16 is quicker where there is avx512_bf16 or amx: leave --precision out for fp32",
        )
    against, engine, reason = why_not(device_name), wanted, "asked for"
    if wanted == "auto":
        engine = "torch" if against else "openvino"
        reason = against or f"quickest on this CPU ({_abilities(precision)})"
    _must_run(engine, device_name, against)
    if precision not in PRECISIONS[engine]:
        able = [name for name in engines if precision in PRECISIONS.get(name, ())]
        known = ", ".join(PRECISIONS[engine])
        give = (
            f"--engine {' or '.join(able)}" if able and device_name == "cpu" else f"one of {known}"
        )
        raise UsageError(
            f"--precision {precision} with the engine {engine}, which runs {known}", f"give {give}"
        )
    return engine, reason


def _must_run(engine: str, device_name: str, against: str) -> None:
    if engine == "openvino" and against:
        raise UsageError(
            f"--engine openvino cannot run here: {against}",
            "it runs on CPUs with AVX2 and on arm64; --engine torch runs everywhere",
        )
    if engine == "onnxruntime" and device_name != "cpu":
        raise UsageError(
            f"--engine onnxruntime on {device_name}: it runs on the CPU",
            "give --device cpu, or --engine torch",
        )


def choose_for_network(wanted: str, device_name: str, precision: str) -> tuple[str, str]:
    """Return what `choose` does for what is no exported file: those are ONNX Runtime's alone."""
    if wanted == "onnxruntime":
        raise UsageError(
            "--engine onnxruntime: it runs exported files",
            "`zoo export onnx RUN` makes one; here give auto, torch or openvino",
        )
    return choose(wanted, device_name, precision, ("auto", "torch", "openvino"))


def why_not(device_name: str) -> str:
    """Return why OpenVINO is not the engine here, or nothing."""
    if device_name != "cpu":
        return f"the device is {device_name}, openvino is for CPUs"
    if version() is None:
        return "openvino is not installed"
    if platform.machine().lower() in (*ARM, "amd64", "x86_64"):
        known = flags()
        narrow = known and platform.machine().lower() not in ARM and "avx2" not in known
        return f"this CPU has no AVX2 ({_processor()})" if narrow else ""
    return f"there is no openvino for {platform.machine()}"


def bf16() -> bool:
    """Whether this CPU computes in bf16; elsewhere it would be emulated, slowly."""
    known = flags()
    if known:
        return not known.isdisjoint(BF16)
    from zoo.engine.openvino import capabilities

    return "BF16" in capabilities()


def int8_sums(known: Collection[str]) -> str:
    """Return in how many bits ONNX Runtime adds up products of int8, by a processor's `flags()`.

    16 with AVX2 or AVX-512 that has no VNNI, which are too few: SqueezeNet answers 76 of 100 photos
    as in fp32, and 89 with weights of 7 bits. An export measures it, and refuses such a file.
    """
    vnni = any("vnni" in name for name in known)
    return "16" if "avx2" in known and not vnni else "32"


def _abilities(precision: str) -> str:
    """Return `avx512f, avx512_bf16`: what of this CPU is made use of, or its kind."""
    known = flags()
    groups = (VECTORS, BF16) if precision == "bf16" else (VECTORS,)
    found = [next((name for name in group if name in known), "") for group in groups]
    return ", ".join(filter(None, found)) or platform.machine()


@functools.cache
def flags() -> frozenset[str]:
    """Return what this CPU can do, as Linux says it; nothing elsewhere."""
    for word in ("flags", "Features"):
        for line in cpuinfo():
            if line.startswith(word):
                return frozenset(line.partition(":")[2].split())
    return frozenset()


def _processor() -> str:
    names = [line.partition(":")[2].strip() for line in cpuinfo() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
