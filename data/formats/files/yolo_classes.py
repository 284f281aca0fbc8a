"""The classes of a YOLO dataset: their names, and the numbers that label rows may have."""

from collections.abc import Collection
from pathlib import Path

from graftdet.data.formats.files.image_lists import read_lines
from graftdet.data.formats.files.yolo_paths import CLASS_FILES, LabelPaths
from graftdet.data.formats.format import DataConfig
from graftdet.utils.errors import UserError

_MAX_LISTED = 10  # numbers in a message


def read_classes(config: DataConfig, where: str, paths: list[Path], labels: LabelPaths) -> list[tuple[int, str]]:
    """Return the classes: the `names:` of the YAML, `class0` ... for its `nc:`, or a classes.txt of the dataset.

    Args:
        config: the data YAML.
        where: YAML and split, for the error message.
        paths: the images of the split.
        labels: where their label files are.

    Returns:
        (class number, name) of each class.

    Raises:
        UserError: if there are no names.
    """
    if config.names is not None and config.name_ids is not None and config.names_given:
        return list(zip(config.name_ids, config.names, strict=True))
    if config.nc:
        return [(number, f"class{number}") for number in range(int(config.nc))]
    image_folders = dict.fromkeys(path.parent for path in paths)
    label_folders = [Path(labels.folder(str(folder))) for folder in image_folders]
    folders = [config.root, config.root / "labels", *label_folders, *image_folders]
    folders += [folder.parent for folder in (*label_folders, *image_folders)]
    unusable = ""
    for file in dict.fromkeys(folder / name for folder in folders for name in CLASS_FILES):
        if file.is_file():
            names = read_lines(file)
            if names and len(set(names)) == len(names):
                return list(enumerate(names))
            twice = next((name for name in names if names.count(name) > 1), None)
            unusable = unusable or f" ({file} " + (f"has '{twice:.50}' twice)" if twice else "is empty)")
    expected = "expected names: (or nc:) in the YAML, or a classes.txt"
    raise UserError(f"{where}: text labels have no class names{unusable}; {expected}")


def describe_numbers(known: Collection[int], used: Collection[int]) -> str:
    """Return which class numbers were expected, and whether those of the label files seem to start at 1.

    Args:
        known: the class numbers of the dataset, at least one.
        used: the class numbers in its label files.
    """
    numbers, last = sorted(known), max(known)
    if len(numbers) <= last:
        more = ", ..." if len(numbers) > _MAX_LISTED else ""
        return f"expected one of {', '.join(map(str, numbers[:_MAX_LISTED]))}{more}"
    starts_at_one = bool(used) and min(used) == 1 and max(used) == len(numbers)
    expected = f"expected 0 to {last}" if last else "expected 0"
    return expected + ("; classes seem to start at 1 instead of 0" if starts_at_one else "")
