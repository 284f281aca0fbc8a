"""Tables of the names that YAML files and flags may use."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from graftdet.utils.errors import UserError, did_you_mean

MAX_LISTED = 12  # names that an error message lists


class Registry(Mapping):
    """A mapping from name to class or function, filled by decorators.

    The module that owns a registry documents what its entries must accept and return.

    Args:
        kind: What the entries are, for messages, such as "block" or "head".
        options_type: Called with the keyword options of each registration.
    """

    def __init__(self, kind: str, options_type: Callable[..., Any] = dict):
        self.kind = kind
        self._options_type = options_type
        self._entries: dict[str, Any] = {}
        self._options: dict[str, Any] = {}

    def register(self, *names: str, **options: Any) -> Callable:
        """Return a decorator that registers its target.

        Args:
            names: Names of the entry (default: its `__name__`).
            options: Arguments of the registry's `options_type`; `options(name)` returns the result.

        Raises:
            ValueError: By the decorator, if a name is registered already.
        """
        settings = self._options_type(**options)

        def add(entry: Any) -> Any:
            for name in names or (entry.__name__,):
                if name in self._entries:
                    raise ValueError(f"{self.kind} '{name}' is registered already")
                self._entries[name] = entry
                self._options[name] = settings
            return entry

        return add

    def options(self, name: str) -> Any:
        """Return the options that `name` was registered with, an `options_type`."""
        self[name]
        return self._options[name]

    def __getitem__(self, name: str) -> Any:
        """Return the entry; an unknown name raises `UserError` with a suggestion."""
        try:
            return self._entries[name]
        except (KeyError, TypeError):
            known = sorted(map(str, self._entries))
            hint = did_you_mean(name, known) or (f" (known: {', '.join(known)})" if len(known) <= MAX_LISTED else "")
            raise UserError(f"unknown {self.kind} '{name}'{hint}") from None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
