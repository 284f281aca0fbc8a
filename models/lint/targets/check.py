"""The problems of a model YAML that targets of deployment have with it."""

import logging
from collections.abc import Iterable, Sequence
from importlib import import_module

import torch

from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.graph.shape_inference import evaluating
from graftdet.models.lint.targets.target import TARGETS, Finding, Target
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.problems import Problem, in_order
from graftdet.utils.cli.options import TARGETS as NAMES

logger = logging.getLogger(__name__)
SIDE = 320  # of the images of dry exports [pixels]

for _target in NAMES:  # registers them
    import_module(f"graftdet.models.lint.targets.{_target}")


def target_problems(model: DetectionModel, targets: Sequence[str]) -> list[Problem]:
    """Find what targets cannot take of a model. Takes seconds.

    Args:
        model: the model, trained or not; unchanged.
        targets: names in `TARGETS`.

    Returns:
        Warnings of the rule `unsupported-target`: one per row, target and operation.
    """
    sides = 2 * (-(-SIDE // model.size_multiple) * model.size_multiple,)
    found: list[Problem] = []
    with torch.random.fork_rng(devices=[]), evaluating(model):
        for name in targets:
            target = TARGETS[name]
            found += [_problem(model.spec, target, one) for one in _distinct(target.find(model, sides))]
    return in_order(found)


def report_targets(model: DetectionModel, targets: Sequence[str]) -> None:
    """Log a warning for each of the `target_problems`."""
    for problem in target_problems(model, targets):
        logger.warning(": ".join(filter(None, (problem.position_text, problem.row_text, problem.text))))


def _distinct(findings: Iterable[Finding]) -> list[Finding]:
    return list(dict.fromkeys(findings))


def _problem(spec: ModelSpec, target: Target, finding: Finding) -> Problem:
    """The warning about a row, or about the file as a whole."""
    row = None if finding.row is None else spec.rows[finding.row]
    message = f"{target.title}: {finding.message}"
    return spec.problem("unsupported-target", message, finding.hint, row, severity="warning")
