"""How the gallery's pictures are drawn: by examples/gallery.mplstyle, which every page begins with."""

from pathlib import Path

STYLE = Path(__file__).resolve().parents[2] / "examples" / "gallery.mplstyle"


def apply(gallery_conf, fname):
    """Called by sphinx-gallery before each page, after matplotlib's own settings are back."""
    from matplotlib import pyplot as plt

    plt.style.use(STYLE)
