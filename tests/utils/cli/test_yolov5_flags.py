"""The table of published flags agrees with the parsers, and published command lines are accepted as they are typed."""

import logging

import pytest

from graftdet import detect, export, train, val
from graftdet.utils.cli.yolov5_flags import (
    FLAGS,
    _report,
    flags_markdown,
    published_hyperparameters,
    successor,
    translate,
)
from graftdet.utils.errors import UserError
from graftdet.utils.training.flags import check_not_swapped, hyperparameters_name

PARSERS = {"train": train, "val": val, "detect": detect, "export": export}
CASES = [(script, flag) for script, flags in FLAGS.items() for flag in flags]


def options(script):
    return {name for action in PARSERS[script].make_parser()._actions for name in action.option_strings}


@pytest.mark.parametrize(("script", "flag"), CASES, ids=lambda value: getattr(value, "flag", value))
def test_a_flag_exists_here_where_the_table_says_so(script, flag):
    if flag.status == "same":
        assert set(flag.names) <= options(script)
    else:
        assert not set(flag.names) & options(script)
        assert flag.note or flag.here
    if flag.status in ("renamed", "translated"):
        assert flag.here.split()[0] in options(script)
    assert (successor(script, flag.names[0]) is not None) == (flag.status in ("renamed", "not supported"))


def test_each_flag_is_listed_once():
    for flags in FLAGS.values():
        names = [name for flag in flags for name in flag.names]
        assert len(names) == len(set(names))


