"""The site. Build with ``sphinx-build -W -n docs docs/_build``; a changed library needs a clean build (``-E``)."""

import os
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # more only wait for each other on matrices as small as the examples'

import sksid  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import measured  # noqa: E402

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
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.bibtex",
    "changelog",
    "floors",
    "offline_math",
    "results",
    "sketches",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore = [("py:obj", "classes_"), ("py:obj", "n_features_in_"), ("term", "fit")]  # scikit-learn's own properties
rst_epilog = measured.substitutions()

# links instead of an inventory from the network: the site builds offline
extlinks = {"sklearn": ("https://scikit-learn.org/1.9/modules/generated/sklearn.%s.html", "%s")}

bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}

numpydoc_show_class_members = False
autosummary_generate = True
autodoc_typehints = "none"
python_maximum_signature_line_length = 70
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "ignore_pattern": "benchmarks",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("sksid",),
    "reset_modules": ("matplotlib", "gallery_style.apply"),
    "show_signature": False,
    "download_all_examples": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,  # its page asks other servers for scripts
    "within_subsection_order": "gallery_order.place",
    "minigallery_sort_order": "gallery_order.place",
    "thumbnail_size": (400, 250),
}

html_theme = "pydata_sphinx_theme"
html_title = f"sksid {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_context = {"default_mode": "auto"}
html_favicon = "_static/logo.svg"
html_theme_options = {
    "logo": {"text": "sksid", "image_light": "_static/logo.svg", "image_dark": "_static/logo.svg"},
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "navigation_with_keys": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "icon_links": [{"name": "Source", "url": "https://github.com/sksid/sksid", "icon": "fa-brands fa-github"}],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
}
copyright = "The sksid developers, BSD 3-Clause"
html_sidebars = {
    page: []
    for page in (
        "index",
        "gallery",
        "paper",
        "security",
        "install",
        "method",
        "benchmarks",
        "contributing",
        "changelog",
        "bibliography",
    )
}
html_show_sourcelink = False
html_show_sphinx = False
