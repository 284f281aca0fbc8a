"""The page of which reader takes which model."""

from benchmarks.export_support import CONVERTED, LIMIT, cell, larger_sizes, markdown


def test_cells_state_yes_no_or_wrong():
    assert (cell(LIMIT / 2), cell("cannot read it"), cell(None)) == ("yes", "no", "-")
    assert cell(120.0) == "wrong (1e+02)" and cell(float("inf")).startswith("wrong")


def test_the_page_names_reasons_and_omits_dynamic_files_of_opencv_4():
    rows = {
        "a": {
            "OpenCV 4.10.0": "cannot > Node [Clip@ai.onnx]:(c) parse error",
            "OpenCV 4.5.5": "cannot > Node [Clip@ai.onnx]:(b) parse error",
            "OpenCV 4.5.5 dynamic": "x",
            "OpenCV 5.0.0 dynamic": 0.0,
            "onnx": 1e-6,
            "ncnn": "ncnn cannot run the model: layer Tensor.reshape not exists or registered",
            "coreml": CONVERTED,
        },
        "large": {"as": "a"},
        "wide": {"onnx": 0.0, "narrowed": True},
    }
    page = markdown(rows)
    assert "| model | onnx | ncnn | coreml | OpenCV 4.5.5 | OpenCV 4.10.0 | OpenCV 5.0.0 dynamic |" in page
    assert "| a, large | yes | no | converts | no | no | yes |" in page
    assert "- a: OpenCV 4.5.5, OpenCV 4.10.0: does not read the operation Clip\n" in page
    assert "- a: ncnn: ncnn lacks Tensor.reshape\n" in page
    assert "3 YAMLs" in page and page.count("wide") == 2 and "'width_multiple': 0.25}, for their size: wide." in page


def test_the_narrowest_of_equal_rows_is_tried():
    larger = larger_sizes(["yolov5s", "yolov5n", "yolov5x", "yolov5n6", "graft-n", "graft-p"])
    assert larger == {"yolov5s": "yolov5n", "yolov5x": "yolov5n"}
