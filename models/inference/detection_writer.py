"""Writes, reports and shows the detections of a run. No torch."""

import logging
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graftdet.models.inference.detections import Detections
from graftdet.models.inference.output_files import (
    DetectionsCsv,
    OutputNames,
    image_path,
    mot_lines,
    write_crops,
    write_detections_json,
    write_labels,
    write_mot,
)
from graftdet.models.inference.preview_window import PreviewWindow
from graftdet.models.inference.tracking import sequence_of
from graftdet.utils.files import check_run_name, new_run_folder
from graftdet.utils.images.io import write_image
from graftdet.utils.images.video import DEFAULT_FPS, VideoWriter
from graftdet.utils.progress import duration
from graftdet.utils.sources.frame import Frame
from graftdet.utils.text import counted
from graftdet.utils.visualization.contact_sheets import ContactSheets, draw_tile

logger = logging.getLogger(__name__)
REPORT_INTERVAL = 10  # seconds between two reports on a video


@dataclass(frozen=True)
class OutputSettings:
    """What a detection run writes into PROJECT/NAME; the fields are named as the flags of detect.py.

    Attributes:
        project: folder of runs.
        name: folder of this run below `project`; a name in use gets a number, unless `exist_ok`.
        exist_ok: write into an existing folder.
        save_images: annotated images and videos.
        save_txt: labels/*.txt in YOLO format.
        save_conf: scores in labels/*.txt.
        save_json: detections.json.
        save_csv: detections.csv.
        save_crop: crops/CLASS/*.jpg.
        save_mot: tracks/*.txt, one file per sequence in the format of the MOT Challenge.
        grid: contact sheets, see `ContactSheets`.
        view: show annotated images in a window, each stream in its own.
        line_thickness: line width of boxes in pixels; None: depends on the size of the image.
        hide_labels: draw boxes without class names and scores.
        hide_conf: draw class names without scores.
    """

    project: str | Path = "runs/detect"
    name: str = "exp"
    exist_ok: bool = False
    save_images: bool = True
    save_txt: bool = False
    save_conf: bool = False
    save_json: bool = False
    save_csv: bool = False
    save_crop: bool = False
    save_mot: bool = False
    grid: bool = False
    view: bool = False
    line_thickness: int | None = None
    hide_labels: bool = False
    hide_conf: bool = False

    @property
    def writes_files(self) -> bool:
        """Whether anything is written into the folder of the run."""
        lists = self.save_json or self.save_csv or self.save_mot
        return self.save_images or self.save_txt or self.save_crop or self.grid or lists


