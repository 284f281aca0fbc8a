"""Detect in pictures, videos, streams and cameras: `python detect.py --weights best.pt --source FOLDER_OR_FILE`.

PROJECT/NAME receives the pictures and videos with their boxes drawn, and on request labels, crops, JSON and CSV.
"""

import time

from graftdet.data.sources import open_source
from graftdet.models.backends.loading import load_models, newest_weights
from graftdet.models.inference.output_files import Output
from graftdet.models.inference.predictor import class_indices
from graftdet.utils import cli
from graftdet.utils.cli_options import add_model_flags, add_run_flags, add_selection_flags, image_size
from graftdet.utils.pipeline import Pipeline


def main(argv=None):
    options = make_parser().parse_args(argv)
    if options.plugins:  # blocks of the user's own, for weights that need them
        from graftdet.models import load_plugins

        load_plugins(options.plugins)
    source = open_source(*options.source)
    weights = options.weights or [newest_weights()]
    model = load_models(weights, options.device, options.half, backend=options.backend, plugins=options.plugins)
    size = image_size(options.img, model.stride) if options.img else None
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
        lambda work: [
            (frame, found, output.drawn(found)) for frame, found in zip(work[0], finish(work[1]), strict=True)
        ],
    ]
    batches = in_batches(source, options.batch_size)
    capacity = 3 + 5 // options.batch_size
    try:
        with Pipeline(
            batches, steps, capacity, live=lambda frames: frames[0].info.kind == "stream", stop=source.stop
        ) as results:
            for batch in results:
                for frame, found, drawn in batch:
                    output.add(frame, found, drawn)
                if output.window_closed:
                    break
    finally:  # a stream ends with Ctrl-C
        output.finish()
    whole, inferring = (
        1000 * seconds / output.pictures for seconds in (time.perf_counter() - begun, results.seconds[2])
    )
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


def make_parser():
    parser = cli.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add_model_flags(parser, backend="auto")
    kinds = "pictures, videos, folders, patterns, .txt lists, stream addresses, camera numbers"
    add("--source", required=True, nargs="+", help=kinds)
    add(
        "--img",
        "--imgsz",
        "--img-size",
        type=int,
        nargs="+",
        help="longer side, or height and width (default: as trained)",
    )
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
