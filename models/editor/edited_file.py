"""The one file that the page edits: read, and written only if nobody else has changed it meanwhile."""

import hashlib
import threading
from pathlib import Path

from graftdet.models.editing.file_text import decode_text, encode_text, write_file
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.scales import find_sized
from graftdet.utils.config import CONFIGS
from graftdet.utils.errors import UserError
from graftdet.utils.untrusted.limits import MAX_TEXT, limit

MODELS = CONFIGS / "models"


class SaveConflictError(UserError):
    """The file on disk is not the one that the page read last."""


class EditedFile:
    """A model YAML on disk.

    Args:
        cfg: path of the file. A name in configs/models starts a new file of that name in the current folder.

    Attributes:
        path: the file.
        origin: name of the model in configs/models that a new file starts from; None for a file that exists.

    Raises:
        UserError: there is no such file and no such model, or it cannot be read.
    """

    def __init__(self, cfg: str):
        self._lock = threading.Lock()
        self.origin: str | None = None
        self.path = Path(cfg)
        self._start = ""
        if self.path.is_file():
            self.text()
            return
        found, _, size = find_sized(cfg)
        text = _read(found)
        self.origin = found.name
        self._start = ModelSpec.from_text(text, found.name, lambda problem: None, size).text if size else text
        self.path = Path(self.path.name).with_suffix(".yaml")
        if self.path.is_file():
            self.origin, self._start = None, ""

    @property
    def name(self) -> str:
        """File name without folder."""
        return self.path.name

    def text(self) -> str:
        """Return the text on disk with line ends LF; of a new file, the text that it starts from."""
        return _read(self.path) if self.path.is_file() else self._start

    def digest(self) -> str:
        """Return a digest of the content on disk; "" where there is no file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest() if self.path.is_file() else ""

    def save(self, text: str, digest: str, overwrite: bool = False) -> str:
        """Write the file; its line ends, byte order mark and permissions stay.

        Args:
            text: the new text with line ends LF.
            digest: that of the content that the page read or wrote last.
            overwrite: write even if the content on disk is another one.

        Returns:
            The digest of the new content.

        Raises:
            SaveConflictError: the content on disk is another one.
            UserError: the file cannot be written.
        """
        with self._lock:
            if not overwrite and self.digest() != digest:
                raise SaveConflictError(f"{self.path}: was changed on disk since it was read")
            old = self.path.read_bytes() if self.path.is_file() else b""
            if b"\r\n" in old:
                text = text.replace("\n", "\r\n")
            write_file(self.path, encode_text(text, old))
            self.origin = None
            return self.digest()


def model_names() -> list[str]:
    """Return the names of all files in configs/models."""
    return sorted(path.name for path in MODELS.glob("*.yaml"))


def model_text(name: str) -> str:
    """Return the text of a file in configs/models.

    Raises:
        UserError: there is no file of that name.
    """
    if name not in model_names():
        raise UserError(f"{name!r:.80}: no such file in configs/models")
    return _read(MODELS / name)


def _read(path: Path) -> str:
    data = path.read_bytes()
    if len(data) > 4 * limit(MAX_TEXT):
        raise UserError(f"{path}: has {len(data)} bytes, which is no model YAML")
    return decode_text(data).replace("\r\n", "\n")
