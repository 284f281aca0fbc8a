"""Detect objects in images, videos, streams and cameras: `python detect.py --weights best.pt --source FOLDER_OR_FILE`.

PROJECT/NAME receives the images and videos with their boxes drawn and, on request, labels, crops, JSON and CSV.
"""

import logging
import time
from argparse import Namespace
from collections.abc import Sequence

from graftdet.models.backends.loading import load_models, model_request, newest_weights
from graftdet.models.backends.selection.ways import SAMPLED_IMAGES, Workload
from graftdet.models.inference.detection_writer import DetectionWriter, OutputSettings
from graftdet.models.inference.image_input import in_batches
from graftdet.models.inference.predict_settings import PredictSettings, class_indices
from graftdet.models.inference.predictor import Predictor
from graftdet.models.inference.tracking import TRACKERS, SequenceTracker
from graftdet.utils import cli
from graftdet.utils.cli.console import RESULT
from graftdet.utils.cli.options import add_model_flags, add_run_flags, add_selection_flags, image_size
from graftdet.utils.images.bit_depth import DEPTHS
from graftdet.utils.pipeline import Pipeline
from graftdet.utils.sources.sample import expected_frames, sample_images
from graftdet.utils.sources.source import Source, open_source
from graftdet.utils.text import counted

logger = logging.getLogger("graftdet.detect")
VIEW_HELP = (
    "show annotated images in a window: n, Enter or right for the next one, p, Backspace or left for the one before, "
    "space to pause a video or to let images follow each other, q or Escape to quit"
)
WINDOWS_AT_ONCE = 4  # of --slice, per call of the model


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, then read, detect, draw and write, each in its own thread."""
    options = make_parser().parse_args(argv)
    if options.plugins:  # imports torch, which exported files do not need
        from graftdet.models import load_plugins

        load_plugins(options.plugins)
    source = open_source(*options.source, stride=options.vid_stride, depth=options.depth)
    weights = options.weights or [newest_weights()]
    model = load_models(weights, model_request(options), workload(options, source))
    steps = model.steps(predict_settings(options, model))  # checks the settings before the first image is read
    tracker = SequenceTracker(options.track, options.vid_stride) if options.track else None
    logger.info(
        f"weights {', '.join(map(str, weights))}: {counted(model.nc, 'class')}, run by {model.backend}; "
        f"source {source.text}"
    )

    writer = DetectionWriter(output_settings(options))
    start = time.perf_counter()
    pipeline = Pipeline(
        in_batches(source, options.batch_size),
        [
            lambda frames: (frames, steps.preprocess(frames)),
            lambda work: (work[0], steps.infer(work[1])),
            lambda work: [
                (frame, detections, writer.annotate(detections))
                for frame, found in zip(work[0], steps.postprocess(work[1]), strict=True)
                for detections in [tracker.update(frame, found) if tracker else found]
            ],
        ],
        capacity=3 + 5 // options.batch_size,
        live=lambda frames: frames[0].info.kind == "stream",
        stop=source.stop,
    )
    try:
        with pipeline as batches:
            for batch in batches:
                for frame, detections, annotated in batch:
                    writer.add(frame, detections, annotated)
                if writer.window.closed:
                    break
    finally:  # a stream ends with Ctrl-C
        writer.finish()
    seconds, model_seconds = time.perf_counter() - start, pipeline.seconds[2]
    saved = f"saved to {writer.folder}" if writer.settings.writes_files else "nothing saved"
    total, inference = (1000 * value / writer.num_images for value in (seconds, model_seconds))
    logger.log(
        RESULT,
        f"{counted(writer.num_images, 'image')}, {counted(writer.num_detections, 'detection')}, "
        f"{total:.1f} ms per image, {inference:.1f} of it in the model; {saved}",
    )
    if source.incomplete:  # reported by the source
        raise SystemExit(1)


def workload(options: Namespace, source: Source) -> Workload:
    """What the model will be used for: the choice of the fastest backend depends on it."""
    return Workload(
        size=image_size(options.img, stride=1) if options.img else None,
        batch_size=options.batch_size,
        num_images=expected_frames(source),
        images=lambda: sample_images(source, SAMPLED_IMAGES),
        origin="the source",
        check_names=lambda names: class_indices(options.classes, names),
    )


def predict_settings(options: Namespace, model: Predictor) -> PredictSettings:
    """The settings of the command line for this model."""
    return PredictSettings(
        size=image_size(options.img, model.stride) if options.img else None,
        conf=options.conf,
        iou=options.iou,
        max_det=options.max_det,
        classes=options.classes,
        agnostic=options.agnostic,
        nms=options.nms,
        augment=options.augment,
        batch_size=max(options.batch_size, WINDOWS_AT_ONCE) if options.slice else options.batch_size,
        slice=options.slice,
        slice_overlap=options.slice_overlap,
    )


def output_settings(options: Namespace) -> OutputSettings:
    """What the command line asks to write."""
    return OutputSettings(
        project=options.project,
        name=options.name,
        exist_ok=options.exist_ok,
        save_images=not options.no_save,
        save_txt=options.save_txt or options.save_conf,
        save_conf=options.save_conf,
        save_json=options.save_json,
        save_csv=options.save_csv,
        save_crop=options.save_crop,
        save_mot=options.track is not None,
        grid=options.grid,
        view=options.view,
        line_thickness=options.line_thickness,
        hide_labels=options.hide_labels,
        hide_conf=options.hide_conf,
    )


def make_parser() -> cli.ArgumentParser:
    """The flags of detect.py."""
    parser = cli.ArgumentParser(description=__doc__, script="detect")
    add = parser.add_argument
    add_model_flags(parser, backend="auto")
    sources = "images, videos, folders, glob patterns, .txt lists, stream addresses, camera indices, screen"
    add("--source", required=True, nargs="+", help=sources)
    size = "longer side, or height and width, of the input in pixels (default: as trained)"
    add("--img", "--imgsz", "--img-size", type=int, nargs="+", help=size)
    add("--classes", nargs="+", metavar="CLASS", help="detect these classes only, given by index or name")
    add("--agnostic", "--agnostic-nms", action="store_true", help="suppress boxes across classes")
    add("--save-txt", action="store_true", help="write labels/*.txt: class cx cy w h, normalized")
    add("--save-conf", action="store_true", help="as --save-txt, with scores")
    add("--save-json", action="store_true", help="write detections.json")
    add("--save-csv", action="store_true", help="write detections.csv")
    add("--save-crop", action="store_true", help="write crops/CLASS/*.jpg")
    sheet = "write contact sheets: 30 images on each, with file names; of videos and streams one frame per second"
    add("--grid", action="store_true", help=sheet)
    add("--no-save", "--nosave", action="store_true", help="do not write annotated images and videos")
    add("--view", "--view-img", action="store_true", help=VIEW_HELP)
    add("--line-thickness", type=cli.at_least(1), help="line width of boxes [pixels] (default: by image size)")
    add("--hide-labels", action="store_true", help="draw boxes without class names and scores")
    add("--hide-conf", action="store_true", help="draw class names without scores")
    track = "follow objects through videos, streams and the images of a folder; writes their ids and tracks/*.txt (MOT)"
    add("--track", choices=tuple(TRACKERS), help=track)
    add("--vid-stride", type=cli.at_least(1), default=1, help="use every N-th frame of videos and streams")
    depth = "bits that 16-bit images use, such as 12 for many sensors"
    add("--depth", type=int, choices=DEPTHS, default=16, metavar="BITS", help=depth)
    add("--batch-size", type=cli.at_least(1), default=1, help="images per batch")
    add_selection_flags(parser, conf=0.25, iou=0.45)
    add_run_flags(parser, "runs/detect")
    return parser


if __name__ == "__main__":
    cli.run(main)
