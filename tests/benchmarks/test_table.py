"""Tables of benchmarks are printed, written as JSON and Markdown, and collected in one file."""

import json
import sys

import pytest

from benchmarks import __main__ as command
from benchmarks import table as tables


def test_a_table_is_printed_and_written(tmp_path, capsys):
    table = tables.Table("Speed", tmp_path / "new" / "speed.json")
    table.add("reference", "10 ms")
    table.add("fast", "4 ms", 0.4, at_most=0.5)
    table.add("slow", "8 ms", 0.8, at_most=0.5)
    assert table.short == ["slow"]
    (record,) = json.loads((tmp_path / "new" / "speed.json").read_text())["tables"]
    assert [(row["what"], row["ratio"], row["verdict"]) for row in record["rows"]] == [
        ("reference", None, ""),
        ("fast", 0.4, "ok"),
        ("slow", 0.8, "SHORT"),
    ]
    assert {"title", "command", "commit", "date", "machine", "versions", "rows"} == set(record)
    assert record["versions"]["Python"] == ".".join(map(str, sys.version_info[:3]))
    written = (tmp_path / "new" / "speed.md").read_text()
    row = "| slow | 8 ms | 0.80 | at most 0.5 | SHORT |"
    assert row in written and row in capsys.readouterr().out
    assert record["command"] in written and record["date"] in written and record["machine"] in written


def test_each_row_is_written_at_once(tmp_path):
    table = tables.Table("Speed", tmp_path / "speed.json")
    for count in (1, 2):
        table.add("row", "1 ms")
        assert len(tables.read_records(tmp_path / "speed.json")[0]["rows"]) == count


def test_nothing_is_written_without_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tables.Table("Speed").add("row", "1 ms")
    assert list(tmp_path.iterdir()) == []
    assert tables.read_records(tmp_path / "missing.json") == []


def test_the_command_of_a_table_omits_its_file(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "--img", "64", "--output", "a.json", "--compile"])
    assert tables.environment()["command"].endswith(" --img 64 --compile")


def test_the_default_file_is_named_after_the_table():
    assert tables.parser("nms").parse_args([]).output == tables.FOLDER / "nms.json"


def test_tables_are_collected(tmp_path, monkeypatch, capfd):
    """Runs are replaced: the first table misses a limit, the second has nothing to measure, the third is fine."""
    calls = []

    def run(arguments, cwd):
        name, path = arguments[2].removeprefix("benchmarks."), arguments[-1]
        calls.append(arguments[3:-2])
        if name != "gpu":
            table = tables.Table(name, tables.Path(path))
            table.add("row", "1 ms", 2, at_most=1 if name == "loader" else 3)
        return command.subprocess.CompletedProcess(arguments, int(name == "loader"))

    monkeypatch.setattr(tables, "commit", lambda: "")
    monkeypatch.setattr(command.subprocess, "run", run)
    monkeypatch.setattr(command, "TABLES", ["gpu", "loader", "nms"])
    monkeypatch.setattr(sys, "argv", ["x", "loader", "gpu", "nms", "--output", str(tmp_path / "all.json")])
    assert command.main() == 1
    assert [record["title"] for record in tables.read_records(tmp_path / "all.json")] == ["loader", "nms"]
    assert (tmp_path / "all.md").read_text().count("## ") == 2
    assert "short of a limit: loader" in capfd.readouterr().out
    monkeypatch.setattr(sys, "argv", ["x", "nms", "--output", str(tmp_path / "nms.json"), "--img", "64"])
    assert command.main() == 0
    assert calls[-1] == ["--img", "64"]


@pytest.mark.parametrize("arguments", [["nothing"], ["nms", "loader", "--img", "64"]])
def test_wrong_arguments_are_reported(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x", *arguments])
    with pytest.raises(SystemExit):
        command.main()
    assert arguments[-1 if len(arguments) == 1 else 2] in capsys.readouterr().err
