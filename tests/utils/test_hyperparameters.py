"""Recipes: the published numbers, YAML's traps, and mistakes told with the nearest key."""

import pytest
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters, load_hyperparameters

# the keys of the published files for training from scratch (low, medium, high augmentation) and of the VOC one
PUBLISHED = """
lr0: 0.01
lrf: 0.1
momentum: 0.937
weight_decay: 0.0005
warmup_epochs: 3.0
warmup_momentum: 0.8
warmup_bias_lr: 0.1
box: 0.05
cls: 0.3
cls_pw: 1.0
obj: 0.7
obj_pw: 1.0
iou_t: 0.20
anchor_t: 4.0
anchors: 3.412
fl_gamma: 0.0
hsv_h: 0.015
hsv_s: 0.7
hsv_v: 0.4
degrees: 0.0
translate: 0.1
scale: 0.9
shear: 0.0
perspective: 0.0
flipud: 0.0
fliplr: 0.5
mosaic: 1.0
mixup: 0.1
copy_paste: 0.1
"""


def test_default_yaml_is_the_published_recipe():
    h = load_hyperparameters("yolov5.yaml")
    assert h == Hyperparameters()
    assert (h.lr0, h.lrf, h.momentum, h.weight_decay) == (0.01, 0.01, 0.937, 5e-4)
    assert (h.warmup_epochs, h.warmup_iterations, h.warmup_momentum, h.warmup_bias_lr) == (3, 100, 0.8, 0.1)
    assert (h.nominal_batch, h.ema_decay, h.ema_tau) == (64, 0.9999, 2000)
    assert (h.box, h.cls, h.obj, h.anchor_t, h.fl_gamma, h.label_smoothing) == (0.05, 0.5, 1.0, 4.0, 0.0, 0.0)
    assert (h.mosaic, h.mixup, h.translate, h.scale, h.fliplr, h.close_mosaic) == (1.0, 0.0, 0.1, 0.5, 0.5, 0)
    assert (h.hsv_h, h.hsv_s, h.hsv_v, h.degrees, h.shear, h.perspective) == (0.015, 0.7, 0.4, 0.0, 0.0, 0.0)


def test_published_file_loads(tmp_path):
    file = tmp_path / "hyp.yaml"
    file.write_text(PUBLISHED)
    h = load_hyperparameters(file)
    assert (h.lrf, h.anchors, h.mixup, h.copy_paste) == (0.1, 3.412, 0.1, 0.1)
    assert len(h.notices()) == 1 and "copy_paste" in h.notices()[0]
    assert not Hyperparameters().notices()


def test_numbers_that_yaml_reads_as_text_and_overrides(tmp_path):
    file = tmp_path / "hyp.yaml"
    file.write_text("lr0: 1e-3\nclose_mosaic: 5.0\n")
    h = load_hyperparameters(file, ["lr0=2e-3", "mosaic = 0.5"])
    assert (h.lr0, h.mosaic, h.close_mosaic) == (0.002, 0.5, 5) and h.closing_epochs(100) == 5
    assert load_hyperparameters(h.as_dict()) == h


@pytest.mark.parametrize(
    ("text", "overrides", "told"),
    [
        ("lr: 0.1", [], "unknown hyperparameter 'lr'; did you mean 'lr"),
        ("mosiac: 1.0", [], "did you mean 'mosaic'"),
        ("lr0: fast", [], "lr0: expected a number, got 'fast'"),
        ("mosaic: 1.5", [], "mosaic: expected a number from 0 to 1, got 1.5"),
        ("anchor_t: 0.5", [], "at least 1"),
        ("lr0: .nan", [], "lr0"),
        ("lr0: [0.1]", [], "lr0: expected a number"),
        ("lr0: 0.01", ["lr0"], "expected KEY=VALUE"),
        ("lr0: 0.01", ["lrO=1"], "--set unknown hyperparameter 'lrO'; did you mean 'lr"),
        ("lr0: 0.01\nlr0: 0.02", [], "given twice"),
        ("- 1", [], "expected a mapping"),
    ],
)
def test_mistakes(tmp_path, text, overrides, told):
    file = tmp_path / "hyp.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        load_hyperparameters(file, overrides)
    assert told in str(error.value)
    assert overrides or str(file) in str(error.value)


@pytest.mark.parametrize(
    ("optimizer", "batch", "nominal", "lr0"),
    [
        ("SGD", 16, 0, 0.01), ("SGD", 32, 0, 0.02), ("SGD", 16, 64, 0.04), ("AdamW", 64, 0, 0.02), ("adamw", 4, 0, 0.005),
        ("Muon", 16, 32, 0.01 * 2**0.5), ("SGD", 100, 64, 0.0625),
    ],
)  # fmt: skip
def test_rates_follow_the_pictures_of_a_step(optimizer, batch, nominal, lr0):
    h = Hyperparameters(optimizer=optimizer, lr0=0.01, lr_batch=16, nominal_batch=nominal)
    run = h.for_run(10, 50, batch)
    assert run.lr0 == pytest.approx(lr0) and run.lr_batch == 0 and run.nominal_batch == (nominal or batch)
    assert run.for_run(10, 50, batch) == run  # worked out once


def test_shares_become_epochs_and_batches():
    h = Hyperparameters(warmup_share=0.05, warmup_iterations=30, close_mosaic=0.1)
    run = h.for_run(200, 11, 16)
    assert (run.warmup_epochs, run.warmup_iterations, run.close_mosaic) == (10, 30, 20)
    short = h.for_run(3, 11, 16)  # 33 batches in all
    assert (short.warmup_epochs, short.warmup_iterations, short.close_mosaic) == (pytest.approx(0.15), 3, 0)
    plain = Hyperparameters(close_mosaic=10)
    assert plain.for_run(200, 11, 16) == plain


@pytest.mark.parametrize(
    ("value", "epochs", "closed"), [(0, 100, 0), (0.1, 100, 10), (0.1, 4, 0), (1, 100, 1), (15, 100, 15)]
)
def test_close_mosaic_is_a_number_or_a_share(value, epochs, closed):
    assert Hyperparameters(close_mosaic=value).closing_epochs(epochs) == closed


def test_words_among_the_numbers():
    assert Hyperparameters(optimizer="ADAMW", schedule="Cosine").optimizer == "AdamW"
    with pytest.raises(UserError, match="optimizer: expected one of SGD, .*, got 'AdmaW'; did you mean 'AdamW'"):
        Hyperparameters(optimizer="AdmaW")
    with pytest.raises(UserError, match="schedule: expected one of linear, cosine, flat_cosine, got '3'"):
        load_hyperparameters({}, ["schedule=3"])
