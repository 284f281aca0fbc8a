"""The interface of a data format: `Format` reads the samples of a split, `Writer` writes them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from graftdet.data.formats.problem_counts import ProblemCounts
from graftdet.data.formats.reading_options import READING_KEYS, ReadingOptions
from graftdet.data.formats.sample import Sample
from graftdet.data.formats.sample_table import SampleTable
from graftdet.data.parallel_io import DirectoryListings
from graftdet.data.paths import find_root
from graftdet.data.synthetic.drawn_images import DrawnImages
from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.registry import Registry

FORMATS = Registry("data format")
"""Value of `format:` in a data YAML -> subclass of `Format`."""

SPLIT_NAMES = ("train", "val", "test")
DATA_KEYS = (*SPLIT_NAMES, "path", "format", "names", "nc", "download", "source", *READING_KEYS)
OTHER_CLASS = "objects of classes that are not selected"


@dataclass
class DataConfig:
    """A data YAML whose dataset exists."""

    path: Path  # of the YAML
    format: str  # a key of `FORMATS`
    root: Path  # folder of the dataset
    splits: dict[str, Any]  # train, val, test -> value in the YAML: text, list of text, or {images, annotations}
    names: list[str] | None = None  # classes in the order of the model; None until they are read from the source
    name_ids: list[int] | None = None  # their numbers in the YAML (class numbers of YOLO labels)
    nc: int | None = None  # number of classes in the YAML, for sources whose classes have no names
    names_given: bool = False  # whether `names` are from the YAML, not from the source
    settings: Any = None  # values of the keys that this format alone has (`Format.read_settings`)
    missing_hint: str = field(default="", repr=False)  # where to get the dataset
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    names_with_boxes: list[str] | None = field(default=None, repr=False)  # for `drop_empty`, once they are known

    def has(self, split: str) -> bool:
        """Return whether the YAML has this split."""
        return split in self.splits


class Format(ABC):
    """A data format: an iterable over the samples of one split, as the source states them.

    A subclass lives in its own file in this folder, is registered with `@FORMATS.register("name")`, and implements
    `__init__` and `__iter__`. Samples may be invalid; whoever opens a split validates them. What cannot be read at all
    is skipped and counted in `problems`.

    Attributes:
        names: class index -> name.
        category_ids: class index -> category id of the source.
        problems: what was skipped, so far.
        notes: what the reader of a report should know and is no problem.
        drawing: draws the images of the split, which has no files; None for files.
        listings: folders of images that were listed to find them; None if there are none.
        KEYS: keys of a data YAML in this format.
        DEFAULT_SPLITS: split -> value, for a data YAML that names no split.
        Writer: writes this format in `python -m data convert`; None if it cannot be written.
    """

    KEYS: ClassVar[tuple[str, ...]] = DATA_KEYS
    DEFAULT_SPLITS: ClassVar[dict[str, Any]] = {}
    Writer: "type[Writer] | None" = None

    names: list[str]
    category_ids: list[int]
    problems: ProblemCounts
    notes: list[str] | tuple[()] = ()
    drawing: DrawnImages | None = None
    listings: DirectoryListings | None = None

    @abstractmethod
    def __init__(self, config: DataConfig, split: str, names: list[str] | None = None, strict: bool = True):
        """Find the files of a split.

        Args:
            config: the data YAML; the value of the split is `config.splits[split]`, relative to `config.root`.
            split: train, val or test.
            names: classes to select, in this order; None for all classes of the source.
            strict: treat a name that the source lacks as an error.

        Raises:
            UserError: if the files do not exist or a class is unknown.
        """

    @abstractmethod
    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples of the split."""

    def table(self) -> SampleTable:
        """Return all samples as one table. Formats that are read by columns build it without making samples."""
        return SampleTable.from_samples(iter(self))

    @classmethod
    def recognizes(cls, root: Path, value: Any) -> int:
        """Rate how likely the value of a split is in this format, for a data YAML without `format:`.

        Args:
            root: the folder of the dataset.
            value: the value of `train:`, `val:` or `test:`.

        Returns:
            A rating from 0 (not in this format) to 3 (certain).
        """
        return 0

    @classmethod
    def read_settings(cls, values: dict[str, Any], path: Path, num_classes: int | None) -> Any:
        """Read the keys that this format alone has.

        Args:
            values: the content of the data YAML, whose keys are in `KEYS`.
            path: the YAML, for messages.
            num_classes: `nc` or the number of names in the YAML; None if it has neither.

        Returns:
            `DataConfig.settings`.

        Raises:
            UserError: for an invalid value.
        """
        return None

    @classmethod
    def find_root(cls, value: str | None, yaml_path: Path, missing_hint: str, splits: Iterable[Any] = ()) -> Path:
        """Return the folder of the dataset for the `path:` of a data YAML (see `data.paths.find_root`)."""
        return find_root(value, yaml_path, missing_hint, splits)


class Writer(ABC):
    """Writes the annotations of a dataset into a new folder.

    Attributes:
        NOT_WRITTEN: what the format cannot store, for the report of the conversion.
        REQUIRES_UPRIGHT: whether boxes must refer to the image as rotated by its EXIF orientation.
    """

    NOT_WRITTEN: str = ""
    REQUIRES_UPRIGHT = False

    def __init__(self, out: Path, names: list[str], category_ids: list[int]):
        self.out, self.names, self.category_ids = out, names, category_ids
        self.problems = ProblemCounts()

    def image_path(self, split: str, name: str) -> Path:
        """Return the path that the image file `name` of a split is copied to."""
        return self.out / "images" / split / name

    @abstractmethod
    def write_split(self, split: str, samples: Sequence[Sample], image_paths: list[Path]) -> object:
        """Write the annotations of a split.

        Args:
            split: train, val or test.
            samples: validated samples.
            image_paths: the copied image of each sample.

        Returns:
            The value of the split for the data YAML.
        """


def select_names(
    classes: list[tuple[int, str]], selected: list[str] | None, strict: bool, where: str
) -> tuple[list[str], list[int]]:
    """Select classes of a source by name.

    Args:
        classes: (id, name) of each class of the source.
        selected: names in the order of the model's classes; None for all.
        strict: raise for a name that the source lacks; otherwise it gets an unused id.
        where: file and split, for the error message.

    Returns:
        (names, category ids), both in the selected order.

    Raises:
        UserError: if `strict` and a name is unknown.
    """
    if selected is None:
        return [name for _, name in classes], [category_id for category_id, _ in classes]
    ids = {name: category_id for category_id, name in classes}
    unused_id = max(ids.values(), default=-1) + 1
    category_ids = []
    for name in selected:
        if name not in ids:
            if strict:
                known = ", ".join(list(ids)[:10]) + (", ..." if len(ids) > 10 else "")
                raise UserError(f"{where}: unknown class '{name}'{did_you_mean(name, ids)} (known: {known or 'none'})")
            ids[name] = unused_id
            unused_id += 1
        category_ids.append(ids[name])
    return list(selected), category_ids
