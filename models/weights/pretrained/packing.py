"""From a finished training run to a file for `configs/weights`: float16 weights with a card."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from graftdet.models.weights.pretrained.card import ApComparison, TrainingRecord, WeightsCard, card_markdown
from graftdet.models.weights.pretrained.files import find_weights, read_card
from graftdet.models.weights.safetensors_file import read_header
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights, save_weights
from graftdet.utils.checkpoint import ForeignCheckpoint, load_checkpoint
from graftdet.utils.config import to_number
from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.files import write_atomically
from graftdet.utils.tables import read_csv_table
from graftdet.utils.training.flags import AUTO_WEIGHTS, NO_WEIGHTS

CARD_FIELDS = ("model", "trained_on", "license", "limits", "recipe", "reproduce")  # texts that --card may give
RUN_FIELDS: dict[str, Any] = {
    entry.name: entry.type for entry in fields(TrainingRecord)
}  # of the last run, which --card may give
_FLAGS = (
    "cfg",
    "weights",
    "data",
    "hyp",
    "set",
    "img",
    "epochs",
    "batch_size",
    "seed",
    "amp",
)  # in the command of a card


def pack(
    source: str | Path, out: str | Path, values: Mapping[str, str] | None = None, ap: Sequence[ApComparison] = ()
) -> WeightsCard:
    """Write the weights of a run as float16 `.safetensors`, and their card beside them as `.md`.

    Args:
        source: folder of a finished run (its best.pt), a `.pt` file, or a packed file whose card is to be changed.
        out: the `.safetensors` file to write.
        values: fields of the card, or of the record of the last training run, as texts.
        ap: results of fine-tuning, added to those of the card; they replace those of the same dataset.

    Returns:
        The card.

    Raises:
        UserError: the run is not finished, the weights do not fit their YAML, a field is unknown or missing.
    """
    path = Path(source) / "weights" / "best.pt" if Path(source).is_dir() else find_weights(source)
    weights = load_weights(path)
    model = build_from_weights(weights)
    card = weights.card or _card_of_run(path)
    card.parameters = sum(parameter.numel() for parameter in model.parameters())
    card.size = weights.size or 0
    _set_fields(card, values or {})
    missing = next((name for name in ("license", "trained_on", "model") if not getattr(card, name)), None)
    if missing:
        raise UserError(f"{path}: its card has no {missing}; give it with --card {missing}=...")
    card.ap = [*(old for old in card.ap if old.dataset not in {new.dataset for new in ap}), *ap]
    weights.card = card
    save_weights(out, weights)
    write_atomically(Path(out).with_suffix(".md"), card_markdown(Path(out).stem, card))
    return card


def _card_of_run(path: Path) -> WeightsCard:
    """The card of a checkpoint, as far as it is recorded; of weights of other programs an empty one."""
    try:
        content = load_checkpoint(path)
    except ForeignCheckpoint:
        return WeightsCard()
    if "optimizer" in content:
        raise UserError(f"{path}: the run is not finished; resume it with train.py --resume")
    options = content.get("options")
    options = options if isinstance(options, dict) else {}
    start = str(content.get("initial_weights") or options.get("weights") or "")
    epochs = int(content.get("epoch", 0))
    record = TrainingRecord(
        command=_command(options),
        commit=str((content.get("versions") or {}).get("commit", "")),
        seed=int(options.get("seed", 0)),
        epochs=epochs,
        images=epochs * int(content.get("train_images", 0)),
        hours=round(_seconds(path, epochs) / 3600, 2),
        start="" if start in (AUTO_WEIGHTS, NO_WEIGHTS) else Path(start).stem,
    )
    return WeightsCard(model=Path(options.get("cfg") or "").name, runs=[*_earlier_runs(start), record])


def _command(options: Mapping[str, Any]) -> str:
    """The command line of a run, with files by their names."""
    parts = ["python train.py"]
    for key in _FLAGS:
        value = options.get(key)
        if value not in (None, "", [], "auto"):
            values = value if isinstance(value, list) else [value]
            flag = f"--{key.replace('_', '-')}"
            parts += [flag, *(Path(item).name if isinstance(item, str) else str(item) for item in values)]
    return " ".join(parts)


def _seconds(path: Path, epoch: int) -> float:
    """Time from the start of the run to the end of `epoch`, from its results.csv; 0 where it is unknown."""
    table = path.absolute().parent.parent / "results.csv"
    if not table.is_file():
        return 0.0
    try:
        times = [float(row["time"]) for row in read_csv_table(table)[1] if row.get("epoch") == str(epoch)]
    except (KeyError, ValueError):  # damaged or edited
        return 0.0
    return times[-1] if times else 0.0


def _earlier_runs(start: str) -> list[TrainingRecord]:
    """The runs behind the weights that a run started from, where these have a card."""
    if start in ("", AUTO_WEIGHTS, NO_WEIGHTS) or Path(start).suffix in (".pt", ".pth"):
        return []
    card = read_card(read_header(find_weights(start)))
    return card.runs if card else []


def _set_fields(card: WeightsCard, values: Mapping[str, str]) -> None:
    """Set fields of the card and of its last run from texts."""
    for name, text in values.items():
        if name in CARD_FIELDS:
            setattr(card, name, text)
        elif name in RUN_FIELDS:
            card.runs = card.runs or [TrainingRecord()]
            setattr(card.runs[-1], name, to_number(text, RUN_FIELDS[name], f"--card {name}"))
        else:
            known = (*CARD_FIELDS, *RUN_FIELDS)
            raise UserError(
                f"--card {name}: is not a field{did_you_mean(name, known)}; expected one of {', '.join(known)}"
            )
