"""The weights files in `configs/weights`: found by name, listed with their cards. No torch."""

from dataclasses import dataclass
from pathlib import Path

from graftdet.models.weights.pretrained.card import WeightsCard
from graftdet.models.weights.pretrained.families import publisher_hint
from graftdet.models.weights.safetensors_file import SUFFIX, SafetensorsHeader, read_header
from graftdet.models.weights.unusable_files import describe_file
from graftdet.utils.config import CONFIGS
from graftdet.utils.errors import UserError, missing_weights

FOLDER = CONFIGS / "weights"


@dataclass(frozen=True)
class PretrainedFile:
    """One of the weights files that come with GraftDet.

    Attributes:
        name: its name without suffix, as given to `--weights`.
        header: names and shapes of its tensors, and metadata.
        card: what it was trained on.
    """

    name: str
    header: SafetensorsHeader
    card: WeightsCard

    @property
    def path(self) -> Path:
        """The file."""
        return self.header.path


def find_weights(name: str | Path) -> Path:
    """The path of a weights file.

    Args:
        name: a path, or the name of a file in `configs/weights`, with or without suffix.

    Returns:
        The path, which exists.

    Raises:
        UserError: there is no such file; suggests the most similar name of a file in `configs/weights`. Or it is of a
            known format that cannot be loaded, such as TensorFlow Lite.
    """
    path = Path(name)
    if path.exists() and (problem := describe_file(path)):
        raise UserError(f"{path}: {problem}")
    if path.is_file():
        return path
    shipped = {file.stem: file for file in weights_files()}
    bare = path.stem if path.suffix == SUFFIX else str(path)
    if path.parent == Path() and bare in shipped:
        return shipped[bare]
    if path.exists():
        return path  # a folder, reported where it is read
    raise UserError(f"{missing_weights(path, shipped)}{publisher_hint(path.name)}")


def weights_files() -> list[Path]:
    """The files in `configs/weights`, by name."""
    return sorted(FOLDER.glob(f"*{SUFFIX}"))


def is_pretrained(path: Path) -> bool:
    """Whether a file is in `configs/weights`."""
    return path.absolute().parent == FOLDER.absolute()


def list_pretrained() -> list[PretrainedFile]:
    """The weights that come with GraftDet, with their cards.

    Raises:
        UserError: a file is malformed.
    """
    headers = [read_header(path) for path in weights_files()]
    return [PretrainedFile(header.path.stem, header, read_card(header) or WeightsCard()) for header in headers]


def read_card(header: SafetensorsHeader) -> WeightsCard | None:
    """The card in the header of a file, None where it has none. Raises `UserError` for a malformed one."""
    content = header.read_value("card", dict)
    if content is None:
        return None
    try:
        return WeightsCard.from_dict(content)
    except TypeError as error:
        raise UserError(f"{header.path}: its card is malformed ({error})") from None
