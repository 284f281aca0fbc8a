"""The command line flags of the original YOLOv5 scripts, and what each is called here.

One table for two uses: the page `docs/migration.md` is made from it, and an unknown flag that is in it is answered with
its successor. Flags are facts of the published documentation of YOLOv5 v7.0.
"""

from dataclasses import dataclass
from typing import Literal

Status = Literal["same", "renamed", "not supported"]


@dataclass(frozen=True)
class PublishedFlag:
    """A flag of one of the original scripts.

    Args:
        flag: as users type it, with its other spellings behind commas.
        status: `same` (also where only further values are accepted), `renamed`, or `not supported`.
        here: the flag or command to use instead, for `renamed`.
        note: what differs, or why it is not supported.
    """

    flag: str
    status: Status
    here: str = ""
    note: str = ""


def _same(*flags: str, note: str = "") -> tuple[PublishedFlag, ...]:
    return tuple(PublishedFlag(flag, "same", note=note) for flag in flags)


def _renamed(flag: str, here: str, note: str = "") -> tuple[PublishedFlag, ...]:
    return (PublishedFlag(flag, "renamed", here, note),)


def _unsupported(flag: str, note: str) -> tuple[PublishedFlag, ...]:
    return (PublishedFlag(flag, "not supported", note=note),)


_NO_SERVICES = "runs are recorded in local files only; there is no service to log to"
_RUN = _same("--device", "--project", "--name", "--exist-ok")

