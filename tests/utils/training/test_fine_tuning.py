"""What is reported when training overwrites what the initial weights know."""

import pytest

from graftdet.utils.hyperparameters import load_hyperparameters
from graftdet.utils.training.fine_tuning import GENTLE, choose_recipe, find_fall


@pytest.mark.parametrize(
    ("aps", "epochs", "reported"),
    [
        ([0.3, 0.2], 30, True),
        ([0.3, 0.25], 30, False),  # a sixth
        ([0.3, 0.24], 30, False),  # exactly a fifth
        ([0.3, 0.239], 30, True),
        ([0.04, 0.0], 30, False),  # too low to mean anything
        ([0.1, 0.3, 0.2], 30, True),  # epoch 2 of 30
        ([0.1, 0.3, 0.2], 5, False),  # epoch 2 of 5 is behind the first third
        ([0.1, 0.3, 0.2], 6, True),
        ([0.3], 30, False),
    ],
)
def test_a_fall_of_more_than_a_fifth_in_the_first_third_is_found(aps, epochs, reported):
    fall = find_fall(list(enumerate(aps)), epochs)
    assert (fall is not None) == reported
    if fall:
        best = max(aps[:-1])
        assert f"fell from {best:.3f} (epoch {aps.index(best)}) to {aps[-1]:.3f}" in str(fall)


@pytest.mark.parametrize(
    ("fraction", "initial_ap", "recommended", "name"),
    [
        (0.0, None, "", "default.yaml"),
        (0.49, None, "", "default.yaml"),
        (0.49, None, "finetune.yaml", "default.yaml"),
        (0.5, None, "", "finetune.yaml"),
        (0.9, None, "", "finetune.yaml"),
        (0.97, 0.3, "", "finetune.yaml"),  # new rows or classes
        (1.0, 0.3, "", "finetune-same-classes.yaml"),
        (1.0, 0.05, "", "finetune.yaml"),  # the same classes on images of another kind
        (1.0, None, "", "finetune.yaml"),
        (0.9, None, "default.yaml", "default.yaml"),
        (0.8, None, "finetune-synthetic.yaml", "finetune-synthetic.yaml"),
        (0.9, None, "yolov5.yaml", "yolov5.yaml"),
    ],
)
def test_the_recipe_follows_from_what_came_over(fraction, initial_ap, recommended, name):
    choice = choose_recipe(fraction, initial_ap, recommended)
    assert choice.name == name and load_hyperparameters(choice.name)
    assert bool(choice.reason) == (name != "default.yaml")


def test_recipes_for_fine_tuning_differ_from_the_default_in_rates_alone():
    """Their augmentation must be the same: the validation images are opened before the recipe is chosen."""
    default, *others = (
        load_hyperparameters(name).as_dict()
        for name in (
            "default.yaml",
            "finetune.yaml",
            "finetune-gentle.yaml",
            "finetune-same-classes.yaml",
            "finetune-synthetic.yaml",
        )
    )
    for other in others:
        assert {key for key in other if other[key] != default[key]} <= {"lr0", "transferred_lr", "freeze_bn"}


def test_the_gentle_recipe_has_a_lower_rate():
    for recipe, gentle in GENTLE.items():
        one, other = (load_hyperparameters(name) for name in (recipe, gentle))
        assert other.transferred_lr < one.transferred_lr < 1 and gentle not in GENTLE


def test_falls_of_near_and_far_datasets():
    near = [(1, 0.307), (2, 0.330), (3, 0.343), (4, 0.233)]  # cutouts of persons, weights of COCO
    far = [(1, 0.162), (2, 0.357), (3, 0.319)]  # BCCD
    assert find_fall(near, 30) and not find_fall(far, 30)
