import csv

import numpy as np
import pytest

from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.metrics import ConfusionMatrix, precision_recall_curves
from graftdet.utils.images.io import read_image
from graftdet.utils.visualization.evaluation_plots import confusion_figure, curve_figure, plot_confusion, plot_curves
from graftdet.utils.visualization.figures import hex_color
from graftdet.utils.visualization.plots import labels_figure, plot_labels, plot_results, read_results, results_figure

LONG = "a class with a very long name that goes on and on and on"


def names_of(nc):
    return [f"{LONG} 细胞 {k}" for k in range(nc)]


@pytest.mark.parametrize(("nc", "boxes"), [(1, 0), (3, 500), (150, 300)])
def test_plot_labels(nc, boxes, tmp_path):
    rng = np.random.default_rng(0)
    positions, labels = rng.uniform(0, 1, (boxes, 4)), rng.integers(0, nc, boxes)
    path = plot_labels(positions, labels, names_of(nc), tmp_path / "l.png")[0]
    assert max(read_image(path).shape) < 2000
    histogram = labels_figure(positions, labels, names_of(nc)).axes[0]
    widths = [bar.get_width() for bar in histogram.patches]
    assert sum(widths) == boxes and len(widths) == min(nc, 100)


def table(tmp_path, text):
    (tmp_path / "results.csv").write_text(text, encoding="utf-8")
    return tmp_path / "results.csv"


def test_training_and_validation_losses_share_a_panel_and_there_is_no_throughput(tmp_path):
    path = table(
        tmp_path,
        "epoch,time,lr,train/box,train/images_per_s,val/AP50,val/box\n1,9,0.1,3,50,0.5,4\n2,9,0.1,2,50,0.7,\n3,9,0.1,1,50,0.6,5\n",
    )
    figure = results_figure(read_results(path))
    shown = {axes.get_title(): axes for axes in figure.axes if axes.axison}
    assert list(shown) == ["loss: box", "AP50: 0.600, best 0.700 (epoch 2)", "learning rate: 0.1"]
    training, validation = shown["loss: box"].lines
    assert training.get_ydata().tolist() == [3, 2, 1] and validation.get_xdata().tolist() == [1, 3]
    assert [line.get_label() for line in (training, validation)] == ["training 1", "validation 5"]


def test_results_may_start_with_a_byte_order_mark_and_need_epochs(tmp_path):
    path = table(tmp_path, "\ufeffepoch,lr,val/AP50\n1,0.1,0.5\n")
    assert list(read_results(path)) == ["epoch", "lr", "val/AP50"]
    with pytest.raises(UserError, match="has no column 'epoch' but number, lr; it was damaged or edited"):
        read_results(table(tmp_path, "number,lr\n1,0.1\n"))


@pytest.mark.parametrize("epochs", [0, 1, 60])
def test_plot_results(epochs, tmp_path):
    columns = ["epoch", "time", "lr", "train/box", "train/obj", "train/images_per_s", "val/AP50-95", "val/AP50"]
    with open(tmp_path / "results.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for epoch in range(epochs):
            values = ["", "nan"] if epoch % 2 else [0.1 * epoch, 0.2]
            writer.writerow([epoch + 1, 10.5, 0.01, 1 / (epoch + 1), 0, 99.5, *values])
    paths = plot_results(tmp_path / "results.csv", formats=["png", "svg"])
    assert paths == [tmp_path / "results.png", tmp_path / "results.svg"]
    assert (read_image(paths[0]) < 128).any()


def curves_of(nc, n=400):
    rng = np.random.default_rng(0)
    matches, labels = rng.integers(0, 2, n), rng.integers(0, max(nc - 1, 1), n)
    return precision_recall_curves(matches, rng.uniform(0, 1, n), labels, [90] * (nc - 1) + [0] * (nc > 1) or [90])


@pytest.mark.parametrize(("nc", "n"), [(1, 50), (80, 3000), (2, 0)])
def test_plot_curves(nc, n, tmp_path):
    paths = plot_curves(curves_of(nc, n), names_of(nc), tmp_path)
    assert [path.name for path in paths] == ["P_curve.png", "R_curve.png", "F1_curve.png", "PR_curve.png"]
    assert all(path.is_file() for path in paths)


def test_curves_have_the_colors_of_boxes_and_the_numbers_of_the_table():
    # the second class has no detection at the best confidence
    curves = precision_recall_curves([1, 1, 0, 0], [0.9, 0.8, 0.3, 0.2], [0, 0, 0, 1], [2, 3])
    axes = curve_figure(curves, "precision", ["a", "b"]).axes[0]
    assert axes.get_title().startswith("precision over confidence: 0.500 at ")
    texts = axes.get_legend().get_texts()
    lines = axes.get_legend().get_lines()
    entries = [(text.get_text(), line.get_color()) for text, line in zip(texts, lines, strict=True)]
    assert entries[1:] == [("1.00 a", hex_color(0)), ("0.00 b", hex_color(1))]


@pytest.mark.parametrize("nc", [1, 3, 80, 600])
def test_plot_confusion(nc, tmp_path):
    confusion = ConfusionMatrix(nc)
    confusion.matrix += np.random.default_rng(0).poisson(0.02 if nc > 3 else 3, confusion.matrix.shape)
    paths = plot_confusion(confusion, names_of(nc), tmp_path)
    assert [path.name for path in paths] == ["confusion_matrix.png", "confusion_matrix_counts.png"]
    assert all(400 < max(read_image(path).shape) < 1900 for path in paths)


def test_cells_of_a_confusion_matrix_hold_fractions_of_a_column_or_counts():
    confusion = ConfusionMatrix(2)
    confusion.matrix[:] = [[3, 0, 1], [1, 0, 0], [0, 5, 0]]
    normalized, counts = (confusion_figure(confusion, ["a", "b"], normalize=flag).axes[0] for flag in (True, False))
    cells = {text.get_position(): text.get_text() for text in normalized.texts}
    assert cells == {(0, 0): "0.75", (0, 1): "0.25", (1, 2): "1.00", (2, 0): "1.00"}
    assert {text.get_position(): text.get_text() for text in counts.texts} == {
        (0, 0): "3",
        (0, 1): "1",
        (1, 2): "5",
        (2, 0): "1",
    }
    assert [label.get_text() for label in counts.get_yticklabels()] == ["a", "b", "background"]
    plot = confusion_figure(ConfusionMatrix(3), names_of(3)).axes[0]  # no detections, no ground truth
    assert not plot.texts
