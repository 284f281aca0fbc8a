"""Rows of a model YAML as written -> `Row`s with resolved sources."""

from typing import Any

from graftdet.models.spec.problems import Reporter
from graftdet.models.spec.row import IMAGE, MAX_REPEATS, PARTS, UNREADABLE, Row, show_row
from graftdet.models.spec.row_repair import repair_row, split_rows
from graftdet.utils.errors import nearest


def parse_rows(sections: dict[str, list], reporter: Reporter) -> tuple[Row, ...]:
    """Parse all rows of `sections` (backbone, head) in order; of each row, only the first problem is reported.

    Args:
        sections: name of the section -> its rows as written.
        reporter: takes the problems.

    Returns:
        One `Row` per written row; what is wrong in it is replaced by something likely.
    """
    rows: list[Row] = []
    names: dict[str, int] = {}
    for section, written_rows in sections.items():
        for position, (number, written, problem) in enumerate(split_rows(written_rows)):
            parser = _RowParser(len(rows), section, position, (section, number), names, reporter)
            if problem:
                parser.error("row-format", *problem)
            rows.append(parser.parse(written))
            if rows[-1].name:
                names[rows[-1].name] = len(rows) - 1
    return tuple(rows)


class _RowParser:
    """Parses one row and reports its first problem."""

    def __init__(self, index: int, section: str, position: int, path: tuple, names: dict, reporter: Reporter):
        self.index, self.section, self.position, self.path = index, section, position, path
        self.names, self.reporter = names, reporter
        self.module: str | None = None
        self.in_order, self.reported = True, False

    def error(
        self, rule: str, message: str, hint: str = "", part: str | None = None, replacement: str | None = None
    ) -> None:
        if not self.reported:
            self.reported = True
            path = (*self.path, PARTS.index(part)) if part and self.in_order else self.path
            about = {"row": self.index, "section": self.section, "section_row": self.position, "module": self.module}
            about["replacement"] = replacement
            self.reporter.error(rule, message, hint, path, **about)

    def parse(self, written) -> Row:
        elements, problem = repair_row(written, self.index)
        if problem:
            likely = None if elements[2] == UNREADABLE else show_row(elements)
            self.error("row-format", *problem, replacement=likely)
            self.in_order = False
        source, number, module, args, *name = elements
        if not isinstance(module, str) or not module:
            self.error("row-format", f"module must be a name such as Conv, got {module!r}", "", "module")
            module = UNREADABLE
        self.module = None if module == UNREADABLE else module
        number = self._number(number)
        args, kwargs = self._args(args)
        name = self._name(name[0] if name else None)
        sources, joined = self._sources(source)
        broken = frozenset(i for i, source in enumerate(sources) if source is None)
        sources = tuple(self.index - 1 if source is None else source for source in sources)
        location = self.index, self.section, self.position
        values = sources, joined, number, module, args, kwargs, name
        return Row(*location, *values, written, self.path, self.in_order, broken)  # type: ignore[arg-type]

    def _number(self, number) -> int:
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            meant = number if isinstance(number, str) and number.strip().isdigit() else None
            hint = f"write {meant} without quotes" if meant else ""
            self.error("row-number", f"number must be a whole number of at least 1, got {number!r}", hint, "number")
        elif number > MAX_REPEATS:
            self.error("row-number", f"number must be at most {MAX_REPEATS}, got {number}", "", "number")
        else:
            return number
        return 1

    def _name(self, name) -> str | None:
        if name is None:
            return None
        if not isinstance(name, str) or not name or name.lstrip("-").isdigit():
            self.error("row-name", f"the name of a row must be text that is not a number, got {name!r}", "", "name")
        elif name in self.names:
            message = f"the name '{name}' is already used by row {self.names[name]}"
            self.error("row-name", message, "give each row its own name", "name")
        else:
            return name
        return None

    def _args(self, args: Any) -> tuple[tuple, dict]:
        kwargs: Any
        args = [] if args is None else args
        if isinstance(args, dict):
            args, kwargs = [], args
        elif isinstance(args, list):
            kwargs = args[-1] if args and isinstance(args[-1], dict) else {}
            args = args[:-1] if args and isinstance(args[-1], dict) else args
        else:
            message = f"args must be a list or a mapping of names, got {args!r}"
            self.error("row-format", message, f"write [{args}]", "args", f"[{show_row(args)}]")
            args, kwargs = [args], {}
        if any(not isinstance(key, str) for key in kwargs):
            message = f"argument names must be text, got {sorted(map(str, kwargs))}"
            self.error("row-format", message, "", "args")
            kwargs = {key: value for key, value in kwargs.items() if isinstance(key, str)}
        return tuple(args), kwargs

    def _sources(self, source: Any) -> tuple[tuple[int | None, ...], bool]:
        """Sources as row indices, None for those that name no row, and whether they were a list."""
        joined = isinstance(source, list)
        if joined and len(source) == 1 and isinstance(source[0], list):
            self.error(
                "row-source", "'from' is a list in a list", f"write {show_row(source[0])}", "from", show_row(source[0])
            )
            source = source[0]
        if joined and not source:
            self.error("row-source", "'from' is empty", "expected -1, an index of a row or a list of them", "from")
            source, joined = -1, False
        written: Any = source if joined else [source]
        return tuple(map(self._source, written)), joined

    def _source(self, source) -> int | None:
        """The index that a source (an index, a negative offset or the name of a row) means; None where it is wrong."""
        if isinstance(source, str):
            if source in self.names:
                return self.names[source]
            hint = f"did you mean '{near}'?" if (near := nearest(source, self.names)) else ""
            if source.lstrip("-").isdigit():
                hint = f"write {source} without quotes"
            known = f"names before it: {', '.join(self.names)}" if self.names else "no row before it has a name"
            self.error("row-source", f"'from' names '{source}', which is no row before this one", hint or known, "from")
        elif isinstance(source, bool) or not isinstance(source, int):
            message = f"'from' must be the index, negative offset or name of a row, got {source!r}"
            is_whole = isinstance(source, float) and source.is_integer()
            self.error("row-source", message, f"write {int(source)}" if is_whole else "", "from")
        else:
            absolute = source if source >= 0 else self.index + source
            if IMAGE <= absolute < self.index:
                return absolute
            valid = f"0 to {self.index - 1} or -1 to -{self.index}" if self.index else "-1 (the image)"
            message = f"'from' is {source}, but only rows before it can be read"
            self.error("row-source", message, f"expected {valid}", "from")
        return None
