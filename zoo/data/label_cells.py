"""What a cell of labels may be mistaken for: several labels in one, or the word for none.

Only `|` stands between labels: a class may be called `salt, sea` or `red fox`. So other marks are
no marks, but where they seem to be meant so it is said, or refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

# What programs write for a cell without a value, and nobody calls a class; in lower case.
NOTHING = frozenset({"nan", "<na>", "nat", "#n/a", "#na", "(null)", "<null>", "\\n"})
# What some write so, too, but may be a class: the wafers without a defect are `none`.
PERHAPS = frozenset({"none", "null", "na", "n/a", "nil", "undefined"})
SURE = (";", ",", "；", "，", "、")
MARKS = (*SURE, "/", "&", "+", "\t", " ")
BRACKETS = ("[]", "()", "{}")
CALLS = ("array(", "set(", "frozenset(")


def _listed(cell: str) -> list[str] | None:
    """Return what is in a list as Python, NumPy, JSON or Postgres write it, or None."""
    text = cell.strip()
    call = text.startswith(CALLS) and text.endswith(")")
    if text[:1] + text[-1:] not in BRACKETS and not call:
        return None
    inside = text.partition("(")[2] if call else text[1:-1]
    bare = inside.strip().rstrip(",").strip()
    quoted = len(bare) > 1 and bare[0] in "\"'" and bare[-1] in "\"'"
    if not (call or quoted or (text[0] != "(" and "," in inside) or (text[0] == "[" and not bare)):
        return None
    return [name for part in re.split(r"""[][(){}"',]""", inside) if (name := part.strip())]


def fault(label: str, group: str, names: Iterable[str]) -> tuple[str, str] | None:
    """Return what is wrong with the cells of a row, and what to do, or None.

    names: the labels that the cell `label` holds.
    """
    for what, values in (("label", names), ("group", [group])):
        for value in values:
            if value.casefold() in NOTHING:
                return (
                    f"the {what} is {value!r}, which programs write for an empty cell",
                    "leave the cell empty or the line out (pandas: `.fillna('')` before "
                    "`.astype(str)`); a class that is called so takes a folder, or a column of 0 "
                    "and 1",
                )
    inside = _listed(label)
    if inside is not None:
        return (
            f"the label {label[:80]} is a list as Python or JSON write it",
            f"put | between labels: {'|'.join(inside[:8]) or 'an empty cell'} (pandas: "
            "`.str.join('|')`)",
        )
    return None


def doubtful(counts: Mapping[str, int]) -> list[str]:
    """Return a note on each label that may stand for no label. counts: photos of each label."""
    return [
        f"WARNING: {count:,} photos have the label {word!r}, which is learned as a class; if it "
        "stands for no label, leave the cell empty or the line out"
        for word, count in counts.items()
        if word.casefold() in PERHAPS
    ]


def parted(labels: set[str], several: bool, known: bool) -> tuple[str, str, bool]:
    """Return the mark that seems to stand between labels, a cell with it, and whether that is sure.

    several: the photos are said to have several labels. known: some have `|` between them, so that
    another mark is one only where all that it parts are labels elsewhere.
    """
    for mark in MARKS:
        parts = {label: split(label, mark) for label in labels}
        many = sorted(label for label, names in parts.items() if len(names) > 1)
        often = Counter(name for names in parts.values() for name in set(names))
        if known:
            many = [label for label in many if mark in SURE and labels.issuperset(parts[label])]
        if not many:
            continue
        fewer = len(often) < len(labels)
        again = any(often[name] > 1 for label in many for name in parts[label])
        alone = any(often[name] > 1 for name in labels & often.keys())
        sure = mark in SURE or (fewer and alone)
        if (several and again) or (fewer and sure):
            return mark, many[0], several and sure
    return "", "", False


def split(cell: str, mark: str) -> list[str]:
    return [part for part in map(str.strip, cell.split(mark)) if part]


def said_of(mark: str, label: str) -> tuple[str, str]:
    """Return what is to be said of a label that seems to be several, and what to do."""
    between = {" ": "a blank", "\t": "a tab"}.get(mark, f"'{mark}'")
    return (
        f"the label {label[:80]!r} seems to be several, with {between} between them",
        f"put | between labels: {'|'.join(split(label, mark)[:8])}",
    )
