"""The text that Prometheus reads."""

from graftdet.models.inference.serving.metrics import Metrics


def test_counters_and_cumulative_buckets():
    metrics = Metrics()
    metrics.add_request(200, 0.03, detections=4)
    metrics.add_request(200, 20.0, detections=1)
    metrics.add_request(413, 0.001)
    metrics.add_batch(3)
    lines = metrics.text().splitlines()
    assert 'graftdet_requests_total{status="200"} 2' in lines and 'graftdet_requests_total{status="413"} 1' in lines
    assert "graftdet_detections_total 5" in lines and "graftdet_request_seconds_count 3" in lines
    buckets = [int(line.split()[-1]) for line in lines if line.startswith("graftdet_request_seconds_bucket")]
    assert buckets == [1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3]
    assert 'graftdet_batch_images_bucket{le="2"} 0' in lines and 'graftdet_batch_images_bucket{le="4"} 1' in lines
    assert 'graftdet_batch_images_bucket{le="+Inf"} 1' in lines
    names = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert len(names) == 5 and all(line.startswith(("#", "graftdet_")) for line in lines)
