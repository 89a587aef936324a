"""The built site, page by page, in a real browser: light and dark, and as wide as a desk, a tablet and a phone.

    python -m pip install -e '.[docs,site]' && python -m sphinx -W -n docs docs/_build && python -m pytest tests/test_site.py

``SKSID_SITE`` names another folder of the site. The browser is Debian's chromium, or what ``SKSID_BROWSER`` names.
"""

import functools
import http.server
import importlib.util
import os
import shutil
import threading
from pathlib import Path

import pytest

import sksid

SITE = Path(os.environ.get("SKSID_SITE", Path(sksid.__file__).parents[1] / "docs" / "_build"))
BROWSER = os.environ.get("SKSID_BROWSER") or shutil.which("chromium") or shutil.which("google-chrome")
GENERATED_BY_SPHINX = ("genindex", "py-modindex", "search", "sg_execution_times")
PAGES = sorted(
    page.relative_to(SITE).as_posix()
    for page in SITE.rglob("*.html")
    if page.stem not in GENERATED_BY_SPHINX and "_static" not in page.parts
)


def why_not():
    """What is missing, or nothing."""
    if not (SITE / "index.html").exists():
        return f"no site is built in {SITE}: python -m sphinx -n docs docs/_build"
    absent = [name for name in ("playwright", "axe_playwright_python") if importlib.util.find_spec(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed: pip install -e '.[site]'"
    return "" if BROWSER else "no browser: apt-get install chromium"


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "nothing is missing")

RAW_TEX = r"""
() => [...document.querySelectorAll('article *')]
  .filter(node => !node.closest('pre, code, mjx-container, script, .sig'))
  .flatMap(node => [...node.childNodes].filter(child => child.nodeType === 3).map(child => child.textContent))
  .filter(text => /\\[a-zA-Z]+\b|\\\(|\\\[|\$[^$\s][^$]*\$|[_^]\{/.test(text))
"""
UNSHOWN = "() => [...document.images].filter(image => !(image.complete && image.naturalWidth > 0)).map(image => image.src)"
WIDE_CODE = """
() => [...document.querySelectorAll('article pre')]
  .filter(pre => pre.scrollWidth > pre.clientWidth + 1).map(pre => pre.innerText.slice(0, 80))
"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


class Silent(http.server.SimpleHTTPRequestHandler):
    """A server that writes no log."""

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture(scope="module")
def address():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=SITE)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def tab(browser, address):
    """A tab, and what has gone wrong in it."""
    page = browser.new_page(base_url=address)
    page.wrong = []
    page.on("console", lambda message: page.wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("requestfailed", lambda request: page.wrong.append(f"{request.url} failed"))
    page.on("request", lambda request: None if request.url.startswith((address, "data:")) else page.wrong.append(request.url))
    yield page
    page.close()


def opened(tab, page, width):
    """A page in the tab, with its formulas set and its pictures loaded."""
    tab.set_viewport_size({"width": width, "height": 900})
    tab.goto(f"/{page}")
    tab.evaluate("() => window.MathJax?.startup?.promise")
    tab.evaluate("() => document.images.length && [...document.images].forEach(image => { image.loading = 'eager'; })")
    tab.wait_for_load_state("networkidle")
    return tab


def faint(tab, theme):
    """Texts whose contrast is below WCAG AA in a theme, with their colors."""
    from axe_playwright_python.sync_playwright import Axe

    tab.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
    tab.add_style_tag(content="* { transition: none !important; }")
    found = Axe().run(tab, "article", options={"runOnly": ["color-contrast"], "resultTypes": ["violations"]})
    return [
        (theme, node["target"], node["any"][0]["message"]) for rule in found.response["violations"] for node in rule["nodes"]
    ]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_whole_fits_and_is_read_in_both_themes(tab, page):
    opened(tab, page, 1440)
    assert tab.evaluate(RAW_TEX) == []
    assert tab.evaluate(UNSHOWN) == []
    tab.set_viewport_size({"width": 1024, "height": 900})
    assert tab.evaluate(WIDE_CODE) == []
    tab.set_viewport_size({"width": 375, "height": 800})
    assert tab.evaluate(OVERFLOW) <= 0
    assert faint(tab, "light") + faint(tab, "dark") == []
    assert tab.wrong == []


@pytest.mark.skipif("method.html" not in PAGES, reason="the site has no page on the method")
def test_formulas_are_set_and_have_the_color_of_the_text(tab):
    opened(tab, "method.html", 1440)
    assert tab.locator("mjx-container").count() > 300
    for theme in ("light", "dark"):
        tab.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
        color = "node => getComputedStyle(node).color"
        assert tab.locator("mjx-container").first.evaluate(color) == tab.locator("article p").first.evaluate(color)


def test_the_search_box_finds_per_feature(tab):
    opened(tab, "index.html", 1440)
    tab.locator(".search-button__button:visible, .search-button-field:visible").first.click()
    tab.locator("input[type=search]:visible").first.fill("per feature")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#search-results li a")
    titles = tab.locator("#search-results li a").all_inner_texts()
    assert any("structure" in title.lower() or "per-feature" in title.lower() for title in titles), titles


def test_the_landing_page_leads_on(tab):
    """To a chapter, the gallery and the reference, whose own navigation is not empty."""
    opened(tab, "index.html", 1440)
    linked = {href.partition("#")[0] for href in tab.locator("article a").evaluate_all("all => all.map(a => a.href)")}
    for page in ("install", "guide/index", "guide/tables", "gallery", "method", "api", "benchmarks"):
        assert any(href.endswith(f"/{page}.html") for href in linked), page
    opened(tab, "guide/text.html", 1440)
    assert tab.locator(".bd-sidebar-primary a:visible").count() > 10
    for width in (1440, 1024):
        tab.set_viewport_size({"width": width, "height": 900})
        items = tab.locator(".bd-header .navbar-item:visible, .bd-header .nav-item:visible")
        middles = items.evaluate_all("all => all.map(item => item.getBoundingClientRect()).map(at => at.top + at.height / 2)")
        assert max(middles) - min(middles) < 20, width  # the bar is one line
