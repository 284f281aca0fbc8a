import numpy as np
import pytest

from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.formats.format import OTHER_CLASS
from graftdet.data.formats.parsing.voc_xml import VocObject, format_voc_xml, parse_voc_xml
from graftdet.data.formats.per_image import BAD_FILE, BAD_OBJECT, NO_FILE
from graftdet.data.formats.validation import CLIPPED, DEGENERATE, MISSING, NOT_FINITE
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import write_image


def box_xml(name, box, extra=""):
    tags = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{tags}</bndbox></object>"


def xml(*objects, size=(40, 20), filename="x.jpg"):
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"<annotation><filename>{filename}</filename>{sides}{''.join(objects)}</annotation>"


def make(root, xmls: dict, images=None, listed=None, yaml="train: ImageSets/Main/train.txt\n"):
    """Write a VOC dataset with 40x20 images; return the path of its YAML."""
    for stem, text in xmls.items():
        path = root / "Annotations" / f"{stem}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for stem in images or xmls:
        write_image(root / "JPEGImages" / f"{stem}.png", np.full((20, 40, 3), 90, np.uint8))
    (root / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
    (root / "ImageSets/Main/train.txt").write_text("".join(f"{stem}\n" for stem in listed or xmls))
    (root / "voc.yaml").write_text(yaml, encoding="utf-8")
    return root / "voc.yaml"


def open_train(path):
    return open_split(load_data_config(path), "train")


def test_pixels_are_counted_from_one(tmp_path):
    first = xml(box_xml("dog", (1, 1, 40, 20)), box_xml("cat", (11, 6, 20, 15)))
    split = open_train(make(tmp_path, {"000007": first, "2007_000027": xml()}))
    assert split.names == ["cat", "dog"] and split.category_ids == [0, 1]
    assert [sample.image_id for sample in split.samples] == ["000007", "2007_000027"]
    assert split.samples[0].boxes.tolist() == [[0, 0, 40, 20], [10, 5, 20, 15]]
    assert split.samples[0].labels.tolist() == [1, 0]
    assert not split.problems


def test_boxes_counted_from_zero_stay_inside(tmp_path):
    split = open_train(make(tmp_path, {"a": xml(box_xml("dog", (0, 0, 40, 20)), box_xml("dog", (-3, 2, 10, 10)))}))
    assert split.samples[0].boxes.tolist() == [[0, 0, 40, 20], [0, 1, 10, 10]]
    assert dict(split.problems) == {CLIPPED: 1}


def test_difficult_objects_become_crowds(tmp_path):
    hard = box_xml("dog", (1, 1, 10, 10), "<difficult>1</difficult>")
    split = open_train(make(tmp_path, {"a": xml(hard, box_xml("dog", (1, 1, 5, 5), "<difficult>0</difficult>"))}))
    assert split.samples[0].crowd.tolist() == [True, False]
    assert [row["iscrowd"] for row in split.ground_truth()["annotations"]] == [1, 0]


def test_parts_of_an_object_are_not_objects(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part>"
    split = open_train(make(tmp_path, {"a": xml(box_xml("dog", (1, 1, 10, 10), part))}))
    assert split.names == ["dog"] and len(split.samples[0].boxes) == 1


def test_every_defect_is_counted(tmp_path):
    objects = [
        box_xml("dog", (1, 1, 10, 10)),
        box_xml("dog", (10, 1, 5, 10)),
        box_xml("dog", ("x", 1, 5, 10)),
        box_xml("cow", (1, 1, 5, 5)),
        "<object><name>dog</name></object>",
        "<object></object>",
    ]
    xmls = {"a": xml(*objects), "truncated": xml()[:30], "root": "<html/>", "b": xml()}
    yaml = "train: ImageSets/Main/train.txt\nnames: [dog]\n"
    path = make(tmp_path, xmls, ["a", "b", "truncated", "bare"], ["a", "truncated", "root", "b", "bare", "gone"], yaml)
    split = open_train(path)
    expected = {
        BAD_FILE: 2,
        BAD_OBJECT: 2,
        OTHER_CLASS: 1,
        NO_FILE: 2,
        DEGENERATE: 1,
        NOT_FINITE: 1,
        MISSING: 1,
    }
    assert dict(split.problems) == expected
    assert [sample.image_id for sample in split.samples] == ["a", "b", "bare"]


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE a [<!ENTITY e "x">]><annotation>&e;</annotation>',
        b'<?xml version="1.0"?><! DOCTYPE a><annotation/>',
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY e "x">]><annotation>&e;</annotation>'.encode(
            "utf-16"
        ),
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE annotation SYSTEM "a.dtd"><annotation/>'.encode("utf-16"),
    ],
    ids=["plain", "blank", "utf-16", "utf-16 without entities"],
)
def test_document_types_are_refused(data):
    with pytest.raises(ValueError, match="DOCTYPE or ENTITY"):
        parse_voc_xml(data)


