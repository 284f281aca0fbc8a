"""Figures by matplotlib: one style, files in several formats, SVG for pages. matplotlib is imported on first use."""

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from graftdet.utils.files import write_errors
from graftdet.utils.visualization.drawing import class_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1b1c1d"  # text and axes; in pages the color of their text
MUTED = "#8a8f98"
# Okabe and Ito's palette for color-blind readers, without black and yellow
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DPI = 110
_WIDE_FONTS = (  # families with Chinese, Japanese and Korean characters; those installed follow DejaVu Sans
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Microsoft YaHei", "PingFang SC"),
    *("Hiragino Sans GB", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "SimHei", "Arial Unicode MS"),
)

P = ParamSpec("P")
R = TypeVar("R")


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The style of all figures: it must hold when they are made and when they are written."""
    import matplotlib
    from cycler import cycler

    settings: Any = {
        "font.family": _families(),
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.prop_cycle": cycler(color=SERIES),
        "text.color": INK,
        "text.parse_math": False,  # class names may hold $
        "xtick.color": INK,
        "ytick.color": INK,
        "grid.color": MUTED,
        "grid.alpha": 0.25,
        "legend.frameon": False,
        "svg.fonttype": "none",  # text stays text
        "pdf.fonttype": 42,  # TrueType, as journals ask for
        "savefig.dpi": DPI,
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # no installed font has the character
        yield


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that makes or writes figures: it runs in the `style`."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with style():
            return function(*args, **kwargs)

    return run


@cache
def _families() -> list[str]:
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _WIDE_FONTS if name in installed)]


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> "tuple[Figure, np.ndarray]":
    """Return a figure without a window, and its axes (rows, columns).

    Args:
        width: Inches, as `height`.
        height: Inches.
        rows: Rows of axes.
        columns: Columns of axes.
        **options: Arguments of `Figure.subplots`, such as `sharex`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


@styled
def save(figure: "Figure", path: str | Path, formats: Sequence[str] = ()) -> list[Path]:
    """Write a figure.

    Args:
        figure: The figure.
        path: File; its suffix is replaced by each format. The folder is created if missing.
        formats: png, pdf, svg; empty: png.

    Returns:
        The files written.

    Raises:
        UserError: If a file cannot be written.
    """
    written = []
    for kind in formats or ["png"]:
        file = Path(path).with_suffix(f".{kind}")
        content = io.BytesIO()
        dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
        figure.savefig(content, format=kind, metadata=dates.get(kind))
        with write_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.getvalue())
        written.append(file)
    return written


@styled
def to_svg(figure: "Figure", name: str, description: str = "") -> str:
    """Return a figure as an SVG element to be placed into a page: text in the page's color, transparent background.

    Args:
        figure: The figure.
        name: Unique in the page; part of the ids in the SVG.
        description: What the figure shows, for screen readers; of trusted text, without markup.
    """
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # figure_1, axes_1 ...: not unique in a page of several figures
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()
    label = f' role="img" aria-label="{description}"' if description else ""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"{label}'
    head += f' viewBox="0 0 {width} {height}" style="max-width: {float(width) * 4 / 3:.0f}px">'
    return re.sub(r"<svg[^>]*>", lambda _: head, svg, count=1).strip()


def hex_color(label: int) -> str:
    """Return the color of a class index as #rrggbb: the one that its boxes are drawn in."""
    blue, green, red = class_color(label)
    return f"#{red:02x}{green:02x}{blue:02x}"


def legend(axes: "Axes", entries: Sequence[tuple[str, str]], **options: Any) -> None:
    """Add a legend of lines.

    Args:
        axes: The axes.
        entries: (text, color) of each.
        **options: Arguments of `Axes.legend`.
    """
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=color, linewidth=2) for _, color in entries]
    axes.legend(lines, [f" {text}" if text.startswith("_") else text for text, _ in entries], **options)


def whole_ticks(axes: "Axes") -> None:
    """Ticks of the x axis at integers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
