"""The site. Build with ``sphinx-build -W -n docs docs/_build``; a changed library needs a clean build (``-E``)."""

import os
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # more only wait for each other on matrices as small as the examples'

import sksid  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "sksid"
author = "The sksid developers"
version = release = sksid.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.extlinks",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "floors",
    "results",
    "sketches",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore = [("py:obj", "classes_"), ("py:obj", "n_features_in_"), ("term", "fit")]  # scikit-learn's own properties

# links instead of an inventory from the network: the site builds offline
extlinks = {"sklearn": ("https://scikit-learn.org/1.9/modules/generated/sklearn.%s.html", "%s")}

numpydoc_show_class_members = False
autosummary_generate = True
autodoc_typehints = "none"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "ignore_pattern": "benchmarks",
    "show_signature": False,
    "download_all_examples": False,
    "min_reported_time": 1e9,
}

html_theme = "pydata_sphinx_theme"
html_title = f"sksid {version}"
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}
html_show_sourcelink = False
