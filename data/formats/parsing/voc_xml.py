"""Reading and writing PASCAL VOC annotation files. Files are not trusted."""

import math
import re
from typing import NamedTuple
from xml.etree import ElementTree
from xml.parsers import expat

from graftdet.data.formats.parsing.sixth_column import turned_box
from graftdet.utils.text import marked_encoding

_DECLARATION = re.compile(rb"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)
_ENCODING = re.compile(
    rb"""\s*<\?xml[^>]*?encoding\s*=\s*["'](?!utf|iso-8859-1["']|us-ascii)([\w.-]+)["']""", re.IGNORECASE
)
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
        name, box = _text(element, "name"), _box_of_object(element)
        if not name or box is None:
            unusable.append(f"object {number}" + (" without a box" if name else " without a name"))
            continue
        difficult = _text(element, "difficult").lower() in ("1", "true", "yes")
        objects.append(VocObject(name, difficult, box))
    sides = _size(root, "width"), _size(root, "height")
    return VocAnnotation(_text(root, "filename"), *sides, objects, tuple(unusable))


def _parse(data: bytes) -> ElementTree.Element:
    """Parse without document types, in any encoding."""
    builder = ElementTree.TreeBuilder()
    declared = _ENCODING.match(data)
    encoding = declared[1].decode("ascii") if declared else marked_encoding(data)
    if encoding:  # such as GBK, which expat does not know; a byte order mark is right where the declaration differs
        try:
            data = data.decode(encoding).encode("utf-8")
        except (LookupError, UnicodeError) as error:
            raise ValueError(f"not valid XML: {error}") from None
        if _DECLARATION.search(data):
            _refuse()
    parser = expat.ParserCreate("utf-8" if encoding else None)
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


def _box_of_object(element: ElementTree.Element) -> tuple[float, float, float, float] | None:
    """The box of an object; of a rotated box (`robndbox`, in radians) or a polygon the one around it."""
    box, rotated, polygon = element.find("bndbox"), element.find("robndbox"), element.find("polygon")
    if box is not None:
        return _box(box)
    if rotated is not None:
        x, y, width, height, angle = (_number(_text(rotated, tag)) for tag in ("cx", "cy", "w", "h", "angle"))
        if math.isfinite(angle):
            corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            return turned_box(corners, angle, "radians", 1.0)
    if polygon is not None:
        xs = [_number(child.text or "") for child in polygon.iter() if re.fullmatch(r"x\d*", child.tag)]
        ys = [_number(child.text or "") for child in polygon.iter() if re.fullmatch(r"y\d*", child.tag)]
        if xs and ys:
            return min(xs), min(ys), max(xs), max(ys)
    return None


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
