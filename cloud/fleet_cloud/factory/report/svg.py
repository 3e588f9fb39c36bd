"""Figures as SVG that can stand within a page: the same figure gives the same text.

The page says how text looks and which colour it has (light or dark): matplotlib writes placeholders, which
become what the page decides.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

INK: Final = "#101112"
"""Text and axes; becomes the page's colour."""
FAINT: Final = "#c4c5c6"
"""Grid lines; becomes a paler one."""
PALETTE: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6f3f")
"""Okabe and Ito's colours, which colour-blind people tell apart, without black and yellow: they vanish on a
dark or a light page."""
_OF_THE_PAGE: Final = (
    (INK, "currentColor"),
    (FAINT, "var(--faint)"),
    (PALETTE[0], "var(--blue)"),
    (PALETTE[1], "var(--orange)"),
)
"""Blue and orange carry text, which must be paler on a dark page."""
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")

_STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fleet",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
}
_FONT: Final = "DejaVu Sans"
_ID: Final = re.compile(r'\bid="([^"]+)"')
PIXELS_PER_INCH: Final = 100
"""So that text in a figure is about as large as the caption below it."""
_GLOBAL_STYLE: Final = re.compile(r"<style.*?</style>", re.DOTALL)
_NO_METADATA: Final = {"Date": None, "Creator": None, "Format": None, "Type": None}


def draw(name: str, alt: str, width: float, height: float, paint: Callable[[Figure], None]) -> str:
    """Return the SVG element of a figure of ``width`` and ``height`` in inches. ``name``: one of its own
    within the page, for its ids; ``alt``: what it shows, for who does not see it; escaped by the caller."""
    with _styled():
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    return _embed(buffer.getvalue(), name, alt, round(width * PIXELS_PER_INCH))


@contextmanager
def _styled() -> Iterator[None]:
    """Labels may be in any script: a browser has the letters, matplotlib's own font need not."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _embed(svg: str, name: str, alt: str, pixels: int) -> str:
    svg = _GLOBAL_STYLE.sub("", svg[svg.index("<svg") :]).strip()
    ids = set(_ID.findall(svg))
    for one in sorted(ids, key=len, reverse=True):
        for before, after in ((f'id="{one}"', f'id="{name}-{one}"'), (f"#{one}", f"#{name}-{one}")):
            svg = re.sub(f"{re.escape(before)}(?![\\w-])", after, svg)
    for placeholder, colour in _OF_THE_PAGE:
        svg = svg.replace(placeholder, colour)
    svg = svg.replace(f"'{_FONT}'", "var(--font)").replace(_FONT, "var(--font)")
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", svg, count=1)
    svg = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", svg, count=1)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{alt}" style="width: {pixels}px" ', 1)
