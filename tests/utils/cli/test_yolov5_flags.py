"""The table of published flags agrees with the parsers."""

import pytest

from graftdet import detect, export, train, val
from graftdet.utils.cli.yolov5_flags import FLAGS, flags_markdown, successor

PARSERS = {"train": train, "val": val, "detect": detect, "export": export}
CASES = [(script, flag) for script, flags in FLAGS.items() for flag in flags]


def options(script):
    return {name for action in PARSERS[script].make_parser()._actions for name in action.option_strings}


@pytest.mark.parametrize(("script", "flag"), CASES, ids=lambda value: getattr(value, "flag", value))
def test_a_flag_exists_here_where_the_table_says_so(script, flag):
    names = set(flag.flag.split(", "))
    if flag.status == "same":
        assert names <= options(script)
    else:
        assert not names & options(script)
        assert flag.note or flag.here
    if flag.status == "renamed":
        assert flag.here in options(script)


def test_each_flag_is_listed_once():
    for flags in FLAGS.values():
        names = [name for flag in flags for name in flag.flag.split(", ")]
        assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("script", "line", "expected"),
    [
        ("train", "--evolve 300", "train.py: error: unknown argument '--evolve'; use --search: "),
        ("export", "--int8", "unknown argument '--int8'; not supported: no quantized formats"),
        ("detect", "--source x --clases 0", "unknown argument '--clases'; did you mean '--classes'?"),
    ],
)
def test_unknown_flags_of_yolov5_are_reported_with_their_successor(script, line, expected, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", [f"{script}.py"])
    with pytest.raises(SystemExit):
        PARSERS[script].make_parser().parse_args(line.split())
    assert expected in capsys.readouterr().err


def test_successors():
    assert successor("train", "--evolve").startswith("use --search: ")
    assert successor("export", "--int8") == "not supported: no quantized formats"
    assert successor("train", "--epochs") is None and successor("train", "--unheard-of") is None
    assert "| `--evolve` | `--search` |" in flags_markdown("train")
