"""The trainings of the pretrained weights: stages, interruption, a start from the committed file."""

import pytest
import torch

from benchmarks.pretraining import __main__ as pretraining
from benchmarks.pretraining.table import TABLE, Pretraining, Stage
from graftdet import train
from graftdet.data.dataset_config import load_data_config
from graftdet.models import build_model
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.checkpoint import save_checkpoint
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import load_hyperparameters


@pytest.fixture
def table(tmp_path, tiny_yaml, monkeypatch):
    """A table of tiny models; train.py runs in this process. Returns the command lines of its calls."""
    (tmp_path / "tiny.yaml").write_text(tiny_yaml, encoding="utf-8")
    text = "format: contours\nnc: 2\nimage_size: 64\nepoch_length: 8\nval_images: 2\nmany_small: 0\n"
    (tmp_path / "small.yaml").write_text(text, encoding="utf-8")
    common = {"img": 64, "batch_size": 4, "limits": "Tiny."}
    tiny, small = str(tmp_path / "tiny.yaml"), str(tmp_path / "small.yaml")
    entries = {
        "one": Pretraining(tiny, (Stage(1, seed=3, data=small), Stage(2, seed=4, data=small)), **common),
        "other": Pretraining(tiny, (Stage(1, start="one", data=small),), **common),
        "early": Pretraining(tiny, (Stage(1, start="one:1", data=small),), **common),
    }
    commands = []

    def run(command):
        commands.append(command)
        train.main([*command, "--device", "cpu", "--workers", "0", "--plots", "none"])
        return 0

    monkeypatch.setattr(pretraining, "TABLE", entries)
    monkeypatch.setattr(pretraining, "run_train", run)
    return commands


def value_of(command, flag):
    return command[command.index(flag) + 1]


def test_the_entries_of_the_table_can_be_trained():
    for name, entry in TABLE.items():
        assert entry.stages and name == entry.cfg.removesuffix(".yaml")
        assert build_model(entry.cfg) and load_hyperparameters(entry.hyp)
        assert all(stage.start.partition(":")[0] in ("none", *TABLE) for stage in entry.stages)
        assert all(load_data_config(stage.data) for stage in entry.stages)


def test_stages_interruption_and_other_starts(table, tmp_path, shipped):
    project, out = tmp_path / "runs", tmp_path / "out"
    pretraining.main(["one", "--project", str(project), "--out", str(out)])
    first, second = table
    assert value_of(first, "--weights") == "none" and value_of(first, "--seed") == "3"
    assert value_of(second, "--weights") == str(project / "one-stage1.safetensors")
    assert value_of(second, "--epochs") == "2" and value_of(second, "--hyp") == "pretrain.yaml"
    weights = load_weights(out / "one.safetensors")
    card = weights.card
    assert [(run.epochs, run.images, run.seed, run.start) for run in card.runs] == [
        (1, 8, 3, ""),
        (2, 16, 4, "one-stage1"),
    ]
    assert (card.model, card.license, card.trained_on) == ("tiny.yaml", "Apache-2.0", "synthetic contours")
    assert card.reproduce == "python -m benchmarks.pretraining one"
    assert card.limits == "Tiny." and (out / "one.md").is_file()
    last = load_weights(project / "one-stage2" / "weights" / "last.pt").state
    assert all(torch.allclose(tensor, last[name], rtol=1e-3, atol=1e-6) for name, tensor in weights.state.items())

    pretraining.main(["one", "--project", str(project), "--out", str(out)])  # nothing is trained twice
    (project / "one-stage2.safetensors").unlink()
    pretraining.main(["one", "--project", str(project), "--out", str(out)])
    assert len(table) == 2
    pretraining.main(["other", "--project", str(project), "--out", str(out)])
    assert value_of(table[2], "--weights") == str(out / "one.safetensors")
    assert len(load_weights(out / "other.safetensors").card.runs) == 3
    pretraining.main(["early", "--project", str(project), "--out", str(out)])
    assert value_of(table[3], "--weights") == str(project / "one-stage1.safetensors")
    with pytest.raises(UserError, match=r"one-stage1\.safetensors: is needed to start from; train one in the same"):
        pretraining.main(["early", "--project", str(tmp_path / "elsewhere"), "--out", str(out)])


def test_a_committed_file_replaces_the_stages_behind_it(table, tmp_path, shipped):
    committed = shipped("one", nc=2)  # its card has one run
    pretraining.main(["one", "--project", str(tmp_path / "runs"), "--from-committed"])
    (command,) = table
    assert value_of(command, "--weights") == str(committed) and value_of(command, "--seed") == "4"
    card = load_weights(tmp_path / "runs" / "one.safetensors").card
    assert [run.images for run in card.runs] == [12_000, 16]


def test_an_interrupted_run_is_resumed(table, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "run_train", lambda command: 130)
    with pytest.raises(UserError, match="one-stage1: training ended with exit status 130; the same command resumes it"):
        pretraining.pretrain("one", tmp_path / "runs", tmp_path)
    folder = tmp_path / "runs" / "one-stage1"
    save_checkpoint(folder / "weights" / "last.pt", {"finished": False})
    monkeypatch.setattr(pretraining, "run_train", lambda command: table.append(command) or 0)
    pretraining.train(pretraining.TABLE["one"], Stage(1), folder, "none")
    assert table == [["--resume", str(folder)]]


def test_unknown_names(table):
    with pytest.raises(UserError, match="onee: no such pretrained weights; did you mean 'one'?"):
        pretraining.main(["onee"])
