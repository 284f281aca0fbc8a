import csv

import numpy as np
import pytest

from graftdet.utils.evaluation.metrics import ConfusionMatrix, precision_recall_curves
from graftdet.utils.images.io import read_image
from graftdet.utils.visualization import drawing as draw
from graftdet.utils.visualization import evaluation_plots
from graftdet.utils.visualization.charts import MEDIUM, Chart, number, shade, ticks
from graftdet.utils.visualization.evaluation_plots import plot_confusion, plot_curves
from graftdet.utils.visualization.plots import plot_labels, plot_results

LONG = "a class with a very long name that goes on and on and on"


def names_of(nc):
    return [f"{LONG} 细胞 {k}" for k in range(nc)]


@pytest.mark.parametrize(
    ("low", "high", "limit", "expected"),
    [
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (1, 0, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 2737, 6, [0, 500, 1000, 1500, 2000, 2500]),
        (-0.03, 0.021, 5, [-0.02, 0, 0.02]),
        (3, 3.0001, 2, [3, 3.00005, 3.0001]),
    ],
)
def test_ticks(low, high, limit, expected):
    assert ticks(low, high, limit) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.30000000000000004, "0.3"),
        (1500, "1500"),
        (2e6, "2e+06"),
        (5e-5, "5e-05"),
        (100, "100"),
        (0.00125, "0.00125"),
        (-2.5, "-2.5"),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_lines_are_drawn_at_their_values():
    chart = Chart("title", (0, 10), (0, 1), "x", "y")
    chart.line([0, 5, 10], [0.5, 0.5, 0.5], (200, 0, 0))
    image = chart.finish()
    middle, side = chart.to_pixels([5, 9], [0.5, 0.5]).round().astype(int)
    assert image[middle[1], middle[0]].tolist() == [200, 0, 0] and image[side[1], side[0]].tolist() == [200, 0, 0]
    below = chart.to_pixels([5.3], [0.27])[0].round().astype(int)
    assert image[below[1], below[0]].tolist() == [255, 255, 255]


def test_larger_values_are_higher_up_and_further_right():
    chart = Chart("", (0, 10), (0, 1))
    low, high = chart.to_pixels([1, 9], [0.1, 0.9])
    assert high[0] > low[0] and high[1] < low[1]
    flipped = Chart("", (0, 10), (1, 0)).to_pixels([1, 9], [0.1, 0.9])  # y downwards, as in an image
    assert flipped[1][1] > flipped[0][1]
    assert chart.to_pixels([0, 10], [0, 1]).tolist() == [[chart.left, chart.bottom], [chart.right, chart.top]]


def test_lines_are_interrupted_at_missing_values_and_single_points_are_dots():
    chart = Chart("", (0, 10), (0, 1))
    chart.line([0, 2, 5, 8, 10], [0.5, 0.5, np.nan, 0.5, 0.5], (200, 0, 0))
    gap, drawn = chart.to_pixels([5, 1], [0.5, 0.5]).round().astype(int)
    assert chart.image[gap[1], gap[0] + 4].tolist() != [200, 0, 0]
    assert chart.image[drawn[1], drawn[0]].tolist() == [200, 0, 0]
    chart.line([3, 4, 5], [np.nan, 0.2, np.inf], (0, 0, 200))
    dot = chart.to_pixels([4], [0.2])[0].round().astype(int)
    assert chart.image[dot[1], dot[0]].tolist() == [0, 0, 200]


def test_lines_stay_inside_the_axes():
    chart = Chart("", (0, 1), (0, 1))
    blank = chart.image.copy()
    chart.line([-5, 0.5, 5], [-9, 0.5, 9e9], (200, 0, 0))
    inside = np.zeros(blank.shape[:2], bool)
    inside[chart.top : chart.bottom + 1, chart.left : chart.right + 1] = True
    assert (chart.image[~inside] == blank[~inside]).all() and (chart.image[inside] != blank[inside]).any()


@pytest.mark.parametrize("limits", [(0, 0), (3, 3), (np.nan, 1), (np.inf, 2), (1e-30, 1e-30)])
def test_any_range_gives_a_chart(limits):
    Chart(LONG * 5, limits, limits, "x", "y", legend=[(LONG, (0, 0, 0))] * 60).finish()


def test_shade_goes_from_white_to_dark():
    assert shade(np.array([0.0])).tolist() == [[255, 255, 255]]
    assert (np.diff(shade(np.linspace(0, 1, 20)).sum(-1).astype(int)) < 0).all()


