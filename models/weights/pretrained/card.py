"""The card of pretrained weights: what they were trained on, how, under which license, and what they are good for."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from graftdet.utils.tables import markdown_table

_JSON_TYPES: dict[Any, Any] = {float: (int, float), int: int, str: str}  # type of a field -> types that JSON gives


@dataclass
class TrainingRecord:
    """One training run behind the weights.

    Attributes:
        command: its command line.
        commit: the git commit of the code.
        seed: seed of all random generators.
        epochs: number of epochs.
        images: number of training images seen, over all epochs.
        hours: duration.
        start: name of the weights that it started from; "" for random ones.
    """

    command: str = ""
    commit: str = ""
    seed: int = 0
    epochs: int = 0
    images: int = 0
    hours: float = 0.0
    start: str = ""


@dataclass
class ApComparison:
    """AP50-95 after fine-tuning on one dataset.

    Attributes:
        dataset: dataset, split and number of epochs.
        pretrained: AP50-95 when fine-tuning starts from the weights, 0..1.
        scratch: AP50-95 of the same training from scratch, 0..1.
    """

    dataset: str
    pretrained: float
    scratch: float


@dataclass
class WeightsCard:
    """What a user of pretrained weights has to know.

    Attributes:
        model: file name of the model YAML.
        parameters: number of parameters.
        trained_on: the training images, in a few words.
        license: SPDX identifier of the license of the weights.
        size: longer side of the training images [pixels].
        runs: the training runs, first to last.
        ap: AP50-95 after fine-tuning, per dataset.
        limits: what the weights are not good for.
        reproduce: command that repeats all runs, "" where there is none.
        recipe: file in `configs/hyp` for training from them; "": `train.py` chooses.
    """

    model: str = ""
    parameters: int = 0
    trained_on: str = ""
    license: str = ""
    size: int = 0
    runs: list[TrainingRecord] = field(default_factory=list)
    ap: list[ApComparison] = field(default_factory=list)
    limits: str = ""
    reproduce: str = ""
    recipe: str = ""

    @property
    def images(self) -> int:
        """Number of training images seen in all runs."""
        return sum(run.images for run in self.runs)

    @property
    def hours(self) -> float:
        """Duration of all runs."""
        return sum(run.hours for run in self.runs)

    def as_dict(self) -> dict[str, Any]:
        """The card as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "WeightsCard":
        """Read a card; unknown keys, as newer versions may write them, are ignored.

        Raises:
            TypeError: the content is not that of a card.
        """
        values = _known(cls, content)
        values["runs"] = [TrainingRecord(**_known(TrainingRecord, run)) for run in values.get("runs", [])]
        values["ap"] = [ApComparison(**_known(ApComparison, one)) for one in values.get("ap", [])]
        return cls(**values)


def _known(kind: type, content: Any) -> dict[str, Any]:
    """The entries of the mapping `content` that are fields of a dataclass. Raises `TypeError` for wrong types."""
    if not isinstance(content, Mapping):
        raise TypeError(f"expected a mapping, got a {type(content).__name__}")
    values = {}
    for entry in fields(kind):
        value = content.get(entry.name)
        if value is None:
            continue
        expected: Any = _JSON_TYPES.get(entry.type, list)
        if not isinstance(value, expected) or isinstance(value, bool):
            raise TypeError(f"{entry.name} is a {type(value).__name__}")
        values[entry.name] = value
    return values


def card_markdown(name: str, card: WeightsCard) -> str:
    """The page `NAME.md` beside pretrained weights.

    Args:
        name: name of the weights, without suffix.
        card: their card.
    """
    facts = [
        ("model", f"`{card.model}`, {card.parameters:,} parameters"),
        ("trained on", f"{card.trained_on}, {card.images:,} images of {card.size} px"),
        ("license", card.license),
        ("duration", f"{card.hours:.1f} hours"),
    ]
    runs = [
        (number, run.seed, run.epochs, f"{run.images:,}", f"{run.hours:.1f}", run.start or "random", run.commit[:12])
        for number, run in enumerate(card.runs, 1)
    ]
    lines = [f"# {name}", "", markdown_table(("", ""), facts), "", "## Training", ""]
    lines += [markdown_table(("run", "seed", "epochs", "images", "hours", "starts from", "commit"), runs), "", "```"]
    lines += [*(run.command for run in card.runs), "```", ""]
    lines += [f"`{card.reproduce}` repeats all runs.", ""] if card.reproduce else []
    lines += ["## AP50-95 after fine-tuning", ""]
    results = [(one.dataset, f"{one.pretrained:.3f}", f"{one.scratch:.3f}") for one in card.ap]
    table = markdown_table(("dataset", "from these weights", "from scratch"), results)
    lines += [table if results else "Not evaluated.", "", "## Limits", "", card.limits or "Not stated.", ""]
    return "\n".join(lines)