def parse(script, line):
    return PARSERS[script].make_parser().parse_args(line.split())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--img 640 --batch 16 --epochs 3 --data coco128.yaml --weights yolov5s.pt", {"img": 640, "batch_size": 16}),
        ("--img 640 640 --batch-size -1 --save-period -1", {"img": 640, "batch_size": -1, "save_period": 0}),
        ("--adam --label-smoothing 0.1", {"optimizer": "Adam", "set": ["label_smoothing=0.1"]}),
        ("--label-smoothing=0.1 --set lr0=0.1", {"set": ["label_smoothing=0.1", "lr0=0.1"]}),
        ("--nosave --noplots --noautoanchor --notest", {"noautoanchor": True, "noval": True, "plots": ["none"]}),
        ("--cache-images --workers 8 --linear-lr", {"cache": "ram", "workers": 8}),
        ("--hyp data/hyps/hyp.scratch-low.yaml --cfg ''", {"hyp": "yolov5.yaml"}),
        (
            "--save_period 5 --single_cls --cos_lr --batch_size=8",
            {"save_period": 5, "single_cls": True, "batch_size": 8},
        ),
        ("--local_rank 3 --local-rank=1 --epochs 2", {"epochs": 2}),
        ("--resume --freeze 10 --cos-lr --quiet-is-no-flag", None),
    ],
)
def test_command_lines_of_train(line, expected, capsys):
    if expected is None:
        with pytest.raises(SystemExit):
            parse("train", line)
        assert "unknown argument '--quiet-is-no-flag'" in capsys.readouterr().err
        return
    parsed = vars(parse("train", line))
    assert {key: parsed[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("script", "line", "expected"),
    [
        ("val", "--weights a.pt --data c.yaml --img 640 --half", {"img": 640, "half": True}),
        (
            "val",
            "--batch 32 --save-txt --save-conf --verbose --save-json --task test",
            {"batch_size": 32, "split": "test"},
        ),
        ("val", "--dnn --iou-thres 0.65 --conf-thres 0.001", {"backend": "onnx", "iou": 0.65}),
        ("detect", "--source 0 --hide-labels --hide-conf --line-thickness 1 --vid-stride 2", {"vid_stride": 2}),
        ("detect", "--source a.jpg b.jpg --data data/coco128.yaml --update --nosave", {"source": ["a.jpg", "b.jpg"]}),
        ("detect", "--source x --classes 0 2 --agnostic-nms --imgsz 640 640 --dnn", {"classes": ["0", "2"]}),
        ("export", "--weights a.pt --format onnx --simplify --device 0 --data d.yaml --batch 4", {"batch_size": 4}),
        (
            "export",
            "--weights a.pt --include onnx openvino --imgsz 640 640 --inplace",
            {"include": ["onnx", "openvino"]},
        ),
    ],
)
def test_command_lines_of_the_other_scripts(script, line, expected):
    parsed = vars(parse(script, line))
    assert {key: parsed[key] for key in expected} == expected


@pytest.mark.parametrize("line", ["--task speed --batch 1", "--task=study"])
def test_values_that_are_not_taken_are_answered_with_what_to_do(line, capsys):
    with pytest.raises(SystemExit):
        parse("val", line)
    assert f"error: {line.split(' --batch')[0].replace('=', ' ')}: not supported; " in capsys.readouterr().err


def test_notices(caplog):
    _report.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert translate("train", ["--adam", "--nosave", "--epochs", "3"]) == ["--optimizer", "Adam", "--epochs", "3"]
        assert translate("train", ["--local-rank", "2"]) == []
        assert translate("", ["--adam"]) == ["--adam"]
        assert translate("detect", ["--source", "a", "--", "--update"]) == ["--source", "a", "--", "--update"]
        assert translate("train", ["--label-smoothing"]) == ["--set"]  # argparse reports the missing value
        translate("train", ["--adam"])
    assert caplog.text.count("--adam: read as --optimizer Adam") == 1
    assert "--nosave: has no effect here: the last checkpoint" in caplog.text and "local-rank" not in caplog.text


def test_published_hyperparameters(caplog, tmp_path, monkeypatch):
    assert published_hyperparameters("mine.yaml") == "mine.yaml"
    _report.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert hyperparameters_name("data/hyps/hyp.scratch-high.yaml") == "yolov5.yaml"
        assert hyperparameters_name("hyp.no-augmentation") == "yolov5.yaml"
        assert hyperparameters_name("data\\\\hyps\\\\hyp.VOC.yaml") == "finetune.yaml"
    assert "add --set lrf=0.1" in caplog.text and "fliplr=0 mosaic=0" in caplog.text
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hyp.scratch-low.yaml").write_text("lr0: 0.1")
    assert hyperparameters_name("hyp.scratch-low.yaml") == str(tmp_path / "hyp.scratch-low.yaml")  # a file of the user


@pytest.mark.parametrize(
    ("script", "line", "expected"),
    [
        ("train", "--evolve 300", "train.py: error: unknown argument '--evolve'; use --search: "),
        ("train", "--img 640 320", "--img 640 320: expected one size"),
        ("train", "--batch -2", "expected a whole number of at least 1"),
        ("export", "--weights a.pt b.pt --include onnx", "--weights takes one value, got 'b.pt', too"),
        (
            "export",
            "--topk_all 100",
            "unknown argument '--topk_all'; not supported: files are not converted by TensorFlow",
        ),
        ("train", "--upload-dataset x", "unknown argument '--upload-dataset'; not supported: use `--logger`"),
        ("train", "--single-cls=True", "--single-cls takes no value, got 'True'"),
        ("train", "--rect False", "--rect takes no value, got 'False'"),
        ("train", "coco.yaml", "unexpected value 'coco.yaml'"),
        ("detect", "--source x --clases 0", "unknown argument '--clases'; did you mean '--classes'?"),
        ("detect", "--source x --visualize", "not supported: feature maps are not drawn"),
    ],
)
def test_flags_without_equivalent_are_refused_with_their_successor(script, line, expected, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", [f"{script}.py"])
    with pytest.raises(SystemExit):
        parse(script, line)
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cfg", "data", "message"),
    [
        (
            "data.yaml",
            "model.yaml",
            "--cfg data.yaml: is a dataset YAML, --data model.yaml: is a model YAML; .*; swap them",
        ),
        ("data.yaml", "data.yaml", "--cfg data.yaml: is a dataset YAML; --cfg takes the model and --data the dataset$"),
        (
            "model.yaml",
            "model.yaml",
            "--data model.yaml: is a model YAML; --cfg takes the model and --data the dataset$",
        ),
        ("model.yaml", "data.yaml", None),
        ("", "shapes.yaml", None),
    ],
)
def test_swapped_yamls(cfg, data, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.yaml").write_text("nc: 2\nbackbone: []\nhead: []\n")
    (tmp_path / "data.yaml").write_text("train: a\nval: b\nnc: 2\nnames: [a, b]\n")
    if message is None:
        check_not_swapped(cfg, data)
        return
    with pytest.raises(UserError, match=message):
        check_not_swapped(cfg, data)


def test_the_page():
    assert "| `--evolve` | `--search` | refused; " in flags_markdown("train")
    assert "| `--label-smoothing` | `--set label_smoothing=VALUE` |" in flags_markdown("train")
    assert "| `--noplots` | `--plots none` |" in flags_markdown("train")
