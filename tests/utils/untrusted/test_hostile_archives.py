"""Small `.pt` files that would cost much memory or time are refused, in both formats of torch."""

import pickle
import struct
import time
import tracemalloc
import zipfile

import pytest
import torch

from graftdet.utils.errors import UserError
from graftdet.utils.untrusted import restricted_unpickler, torch_archive
from graftdet.utils.untrusted.torch_archive import read_archive

P = 2**61 - 1  # the modulus of Python's hashes of numbers
HEADER = b"\x80\x02"
NESTED = b")" + b"2\x86" * 60  # t = (t, t), sixty times
WIDE = b"](NNe" + b"".join(b"q%c0](" % i + b"h%c" % i * 1000 + b"e" for i in range(8))  # thousands of thousands
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def number(size):
    """An integer of `size` bytes."""
    return b"\x8b" + struct.pack("<i", size) + b"\x01" * size


def tensor(count=1_000_000, key=b"X\1\0\0\0" + b"0", size=None):
    """A tensor of bytes, a view of the record `key`."""
    storage = b"((X\7\0\0\0storagectorch\nByteStorage\n" + key + b"X\3\0\0\0cpuJ" + struct.pack("<i", count) + b"tQ"
    return REBUILD + storage + b"K\0" + (size or b"J" + struct.pack("<i", count) + b"\x85") + b"K\1\x85\x89}tR"


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
    "a storage whose key is a nested tuple": (HEADER + tensor(key=NESTED) + b".", "key is not text"),
    "a name that is a nested tuple": (b"\x80\x04" + NESTED + b"\x8c\x01x\x93.", "a name that is not text"),
    "a name of a million letters": (HEADER + b"c" + b"x" * 1_000_000 + b"\ny\n.", "which weights do not need"),
    "sides of a tensor of a million bytes": (
        HEADER + tensor(size=b"(" + number(1_000_000) + b"q\0" + b"h\0" * 300 + b"t") + b".",
        "an integer of 7999993 bits",
    ),
    "a tensor of a million dimensions": (HEADER + tensor(size=b"(" + b"K\1" * 1_000_000 + b"t") + b".", "dimensions"),
    "each value of a tensor": (
        HEADER + b"](" + (b"cbuiltins\nlist\n" + tensor(1_000_000) + b"\x85R") * 4 + b"e.",
        "a container of something that is none",
    ),
    "long tuples as keys": (HEADER + b"}(" + b"K\1" * 500_000 + b"tq\x000" + b"h\0Ns" * 100_000 + b".", "longer than"),
    "keys of equal hashes": (
        HEADER
        + b"}("
        + b"".join(b"\x8a\x0c" + (k * P).to_bytes(12, "little") + b"N" for k in range(1, 60_000))
        + b"u.",
        "a key of more than 60 bits",
    ),
    "lists of lists of lists": (HEADER + WIDE + b".", "more than 3,000,000 items"),
    "nested tuples as a value": (HEADER + NESTED + b".", "more than 3,000,000 items"),
    "lists in lists": (HEADER + b"]" * 10_000 + b"a" * 9_999 + b".", "nested more than 100 deep"),
    "a dict that holds itself": (HEADER + b"}q\0K\1h\0s.", "nested more than 100 deep"),
    "one long text many times": (
        HEADER + b"](X" + struct.pack("<I", 200_000) + b"x" * 200_000 + b"q\0" + b"h\0" * 1000 + b"e.",
        "more than 3,000,000 items",
    ),
    "a number of ten thousand digits": (HEADER + b"L" + b"9" * 10_000 + b"L\n.", "truncated or malformed"),
}


@pytest.mark.parametrize("what", PROGRAMS)
def test_costly_pickles_are_refused_at_once(tmp_path, what):
    program, reason = PROGRAMS[what]
    path = write_archive(tmp_path / "x.pt", program, [("data/0", bytes(1_000_000))])
    start = time.process_time()
    with pytest.raises(UserError, match=reason) as error:
        read_archive(path)
    assert time.process_time() - start < 10  # they took for ever, or gigabytes
    assert str(path) in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 1000


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


def test_records_that_unpack_to_more_than_they_declare(tmp_path):
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        path = write_archive(
            tmp_path / "x.pt", HEADER + tensor(500_000) + b".", [("data/0", bytes(60_000_000))], method
        )
        path.write_bytes(path.read_bytes().replace(struct.pack("<I", 60_000_000), struct.pack("<I", 500_000)))
        tracemalloc.start()
        with pytest.raises(UserError, match="Bad CRC-32|compressed by method"):
            read_archive(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        tracemalloc.stop()


def test_old_files_that_declare_more_than_they_hold(tmp_path):
    torch.save({}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    start = (tmp_path / "x.pt").read_bytes()
    start = start[: start.index(b"\x80\x02}q\x00.")]  # three pickles; then the object
    (tmp_path / "x.pt").write_bytes(start + b"\x80\x04\x8d" + struct.pack("<Q", 2**50) + b"abc.")
    with pytest.raises(UserError, match="expected 1125899906842624 bytes .* but only 4 remain"):
        read_archive(tmp_path / "x.pt")


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
