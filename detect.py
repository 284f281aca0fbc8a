"""Detect in pictures, videos, streams and cameras: `python detect.py --weights best.pt --source FOLDER_OR_FILE`.

PROJECT/NAME receives the pictures and videos with their boxes drawn, and on request labels, crops, JSON and CSV.
"""

import os
import sys
import time
from collections import Counter

import cv2

from data.sources import open_source
from data.video import VideoWriter
from models.loading import load_models, newest_weights
from models.predictor import class_indices
from utils import cli
from utils.detection_files import OutputNames, picture_path, write_crops, write_csv, write_json, write_labels
from utils.images import write_image
from utils.options import add_model_flags, add_run_flags, add_selection_flags, picture_size
from utils.pipeline import Pipeline
from utils.run_folder import check_run_name, new_run_folder


def main(argv=None):
    options = make_parser().parse_args(argv)
    if options.plugins:  # blocks of the user's own, for weights that need them
        from models import load_plugins

        load_plugins(options.plugins)
    source = open_source(*options.source)
    weights = options.weights or [newest_weights()]
    model = load_models(weights, options.device, options.half, backend=options.backend, plugins=options.plugins)
    size = picture_size(options.img, model.stride) if options.img else None
    asked = {
        "size": model.input_size(size),  # complains now rather than after the first picture
        "conf": options.conf, "iou": options.iou, "max_det": options.max_det, "agnostic": options.agnostic, "nms": options.nms,
        "classes": class_indices(options.classes, model.names), "augment": options.augment, "batch_size": options.batch_size,
    }  # fmt: skip
    print(f"weights {', '.join(map(str, weights))}: {model.nc} classes, run by {model.backend}; source {source.text}")

    output, begun = Output(options), time.perf_counter()
    prepare, infer, finish = model.steps(**asked)
    steps = [
        lambda frames: (frames, prepare([frame.image for frame in frames])),
        lambda work: (work[0], infer(work[1])),
        lambda work: [(frame, found, output.drawn(found)) for frame, found in zip(work[0], finish(work[1]), strict=True)],
    ]
    batches = in_batches(source, options.batch_size)
    inside = 3 + 5 // options.batch_size
    try:
        with Pipeline(batches, steps, inside, live=lambda frames: frames[0].info.kind == "stream", stop=source.stop) as results:
            for batch in results:
                for frame, found, drawn in batch:
                    output.add(frame, found, drawn)
                if output.window_closed:
                    break
    finally:  # a stream ends with Ctrl-C
        output.finish()
    whole, inferring = (1000 * seconds / output.pictures for seconds in (time.perf_counter() - begun, results.seconds[2]))
    told = f"{whole:.1f} ms a picture, {inferring:.1f} of it in the model"
    print(f"{output.pictures} pictures, {output.total} detections, {told}; saved to {output.folder}")


def in_batches(source, batch_size):
    """Lists of frames; those of live streams one by one, because the next is not there yet."""
    batch = []
    for frame in source:
        batch.append(frame)
        if len(batch) == batch_size or frame.info.kind == "stream":
            yield batch
            batch = []
    if batch:
        yield batch


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


def make_parser():
    parser = cli.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add_model_flags(parser, backend="auto")
    kinds = "pictures, videos, folders, patterns, .txt lists, stream addresses, camera numbers"
    add("--source", required=True, nargs="+", help=kinds)
    add("--img", "--imgsz", "--img-size", type=int, nargs="+", help="longer side, or height and width (default: as trained)")
    add("--classes", nargs="+", metavar="CLASS", help="keep these classes only, numbers or names")
    add("--agnostic", "--agnostic-nms", action="store_true", help="boxes of different classes compete, too")
    add("--save-txt", action="store_true", help="labels/*.txt: class cx cy w h, normalised")
    add("--save-conf", action="store_true", help="scores in labels/*.txt")
    add("--save-json", action="store_true", help="detections.json")
    add("--save-csv", action="store_true", help="detections.csv")
    add("--save-crop", action="store_true", help="crops/CLASS/*.jpg")
    add("--no-save", "--nosave", action="store_true", help="no drawn pictures and videos")
    add("--view", "--view-img", action="store_true", help="show a window; q or Escape ends")
    add("--batch-size", type=cli.at_least(1), default=1, help="pictures at once")
    add_selection_flags(parser, conf=0.25, iou=0.45)
    add_run_flags(parser, "runs/detect")
    return parser


if __name__ == "__main__":
    cli.run(main)