TRAIN = (
    *_same("--weights", note="default: the pretrained weights that fit; `--weights none` or `''` trains from scratch"),
    *_same("--cfg", "--data"),
    *_same("--hyp", note="default: `default.yaml`; `--hyp yolov5.yaml` is the published recipe"),
    *_same("--epochs", "--batch-size, --batch", "--imgsz, --img, --img-size"),
    *_same("--rect", "--resume", "--noval", "--image-weights", "--multi-scale", "--single-cls"),
    *_unsupported("--nosave", "the last checkpoint is what `--resume` needs; it is always saved"),
    *_unsupported("--noautoanchor", "anchors that fit the data are kept (best possible recall of at least 0.98)"),
    *_unsupported("--noplots", "plots take a second at the end of a run"),
    *_renamed("--evolve", "--search", "a YAML of ranges or choices; runs on Optuna, resumable, in parallel"),
    *_renamed("--evolve_population", "--study", "where the trials are stored"),
    *_renamed("--resume_evolve", "--search", "the same command again resumes the search"),
    *_unsupported("--bucket", _NO_SERVICES),
    *_same("--cache", note="also `auto` (the default) and `none`"),
    *_same("--optimizer", note="also `Muon`, the default recipe's"),
    *_same("--sync-bn", note="on by default with several processes; `--no-sync-bn` turns it off"),
    *_same("--workers", "--cos-lr", "--patience", "--freeze", "--save-period", "--seed"),
    *_unsupported("--quad", "an experiment that the default recipe does not need"),
    *_renamed("--label-smoothing", "--set", "`--set label_smoothing=0.1`"),
    *_unsupported("--local_rank", "set by `torchrun` in the environment"),
    *_unsupported("--entity", _NO_SERVICES),
    *_unsupported("--upload_dataset", _NO_SERVICES),
    *_unsupported("--bbox_interval", _NO_SERVICES),
    *_unsupported("--artifact_alias", _NO_SERVICES),
    *_unsupported("--ndjson-console", "`results.csv` has a row per epoch"),
    *_unsupported("--ndjson-file", "`results.csv` has a row per epoch"),
    *_RUN,
)
VAL = (
    *_same("--data", "--weights", "--batch-size", "--imgsz, --img, --img-size"),
    *_same("--conf-thres", "--iou-thres", "--max-det"),
    *_same("--task", note="`train`, `val` or `test`; also `--split`"),
    *_same("--workers", "--single-cls", "--augment"),
    *_same("--half", note="float16 on CUDA, bfloat16 with OpenVINO"),
    *_same("--verbose", note="prints the traceback of an error; results per class are always printed"),
    *_unsupported("--save-txt", "`detect.py --save-txt` writes labels; `predictions.json` is always written"),
    *_unsupported("--save-hybrid", "labels and predictions are not mixed in one file"),
    *_unsupported("--save-conf", "`detect.py --save-txt --save-conf` does"),
    *_unsupported("--save-json", "`predictions.json` is always written"),
    *_renamed("--dnn", "--backend", "`--backend onnx` runs the exported file by onnxruntime"),
    *_RUN,
)
DETECT = (
    *_same("--weights", "--source", "--imgsz, --img, --img-size", "--conf-thres", "--iou-thres", "--max-det"),
    *_unsupported("--data", "class names are part of every weights file"),
    *_same("--view-img", "--save-txt", "--save-csv", "--save-conf", "--save-crop", "--nosave"),
    *_same("--classes", note="numbers or names"),
    *_same("--agnostic-nms", "--augment"),
    *_same("--half", note="float16 on CUDA, bfloat16 with OpenVINO"),
    *_unsupported("--save-format", "labels are written in the normalized YOLO format"),
    *_unsupported("--visualize", "feature maps are not drawn; `python -m models draw` draws the graph"),
    *_unsupported("--update", "nothing is downloaded and no file is changed"),
    *_unsupported("--line-thickness", "chosen by the size of the image"),
    *_unsupported("--hide-labels", "`--save-json` or `--save-csv` with drawing of your own"),
    *_unsupported("--hide-conf", "`--save-json` or `--save-csv` with drawing of your own"),
    *_renamed("--dnn", "--backend", "`--backend onnx` runs the exported file by onnxruntime"),
    *_unsupported("--vid-stride", "every frame of a video is read; of a stream, the newest"),
    *_RUN,
)
EXPORT = (
    *_same("--weights", "--imgsz, --img, --img-size", "--batch-size", "--dynamic", "--opset"),
    *_same("--include", note="`onnx` and `openvino`"),
    *_unsupported("--data", "class names and sizes come from the weights file"),
    *_unsupported("--device", "models are exported on the CPU"),
    *_unsupported("--half", "files are float32; `val.py` and `detect.py --half` choose the precision when running"),
    *_unsupported("--inplace", "has no effect on an exported file here"),
    *_unsupported("--keras", "no TensorFlow formats"),
    *_unsupported("--optimize", "no TorchScript for mobile"),
    *_unsupported("--int8", "no quantized formats"),
    *_unsupported("--per-tensor", "no quantized formats"),
    *_unsupported("--simplify", "constants are folded on every export"),
    *_unsupported("--cache", "no TensorRT engine"),
    *_same("--verbose", note="prints the traceback of an error; the report of an export is always printed"),
    *_unsupported("--workspace", "no TensorRT engine"),
    *_unsupported("--nms", "NMS runs outside of the file, see docs/exported-files.md"),
    *_unsupported("--agnostic-nms", "NMS runs outside of the file"),
    *_unsupported("--topk-per-class", "no TensorFlow formats"),
    *_unsupported("--topk-all", "no TensorFlow formats"),
    *_unsupported("--iou-thres", "NMS runs outside of the file"),
    *_unsupported("--conf-thres", "NMS runs outside of the file"),
)
FLAGS: dict[str, tuple[PublishedFlag, ...]] = {"train": TRAIN, "val": VAL, "detect": DETECT, "export": EXPORT}
"""Script -> its published flags."""


def successor(script: str, flag: str) -> str | None:
    """What to write instead of a published flag that `script` does not have.

    Args:
        script: `train`, `val`, `detect` or `export`.
        flag: one flag as typed, `--evolve`.

    Returns:
        A part of an error message, or None where the flag is unknown to both or exists here.
    """
    for published in FLAGS.get(script, ()):
        if flag in published.flag.split(", ") and published.status != "same":
            if published.here:
                return f"use {published.here}" + (f": {published.note}" if published.note else "")
            return f"not supported: {published.note}"
    return None


def flags_markdown(script: str) -> str:
    """The table of one script's published flags for the documentation.

    Args:
        script: `train`, `val`, `detect` or `export`.

    Returns:
        A Markdown table with a row per flag.
    """
    lines = ["| YOLOv5 | here | notes |", "|---|---|---|"]
    for published in FLAGS[script]:
        names = ", ".join(f"`{name}`" for name in published.flag.split(", "))
        here = f"`{published.here}`" if published.here else published.status
        lines.append(f"| {names} | {here} | {published.note} |")
    return "\n".join(lines) + "\n"
