"""TorchScript files that would do more than compute are refused before anything in them runs."""

import json

import pytest
import torch

from graftdet.models.backends import torchscript
from graftdet.utils.errors import UserError

PROGRAMS = {
    "writes a file": ("torch.save(x, 'PATH')", "aten::save"),
    "maps a file": (
        "torch.from_file('PATH', True, 10).fill_(1.0)\n    x = x + torch.from_file('PATH', True, 10)[0]",
        "aten",
    ),
    "prints": ("print('\\033[2J')", "prim::Print"),
    "writes a file in a branch": ("if bool(x.sum() > -1):\n        torch.save(x, 'PATH')", "aten::save"),
    "starts a thread": ("x = torch.jit._wait(torch.jit._fork(self.other, x))", "prim::fork"),
}


def write(path, source):
    module = type("Module", (torch.jit.ScriptModule,), {})()
    module.define(source)
    description = {"input": [1, 3, 64, 64], "outputs": [["output0", [1, 63, 7]]], "metadata": {}}
    torch.jit.save(module, str(path), _extra_files={"graftdet.json": json.dumps(description)})
    return path


@pytest.mark.parametrize("what", PROGRAMS)
def test_operators_that_do_more_than_compute(tmp_path, what):
    body, operator = PROGRAMS[what]
    body = body.replace("PATH", (tmp_path / "written").as_posix())
    path = write(
        tmp_path / "a.torchscript",
        f"def other(self, x):\n    return x\ndef forward(self, x):\n    {body}\n    return x\n",
    )
    with pytest.raises(UserError, match=rf"a\.torchscript: refused: its operator {operator}\S* does more than compute"):
        torchscript.load(path)
    assert not (tmp_path / "written").exists()


def test_code_that_runs_while_a_file_is_opened(tmp_path):
    target = (tmp_path / "written").as_posix()
    state = (
        f"def __setstate__(self, state: int) -> None:\n    torch.save(state, '{target}')\n    self.training = True\n"
    )
    source = "def forward(self, x):\n    return x\ndef __getstate__(self):\n    return 1\n" + state
    path = write(tmp_path / "a.torchscript", source)
    with pytest.raises(UserError, match="refused: it runs code while it is opened"):
        torchscript.load(path)
    assert not (tmp_path / "written").exists()