def test_xml_cannot_refer_to_an_image_elsewhere(tmp_path):
    write_image(tmp_path / "secret.png", np.zeros((20, 40, 3), np.uint8))
    path = make(
        tmp_path / "voc", {"a": xml(box_xml("dog", (1, 1, 9, 9)), filename="../../secret.png"), "b": xml(), "c": xml()}
    )
    (tmp_path / "voc/JPEGImages/a.png").unlink()
    split = open_train_with_box(path)
    assert dict(split.problems) == {MISSING: 1}


def open_train_with_box(path):
    (path.parent / "Annotations/b.xml").write_text(xml(box_xml("dog", (1, 1, 9, 9))))
    return open_train(path)


def test_filename_is_used_if_the_stem_has_no_image(tmp_path):
    path = make(tmp_path, {"a": xml(box_xml("dog", (1, 1, 9, 9)), filename="other.jpg")}, ["other"])
    assert open_train(path).samples[0].path.name == "other.png"


def test_layouts(tmp_path):
    text = xml(box_xml("dog", (1, 1, 9, 9)))
    make(tmp_path / "VOC2007", {"000001": text})
    make(tmp_path / "VOC2012", {"2008_000001": text}, listed=["2008_000001  -1"])
    lists = "[VOC2007/ImageSets/Main/train.txt, VOC2012/ImageSets/Main/train.txt]"
    (tmp_path / "both.yaml").write_text(f"train: {lists}\nval: VOC2007\ntest: VOC2012/JPEGImages\n")
    config = load_data_config(tmp_path / "both.yaml")
    ids = {split: [s.image_id for s in open_split(config, split).samples] for split in ("train", "val", "test")}
    assert config.format == "voc"
    assert ids == {"train": ["000001", "2008_000001"], "val": ["000001"], "test": ["2008_000001"]}
    beside = tmp_path / "beside/train"
    write_image(beside / "p.png", np.zeros((20, 40, 3), np.uint8))
    (beside / "p.xml").write_text(text)
    (tmp_path / "beside.yaml").write_text("path: beside\ntrain: train\n")
    config = load_data_config(tmp_path / "beside.yaml")
    assert config.format == "voc" and len(open_split(config, "train").samples[0].boxes) == 1
    for name, source in (("images", beside / "p.png"), ("annotations", beside / "p.xml")):
        (tmp_path / "pair" / name / "train").mkdir(parents=True)
        (tmp_path / "pair" / name / "train" / source.name).write_bytes(source.read_bytes())
    (tmp_path / "pair.yaml").write_text("path: pair\ntrain: images/train\n")
    config = load_data_config(tmp_path / "pair.yaml")
    assert config.format == "voc" and len(open_split(config, "train").samples[0].boxes) == 1


@pytest.mark.parametrize("layout", ["Annotations", "beside"])
def test_annotation_files_in_upper_case(tmp_path, layout):
    text = xml(box_xml("dog", (1, 1, 9, 9)))
    path = make(tmp_path, {"a": text}, yaml="train: JPEGImages\n")
    folder = tmp_path / ("Annotations" if layout == "Annotations" else "JPEGImages")
    (tmp_path / "Annotations/a.xml").rename(folder / "a.XML")
    if layout == "beside":
        (tmp_path / "Annotations").rmdir()
    assert load_data_config(path).format == "voc"
    assert len(open_train(path).samples[0].boxes) == 1


