"""What a check has found: records, which the table, the JSON and the page are made from."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["serious", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("serious", "warning", "note")


@dataclass(frozen=True, slots=True)
class Example:
    """One or two photos by their paths below the root, and what is said of them."""

    paths: tuple[str, ...] = ()
    said: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of fault: what there is, what to do, and every place where it is.

    check: a word for programs. pictures: a page shows the photos.
    """

    check: str
    severity: Severity
    what: str
    advice: str
    examples: tuple[Example, ...] = ()
    pictures: bool = False


@dataclass(slots=True)
class Checked:
    """All findings on some data. network: whose features were looked at, "" for none.

    unchecked: what could not be looked at, and why.
    """

    data: str
    root: str
    photos: int
    classes: tuple[str, ...]
    parts: dict[str, int]
    network: str = ""
    findings: list[Finding] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def add(self, *found: Finding | None) -> None:
        """Take findings; None is nothing found."""
        self.findings += [each for each in found if each is not None]
        self.findings.sort(key=lambda each: SEVERITIES.index(each.severity))

    def counts(self) -> dict[str, int]:
        """Return the number of findings of each severity."""
        counted = Counter(each.severity for each in self.findings)
        return {name: counted[name] for name in SEVERITIES}

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "counts": self.counts()}
