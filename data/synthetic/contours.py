"""Images of textured contours of parametric classes, for pretraining without photographs.

Classes and outlines: `contour_classes`. Positions and visible pixels: `contour_layout`. Colors, textures, backgrounds
and camera: `contour_painting`. No noise is computed and no mask of the whole image is drawn per image.
"""

import numpy as np

from graftdet.data.synthetic.contour_classes import make_class
from graftdet.data.synthetic.contour_layout import DISTRACTOR, Layout, draw_layout
from graftdet.data.synthetic.contour_painting import finish_image, paint_background, paint_contour
from graftdet.data.synthetic.contour_settings import ContourSettings
from graftdet.data.synthetic.generator import Annotations, Generator, SyntheticImage


class ContoursGenerator(Generator):
    """Draws square images of objects of `settings.num_classes` classes.

    Args:
        settings: what the images look like.
        names: class index -> name; default: "contour 0", "contour 1" ...
    """

    def __init__(self, settings: ContourSettings | None = None, names: tuple[str, ...] | None = None):
        self.settings = settings or ContourSettings()
        count = self.settings.num_classes
        self.names = names or tuple(f"contour {index}" for index in range(count))
        self.classes = tuple(make_class(index) for index in range(count))

    def draw(self, rng: np.random.Generator) -> SyntheticImage:
        """Draw one image."""
        layout = self.draw_layout(rng)
        image = paint_background(self.settings, rng)
        for placed in layout.contours:
            kind = None if placed.label == DISTRACTOR else self.classes[placed.label]
            paint_contour(image, placed, kind, self.settings.textures, rng)
        return SyntheticImage(finish_image(image, self.settings, rng), *layout.annotations())

    def annotate(self, rng: np.random.Generator) -> Annotations:
        """Return the objects of an image without painting it, which is several times faster."""
        return self.draw_layout(rng).annotations()

    def draw_layout(self, rng: np.random.Generator) -> Layout:
        """Draw the objects of an image, and which of their pixels are visible."""
        return draw_layout(self.settings, self.classes, rng)
