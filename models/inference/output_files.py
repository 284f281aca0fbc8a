"""What detection leaves in its folder: drawn pictures and videos, labels, crops, one JSON and one CSV. No torch."""

import csv
import json
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from graftdet.utils.files import check_run_name, new_run_folder, write_errors
from graftdet.utils.images.io import write_image
from graftdet.utils.images.video import VideoWriter
from graftdet.utils.text import valid_utf8

WRITABLE = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
COLUMNS = ("source", "frame", "class", "label", "score", "x1", "y1", "x2", "y2")


RESERVED = re.compile(r"(con|prn|aux|nul|com[1-9]|lpt[1-9])(\.|$)", re.IGNORECASE)  # devices, on Windows


class OutputNames:
    """Names in the folder of a run, no two alike on any system: one that is taken already gets a number."""

    def __init__(self):
        self._names: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()

    def __call__(self, source: str) -> str:
        """The stem of everything that is written about `source`, the same at each call."""
        return self._kept(
            "source", source, safe_name(Path(source).stem if "://" not in source else source.split("://", 1)[1])
        )

    def frame(self, source: str, number: int) -> str:
        """A stem for what is written about frame `number` of `source`, a new one at each call."""
        return self._free(f"{self(source)}_{number}")

    def crop(self, class_name: str, stem: str) -> str:
        """The path below the folder of crops for one more crop of that class, of the picture or frame `stem`."""
        folder = self._kept("class", class_name, safe_name(class_name), "crops/")
        return f"{folder}/{self._free(stem, f'crops/{folder}/')}.jpg"

    def _kept(self, kind: str, about: str, name: str, folder: str = "") -> str:
        if (kind, about) not in self._names:
            self._names[kind, about] = self._free(name, folder)
        return self._names[kind, about]

    def _free(self, name: str, folder: str = "") -> str:
        free, number = name, 2
        while f"{folder}{free}".lower() in self._taken:  # files differ by more than case on some systems
            free, number = f"{name}_{number}", number + 1
        self._taken.add(f"{folder}{free}".lower())
        return free


def safe_name(text: str) -> str:
    """`text` as a file's name on any system, of at most 200 bytes."""
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f]+', "_", valid_utf8(str(text))).encode()[:200]
    name = name.decode("utf-8", "ignore").strip(" .") or "_"
    return f"_{name}" if RESERVED.match(name) else name


def picture_path(folder: Path, name: str, source: str) -> Path:
    """Where the drawn picture of `source` goes: its own format where that can be written, else .jpg."""
    suffix = Path(source).suffix.lower()
    return folder / f"{name}{suffix if suffix in WRITABLE else '.jpg'}"


def write_labels(path: Path, boxes_xyxy, labels, scores, shape: tuple[int, int], with_scores: bool = False) -> None:
    """Write YOLO lines `class cx cy w h [score]`, normalised by the picture's `shape` (h, w); boxes are pixels.

    Without any there is no file: one of an earlier run goes.
    """
    if not len(boxes_xyxy):
        with write_errors(path):
            path.unlink(missing_ok=True)
        return
    height, width = shape
    lines = []
    for (x1, y1, x2, y2), label, score in zip(np.asarray(boxes_xyxy, float), labels, scores, strict=True):
        centre = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        numbers = [*centre, float(score)] if with_scores else centre
        lines.append(" ".join([str(int(label)), *(f"{number:.6f}" for number in numbers)]) + "\n")
    _write_text(path, "".join(lines))


def write_crops(
    folder: Path, stem: str, image: np.ndarray, boxes_xyxy, class_names: list[str], names: OutputNames
) -> int:
    """Write each box cut out of `image` (H, W, 3) as folder/CLASS/stem[_2].jpg; returns how many. Empty cuts are left out.

    `names` knows all crops of the run, so that none takes another's place.
    """
    written = 0
    for box, class_name in zip(np.asarray(boxes_xyxy, float), class_names, strict=True):
        x1, y1 = np.floor(box[:2]).astype(int).clip(0)
        x2, y2 = np.ceil(box[2:]).astype(int)
        cut = image[y1:y2, x1:x2]
        if cut.size:
            write_image(folder / names.crop(class_name, stem), cut)
            written += 1
    return written


def write_json(path: Path, records: list[dict]) -> None:
    """Write one record a picture or frame: source, frame, width, height, detections (name, label, score, box xyxy)."""
    _write_text(path, valid_utf8(json.dumps(records, ensure_ascii=False, indent=1)))


