"""Run an ONNX file exported for one size with OpenCV alone: `python opencv_dnn.py best.onnx in.jpg out.jpg`.

docs/exported-files.md explains each number. Needs OpenCV 4.7 or newer.
"""

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np


def detect(path: str, image: np.ndarray, conf: float = 0.25, iou: float = 0.45) -> list[tuple[str, float, list[float]]]:
    """Detect in an image (H, W, 3) uint8 BGR: (class name, score, [x1, y1, x2, y2] in pixels), best first."""
    metadata = read_metadata(path)
    if metadata.get("output", "decoded") != "decoded":
        raise SystemExit(f"{path}: has another output; export it without --output")
    names = ast.literal_eval(metadata["names"])
    size, dynamic, needs_nms = (json.loads(metadata[key]) for key in ("size", "dynamic", "needs_nms"))
    if dynamic:
        raise SystemExit(f"{path}: is dynamic, which OpenCV does not run; export it without --dynamic")
    network = cv2.dnn.readNetFromONNX(path)
    frame, sides = np.array(size), np.array(image.shape[:2])  # height, width
    gain = min(frame / sides)
    scaled = np.maximum(np.round(sides * gain), 1).astype(int)
    (top, left), (bottom, right) = (frame - scaled) // 2, frame - scaled - (frame - scaled) // 2
    method = cv2.INTER_AREA if gain < 0.5 else cv2.INTER_LINEAR
    resized = cv2.resize(image, scaled[::-1].tolist(), interpolation=method)
    padded = cv2.copyMakeBorder(resized, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
    network.setInput(cv2.dnn.blobFromImage(padded, 1 / 255, swapRB=True))
    rows = network.forward().reshape(-1, 5 + len(names))
    low, high = rows[:, :2] - rows[:, 2:4] / 2 - (left, top), rows[:, :2] + rows[:, 2:4] / 2 - (left, top)
    visible = ((high > 0) & (low < scaled[::-1])).all(1)  # boxes in the padding alone are no detections
    low, high, scores = low[visible], high[visible], (rows[:, 4:5] * rows[:, 5:])[visible]
    labels, scores = scores.argmax(1), scores.max(1)
    best = np.argsort(-scores, kind="stable")[: np.count_nonzero(scores > conf)]
    if needs_nms:
        best = cv2.dnn.NMSBoxesBatched(np.hstack((low, high - low)), scores, labels, conf, iou)
    corners = [np.clip(corner / (scaled / sides)[::-1], 0, sides[::-1]) for corner in (low, high)]
    return [(names[labels[i]], float(scores[i]), np.hstack(corners)[i].tolist()) for i in list(best)[:300]]


def read_metadata(path: str) -> dict[str, str]:
    """Read the metadata of an ONNX file, field 14 of its protocol buffer; OpenCV does not return it."""
    entries = [dict(fields(entry)) for number, entry in fields(Path(path).read_bytes()) if number == 14]
    return {entry[1].decode(): entry.get(2, b"").decode() for entry in entries}


def fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each field of a protocol buffer that consists of integers and bytes."""
    position = 0
    while position < len(data):
        tag, position = integer(data, position)
        value, position = integer(data, position)
        if tag & 7 == 2:
            yield tag >> 3, data[position : position + value]
            position += value


def integer(data: bytes, position: int) -> tuple[int, int]:
    """Read an integer of a protocol buffer; returns it and the position behind it."""
    value = shift = 0
    while True:
        byte, position = data[position], position + 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position


def draw(image: np.ndarray, detections: list[tuple[str, float, list[float]]]) -> np.ndarray:
    """Draw boxes, class names and scores into an image."""
    for name, score, box in reversed(detections):
        x1, y1, x2, y2 = (round(side) for side in box)
        cv2.rectangle(image, (x1, y1), (x2, y2), (64, 64, 255), 2)
        cv2.putText(image, f"{name} {score:.2f}", (x1, max(y1 - 4, 12)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (64, 64, 255))
    return image


if __name__ == "__main__":
    image = cv2.imread(sys.argv[2])
    if image is None:
        sys.exit(f"{sys.argv[2]}: no such file, or not an image")
    detections = detect(sys.argv[1], image)
    for name, score, box in detections:
        print(f"{name} {score:.3f} {[round(side, 1) for side in box]}")
    if len(sys.argv) > 3:
        cv2.imwrite(sys.argv[3], draw(image, detections))