@pytest.mark.parametrize("stray", ["images/a.xml", "annotations/a.xml", "images/._a.xml", "images/a.json"])
def test_a_stray_file_does_not_decide_the_format(tmp_path, stray, caplog):
    for stem in "abcd":
        write_image(tmp_path / f"images/{stem}.png", np.zeros((20, 40, 3), np.uint8))
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / f"labels/{stem}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / stray).parent.mkdir(exist_ok=True)
    (tmp_path / stray).write_text(
        '{"shapes": [], "imagePath": "a.png"}' if stray.endswith("json") else xml(box_xml("dog", (1, 1, 9, 9)))
    )
    (tmp_path / "data.yaml").write_text("train: images\nnames: [dog]\n")
    config = load_data_config(tmp_path / "data.yaml")
    assert config.format == "yolo" and not caplog.text
    assert sum(len(sample.boxes) for sample in open_split(config, "train").samples) == 4


def test_two_complete_sets_of_annotations_are_reported(tmp_path, caplog):
    write_image(tmp_path / "images/a.png", np.zeros((20, 40, 3), np.uint8))
    (tmp_path / "images/a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "images/a.xml").write_text(xml(box_xml("dog", (1, 1, 9, 9))))
    (tmp_path / "data.yaml").write_text("train: images\nnames: [dog]\n")
    assert load_data_config(tmp_path / "data.yaml").format == "yolo"
    assert "annotations of several formats (voc, yolo) fit images; yolo is used" in caplog.text


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ("<robndbox><cx>20</cx><cy>10</cy><w>10</w><h>4</h><angle>1.5707963</angle></robndbox>", [18, 5, 22, 15]),
        ("<polygon><x1>5</x1><y1>4</y1><x2>9</x2><y2>4</y2><x3>7</x3><y3>12</y3></polygon>", [5, 4, 9, 12]),
        ("<polygon><pt><x>5</x><y>4</y></pt><pt><x>9</x><y>12</y></pt></polygon>", [5, 4, 9, 12]),
    ],
)
def test_objects_without_an_upright_box(tmp_path, box, expected):
    path = make(tmp_path, {"a": xml(f"<object><name>dog</name>{box}</object>")})
    assert open_train(path).samples[0].boxes.tolist()[0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("encoding", ["gbk", "shift_jis", "utf-16", "iso-8859-1", "utf-8"])
def test_files_in_a_declared_encoding(encoding):
    name = "dög" if encoding == "iso-8859-1" else "人"
    text = f'<?xml version="1.0" encoding="{encoding}"?>' + xml(box_xml(name, (1, 1, 9, 9)))
    assert parse_voc_xml(text.encode(encoding)).objects[0].name == name


@pytest.mark.parametrize("encoding", ["no-such", "zlib", "gbk"])
def test_wrong_declared_encodings(encoding):
    with pytest.raises(ValueError, match="not valid XML|DOCTYPE"):
        parse_voc_xml(f'<?xml version="1.0" encoding="{encoding}"?>'.encode() + b"<annotation>\xff\xff</annotation>")


def test_the_cause_of_missing_classes_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"1 of 1 annotation file that cannot be read \(first: .*a.xml: not valid XML"):
        open_train(make(tmp_path, {"a": "<annotation>"}))
    with pytest.raises(
        UserError, match=r"without an object that has a class .*a.xml: object 1 without a box\); add names:"
    ):
        open_train(make(tmp_path, {"a": xml("<object><name>dog</name></object>")}))


def test_all_splits_share_class_indices(tmp_path):
    make(tmp_path / "one", {"a": xml(box_xml("b", (1, 1, 9, 9)), box_xml("c", (1, 1, 9, 9)))})
    make(tmp_path / "two", {"a": xml(box_xml("a", (1, 1, 9, 9)), box_xml("c", (1, 1, 9, 9)))})
    (tmp_path / "d.yaml").write_text("train: one\nval: two\n")
    split = open_split(load_data_config(tmp_path / "d.yaml"), "val")
    assert split.names == ["b", "c"] and split.samples[0].labels.tolist() == [1]
    assert dict(split.problems) == {OTHER_CLASS: 1}


def test_written_xml_is_read_back():
    objects = [VocObject("a & <b>", True, (0, 0, 40, 20)), VocObject("ü", False, (1.25, 2.5, 3.75, 19.001))]
    read = parse_voc_xml(format_voc_xml("ä.png", 40, 20, objects))
    assert (read.filename, read.width, read.height, read.unusable) == ("ä.png", 40, 20, ())
    for before, after in zip(objects, read.objects, strict=True):
        assert before[:2] == after[:2] and np.allclose(before.box, after.box, atol=1e-9)
