"""The kinds of heads by their names, as `--head` takes them and run.json keeps them."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.errors import UsageError

# What a name looks like, and what that is called where one does not.
PATTERN = r"linear|mlp:[1-9][0-9]{0,4}|knn:[1-9][0-9]{0,2}|prototype(:cosine|:mahalanobis)?|text"
WANTED = (
    "`linear`, `mlp:N`, `knn:K`, `prototype`, `prototype:cosine` or `text`, as in mlp:512 or knn:20"
)
DEFAULT_METRIC = "mahalanobis"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of head. number: hidden units of mlp, neighbours of knn. metric: of prototype."""

    word: str
    number: int = 0
    metric: str = ""

    @property
    def computed(self) -> bool:
        """Whether it is written down from kept features: there is nothing to train or to solve."""
        return self.word in ("knn", "prototype", "text")

    @property
    def layer(self) -> str:
        """Return what stands in the network for it: `linear`, `cosine`, `mlp`, `knn` or `text`.

        Distances of one covariance for all classes differ by a linear function of the features.
        """
        if self.word != "prototype":
            return self.word
        return "cosine" if self.metric == "cosine" else "linear"

    @property
    def graph(self) -> str:
        """Return what a graph of the network has to know of it: the width is in its tensors."""
        return f"knn:{self.number}" if self.word == "knn" else self.layer


def kind_of(name: str) -> Kind:
    """Return the kind of this name. Raises UsageError for one that is none."""
    import re

    if re.fullmatch(PATTERN, name) is None:
        raise UsageError(f"a head '{name}'", f"give {WANTED}")
    word, _, more = name.partition(":")
    if word == "prototype":
        return Kind(word, metric=more or DEFAULT_METRIC)
    return Kind(word, int(more or 0))
