"""Weights of other publishers that can be loaded. They are not part of GraftDet, and nothing is downloaded."""

import re
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
        "NanoDet-Plus",
        "nanodet-plus-m_*, nanodet-plus-m-1.5x_* (.pth, .ckpt, .onnx)",
        "Apache-2.0",
        "releases of RangiLyu/nanodet on GitHub",
        "train, validate, detect, export",
    ),
    PublishedFamily(
        "PicoDet",
        "picodet_*_coco_lcnet.pdparams, picodet_*_coco.pdparams",
        "Apache-2.0",
        "configs/picodet of PaddlePaddle/PaddleDetection on GitHub",
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
        "RTMDet",
        "rtmdet_tiny_*.pth, rtmdet_s_*.pth",
        "Apache-2.0",
        "configs/rtmdet of open-mmlab/mmdetection on GitHub",
        "train, validate, detect, export",
    ),
    PublishedFamily(
        "YOLOv9 (MIT)",
        "v9-t.pt, v9-s.pt",
        "MIT",
        "releases of MultimediaTechLab/YOLO on GitHub",
        "train, validate, detect, export",
    ),
    PublishedFamily(
        "BlazeFace",
        "blazeface.pth (front camera, 128 pixels)",
        "Apache-2.0",
        "repository hollance/BlazeFace-PyTorch on GitHub",
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
        "backbones of torchvision",
        "mobilenet_v2-*.pth, mobilenet_v3_*.pth, shufflenetv2_x*.pth",
        "BSD-3-Clause",
        "pytorch/vision on GitHub",
        "train, into one row: --into ROW",
    ),
    PublishedFamily(
        "backbones of PaddlePaddle",
        "PPLCNet_x*_pretrained.pdparams, ...",
        "Apache-2.0",
        "PaddlePaddle/PaddleClas on GitHub",
        "train, into one row: --into ROW",
    ),
    PublishedFamily(
        "GhostNet",
        "state_dict_73.98.pth",
        "Apache-2.0",
        "huawei-noah/Efficient-AI-Backbones on GitHub",
        "train, into one row: --into ROW",
    ),
    PublishedFamily(
        "models of timm",
        "mobilenetv3_small_100.*, ghostnet_100.*, ... (.safetensors)",
        "Apache-2.0, see its page",
        "timm on Hugging Face",
        "train, into one row: --into ROW",
    ),
    PublishedFamily(
        "backbones",
        "state dict in .pt, .pth, .pdparams or .safetensors",
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


_NAMES = (  # pattern of the names of published files -> family
    (r"(v5lite|yolov5-?lite)", "YOLOv5-Lite"),
    (r"yolov5[nsmlx]6?u\.", "YOLOv8, 9, 10, 11, 12"),
    (r"yolov5", "YOLOv5"),
    (r"yolox", "YOLOX"),
    (r"yolo(v8|v9|v?10|v?11|v?12)", "YOLOv8, 9, 10, 11, 12"),
    (r"nanodet[-_]?plus", "NanoDet-Plus"),
    (r"nanodet", "NanoDet"),
    (r"picodet_", "PicoDet"),
    (r"rtmdet", "RTMDet"),
    (r"v9-[tsmce]\b", "YOLOv9 (MIT)"),
    (r"blazeface", "BlazeFace"),
    (r"(mobilenet_v[23]|shufflenet_?v2_x)", "backbones of torchvision"),
    (r".*_x\d+_\d+.*\.pdparams", "backbones of PaddlePaddle"),
    (r"state_dict_73", "GhostNet"),
    (r"(mobilenetv[23]|mobilevit|ghostnet|lcnet|repvgg|mobileone|(tf_)?efficientnet)_\w+", "models of timm"),
)


def publisher_hint(file_name: str) -> str:
    """`; YOLOX: published in releases of ..., license Apache-2.0` for names of known files, else ''."""
    name = next((family for pattern, family in _NAMES if re.match(pattern, file_name, re.IGNORECASE)), "")
    family = family_of(name)
    return f"; {family.name}: published in {family.published_by}, license {family.license}" if family else ""