class DetectionWriter:
    """Writes what the settings ask for about each frame, logs one line per image, and shows a window.

    A frame is a `graftdet.utils.sources.frame.Frame`. Each video and each stream becomes one video; those of streams,
    which are read side by side, stay open until the end.

    Attributes:
        folder: the folder of the run, created with the first frame; None before.
        num_images: frames added so far.
        num_detections: their detections.
        window: the preview window.
    """

    def __init__(self, settings: OutputSettings):
        check_run_name(settings.name)
        self.settings = settings
        self.folder: Path | None = None
        self.num_images, self.num_detections = 0, 0
        self.window = PreviewWindow(settings.view)
        self._records: list[dict] = []  # of the JSON file
        self._csv: DetectionsCsv | None = None
        self._mot: dict[str, list[str]] = {}
        self._sequence_lengths: Counter[str] = Counter()
        self._names = OutputNames()
        self._sheets = ContactSheets() if settings.grid else None
        self._videos: dict[str, VideoWriter] = {}
        self._last_report: dict[str, float] = {}
        self._last_second: dict[str, int] = {}  # of each video, that the contact sheets have

    def annotate(self, detections: Detections) -> np.ndarray | None:
        """The image with its boxes, where anything writes or shows it. May be called from another thread."""
        needed = self.window.active or self.settings.save_images
        if not needed:
            return None
        return detections.draw(
            in_place=not (self.settings.save_crop or self.settings.grid),
            thickness=self.settings.line_thickness,
            hide_labels=self.settings.hide_labels,
            hide_scores=self.settings.hide_conf,
        )

    def add(self, frame: Frame, detections: Detections, annotated: np.ndarray | None) -> None:
        """Write, show and report the detections of one frame; `annotated` is what `annotate` returned."""
        settings = self.settings
        self.folder = self.folder or self._make_folder()
        self.num_images += 1
        self.num_detections += len(detections)
        stem = self._names(frame.path)
        if settings.save_images:
            self._save_image(frame, stem, annotated)
        if (settings.save_txt or settings.save_crop) and (len(detections) or settings.exist_ok):
            self._save_labels_and_crops(frame, stem, detections)
        if settings.save_json or settings.save_csv:
            height, width = frame.image.shape[:2]
            record = {"source": str(frame.path), "frame": frame.index, "width": width, "height": height}
            self._save_record({**record, "detections": detections.to_dicts()})
        if settings.save_mot and detections.track_ids is not None:
            self._add_tracks(frame, detections)
        if self._sheets:
            self._add_tile(frame, detections)
        if self.window.active:
            title = f"detections {frame.path}" if frame.info.kind == "stream" else "detections"
            self.window.show(annotated, frame.info.is_video, title)
        self._report(frame, detections)

    def finish(self) -> None:
        """Close the videos, and write the files that cover all images."""
        for path in list(self._videos):
            self._close_video(path)
        if self.folder and self.settings.save_json:
            write_detections_json(self.folder / "detections.json", self._records)
        if self._csv:
            self._csv.close()
        if self.folder and self._sheets:
            self._sheets.finish(self._sheet_path)
        for sequence, lines in self._mot.items():
            write_mot(self.folder / "tracks" / f"{self._names(sequence)}.txt", lines)

    def _save_record(self, record: dict) -> None:
        """Write the detections of a frame to the CSV file, and remember them for the JSON file."""
        if self.settings.save_json:
            self._records.append(record)
        if self.settings.save_csv:
            assert self.folder
            self._csv = self._csv or DetectionsCsv(self.folder / "detections.csv", self.settings.save_mot)
            self._csv.add(record)

    def _add_tracks(self, frame: Frame, detections: Detections) -> None:
        """Remember the lines of the MOT file; frames are numbered as they are used, from 1."""
        sequence = sequence_of(frame)
        self._sequence_lengths[sequence] += 1
        lines = mot_lines(self._sequence_lengths[sequence], detections.boxes, detections.scores, detections.track_ids)
        self._mot.setdefault(sequence, []).extend(lines)

    def _add_tile(self, frame: Frame, detections: Detections) -> None:
        """Add an image to the contact sheets, of videos and streams one frame per second."""
        caption = Path(frame.path).name if frame.info.kind != "stream" else frame.path
        if frame.info.is_video:
            fps, index = frame.info.fps or DEFAULT_FPS, frame.index or 0
            second = int(index / fps)
            if self._last_second.get(frame.path) == second:
                return
            self._last_second[frame.path] = second
            caption = f"{caption} {duration(second)}"
        scores = None if self.settings.hide_conf else detections.scores
        tile = draw_tile(
            frame.image,
            detections.boxes,
            detections.labels,
            scores,
            detections.names,
            hide_labels=self.settings.hide_labels,
            track_ids=detections.track_ids,
        )
        self._sheets.add(tile, caption, self._sheet_path)

    def _sheet_path(self, number: int | None) -> Path:
        """The file of a contact sheet; None: there is only one."""
        path = self.folder / f"{self._names.unused('grid' if number is None else f'grid_{number}')}.jpg"
        logger.info(f"contact sheet: {path}")
        return path

    def _make_folder(self) -> Path:
        folder = new_run_folder(self.settings.project, self.settings.name, self.settings.exist_ok)
        if self.settings.save_crop and (folder / "crops").exists():
            logger.warning(f"{folder / 'crops'}: also contains crops of an earlier run")
        return folder

    def _save_image(self, frame, stem: str, annotated: np.ndarray) -> None:
        """Write an image as its own file, a frame into the video of its source."""
        if not frame.info.is_video:
            write_image(image_path(self.folder, stem, frame.path), annotated)
            return
        if frame.path not in self._videos:
            if frame.info.kind == "video":  # files are read one after the other
                for path in list(self._videos):
                    self._close_video(path)
            self._videos[frame.path] = VideoWriter(self.folder / f"{stem}.mp4", frame.info.fps)
        for _ in range(frame.repeats):
            self._videos[frame.path].write(annotated)

    def _save_labels_and_crops(self, frame, stem: str, detections: Detections) -> None:
        name = stem if frame.index is None else self._names.frame(frame.path, frame.index + 1)
        if self.settings.save_txt:
            path, shape = self.folder / "labels" / f"{name}.txt", frame.image.shape[:2]
            write_labels(path, detections.boxes, detections.labels, detections.scores, shape, self.settings.save_conf)
        if self.settings.save_crop:
            folder = self.folder / "crops"
            write_crops(folder, name, frame.image, detections.boxes, detections.class_names, self._names)

    def _report(self, frame, detections: Detections) -> None:
        """Log one line per image, one line every ten seconds of a video."""
        position = ""
        if frame.info.is_video:
            if frame.index and time.monotonic() - self._last_report[frame.path] < REPORT_INTERVAL:
                return
            self._last_report[frame.path] = time.monotonic()
            position = f" frame {frame.index + 1}" + (f"/{frame.info.frame_count}" if frame.info.frame_count else "")
        numbers = sorted(Counter(map(int, detections.labels)).items())  # by class index, whatever backend ran the model
        counts = ", ".join(f"{number} {detections.names[label]}" for label, number in numbers)
        logger.info(f"{frame.path}{position}: {counts or 'no detections'}")

    def _close_video(self, path: str) -> None:
        video = self._videos.pop(path)
        video.close()
        logger.info(f"{path}: {counted(video.count, 'frame')} written to {video.path}")
