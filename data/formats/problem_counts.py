"""Counts of the problems found in a dataset."""

from collections import Counter

from graftdet.utils.text import counted_phrase


class ProblemCounts(Counter):
    """Kind of problem -> number of occurrences; `examples` holds the first few locations of each kind."""

    MAX_EXAMPLES = 3

    def __init__(self):
        super().__init__()
        self.examples: dict[str, list[str]] = {}

    def add(self, kind: str, location: object, count: int = 1) -> None:
        """Count problems of one kind.

        Args:
            kind: what is wrong, as a plural noun phrase ("missing images").
            location: file, row or annotation, shown as an example.
            count: number of occurrences; nothing is recorded for 0.
        """
        if count:
            self[kind] += count
            examples = self.examples.setdefault(kind, [])
            if len(examples) < self.MAX_EXAMPLES:
                examples.append(str(location))

    def lines(self) -> list[str]:
        """One line per kind, the most frequent first, with its first location."""
        return [
            f"{counted_phrase(count, kind)} (first: {self.examples[kind][0]})" for kind, count in self.most_common()
        ]

    def __reduce__(self) -> tuple:  # that of Counter drops the examples when a worker is spawned
        return ProblemCounts.restore, (dict(self), self.examples)

    @classmethod
    def restore(cls, counts: dict[str, int], examples: dict[str, list[str]]) -> "ProblemCounts":
        """Rebuild counts from their parts, after pickling or from a cache file."""
        problems = cls()
        problems.update(counts)
        problems.examples = examples
        return problems
