"""Weights of other publishers that can be loaded. They are not part of GraftDet, and nothing is downloaded."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedFamily:
    """Weights files of one publisher.

    Attributes:
        name: name of the family.
        files: names of the files, as the publisher names them.
        license: license that the publisher states, to be checked before use.
        published_by: name of the official page.
        use: what they can be used for here.
    """

    name: str
    files: str
    license: str
    published_by: str
    use: str


FAMILIES = (
    PublishedFamily(
        "YOLOv5",
        "yolov5n.pt ... yolov5x.pt, yolov5n6.pt ... yolov5x6.pt",
        "AGPL-3.0, early ones GPL-3.0",
        "releases of ultralytics/yolov5 on GitHub",
        "train, validate, detect, export",
    ),
    PublishedFamily(
        "YOLOv5-Lite",
        "v5lite-e.pt, v5lite-s.pt, v5lite-c.pt, v5lite-g.pt",
        "GPL-3.0",
        "releases of ppogg/YOLOv5-Lite on GitHub",
        "train, validate, detect, export",
    ),
    PublishedFamily(
        "YOLOv8, 9, 10, 11, 12",
        "yolov8n.pt, yolov10n.pt, yolo11n.pt, ...",
        "AGPL-3.0",
        "releases of ultralytics/assets on GitHub",
        "train, validate, detect, export",
    ),
    PublishedFamily(
        "NanoDet",
        "nanodet_m.ckpt, nanodet_m.pth, nanodet_m.onnx",
        "Apache-2.0",
        "releases of RangiLyu/nanodet on GitHub",
        "train, validate, detect, export",
    ),
    PublishedFamily(
        "YOLOX",
        "yolox_nano.pth ... yolox_x.pth, yolox_nano.onnx ... yolox_x.onnx",
        "Apache-2.0",
        "releases of Megvii-BaseDetection/YOLOX on GitHub",
        "train, validate, detect, export",
    ),
    PublishedFamily(
        "runs of GraftDet",
        "best.pt, last.pt, *.safetensors",
        "yours",
        "train.py, graftdet weights pack",
        "train, validate, detect, export",
    ),
    PublishedFamily(
        "backbones",
        "state dict in .pt, .pth or .safetensors",
        "that of the file",
        "publisher of the backbone",
        "train, into one row: --into ROW",
    ),
    PublishedFamily(
        "exported files",
        "*.onnx, *.xml (OpenVINO)",
        "that of the weights",
        "export.py",
        "validate, detect",
    ),
)


def family_of(name: str) -> PublishedFamily | None:
    """The family of a name, None for an unknown one."""
    return next((family for family in FAMILIES if family.name == name), None)
