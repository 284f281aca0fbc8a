"""Recipes: published values, traps of YAML, renamed keys, and errors that name the nearest key."""

import dataclasses
import logging

import pytest

from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameter_names import ALIASES
from graftdet.utils.hyperparameters import (
    Hyperparameters,
    has_geometric_augmentation,
    load_hyperparameters,
)
from graftdet.utils.training.search.ranges import load_ranges

# keys of the published files for training from scratch (low, medium, high augmentation) and for VOC
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


def test_defaults_are_the_published_recipe():
    h = load_hyperparameters("yolov5.yaml")
    assert h == Hyperparameters()
    assert (h.lr0, h.lrf, h.momentum, h.weight_decay) == (0.01, 0.01, 0.937, 5e-4)
    assert (h.warmup_epochs, h.warmup_iterations, h.warmup_momentum, h.warmup_bias_lr) == (3, 100, 0.8, 0.1)
    assert (h.nominal_batch, h.ema_decay, h.ema_tau) == (64, 0.9999, 2000)
    assert (h.box, h.cls, h.obj, h.anchor_t, h.fl_gamma, h.label_smoothing) == (0.05, 0.5, 1.0, 4.0, 0.0, 0.0)
    assert (h.mosaic, h.mixup, h.translate, h.scale, h.fliplr, h.close_mosaic) == (1.0, 0.0, 0.1, 0.5, 0.5, 0)
    assert (h.hsv_h, h.hsv_s, h.hsv_v, h.degrees, h.shear, h.perspective) == (0.015, 0.7, 0.4, 0.0, 0.0, 0.0)


def test_published_file_is_read(tmp_path):
    file = tmp_path / "hyp.yaml"
    file.write_text(PUBLISHED)
    h = load_hyperparameters(file)
    assert (h.lrf, h.anchors, h.mixup, h.copy_paste) == (0.1, 3.412, 0.1, 0.1)
    assert len(h.notices()) == 1 and "copy_paste" in h.notices()[0]
    assert not Hyperparameters().notices()


def test_numbers_that_yaml_reads_as_strings_and_overrides(tmp_path):
    file = tmp_path / "hyp.yaml"
    file.write_text("lr0: 1e-3\nclose_mosaic: 5.0\n")
    h = load_hyperparameters(file, ["lr0=2e-3", "mosaic = 0.5"])
    assert (h.lr0, h.mosaic, h.close_mosaic) == (0.002, 0.5, 5) and h.closing_epochs(100) == 5
    assert load_hyperparameters(h.as_dict()) == h


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("lr: 0.1", [], "unknown hyperparameter 'lr'; did you mean 'lr0'?"),
        ("lr0: 1", ["lr=0.1"], "--set unknown hyperparameter 'lr'; did you mean 'lr0'?"),
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
def test_errors(tmp_path, text, overrides, message):
    file = tmp_path / "hyp.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        load_hyperparameters(file, overrides)
    assert message in str(error.value)
    assert overrides or str(file) in str(error.value)


@pytest.mark.parametrize(
    ("optimizer", "batch", "nominal", "lr0"),
    [
        ("SGD", 16, 0, 0.01),
        ("SGD", 32, 0, 0.02),
        ("SGD", 16, 64, 0.04),
        ("AdamW", 64, 0, 0.02),
        ("adamw", 4, 0, 0.005),
        ("Muon", 16, 32, 0.01 * 2**0.5),
        ("SGD", 100, 64, 0.0625),
    ],
)
def test_learning_rate_is_scaled_with_images_per_step(optimizer, batch, nominal, lr0):
    h = Hyperparameters(optimizer=optimizer, lr0=0.01, lr_batch=16, nominal_batch=nominal)
    run = h.for_run(10, 50, batch)
    assert run.lr0 == pytest.approx(lr0) and run.lr_batch == 0 and run.nominal_batch == (nominal or batch)
    assert run.for_run(10, 50, batch) == run  # already resolved