@pytest.mark.parametrize(("nc", "boxes"), [(1, 0), (3, 500), (80, 2000), (150, 300)])
def test_plot_labels(nc, boxes, tmp_path):
    rng = np.random.default_rng(0)
    path = plot_labels(rng.uniform(0, 1, (boxes, 4)), rng.integers(0, nc, boxes), names_of(nc), tmp_path / "l.png")
    image = read_image(path)
    if boxes:
        assert (image == draw.class_color(0)).all(-1).any()
    assert image.shape[1] < 2000


def test_frames_of_results_line_up(tmp_path):
    (tmp_path / "results.csv").write_text("epoch,lr,train/box,val/AP50\n1,0.00012,1234,0.5\n2,0.0001,1000,0.6\n")
    image = read_image(plot_results(tmp_path / "results.csv"))
    frame = (image == MEDIUM).all(-1)
    upper, lower = (np.flatnonzero(half.sum(0) > 200) for half in (frame[:320], frame[320:]))
    assert len(lower) == 2 and set(lower) < set(upper) and len(upper) == 4  # left and right edges of the frames


def test_a_legend_is_as_wide_as_its_text_or_inside():
    def of(text, **options):
        return Chart("", (0, 1), (0, 1), legend=[(text, (0, 0, 255))], **options)

    assert of("w" * 40).right == 640 - 190 < of("abc").right
    inside = of("w" * 40, legend_inside=True)
    assert inside.right == Chart("", (0, 1), (0, 1)).right
    rows, columns = np.nonzero((inside.finish() == (0, 0, 255)).all(-1))
    assert inside.bottom - 40 < rows.min() and rows.max() < inside.bottom and columns.max() < inside.right


@pytest.mark.parametrize("epochs", [0, 1, 3, 60])
def test_plot_results(epochs, tmp_path):
    columns = ["epoch", "time", "lr", "train/box", "train/obj", "train/images_per_s", "val/AP50-95", "val/AP50"]
    with open(tmp_path / "results.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for epoch in range(epochs):
            values = ["", "nan"] if epoch % 2 else [0.1 * epoch, 0.2]
            writer.writerow([epoch + 1, 10.5, 0.01, 1 / (epoch + 1), 0, 99.5, *values])
    path = plot_results(tmp_path / "results.csv")
    assert path == tmp_path / "results.png"
    assert (read_image(path) < 128).any()


def curves_of(nc, n=400):
    rng = np.random.default_rng(0)
    matches, labels = rng.integers(0, 2, n), rng.integers(0, max(nc - 1, 1), n)
    return precision_recall_curves(matches, rng.uniform(0, 1, n), labels, [90] * (nc - 1) + [0] * (nc > 1) or [90])


@pytest.mark.parametrize(("nc", "n"), [(1, 50), (3, 100), (80, 3000), (2, 0)])
def test_plot_curves(nc, n, tmp_path):
    paths = plot_curves(curves_of(nc, n), names_of(nc), tmp_path)
    assert [path.name for path in paths] == ["P_curve.png", "R_curve.png", "F1_curve.png", "PR_curve.png"]
    assert all(path.is_file() for path in paths)


def test_curves_have_the_colors_of_boxes_and_the_numbers_of_the_table(tmp_path, monkeypatch):
    charts = []

    class Recorded(Chart):
        def __init__(self, title, *arguments, legend, **options):
            charts.append((title, legend))
            super().__init__(title, *arguments, legend=legend, **options)

    monkeypatch.setattr(evaluation_plots, "Chart", Recorded)
    # the second class has no detection at the best confidence
    plot_curves(precision_recall_curves([1, 1, 0, 0], [0.9, 0.8, 0.3, 0.2], [0, 0, 0, 1], [2, 3]), ["a", "b"], tmp_path)
    title, legend = charts[0]
    assert title.startswith("precision over confidence: 0.500 at ")
    assert legend[1:] == [("1.00 a", draw.class_color(0)), ("0.00 b", draw.class_color(1))]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("nc", [1, 3, 80, 600])
def test_plot_confusion(nc, normalize, tmp_path):
    confusion = ConfusionMatrix(nc)
    plot_confusion(confusion, names_of(nc), tmp_path / "none.png", normalize)
    confusion.matrix += np.random.default_rng(0).poisson(1, confusion.matrix.shape)
    image = read_image(plot_confusion(confusion, names_of(nc), tmp_path / "c.png", normalize))
    assert max(image.shape) < 1700


def test_names_are_drawn_by_old_opencv_too(monkeypatch, tmp_path):
    monkeypatch.setattr(draw, "DRAWS_UNICODE", False)
    plot_confusion(ConfusionMatrix(3), names_of(3), tmp_path / "c.png")
    plot_labels(np.full((3, 4), 0.5), [0, 1, 2], names_of(3), tmp_path / "l.png")
    assert read_image(tmp_path / "l.png").shape[2] == 3
