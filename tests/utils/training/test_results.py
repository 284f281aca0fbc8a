"""results.csv: damaged by a killed process, edited, binary."""

import os

import pytest

from graftdet.utils.errors import UserError
from graftdet.utils.training.results import ResultsTable, read_column

HEADER = "epoch,time,val/AP50-95\n"


def test_an_incomplete_row_does_not_count_as_an_epoch(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(HEADER + "1,2.5,0.25\n2,5")
    assert read_column(path, "val/AP50-95") == [(1, 0.25)]
    ResultsTable(path, completed_epochs=2).add({"epoch": 2, "time": 5.5, "val/AP50-95": 0.5})
    assert path.read_text() == HEADER + "1,2.5,0.25\n2,5.5,0.5\n"


def test_a_kill_while_the_table_is_written_anew_loses_no_row(tmp_path, monkeypatch):
    path = tmp_path / "results.csv"
    path.write_text(HEADER + "1,2.5,0.25\n2,5,0.5\n")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        ResultsTable(path, completed_epochs=1)
    assert path.read_text() == HEADER + "1,2.5,0.25\n2,5,0.5\n" and os.listdir(tmp_path) == ["results.csv"]


def test_rows_are_on_the_disk_when_they_are_added(tmp_path, monkeypatch):
    table, synced = ResultsTable(tmp_path / "results.csv"), []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    table.add({"epoch": 1, "time": 2.5})
    assert synced == [len("epoch,time\n1,2.5\n")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\0\x01\n\n", "not a CSV table .not UTF-8"),
        (b"a,b\n1,2\n", "no column 'epoch' but a, b"),
    ],
)
def test_edited_and_binary_tables_are_one_line(content, message, tmp_path):
    path = tmp_path / "results.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        ResultsTable(path, completed_epochs=1)
    assert path.read_bytes() == content


@pytest.mark.parametrize("row", ["one,2,0.5", "1,2,many", "\u0661\u0662\u00b2,2,0.5"])
def test_values_that_are_no_numbers(row, tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(HEADER + row + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="not a table of results"):
        read_column(path, "val/AP50-95")
    ResultsTable(path, completed_epochs=3)


def test_rows_with_more_cells_than_columns_are_omitted(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(HEADER + "1,2,0.5,7\n2,3\n3,4,0.75\n")
    assert read_column(path, "val/AP50-95") == [(3, 0.75)]


def test_rows_that_are_lost_are_reported(tmp_path, caplog):
    path = tmp_path / "results.csv"
    path.write_text("epoch,time\n0,1\n1,2\n2,3\n", encoding="utf-8")
    ResultsTable(path, completed_epochs=2)
    assert not caplog.messages
    ResultsTable(path, completed_epochs=4)
    path.unlink()
    ResultsTable(path, completed_epochs=4)
    lines = [f"{path}: has rows of {count} of 4 completed epochs" for count in (2, 0)]
    assert [message.partition(";")[0] for message in caplog.messages] == lines
