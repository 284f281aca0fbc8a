"""Long jobs whose memory, handles and threads must stay flat: `make soak`, more than an hour.

300 short epochs, 5,000 images, 10,000 frames of a video, and an hour of a stream whose connection is lost again and
again. `--fraction 0.1` makes everything shorter, `--stream-minutes` the stream alone.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from tests.chaos.lossy_stream import LossyStream
from tests.chaos.process_use import growth, watch
from tests.chaos.trainings import Trainings

ROOT = Path(__file__).resolve().parents[2]
EPOCHS, IMAGES, FRAMES, STREAM_MINUTES = 300, 5_000, 10_000, 60.0
MIN_SAMPLES = 12


class Soak:
    """The jobs; each returns what it did.

    Args:
        folder: An empty folder.
        fraction: Of the full length.
        stream_minutes: Length of the stream.
    """

    def __init__(self, folder: Path, fraction: float, stream_minutes: float):
        self.folder, self.fraction, self.stream_minutes = folder, fraction, stream_minutes
        self.trainings = Trainings(folder)
        self.images = sorted((folder / "shapes").rglob("*.jpg")) or sorted((folder / "shapes").rglob("*.png"))

    def count(self, whole: int) -> int:
        """The shortened number of a job."""
        return max(int(whole * self.fraction), 30)

    def start(self, script: str, name: str, *flags: object) -> subprocess.Popen:
        """Start a script of the checkout."""
        command = [sys.executable, str(ROOT / script), "--project", str(self.folder / "runs"), "--name", name]
        command += ["--device", "cpu", *map(str, flags)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        with open(self.folder / f"{name}.log", "w") as log:
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)

    def detect(self, name: str, source: object, *flags: object) -> subprocess.Popen:
        """Start detect.py with the weights of the training."""
        weights = self.folder / "runs" / "train" / "weights" / "last.pt"
        backend = ("--backend", "torch", "--img", 64, "--conf", 0.01)
        return self.start("detect.py", name, "--weights", weights, "--source", source, *backend, *flags)

    def train(self) -> tuple[subprocess.Popen, str, float | None]:
        """Short epochs with two loader processes."""
        epochs = self.count(EPOCHS)
        flags = ("--cfg", "tiny.yaml", "--data", "data.yaml", "--weights", "none", "--img", 64, "--batch", 8)
        process = self.start("train.py", "train", *flags, "--workers", 2, "--epochs", epochs, "--patience", 0)
        return process, f"{epochs} epochs", None

    def detect_images(self) -> tuple[subprocess.Popen, str, float | None]:
        """Many images in a folder."""
        many = self.folder / "many"
        many.mkdir()
        count = self.count(IMAGES)
        for number in range(count):
            path = self.images[number % len(self.images)]
            shutil.copy(path, many / f"{number:05}{path.suffix}")
        return self.detect("images", many, "--save-json", "--save-txt"), f"{count} images", None

    def detect_video(self) -> tuple[subprocess.Popen, str, float | None]:
        """A long video."""
        count, path = self.count(FRAMES), self.folder / "video.mp4"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (160, 120))
        for number in range(count):
            frame = np.full((120, 160, 3), number % 200, np.uint8)
            writer.write(cv2.circle(frame, (number % 160, 60), 20, (0, 200, 90), -1))
        writer.release()
        return self.detect("video", path), f"{count} frames", None

    def detect_stream(self) -> tuple[subprocess.Popen, str, float | None]:
        """A stream that loops and whose connection is lost every few seconds."""
        stream = LossyStream()
        process = self.detect("stream", stream.address, "--no-save", "--save-csv")
        return process, f"{self.stream_minutes:g} minutes", self.stream_minutes * 60


JOBS: dict[str, Callable] = {
    "train": Soak.train,
    "images": Soak.detect_images,
    "video": Soak.detect_video,
    "stream": Soak.detect_stream,
}


def main() -> int:
    """Run the jobs one after the other, and print a table; 1 if one of them fails or grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fraction", type=float, default=1.0, help="fraction of the full length")
    parser.add_argument("--stream-minutes", type=float, help="length of the stream (default: 60 times --fraction)")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    options = parser.parse_args()
    failures, rows = 0, []
    with tempfile.TemporaryDirectory() as folder:
        minutes = STREAM_MINUTES * options.fraction if options.stream_minutes is None else options.stream_minutes
        soak = Soak(Path(folder), options.fraction, minutes)
        for name in ["train", *[name for name in options.jobs if name != "train"]]:  # the others need its weights
            start = time.monotonic()
            process, length, seconds = JOBS[name](soak)
            uses = watch(process, seconds)
            if seconds is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
            status = process.wait(timeout=60)
            log = (soak.folder / f"{name}.log").read_text(errors="replace")
            expected = 0 if seconds is None else 143
            problems = [f"status {status}: {log[-800:]}"] if status != expected else []
            if name == "stream":
                length += f", {log.count('connected again')} times connected again"
            if len(uses) < MIN_SAMPLES:
                problems.append(f"only {len(uses)} samples")
            else:
                first, last, grown = growth(uses)
                problems += grown
                columns = [f"{a} to {b}" for a, b in zip(_texts(first), _texts(last), strict=True)]
                minutes = (time.monotonic() - start) / 60
                rows.append(f"| {name} | {length} | {minutes:.1f} | {' | '.join(columns)} |")
                print(rows[-1], flush=True)
            failures += bool(problems)
            for problem in problems:
                print(f"{name}: {problem}", flush=True)
    print("| job | length | minutes | memory [MB] | handles | threads |\n|---|---|---|---|---|---|")
    print("\n".join(rows))
    return int(failures > 0)


def _texts(use) -> list[str]:
    return [f"{use.memory_mb:.0f}", str(use.handles), str(use.threads)]


if __name__ == "__main__":
    sys.exit(main())
