"""Small `.pt` files that would cost much memory or time are refused, in both formats of torch."""

import pickle
import time
import zipfile

import pytest
import torch

from graftdet.utils.errors import UserError
from graftdet.utils.untrusted import restricted_unpickler, torch_archive
from graftdet.utils.untrusted.torch_archive import read_archive

HEADER = b"\x80\x02"
NESTED = b")" + b"".join(b"\x86" if i else b"2\x86" for i in range(1)) + b"2\x86" * 60  # t = (t, t), sixty times


def write_archive(path, program, records=(), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a/data.pkl", program)
        for name, data in records:
            archive.writestr(f"a/{name}", data)
    return path


PROGRAMS = {
    "a key of nested tuples": (HEADER + b"}" + NESTED + b"K\x01s.", "nested tuples"),
    "keys of nested tuples at once": (HEADER + b"}(" + NESTED + b"K\x01u.", "nested tuples"),
    "a set of nested tuples": (HEADER + b"cbuiltins\nset\n](" + NESTED + b"e\x85R.", "nested tuples"),
    "a frozen set of nested tuples": (b"\x80\x04(" + NESTED + b"\x91.", "nested tuples"),
    "a dict of pairs with nested tuples": (
        HEADER + b"ccollections\nOrderedDict\n](" + NESTED + b"K\x01\x86e\x85R.",
        "nested tuples",
    ),
    "an array of ten gigabytes": (HEADER + b"c__builtin__\nbytearray\n\x8a\x05\x00\xe4\x0b\x54\x02\x85R.", "bytearray"),
    "copies of a long list": (
        HEADER + b"](" + b"N" * 20_000 + b"eq\x00" + b"cbuiltins\nlist\nh\x00\x85R0" * 400 + b".",
        "longer than that of any detector",
    ),
    "a number of ten thousand digits": (HEADER + b"L" + b"9" * 10_000 + b"L\n.", "truncated or malformed"),
}


@pytest.mark.parametrize("what", PROGRAMS)
def test_costly_pickles_are_refused_at_once(tmp_path, what):
    program, reason = PROGRAMS[what]
    path = write_archive(tmp_path / "x.pt", program)
    start = time.process_time()
    with pytest.raises(UserError, match=reason) as error:
        read_archive(path)
    assert time.process_time() - start < 10  # they took for ever, or gigabytes
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_pickle_without_end_is_left_early(tmp_path, monkeypatch):
    monkeypatch.setattr(restricted_unpickler, "MAX_STEPS", 1000)
    with pytest.raises(UserError, match="longer than that of any detector"):
        read_archive(write_archive(tmp_path / "x.pt", HEADER + b"N0" * 2000 + b"N."))


def test_plain_keys_of_all_kinds_are_read(tmp_path):
    content = {1: 2, "a": {(1, "b"): None}, 0.5: {True: {3, 4}}, b"x": frozenset((5, (6, 7)))}
    assert read_archive(write_archive(tmp_path / "x.pt", pickle.dumps(content, 4))) == content


@pytest.mark.parametrize("number", [1, 40])
def test_archives_that_unpack_to_much_more_than_their_size(tmp_path, number):
    records = [(f"data/{index}", bytes(4_000_000 // number)) for index in range(number)]
    path = write_archive(tmp_path / "bomb.pt", HEADER + b"N.", records, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 20_000
    with pytest.raises(UserError, match="much larger than the file itself"):
        read_archive(path)


def test_many_tensors_that_view_one_record(tmp_path, monkeypatch):
    flat = torch.zeros(1000)
    torch.save([flat.view(-1)] * 30, tmp_path / "same.pt")  # one object: read once
    torch.save([flat.view(-1) for _ in range(30)], tmp_path / "views.pt")
    assert len(read_archive(tmp_path / "views.pt")) == 30
    monkeypatch.setattr(torch_archive, "_SLACK", 0)
    assert len(read_archive(tmp_path / "same.pt")) == 30
    with pytest.raises(UserError, match="tensors are much larger than the file"):
        read_archive(tmp_path / "views.pt")


@pytest.mark.parametrize("new", [True, False])
def test_both_formats_of_torch_give_what_was_saved(tmp_path, new):
    one = torch.arange(12.0).view(3, 4)
    content = {"a": one, "view": one[1:, ::2], "half": one.half(), "n": torch.tensor(3), "e": torch.empty(0), "t": [1]}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
    result = read_archive(tmp_path / "x.pth")
    assert result["t"] == [1] and list(result) == list(content)
    for name in ("a", "view", "half", "n", "e"):
        assert torch.equal(result[name], content[name]) and result[name].dtype == content[name].dtype


def test_modules_in_the_old_format_are_recorded(tmp_path):
    conv = torch.nn.Conv2d(3, 4, 3)
    torch.save({"model": torch.nn.Sequential(conv)}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    inner = read_archive(tmp_path / "x.pt")["model"].state["_modules"]["0"]
    assert inner.name == "torch.nn.modules.conv.Conv2d"
    assert torch.equal(inner.state["_parameters"]["weight"], conv.weight)


def test_damaged_files_of_the_old_format(tmp_path):
    torch.save({"a": torch.rand(100)}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    data = (tmp_path / "x.pt").read_bytes()
    claimed = data.replace(b"Kd", b"J\xff\xff\xff\x7f", 1)  # 2^31 - 1 elements instead of 100
    assert claimed != data
    for name, content in {
        "end": data[:-50],
        "half": data[: len(data) // 2],
        "start": data[:40],
        "size": claimed,
    }.items():
        (tmp_path / f"{name}.pt").write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}\.pt: is truncated or malformed"):
            read_archive(tmp_path / f"{name}.pt")
