"""Counters and histograms in the text format that Prometheus reads (exposition format 0.0.4)."""

import threading
from bisect import bisect_left
from collections import Counter

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Histogram:
    """Counts of values in buckets.

    Args:
        bounds: Upper bounds of the buckets, increasing; one more holds the rest.
    """

    def __init__(self, bounds: tuple[float, ...]):
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str) -> list[str]:
        """The lines of this histogram."""
        lines, total = [], 0
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self.sum:.6f}", f"{name}_count {total}"]


class Metrics:
    """What a server counts. May be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[int] = Counter()  # by status
        self._detections = 0
        self._seconds, self._sizes = Histogram(SECONDS), Histogram(SIZES)
        self.in_flight = 0

    def add_request(self, status: int, seconds: float, detections: int = 0) -> None:
        """Count a finished request to /predict."""
        with self._lock:
            self._requests[status] += 1
            self._detections += detections
            self._seconds.add(seconds)

    def add_batch(self, size: int) -> None:
        """Count a batch of the model."""
        with self._lock:
            self._sizes.add(size)

    def text(self) -> str:
        """All metrics as text."""
        with self._lock:
            lines = _head("graftdet_requests_total", "counter", "Requests to /predict by status.")
            lines += [f'graftdet_requests_total{{status="{k}"}} {n}' for k, n in sorted(self._requests.items())]
            lines += _head("graftdet_detections_total", "counter", "Detections returned.")
            lines += [f"graftdet_detections_total {self._detections}"]
            lines += _head("graftdet_requests_in_flight", "gauge", "Requests to /predict in progress.")
            lines += [f"graftdet_requests_in_flight {self.in_flight}"]
            lines += _head("graftdet_request_seconds", "histogram", "Seconds per request to /predict.")
            lines += self._seconds.lines("graftdet_request_seconds")
            lines += _head("graftdet_batch_images", "histogram", "Images per batch of the model.")
            lines += self._sizes.lines("graftdet_batch_images")
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, about: str) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
