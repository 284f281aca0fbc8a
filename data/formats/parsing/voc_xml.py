"""Reading and writing PASCAL VOC annotation files. Files are not trusted."""

import re
from typing import NamedTuple
from xml.etree import ElementTree
from xml.parsers import expat

_DECLARATION = re.compile(rb"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)
MAX_BYTES = 64 * 2**20  # the annotations of an image take a few thousand


class VocObject(NamedTuple):
    """An `object` element."""

    name: str
    difficult: bool
    box: tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels, counted from 0


class VocAnnotation(NamedTuple):
    """The content of an annotation file."""

    filename: str  # of the image; may be empty
    width: int  # declared, 0 if missing
    height: int  # declared, 0 if missing
    objects: list[VocObject]
    unusable: tuple[str, ...]  # descriptions of objects without a name or box


def parse_voc_xml(data: bytes) -> VocAnnotation:
    """Parse an annotation file.

    Document types and entities are refused before anything is parsed: no annotation needs them, attacks do.

    Args:
        data: the content of the XML file.

    Returns:
        Its content.

    Raises:
        ValueError: if it is not an annotation file, with the reason.
    """
    if len(data) > MAX_BYTES:
        raise ValueError("is far too large for an annotation file")
    if _DECLARATION.search(data):
        raise ValueError("declares a DOCTYPE or ENTITY, which is refused")
    root = _parse(data)
    if root.tag != "annotation":
        raise ValueError(f"expected an <annotation>, got <{root.tag[:40]}>")
    objects, unusable = [], []
    for number, element in enumerate(root.iterfind("object"), 1):
        name, box = _text(element, "name"), element.find("bndbox")
        if not name or box is None:
            unusable.append(f"object {number}")
            continue
        difficult = _text(element, "difficult").lower() in ("1", "true", "yes")
        objects.append(VocObject(name, difficult, _box(box)))
    sides = _size(root, "width"), _size(root, "height")
    return VocAnnotation(_text(root, "filename"), *sides, objects, tuple(unusable))


def _parse(data: bytes) -> ElementTree.Element:
    """Parse without document types, in any encoding."""
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda tag, attributes: builder.start(tag, attributes)
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(f"not valid XML: {error}") from None
    except (LookupError, UnicodeError) as error:
        raise ValueError(f"not valid XML: {error}") from None
    return builder.close()


def _refuse(*_: object) -> None:
    raise ValueError("declares a DOCTYPE or ENTITY, which is refused")


def _box(element: ElementTree.Element) -> tuple[float, float, float, float]:
    """Convert a box to continuous coordinates.

    VOC counts pixels from 1 and gives the last one inside the box, which is (xmin - 1, xmax). Files of other tools
    count from 0: a minimum below 1 is left as it is. A value that is missing or not a number becomes NaN.
    """
    x1, y1, x2, y2 = (_number(_text(element, tag)) for tag in ("xmin", "ymin", "xmax", "ymax"))
    return max(x1 - 1, min(x1, 0.0)), max(y1 - 1, min(y1, 0.0)), x2, y2


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _size(root: ElementTree.Element, side: str) -> int:
    number = _number(_text(root, f"size/{side}"))
    return int(number) if 0 < number < 2**31 else 0


def _text(element: ElementTree.Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def format_voc_xml(filename: str, width: int, height: int, objects: list[VocObject]) -> bytes:
    """Return the annotation file of an image, with its elements in the order of the devkit.

    Args:
        filename: name of the image file.
        width: image width in pixels.
        height: image height in pixels.
        objects: boxes in pixels, counted from 0.
    """
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = filename
    size = ElementTree.SubElement(root, "size")
    for tag, value in (("width", width), ("height", height), ("depth", 3)):
        ElementTree.SubElement(size, tag).text = str(value)
    ElementTree.SubElement(root, "segmented").text = "0"
    for name, difficult, (x1, y1, x2, y2) in objects:
        element = ElementTree.SubElement(root, "object")
        texts = {"name": name, "pose": "Unspecified", "truncated": "0", "difficult": str(int(difficult))}
        for tag, value in texts.items():
            ElementTree.SubElement(element, tag).text = value
        box = ElementTree.SubElement(element, "bndbox")
        for tag, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
            ElementTree.SubElement(box, tag).text = f"{round(value, 3):.10g}"
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"
