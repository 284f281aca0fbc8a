"""A rule of `models check`, and the model in which its example is made."""

from dataclasses import dataclass

EXAMPLE_MODEL = """\
nc: 3
anchors: 3
backbone:
  - [-1, 1, Conv, [16, 3, 2]]  # 0
  - [-1, 1, Conv, [32, 3, 2]]  # 1
  - [-1, 1, C3, [32]]  # 2
  - [-1, 1, Conv, [48, 3, 2], p3]  # 3
  - [-1, 1, Conv, [64, 3, 2]]  # 4
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]  # 5
  - [[-1, p3], 1, Concat, [1]]  # 6
  - [-1, 1, C3, [64, False]]  # 7
  - [-1, 1, Conv, [64, 3, 2]]  # 8
  - [[-1, 4], 1, Concat, [1]]  # 9
  - [-1, 1, C3, [128, False]]  # 10
  - [[7, 10], 1, Detect, [nc, anchors]]  # 11
"""
"""A model without problems, in which the examples of the rules are made."""

C3_ROW, JOIN_ROW = "[-1, 1, C3, [32]]", "[[-1, p3], 1, Concat, [1]]"
LAST_ROW = "[[7, 10], 1, Detect, [nc, anchors]]"


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        id: as in `error[id]`.
        severity: "error" or "warning".
        origin: the Python module below `graftdet.models` that finds it.
        summary: what it means, in one sentence.
        bad: text of a model YAML that violates it.
        good: the same text with the fix.
        replaces: what `bad` replaces in `EXAMPLE_MODEL`, where that is not `good`.
        targets: with which values of `--target` the example violates it.
    """

    id: str
    severity: str
    origin: str
    summary: str
    bad: str
    good: str
    replaces: str | None = None
    targets: tuple[str, ...] = ()

    @property
    def example(self) -> str:
        """The text of a model that violates the rule."""
        old = self.good if self.replaces is None else self.replaces
        if EXAMPLE_MODEL.count(old) != 1:
            raise ValueError(f"rule {self.id}: its example must replace something that is there once: {old!r}")
        return EXAMPLE_MODEL.replace(old, self.bad)
