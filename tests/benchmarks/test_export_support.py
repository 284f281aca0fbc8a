"""The page of which reader takes which model."""

from benchmarks.export_support import LIMIT, cell, markdown


def test_cells_state_yes_no_or_wrong():
    assert (cell(LIMIT / 2), cell("cannot read it"), cell(None)) == ("yes", "no", "-")
    assert cell(120.0) == "wrong (1e+02)" and cell(float("inf")).startswith("wrong")


def test_the_page_names_reasons_and_omits_dynamic_files_of_opencv_4():
    rows = {
        "a": {
            "onnx": 1e-6,
            "OpenCV 4.5.5": "Clip is unknown",
            "OpenCV 4.5.5 dynamic": "x",
            "OpenCV 5.0.0 dynamic": 0.0,
        },
        "huge": {"skipped": "99 million parameters"},
    }
    page = markdown(rows)
    assert "OpenCV 5.0.0 dynamic" in page and "4.5.5 dynamic" not in page and "huge" not in page
    assert "- a, OpenCV 4.5.5: Clip is unknown" in page
