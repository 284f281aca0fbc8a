"""What can be wrong with a row when it is built: exceptions that know their rule, and the `Problem` made of them."""

from graftdet.models.graph.arguments import BlockCall
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.problems import Problem
from graftdet.models.spec.row import Row, show_row
from graftdet.utils.errors import UserError


class RowError(UserError):
    """A row that cannot be built: message, hint (the fix), and the `rule` and the `part` of the row it is about.

    `replacement` is YAML text that resolves it in place of that part, where it is known.
    """

    rule = "invalid-arguments"
    part: str | None = "args"

    def __init__(self, message: str, hint: str = "", replacement: str | None = None):
        super().__init__(f"{message}; {hint}" if hint else message)
        self.message, self.hint, self.replacement = message, hint, replacement


class UnknownModuleError(RowError):
    """The module of a row is not known, or may be two."""

    rule, part = "unknown-module", "module"


class HeadPositionError(RowError):
    """A head that is not the last row, or a last row that is not a head."""

    rule, part = "head-position", "module"


class MapListError(RowError):
    """A row that cannot take a list of maps reads one that gives a list."""

    rule, part = "map-list", "from"


class RunError(RowError):
    """A row that was built but cannot run on what it reads: the cause may be a row before it."""

    rule = "cannot-run"
    part: str | None = None


class SizeMismatchError(RunError):
    """The maps that a row joins differ in height or width."""

    rule, part = "size-mismatch", "from"


class WidthMismatchError(RunError):
    """The maps that a row joins differ in their channels."""

    rule, part = "width-mismatch", "from"


def row_problem(spec: ModelSpec, row: Row, error: UserError) -> Problem:
    """The problem that an error raised while a row was found, built or run is.

    Args:
        spec: the model.
        row: the row.
        error: a `RowError`, or the bare `UserError` of a block or head about its arguments.
    """
    if not isinstance(error, RowError):
        return spec.problem(RowError.rule, str(error), row=row, part=RowError.part)
    return spec.problem(error.rule, error.message, error.hint, row, error.part, replacement=error.replacement)


def renamed_argument_problem(spec: ModelSpec, row: Row, old: str, new: str) -> Problem:
    """The warning about an argument of a row that is given by its older name."""
    message = f"argument '{old}' is now named '{new}'"
    return spec.problem("renamed-argument", message, "the old name will be removed", row, "args", severity="warning")


def written_argument_problems(spec: ModelSpec, row: Row, call: BlockCall) -> list[Problem]:
    """The warnings about arguments that a row gives although the parser fills them in.

    Args:
        spec: the model.
        row: the row.
        call: the arguments that it was built with.
    """
    found = []
    if call.same_width is not None and call.written_width is None:
        message = f"args omit the output width {call.same_width}, which is that of the input: {_call_text(call)}"
        meant = show_row([None, *row.args])
        hint = f"write {meant} if that is meant"
        meant = None if row.kwargs else meant
        found.append(spec.problem("omitted-width", message, hint, row, "args", severity="warning", replacement=meant))
    elif call.written_width is not None:
        use = "which is filled in" if call.same_width is None else "which is not scaled here"
        message = f"args begin with {call.written_width}, the input width, {use}: {_call_text(call)}"
        without = show_row(row.args[1:]) if call.same_width is None else ""
        hint, meant = f"write {without}" if without else "", None if row.kwargs else without or None
        found.append(spec.problem("written-width", message, hint, row, "args", severity="warning", replacement=meant))
    if call.written_number is not None:
        message = f"args give n={call.written_number}, which is the number of the row elsewhere: {_call_text(call)}"
        stacked = f"the row's number stacks {call.repeats} such blocks" if call.repeats > 1 else ""
        found.append(spec.problem("written-number", message, stacked, row, "args", severity="warning"))
    return found


def ignored_key_problems(spec: ModelSpec) -> list[Problem]:
    """The warnings about keys of other projects that are read and have no effect."""
    if spec.values.get("loss") is None:
        return []
    message = f"key 'loss' ({spec.values['loss']}) is ignored: the head, {spec.rows[-1].module}, has its own loss"
    hint = "remove it, or choose another head"
    return [spec.problem("ignored-key", message, hint, path=("loss",), severity="warning")]


def _call_text(call: BlockCall) -> str:
    given = [*map(str, call.args), *(f"{name}={value}" for name, value in call.kwargs.items())]
    return f"built with {', '.join(given)}" if given else "built without arguments"
