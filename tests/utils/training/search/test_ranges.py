"""Ranges of a search: types, choices, and mistakes."""

import pytest

from graftdet.utils.errors import UserError
from graftdet.utils.training.search.ranges import load_ranges


def test_ranges_take_the_types_of_their_hyperparameters(tmp_path):
    path = tmp_path / "ranges.yaml"
    path.write_text(
        "lr0: {low: 1e-4, high: 1e-2, log: on}\nmosaic: [0, 0.5, 1]\noptimizer: [sgd, AdamW]\nwarmup_iterations: {low: 0, high: 1e2, step: 50}\n"
    )
    ranges = load_ranges(path)
    assert (ranges["lr0"].low, ranges["lr0"].high, ranges["lr0"].log) == (1e-4, 1e-2, True)
    assert ranges["mosaic"].choices == (0.0, 0.5, 1.0) and ranges["optimizer"].choices == ("SGD", "AdamW")
    import optuna

    trial = optuna.create_study().ask()
    values = {key: span.suggest(trial) for key, span in ranges.items()}
    assert values["warmup_iterations"] in (0, 50, 100) and 1e-4 <= values["lr0"] <= 1e-2
    assert load_ranges("search.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mosiac: [0, 1]", "unknown hyperparameter 'mosiac'; did you mean 'mosaic'?"),
        ("mosaic: [0, 2]", "mosaic: expected a number from 0 to 1, got 2"),
        ("mosaic: {low: 0.5, high: 1.5}", "mosaic: expected a number from 0 to 1, got 1.5"),
        ("mosaic: {low: 1, high: 0}", "mosaic: 'low' 1 must be less than 'high' 0"),
        ("lr0: {low: 0, high: 1, log: true}", "lr0: a logarithmic range must start above 0"),
        ("lr0: {low: 1, high: 2, step: 3}", "lr0: 'step' must be above 0 and at most 1"),
        ("lr0: {low: 1, high: 2, log: true, step: 1}", "lr0: a logarithmic range cannot have a step"),
        ("lr0: {low: 1, hihg: 2}", "lr0: unknown key 'hihg'; did you mean 'high'?"),
        ("lr0: {low: 1}", "lr0: 'high' is missing"),
        ("lr0: 0.1", "lr0: expected a list of values or {low: , high: }, got 0.1"),
        ("lr0: [0.1]", "lr0: expected several values"),
        ("lr0: {low: few, high: 2}", "lr0: expected a number, got 'few'"),
        ("warmup_iterations: [1.5, 2]", "warmup_iterations: expected a whole number"),
        ("optimizer: {low: 1, high: 2}", "optimizer: expected a list of names"),
        ("optimizer: [sdg, Adam]", "optimizer: expected one of"),
        ("{}", "contains no hyperparameter"),
    ],
)
def test_mistakes_in_ranges_name_file_and_key(tmp_path, text, message):
    path = tmp_path / "räume.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_ranges(path)
    assert message in str(error.value) and str(path) in str(error.value)
