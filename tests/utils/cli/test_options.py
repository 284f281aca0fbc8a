"""Values of flags that several scripts share."""

import pytest

from graftdet.utils.cli.options import image_size
from graftdet.utils.errors import UserError


@pytest.mark.parametrize(("img", "expected"), [(64, (64, 64)), ([64], (64, 64)), ([64, 96], (64, 96))])
def test_multiples_of_the_stride_are_unchanged(img, expected, capsys):
    assert image_size(img, 32) == expected and not capsys.readouterr().err


def test_other_sizes_are_rounded_up_with_a_warning(capsys):
    assert image_size([65, 20], 32) == (96, 32)
    assert "warning: --img 65 20: rounded up to 96 32, multiples of 32" in capsys.readouterr().err
    with pytest.raises(UserError, match="--img 1 2 3: expected one side or height and width"):
        image_size([1, 2, 3], 32)
