"""All problems of a model YAML, with line and row, without training.

Arithmetic, which needs no torch, accepts a model without problems. All others are diagnosed with torch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graftdet.models.lint.arithmetic_check import is_faultless
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.problems import Problem, ProblemError, in_order

if TYPE_CHECKING:
    from graftdet.models.lint.row_cache import RowCache


def check_model(
    cfg: str | Path | dict | ModelSpec, nc: int | None = None, targets: Sequence[str] = ()
) -> list[Problem]:
    """Find all problems of a model YAML, see `graftdet.models.lint.diagnosis.find_problems`.

    Args:
        cfg: a path, a bare name below configs/models, a mapping or a ModelSpec.
        nc: number of classes; None takes the file's.
        targets: names in `graftdet.models.lint.targets`; what they cannot take is found where there are no errors.

    Returns:
        Errors, then warnings; both start with those of the file as a whole and continue row by row.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    parsed: list[Problem] = []
    try:
        spec = ModelSpec.read(cfg, parsed.append)
    except ProblemError as error:
        return in_order([*parsed, *error.problems])
    problems = check_spec(spec, parsed, nc)
    if targets and spec.values and not any(problem.severity == "error" for problem in problems):
        from graftdet.models.graph.detection_model import DetectionModel
        from graftdet.models.lint.targets.check import target_problems

        problems += target_problems(DetectionModel(spec.with_classes(nc)), targets)
    return problems


def check_spec(
    spec: ModelSpec,
    parsed: list[Problem],
    nc: int | None = None,
    caches: "Callable[[ModelSpec], RowCache] | None" = None,
) -> list[Problem]:
    """As `check_model`, for a model that was read.

    Args:
        spec: the model.
        parsed: the problems that were reported when it was read.
        nc: number of classes; None takes the file's.
        caches: gives the outcomes of building rows of an earlier check, see `graftdet.models.lint.row_cache.RowCaches`.
    """
    if not spec.values:  # another kind of file
        return in_order(parsed)
    if not parsed and is_faultless(spec, nc):
        return []
    from graftdet.models.lint.diagnosis import find_problems

    return find_problems(spec, parsed, nc, caches)
