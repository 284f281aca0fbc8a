"""Where the label files of YOLO datasets are."""

import os
import unicodedata
from pathlib import Path

from graftdet.data.paths import replace_last_folder, split_at_folder
from graftdet.utils.files import is_litter

CLASS_FILES = ("classes.txt", "obj.names", "classes.names")
_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages")
_LABEL_FOLDERS = ("labels", "label")
_OTHER_FILES = frozenset(
    ".txt .json .xml .csv .yaml .yml .md .names .data .cache .npy .npz .pkl .html .zip .log .db .ini"
    " .mp4 .avi .mov".split()
)  # kinds of files that are no images, whatever label file has their stem


def label_path(image_path: Path) -> Path:
    """Return the label file of an image: its last folder `images` replaced by `labels`, else beside the image."""
    folders = replace_last_folder(image_path.parent, ("images",), "labels") or [image_path.parent]
    return folders[0] / f"{image_path.stem}.txt"


class LabelPaths:
    """Finds label files: in the published layout, with folders in any case (`Images`, `label`), or beside images."""

    def __init__(self):
        self._folders: dict[str, str] = {}

    def folder(self, image_folder: str) -> str:
        """Return the folder of the label files of a folder of images."""
        if image_folder not in self._folders:
            self._folders[image_folder] = _find_label_folder(Path(image_folder))
        return self._folders[image_folder]

    def find(self, image_path: str) -> str:
        """Return the label file of an image, which may not exist."""
        folder, name = os.path.split(image_path)
        file = os.path.splitext(name)[0] + ".txt"
        path = os.path.join(self.folder(folder), file)
        if os.path.isfile(path):
            return path
        beside = os.path.join(folder, file)  # below a folder that happens to be called images
        others = [beside, f"{path[:-4]}.TXT", f"{path[:-4]}.Txt"]
        if not file.isascii():  # accents as one or two characters
            forms = (unicodedata.normalize("NFC", file), unicodedata.normalize("NFD", file))
            others += [os.path.join(base, form) for base in (self.folder(folder), folder) for form in forms]
        return next((other for other in others if os.path.isfile(other)), path)

    def has_label(self, path: str) -> bool:
        """Return whether a file of an unknown kind has a label file, and so should be an image."""
        name = os.path.basename(path)
        if os.path.splitext(name)[1].lower() in _OTHER_FILES or name in CLASS_FILES or is_litter(name):
            return False
        return os.path.isfile(self.find(path))


def _find_label_folder(image_folder: Path) -> str:
    """The published location, or the one that exists: with another spelling of `images` or `labels`, or of a link."""
    published = label_path(image_folder / "any").parent
    if published.is_dir() and published != image_folder:
        return str(published)
    for before, after in split_at_folder(image_folder, _IMAGE_FOLDERS, ignore_case=True):
        for name in _folders_named(before):
            candidate = before / name / after
            if candidate.is_dir():
                return str(candidate)
    target = Path(os.path.realpath(image_folder))  # of a link to the images of a dataset
    if target.name and target != image_folder.absolute():
        found = _find_label_folder(target)
        if os.path.isdir(found) and found != str(target):
            return found
    return str(published)


def _folders_named(parent: Path) -> list[str]:
    """The folders of labels in a folder, those with the published name first."""
    try:
        names = [name for name in os.listdir(parent) if name.lower() in _LABEL_FOLDERS]
    except OSError:
        return []
    return sorted(names, key=lambda name: (_LABEL_FOLDERS.index(name.lower()), name))
