"""What the tests make of the mutants: the score, the survivors, and why some are none."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from benchmarks.measure import ROOT, verdict

RESULTS = ROOT / "benchmarks" / "results" / "mutants.json"
_STRICT = "zip's own check of lengths, which are equal"
# Survivors that change no answer, and why.
EQUAL: dict[str, str] = {
    "head/softmax_regression.py _curvature: not start.weight.any() -> (start.weight.any())":
        "from what the search begins: how many steps it takes, not where the minimum is",
    "head/temperature.py best: 1.0 -> (3.0)":
        "where Newton's steps begin on a convex loss: they end at the same temperature",
    "head/cross_validation.py cross_validated: True -> (False)": _STRICT,
    "scale/plan.py Shards.photos: True -> (False)": _STRICT,
    "scale/plan.py Settings: False -> (True) #3":
        "a default for predictions, which have no use for it: a plan of features says it",
    "models/structure.py _Proof.holds: if not any(_has_parameters(stage) for stage in "
    "list(chain)[:-1]): -> if False:": "neither library has a network that is a head alone",
    "head/conformal.py needed: 9 -> (10)":
        "to which digit the rounding of floats is undone: numbers of photos have far fewer",
    "head/conformal.py limit: 9 -> (10)": "the same",
    "head/solver.py Solution: 1.0 -> (3.0)": "a default that no head is made with",
    "features/compute.py Views: True -> (False)": "a default for the plain view, never turned",
    "data/split.py Shares.of: 1 -> (2) #2": "of a single photo nothing is put aside",
    "serve/desk.py Desk.prepare: 64 -> (65)":
        "the size of the grey picture that opens the network",
    "weights/store.py _download: time.time() - path.stat().st_mtime > STALE -> "
    "(time.time() - path.stat().st_mtime >= STALE)": "a leftover that is a week old to the bit",
    "engine/open.py _made: ref.head is not None and ref.boundary is not None -> "
    "(ref.head is not None or ref.boundary is not None)":
        "without a head the chain is made up to the boundary, and cut there it is itself",
    "train/recovery.py Recovery.halve: at_once = min(rows, state.at_once or rows) -> "
    "at_once = state.at_once or rows":
        "fewer rows than went through before fail only where memory has become less since: it is "
        "halved once more then",
    "train/recovery.py Recovery.within_memory: head.scores = None -> pass":
        "what a pass that failed has left is let go before the next one writes it anew: memory",
    "cli/evaluate.py _show: row.get(\"map\" if isinstance(found, LabelEvaluation) else "
    "\"accuracy\", 0.0) -> row.get(\"accuracy\") or 0.0":
        "which rows of a table stand out on a terminal: no figure is another",
    "weights/hashes.py _Ahead.run: if at == len(content) and before and before == _identity(file): "
    "-> if at == len(content):":
        "a file that changed while it was read is not taken: `let_go` compares the identity too, "
        "and `hash_of_open` the content",
}  # fmt: skip


def known() -> dict[str, dict[str, Any]]:
    """Return the results so far, of other processes too."""
    return json.loads(RESULTS.read_text())["mutants"] if RESULTS.exists() else {}


def table(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Print the score of each file and the survivors; return the bar."""
    for file in sorted({row["file"] for row in found.values()}):
        print("{1:3} of {2:3}  {0}".format(*_score(file, found.values(), file)))
    alive = [name for name, row in found.items() if row["killed_by"] is None]
    since = sum(bool(row["survived_at_first"] and row["killed_by"]) for row in found.values())
    killed = len(found) - len(alive)
    print(f"{killed} of {len(found)} killed, {since} of them survived the first run")
    for name in alive:
        print(f"  {name}\n      {EQUAL.get(name, 'NO TEST')}")
    if idle := [name for name in EQUAL if name not in alive]:
        sys.exit("no survivors, and excused: " + ", ".join(idle))
    return verdict("mutants killed, share", killed / len(found), 0.9, at_most=False)


def _score(name: str, rows: Iterable[dict[str, Any]], begins: str) -> tuple[str, int, int]:
    own = [row for row in rows if row["file"].startswith(begins)]
    return name, sum(row["killed_by"] is not None for row in own), len(own)


def page() -> str:
    """Return the table of docs/evidence.md: killed and tried by room, and the survivors."""
    from benchmarks.speed_pages import markdown

    found = known()
    rooms = sorted({row["file"].partition("/")[0] for row in found.values()})
    rows = []
    for room in [*rooms, ""]:
        cells = []
        for hand in (False, True):
            some = [row for row in found.values() if row.get("hand", False) == hand]
            _, killed, tried = _score(room, some, f"{room}/" if "." not in room and room else room)
            cells.append(f"{killed} of {tried}" if tried else "")
        rows.append((f"zoo/{room}" if room else "all", *cells))
    alive = [name for name, row in found.items() if row["killed_by"] is None]
    told = [f"- `zoo/{name}`: {EQUAL.get(name, 'no test')}" for name in sorted(alive)]
    head = markdown(("", "drawn: killed", "by hand: killed"), rows)
    return "\n".join([head, "", "Survivors:", "", *told])