def write_csv(path: Path, records: list[dict]) -> None:
    """Write one line a detection with the columns `COLUMNS`, boxes in pixels."""
    with write_errors(path), open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for record in records:
            for found in record["detections"]:
                box = [f"{value:.2f}" for value in found["box"]]
                frame = "" if record["frame"] is None else record["frame"]
                words = valid_utf8(record["source"]), frame, valid_utf8(found["name"])
                writer.writerow([*words, found["label"], f"{found['score']:.4f}", *box])


def _write_text(path: Path, text: str) -> None:
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def has_display():
    """Whether windows can be shown: elsewhere than on Linux they are taken to be."""
    places = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in places)


class Output:
    """Writes what was asked for about each frame, tells a line a picture, shows a window."""

    def __init__(self, options):
        check_run_name(options.name)
        self.options = options
        self.folder = None  # made once there is something to write
        self.pictures, self.total, self.records = 0, 0, []
        self.names = OutputNames()
        self.video, self.video_source, self.told = None, None, 0.0
        self.view, self.window_closed = options.view, False

    def drawn(self, found):
        """The picture with its boxes where somebody will see it; called from another thread than the rest."""
        return found.draw(in_place=not self.options.save_crop) if self.view or not self.options.no_save else None

    def add(self, frame, found, drawn):
        options, stem = self.options, self.names(frame.path)
        shape = frame.image.shape[:2]
        self.folder = self.folder or self.make_folder()
        self.pictures, self.total = self.pictures + 1, self.total + len(found)
        if not options.no_save:
            self.save(frame, stem, drawn)
        if (options.save_txt or options.save_crop) and (len(found) or options.exist_ok):
            name = stem if frame.index is None else self.names.frame(frame.path, frame.index + 1)
            if options.save_txt:
                labels = self.folder / "labels" / f"{name}.txt"
                write_labels(labels, found.boxes, found.labels, found.scores, shape, options.save_conf)
            if options.save_crop:
                write_crops(self.folder / "crops", name, frame.image, found.boxes, found.class_names, self.names)
        if options.save_json or options.save_csv:
            about = {"source": str(frame.path), "frame": frame.index, "width": shape[1], "height": shape[0]}
            self.records.append({**about, "detections": found.to_dicts()})
        if self.view:
            self.show(drawn, 1 if frame.info.is_video else 0)
        self.tell(frame, found)

    def make_folder(self):
        folder = new_run_folder(self.options.project, self.options.name, self.options.exist_ok)
        if self.options.save_crop and (folder / "crops").exists():
            print(f"{folder / 'crops'}: holds crops of an earlier run, too", file=sys.stderr)
        return folder

    def save(self, frame, stem, drawn):
        """A picture as its own file; a frame into the video of its source."""
        if not frame.info.is_video:
            write_image(picture_path(self.folder, stem, frame.path), drawn)
            return
        if self.video_source != frame.path:
            self.close_video()
            self.video, self.video_source = VideoWriter(self.folder / f"{stem}.mp4", frame.info.fps), frame.path
        self.video.write(drawn)

    def show(self, drawn, milliseconds):
        """Show a frame, for ever with 0; q and Escape end the run. A machine without a display says so once."""
        try:
            if not has_display():  # OpenCV's window library would end the process, not raise
                raise cv2.error
            cv2.imshow("detections", drawn)
            self.window_closed = cv2.waitKey(milliseconds) & 0xFF in (ord("q"), 27)
        except cv2.error:
            self.view = False
            print("--view: this machine, or this OpenCV, has no display; nothing is shown", file=sys.stderr)

    def tell(self, frame, found):
        """A line a picture, a line every ten seconds of a video."""
        at = ""
        if frame.info.is_video:
            if frame.index and time.monotonic() - self.told < 10:
                return
            self.told = time.monotonic()
            at = f" frame {frame.index + 1}" + (f"/{frame.info.frame_count}" if frame.info.frame_count else "")
        counted = ", ".join(f"{number} {name}" for name, number in Counter(found.class_names).items())
        print(f"{frame.path}{at}: {counted or 'nothing'}", flush=True)

    def close_video(self):
        if self.video is not None:
            self.video.close()
            print(f"{self.video_source}: {self.video.count} frames written to {self.video.path}")
        self.video = self.video_source = None

    def finish(self):
        """Close the video and write the files that are about all pictures."""
        self.close_video()
        if self.folder and self.options.save_json:
            write_json(self.folder / "detections.json", self.records)
        if self.folder and self.options.save_csv:
            write_csv(self.folder / "detections.csv", self.records)
