"""train.py --search from the command line, with a training of its own; what can go wrong before the first."""

import pytest
import yaml

from graftdet import train
from graftdet.utils.checkpoint import load_checkpoint
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import load_hyperparameters


@pytest.fixture
def search(workspace, train_arguments, tmp_path):
    def call(ranges, *flags):
        path = tmp_path / "ranges.yaml"
        path.write_text(yaml.safe_dump(ranges), encoding="utf-8")
        arguments = train_arguments("--search", path, "--trials", 1, "--epochs", 1, "--name", "searched", *flags)
        train.main(arguments)
        return workspace / "runs" / "searched"

    return call


def test_a_trial_is_a_training_with_values_of_its_own(search, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = search({"lr0": {"low": 0.002, "high": 0.004}, "mosaic": [0.25, 0.5]}, "--set", "mixup=0.125")
    message = capsys.readouterr().out
    assert "trial 0: AP50-95 0." in message and f"best recipe: --hyp {folder / 'best.yaml'}" in message
    best, last = load_hyperparameters(folder / "best.yaml"), load_checkpoint(folder / "trial0" / "weights" / "last.pt")
    assert 0.002 <= best.lr0 <= 0.004 and best.mosaic in (0.25, 0.5) and best.mixup == 0.125
    assert last["hyperparameters"] == best.as_dict()
    assert not {"search", "trials", "study", "trial_seeds"} & set(last["options"])


@pytest.mark.parametrize(
    ("ranges", "flags", "message"),
    [
        ({"lro": [1, 2]}, [], "unknown hyperparameter 'lro'"),
        ({"mosaic": [0, 1]}, ["--set", "mixup=3"], "--set mixup"),
        ({"mosaic": [0, 1]}, ["--hyp", "none.yaml"], "none.yaml"),
        ({"mosaic": [0, 1]}, ["--data", "none.yaml"], "none.yaml: no such file"),
        ({"mosaic": [0, 1]}, ["--cfg", "none.yaml"], "none.yaml: no such file"),
    ],
)
def test_errors(search, workspace, ranges, flags, message):
    with pytest.raises(UserError, match=message):
        search(ranges, *flags, "--name", "unsearched")
    assert not (workspace / "runs" / "unsearched").exists()
