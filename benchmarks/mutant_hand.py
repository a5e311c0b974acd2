"""Changes by hand, of parts whose tests no draw looks at: each is a mistake that somebody may make.

A limit that is off by one, a comparison turned, a condition dropped, a wrong default, an error
swallowed, an order lost, a hash not compared. Each has the file, what stands there, what stands
there now, and the files of tests that ought to tell.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.mutant_answers import ANSWERS
from benchmarks.mutant_kinds import Mutant, described, nodes, words

HAND = (
    # models
    ("models/cut.py", "while at + 2 < len(places)", "while at + 3 < len(places)", "catalog"),
    ("models/cut.py", "self.frozen.requires_grad_(False).eval()",
     "self.frozen.requires_grad_(False)", "catalog"),
    ("models/chain.py", "if isinstance(part, nn.modules.batchnorm._NormBase):\n        return True",
     "if isinstance(part, nn.modules.batchnorm._NormBase):\n        return False",
     "catalog"),
    ("models/chain.py", 'getattr(part, "p", getattr(part, "drop_prob", 1.0)) != 0',
     'getattr(part, "p", getattr(part, "drop_prob", 1.0)) == 0', "catalog"),
    ("models/head.py", "parameter.copy_(value)", "pass", "calibrate"),
    ("models/head.py", "return layers[-1] if layers else None",
     "return layers[0] if layers else None", "calibrate"),
    ("models/structure.py",
     "return self._train is None or self._record(chain.train()) == self._train",
     "return True", "library"),
    ("models/structure.py", "if not any(_has_parameters(stage) for stage in list(chain)[:-1]):",
     "if False:", "library"),
    # check
    ("check/near.py", "return sorted(found, key=lambda pair: -pair[2])", "return found",
     "check"),
    ("check/near.py", "best[part] = np.maximum(best[part], cosines)", "best[part] = cosines",
     "check"),
    ("check/near.py", "for hashes in (whole, turned):", "for hashes in (whole,):", "check"),
    ("check/near.py", "hashes[~usable] = 0", "pass", "check"),
    ("check/copies.py", 'if drawn and kind == "exact":', "if drawn:", "check"),
    ("check/copies.py", "if forest.join(pair[1].digest, pair[0].digest)", "if True", "check"),
    ("check/copies.py",
     "large = [n for n, p in enumerate(photos) if min(p.width, p.height) > TOO_SMALL]",
     "large = [n for n, p in enumerate(photos) if max(p.width, p.height) > TOO_SMALL]",
     "check"),
    ("check/labels.py", "if large > UNEVEN * small:", "if large >= UNEVEN * small:", "check"),
    ("check/labels.py", "if many < SCARCE", "if many <= SCARCE", "check"),
    ("check/drift.py", "(energies >= energies[0] * (1 - 1e-9))", "(energies > energies[0])",
     "check"),
    ("check/job.py", 'if row["split"] == "train"', "if True", "check"),
    ("check/job.py", "good = np.isfinite(rows).all(axis=1)", "good = np.ones(len(rows), bool)",
     "check"),
    ("check/features.py", "if share < ENOUGH or not shape", "if not shape", "check"),
    # cli
    ("cli/predict.py", 'return 1 if flags.strict and tally.statuses["error"] else 0', "return 0",
     "predict"),
    ("cli/predict.py", "asked = replace(asked, top=min(flags.top, len(ours.classes)))",
     "asked = replace(asked, top=flags.top)", "predict"),
    ("cli/predict.py", "            both.must_hold()", "            pass", "agreement"),
    ("cli/cache.py", 'return sys.stdin.readline().strip().lower() in ("y", "yes")',
     'return sys.stdin.readline().strip().lower() not in ("n", "no")', "cache"),
    ("cli/cache.py", "if flags.clear and flags.prune:", "if False:", "cache"),
    ("cli/arguments.py",
     'if place is not None and not given.get("force") and os.path.isfile(str(place)):',
     'if place is not None and os.path.isfile(str(place)):', "cli wrong"),
    ("cli/__init__.py", "code = 5 if error.errno in FULL else 4", "code = 4",
     "killed_writers faults"),
    ("cli/__init__.py", "parts.written = 0\n    try:", "try:", "cache"),
    # api
    ("api/__init__.py", "if not 1 <= views <= 100:", "if not 1 <= views <= 101:", "api"),
    ("api/__init__.py", "if folds < 2 or views < 1:", "if folds < 1 or views < 1:", "api"),
    ("api/__init__.py", "    return rank.in_order(rows)", "    return rows", "api"),
    ("api/__init__.py", 'if run.record["status"] == "started":', "if True:", "api"),
    ("api/__init__.py", "device=device, views=views, on_event=on_event)\n            for one",
     "device=device, on_event=on_event)\n            for one", "api"),
    ("api/model.py", "if key not in self._opened:", "if True:", "api"),
    ("api/model.py", "if exact and not self._force:", "if False:", "agreement"),
    ("api/run.py", 'found: dict[str, Any] = record.get("test") or record.get("results") or {}',
     'found: dict[str, Any] = record.get("results") or record.get("test") or {}', "api"),
    # store
    ("weights/store.py", "pinned = pin_of(path) or pin_of(_kept_path(weights)) if",
     "pinned = pin_of(path) if", "weights store_files"),
    ("weights/store.py", "return pinned if pinned.startswith(known) and pinned else known",
     "return pinned or known", "weights store_files"),
    ("weights/store.py", "if not url.startswith(HUB + \"/\"):", "if not url.startswith(HUB):",
     "weights store_fetch"),
    ("weights/fetch.py", "if restarts > 2:", "if restarts > 3:", "store_fetch"),
    ("weights/fetch.py",
     "whole = part.size > 0 and part.size == source.size and is_full(source.sha256)",
     "whole = False", "store_fetch"),
    ("weights/hashes.py", "if digest != known[1]:", "if False:", "store_files weights"),
    ("weights/hashes.py", "identity if time.time_ns() - max(identity[3:]) > 1_000_000_000 else ()",
     "identity", "store_fetch weights"),
    ("weights/hashes.py", "if at == len(content) and before and before == _identity(file):",
     "if at == len(content):", "store_files weights"),
    ("cache.py", "and now - one.used > YOUNG]", "]", "cache"),
    ("cache.py", "if (BY_NAME[one.kind].again or alone) and", "if", "cache"),
    # engine
    ("engine/store.py", "if sha256_of(path) != facts[1]:", "if False:", "compiled"),
    ("engine/store.py", 'good = bool(files) and record["seal"] == _seal_of(record)',
     "good = bool(files)", "compiled"),
    ("engine/store.py", "for _, each, place in sorted(found):", "for _, each, place in found:",
     "compiled cache"),
    ("engine/store.py", "if place != keep and remove(place):", "if remove(place):",
     "compiled cache"),
    ("engine/store.py", "(fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)", "fcntl.LOCK_SH",
     "compiled cache"),
    ("engine/open.py", "if rows.shape[1] != self.head.columns:", "if False:",
     "compiled"),
    ("engine/open.py", "scores = np.stack([self.head.scores(row) for row in rows])",
     "scores = self.head.scores(rows)", "compiled"),
    ("engine/select.py",
     'narrow = known and platform.machine().lower() not in ARM and "avx2" not in known',
     'narrow = "avx2" not in known', "openvino"),
    ("engine/select.py", 'if device_name == "cpu" and precision == "bf16" and not bf16():',
     "if False:", "openvino"),
    # serve
    ("serve/server.py",
     "if len(left) >= CONNECTIONS and idle:", "if len(left) > CONNECTIONS and idle:",
     "serve"),
    ("serve/server.py", "min(idle, key=lambda one: one._since).transport.abort()",
     "max(idle, key=lambda one: one._since).transport.abort()", "serve"),
    ("serve/server.py", "return self._busy() and not self.cycle.more_body", "return self._busy()",
     "serve"),
    ("serve/app.py", "bad = all(row.status == \"error\" for row in rows)",
     "bad = any(row.status == \"error\" for row in rows)", "serve"),
    ("serve/app.py", "_must_fit(desk, len(found))", "_must_fit(desk, 1)", "serve"),
    ("serve/app.py", "route_class_override=_Direct if limits.token is None else APIRoute",
     "route_class_override=_Direct", "serve"),
    ("serve/intake.py", "            self.held -= size", "            pass", "serve"),
    ("serve/desk.py", "return self.waiting + count <= self.most",
     "return self.waiting + count < self.most", "serve"),
    ("serve/desk.py",
     "if not job.future.done():\n                    job.future.set_exception(error)",
     "pass", "serve"),
    # promises: memory that ends, photos left out, errors of their own kinds, a file that differs
    ("train/recovery.py", "        self.undo()\n        state.at_once =", "        state.at_once =",
     "nothing_lost_guard"),
    ("train/recovery.py", "at_once = min(rows, state.at_once or rows)",
     "at_once = state.at_once or rows", "nothing_lost_guard"),
    ("train/recovery.py", "                head.scores = None", "                pass",
     "nothing_lost_guard"),
    ("finetune/readable.py", "UNREADABLE = 0.1", "UNREADABLE = 0.9", "names values"),
    ("finetune/readable.py", "if len(bad) <= UNREADABLE", "if len(bad) < UNREADABLE",
     "names values"),
    ("predict/rows.py", "one if fine else ImageError(NOT_FINITE) for", "one for",
     "predict"),
    ("predict/rows.py", "            else ImageError(NOT_FINITE)\n            for row",
     "            else (None, told[row])\n            for row", "predict"),
    ("data/decode.py", "    except Exception as error:  # Pillow raises nearly anything",
     "    except ValueError as error:", "decode costly_photos"),
    ("data/decode.py",
     "    except MemoryError:", "    except BufferError:", "decode costly_photos"),
    ("export/proof.py", "if not same[clear].all():", "if False:", "export"),
    ("export/proof.py", "clear = _margin(probabilities, about) > PIXELS_MAX",
     "clear = _margin(probabilities, about) > 1", "export"),
    ("export/proof.py", "if not differences[name] <= limit:", "if differences[name] > limit:",
     "export"),
    ("export/proof.py",
     "result |= _odd(_asked(pool, odd, model.run, bare, about), len(photos), about)", "pass",
     "export"),
    # promises: of docs/security.md, where one guard holds a row
    ("weights/convert.py", "[:2]) < (2, 10):", "[:2]) < (2, 0):", "store_hostile"),
    ("weights/convert_worker.py", "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))", "pass",
     "store_hostile"),
    ("weights/store.py", "if not (offline or is_offline()):", "if not offline:", "store_pull"),
    ("weights/load.py", "elif given.shape != tensor.shape:",
     "elif given.numel() != tensor.numel():", "store_files"),
    ("weights/fetch.py", "if free < wanted:", "if False:", "store_fetch"),
    ("disk.py", "one.mkdir(mode=0o700, exist_ok=True)", "one.mkdir(exist_ok=True)", "store_fetch"),
    ("train/checkpoint.py", "if written is None or _bytes_in(written) != _digest(tensors):",
     "if written is None:", "nothing_lost_checkpoint"),
    ("watch.py", "if again or not _now.patient:", "if not _now.patient:",
     "signals nothing_lost_kill"),
    ("lock.py", "if not _taken(lease, path, patience):",
     "if _taken(lease, path, patience) is None:", "nothing_lost_lock"),
    ("data/decode.py", "if not stat.S_ISREG(status.st_mode):", "if False:", "decode"),
    ("text.py", 'return printable(text).replace("\\n", "\\\\n")', "return printable(text)",
     "text made_up"),
    ("scale/launch.py", 'if not local and os.environ.get("RAY_AUTH_MODE") != "token":',
     "if False:", "jobs_on_ray"),
    *ANSWERS,
)  # fmt: skip


def by_hand(tree: Path) -> Iterator[tuple[Mutant, list[str]]]:
    """Yield them with their files of tests; ends the program where one does not apply any more."""
    for file, was, now, tests in HAND:
        text = (tree / "zoo" / file).read_text()
        if (times := text.count(was)) != 1:
            sys.exit(f"zoo/{file} has {times} times: {was}")
        start = text.index(was)
        line = text.count("\n", 0, start) + 1
        scope = [one for one, node in nodes(ast.parse(text)) if _has(node, line)]
        inside, around = described(max(scope, key=len))
        names = [f"tests/test_{name}.py" for name in tests.split()]
        yield Mutant(file, line, words(was), now, start, start + len(was), inside, around, 1), names


def _has(node: ast.AST, line: int) -> bool:
    return getattr(node, "lineno", line + 1) <= line <= (getattr(node, "end_lineno", 0) or 0)