def test_fractions_become_epochs_and_batches():
    h = Hyperparameters(warmup_fraction=0.05, warmup_iterations=30, close_mosaic=0.1)
    run = h.for_run(200, 11, 16)
    assert (run.warmup_epochs, run.warmup_iterations, run.close_mosaic) == (10, 30, 20)
    short = h.for_run(3, 11, 16)  # 33 batches in all
    assert (short.warmup_epochs, short.warmup_iterations, short.close_mosaic) == (pytest.approx(0.15), 3, 0)
    plain = Hyperparameters(close_mosaic=10)
    assert plain.for_run(200, 11, 16) == plain


@pytest.mark.parametrize(
    ("value", "epochs", "closed"), [(0, 100, 0), (0.1, 100, 10), (0.1, 4, 0), (1, 100, 1), (15, 100, 15)]
)
def test_close_mosaic_is_a_number_or_a_fraction(value, epochs, closed):
    assert Hyperparameters(close_mosaic=value).closing_epochs(epochs) == closed


def test_names_among_the_numbers():
    assert Hyperparameters(optimizer="ADAMW", schedule="Cosine").optimizer == "AdamW"
    with pytest.raises(UserError, match="optimizer: expected one of SGD, .*, got 'AdmaW'; did you mean 'AdamW'"):
        Hyperparameters(optimizer="AdmaW")
    with pytest.raises(UserError, match="schedule: expected one of linear, cosine, flat_cosine, got '3'"):
        load_hyperparameters({}, ["schedule=3"])


def test_renamed_keys_are_read_with_a_warning(tmp_path, caplog):
    file = tmp_path / "hyp.yaml"
    file.write_text("warmup_share: 0.05\nfree_overlap: giou\n")
    with caplog.at_level(logging.WARNING):
        h = load_hyperparameters(file, ["rate_steps=batch"])
    assert (h.warmup_fraction, h.af_iou_loss, h.lr_update) == (0.05, "giou", "batch")
    assert f"{file}: hyperparameter 'warmup_share' is now named 'warmup_fraction'" in caplog.messages
    assert "--set hyperparameter 'rate_steps' is now named 'lr_update'" in caplog.messages
    with pytest.raises(UserError, match="'ema_share' is the old name of 'ema_fraction', which is given, too"):
        file.write_text("ema_share: 0.1\nema_fraction: 0.1\n")
        load_hyperparameters(file)
    file.write_text("norm_momentum: [0.03, 0.1]\n")
    assert list(load_ranges(file)) == ["bn_momentum"]


def test_values_of_an_old_checkpoint_are_read_silently(caplog):
    h = Hyperparameters(warmup_fraction=0.25, bn_momentum=0.5, af_cls_loss="varifocal")
    old = {new: name for name, new in ALIASES.items()}
    assert load_hyperparameters({old.get(key, key): value for key, value in h.as_dict().items()}) == h
    assert not caplog.messages


def test_every_field_has_a_meaning_and_every_alias_a_field():
    fields = {item.name: item.metadata for item in dataclasses.fields(Hyperparameters)}
    assert all(metadata["about"] for metadata in fields.values())
    assert set(ALIASES.values()) <= set(fields) and not set(ALIASES) & set(fields)


@pytest.mark.parametrize(("recipe", "expected"), [({}, True), ({"mosaic": 0.1}, True), (None, False)])
def test_geometric_augmentation(recipe, expected):
    off = dict.fromkeys(("mosaic", "scale", "translate", "degrees", "shear", "perspective"), 0)
    assert has_geometric_augmentation(off | {"fliplr": 1} if recipe is None else recipe) is expected


def test_augmentation_grows_in_the_second_half_of_the_run():
    h = Hyperparameters(late_augmentation=0.5, scale=0.4, hsv_s=0.9, mosaic=1.0, fliplr=0.5)
    assert h.at(0.5) == h and Hyperparameters().at(1.0) == Hyperparameters()
    assert h.at(0.75).scale == pytest.approx(0.5) and h.at(1.0).scale == pytest.approx(0.6)
    assert h.at(1.0).hsv_s == 1 and (h.at(1.0).mosaic, h.at(1.0).fliplr) == (1.0, 0.5)
