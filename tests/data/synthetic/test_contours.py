"""The generator of the contours dataset."""

import numpy as np
import pytest

from graftdet.data.synthetic.contour_settings import ContourSettings
from graftdet.data.synthetic.contours import ContoursGenerator

SMALL = {"num_classes": 6, "image_size": 96, "epoch_length": 8, "val_images": 4}


def draw_many(count=12, **settings):
    generator = ContoursGenerator(ContourSettings(**{**SMALL, **settings}))
    return [generator.draw(np.random.default_rng(number)) for number in range(count)]


def test_same_random_numbers_give_the_same_image():
    one, two, other_seed = ContoursGenerator(), ContoursGenerator(), np.random.default_rng(1)
    first, second = one.draw(np.random.default_rng(0)), two.draw(np.random.default_rng(0))
    assert np.array_equal(first.image, second.image) and first[1:] == second[1:]
    assert not np.array_equal(first.image, one.draw(other_seed).image)


def test_annotations_need_no_painting():
    generator = ContoursGenerator(ContourSettings(**SMALL))
    for number in range(8):
        assert generator.annotate(np.random.default_rng(number)) == generator.draw(np.random.default_rng(number))[1:]


@pytest.mark.parametrize("size", [64, 600])
def test_size_of_the_image(size):
    (drawn,) = draw_many(1, image_size=size)
    assert drawn.image.shape == (size, size, 3) and drawn.image.dtype == np.uint8
