"""Tables of the names that YAML files and flags may use."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from graftdet.utils.errors import UserError, did_you_mean


class Registry(Mapping):
    """A mapping from name to class or function, filled by decorators.

    The module that owns a registry documents what its entries must accept and return. Looking up an unknown name
    raises `UserError` with a suggestion; registering a name twice raises `ValueError`.

    Args:
        kind: What the entries are, for messages: "block", "head".
    """

    def __init__(self, kind: str, options_type: Callable[..., Any] = dict):
        self.kind = kind
        self._options_type = options_type
        self._entries: dict[str, Any] = {}
        self._options: dict[str, Any] = {}

    def register(self, *words: str, **options) -> Callable:
        """Return a decorator that registers its target under `words` (default: its `__name__`).

        `options` are those of the registry's `options_type`, read back by `options(word)`.
        """
        settings = self._options_type(**options)

        def add(entry):
            for word in words or (entry.__name__,):
                if word in self._entries:
                    raise ValueError(f"{self.kind} '{word}' is registered already")
                self._entries[word] = entry
                self._options[word] = settings
            return entry

        return add

    def options(self, word: str) -> Any:
        """The options that `word` was registered with, an `options_type`."""
        self[word]
        return self._options[word]

    def __getitem__(self, word: str):
        try:
            return self._entries[word]
        except (KeyError, TypeError):
            known = sorted(map(str, self._entries))
            hint = did_you_mean(word, known) or (f" (known: {', '.join(known)})" if len(known) <= 12 else "")
            raise UserError(f"unknown {self.kind} '{word}'{hint}") from None

    def __contains__(self, word) -> bool:
        return isinstance(word, str) and word in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
