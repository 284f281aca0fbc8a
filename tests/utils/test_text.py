"""Names and YAML files that are not UTF-8: percent-encoded, or an error that names the likely encoding."""

import os

import pytest

from graftdet.utils.config import load_yaml
from graftdet.utils.errors import UserError
from graftdet.utils.text import counted, counted_phrase, printable, valid_utf8


@pytest.mark.parametrize(
    ("name", "written"),
    [
        (b"caf\xe9.jpg", "caf%E9.jpg"),
        ("café 100%.jpg".encode(), "café 100%.jpg"),
        (b"\xff\x80\xc3", "%FF%80%C3"),
        (b"", ""),
    ],
)
def test_bytes_that_are_not_utf8_are_percent_encoded(name, written):
    assert valid_utf8(name.decode("utf-8", "surrogateescape")) == written
    assert os.fsdecode(written.encode()) == written


def test_surrogates_of_a_json_escape():
    assert valid_utf8("a\ud83d") == "a%ED%A0%BD"


TEXTS = {
    "GBK": ["红", "安全帽", "汽车, 行人", "划痕"],
    "Big5": ["紅", "安全帽", "汽車, 行人", "貓"],
    "Shift-JIS": ["赤", "ヘルメット", "自動車", "ねこ"],
    "Latin-1": ["café", "größe", "señal", "Äpfel", "vélo piéton"],
    "Windows-1252": ["café 5 €", "“mug”"],
    "Windows-1251": ["машина", "кот"],
}


@pytest.mark.parametrize(("encoding", "name"), [(key, name) for key, names in TEXTS.items() for name in names])
def test_other_encodings_are_named(tmp_path, encoding, name):
    path = tmp_path / "data.yaml"
    path.write_bytes(f"train: x\nnames: ['{name}', 'plain']  # {name}\n".encode(encoding))
    with pytest.raises(UserError) as error:
        load_yaml(path)
    text = str(error.value)
    assert text.startswith(f"{path}:2: not UTF-8, likely ") and "\ufffd" not in text
    assert f"{encoding} (names: ['{name}', 'plain'])" in text
    assert f"-t UTF-8 {path}" in text
    if len(name) > 1:  # a single character may be as common in another encoding
        assert f"iconv -f {encoding.upper()} -t UTF-8 {path}" in text


def test_korean_is_one_of_the_likely_encodings(tmp_path):
    (tmp_path / "data.yaml").write_bytes("names: [사람, 자동차]\n".encode("euc-kr"))
    with pytest.raises(UserError, match=r"EUC-KR \(names: \[사람, 자동차\]\)"):
        load_yaml(tmp_path / "data.yaml")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-8"])
def test_a_byte_order_mark_states_the_encoding(tmp_path, encoding):
    path = tmp_path / "data.yaml"
    path.write_bytes("\ufeffpath: .\r\nnames: [红, größe]\r\n".encode(encoding))
    assert load_yaml(path) == {"path": ".", "names": ["红", "größe"]}


def test_a_truncated_file_in_utf16(tmp_path):
    (tmp_path / "data.yaml").write_bytes("names: [a]".encode("utf-16")[:-1])
    with pytest.raises(UserError, match=r"data.yaml: starts as UTF-16, but is malformed; save it as UTF-8"):
        load_yaml(tmp_path / "data.yaml")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_named(tmp_path, encoding):
    path = tmp_path / "data.yaml"
    path.write_bytes("names: [\u7ea2]\n".encode(encoding))
    name = encoding.upper().replace("-LE", "LE").replace("-BE", "BE")
    with pytest.raises(UserError, match=f"is encoded in {name}, expected UTF-8; .*iconv -f {name} -t UTF-8"):
        load_yaml(path)


def test_utf8_with_and_without_a_byte_order_mark(tmp_path):
    path = tmp_path / "data.yaml"
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_bytes("path: .\nnames: [红, größe]\n".encode(encoding))
        assert load_yaml(path) == {"path": ".", "names": ["红", "größe"]}


@pytest.mark.parametrize(
    "line", ["names: [a]  # 红", "# größe", "names: ['a#b', \"c # d\"]  # 红", "names: [it's]  # 红"]
)
def test_comments_may_be_in_another_encoding(tmp_path, line):
    path = tmp_path / "data.yaml"
    path.write_bytes(b"train: x\r\n" + line.encode("gbk" if "红" in line else "latin-1") + b"\r\n")
    assert load_yaml(path)["train"] == "x"


@pytest.mark.parametrize("line", ["names: ['# 红']", 'names: ["a # 红"]', "names: [a#红]"])
def test_a_number_sign_in_a_value_starts_no_comment(tmp_path, line):
    path = tmp_path / "data.yaml"
    path.write_bytes(line.encode("gbk"))
    with pytest.raises(UserError, match="likely GBK"):
        load_yaml(path)


def test_escape_sequences_do_not_reach_the_terminal():
    assert printable("a\x1b[2Jb\x07\r\x9b1m\u202egpj.exe") == "a\\x1b[2Jb\\x07\\r\\x9b1m\\u202egpj.exe"
    assert printable("caf\udce9 \u732b\tA\nB") == "caf%E9 \u732b\tA\nB"


def test_counts_have_the_right_number():
    assert [counted(n, "image") for n in (0, 1, 2, 1200)] == ["0 images", "1 image", "2 images", "1,200 images"]
    assert [counted(2, noun) for noun in ("box", "class", "category")] == ["2 boxes", "2 classes", "2 categories"]


@pytest.mark.parametrize(
    ("phrase", "one"),
    [
        ("missing images", "missing image"),
        ("label files without an image", "label file without an image"),
        ("entries of images that cannot be used", "entry of images that cannot be used"),
        ("boxes with values that are not finite numbers", "box with values that are not finite numbers"),
        ("categories with the name of another", "category with the name of another"),
        ("classes without any box", "class without any box"),
    ],
)
def test_counts_of_phrases(phrase, one):
    assert counted_phrase(1, phrase) == f"1 {one}"
    assert [counted_phrase(n, phrase) for n in (0, 2, 1200)] == [f"{n} {phrase}" for n in ("0", "2", "1,200")]
