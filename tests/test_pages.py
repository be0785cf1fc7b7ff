"""The docs build without warnings, and their pages work in a browser without a network."""

import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORMULAS = ("methods/deep-inversion", "methods/dafl", "applications/continual", "api")
PAGES = ("index", "get-started/first-student", "settings", "cli", "methods/group-stack")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built docs."""
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(ROOT / "docs"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address(site):
    """The docs on a local web server, because search does not work on files."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def page(browser, address):
    """A new tab; the test fails if the tab asks for anything outside, or reports an error."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    faults: list[str] = []
    tab.on(
        "request", lambda request: None if request.url.startswith((address, "data:")) else faults.append(request.url)
    )
    tab.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("requestfailed", lambda request: faults.append(f"{request.url} failed"))
    tab.on("response", lambda response: faults.append(response.url) if response.status >= 400 else None)
    yield tab
    tab.close()
    assert faults == []


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_are_typeset(page, address, name):
    page.goto(f"{address}/{name}.html")
    sizes = page.evaluate("""[...document.querySelectorAll("math")].map(formula => {
        const box = formula.getBoundingClientRect();
        return [box.width, box.height, formula.namespaceURI, getComputedStyle(formula).display];
    })""")
    assert sizes
    assert all(width > 3 and height > 5 for width, height, *_ in sizes)
    assert {(namespace, display) for *_, namespace, display in sizes} <= {
        ("http://www.w3.org/1998/Math/MathML", "inline math"),
        ("http://www.w3.org/1998/Math/MathML", "block math"),
        ("http://www.w3.org/1998/Math/MathML", "math"),
    }
    text = page.locator("article").inner_text()
    assert [command for command in ("\\frac", "\\mathcal", "\\text{", "$$") if command in text] == []


def test_a_fraction_is_drawn_as_one(page, address):
    page.goto(f"{address}/methods/dafl.html")
    above, below = page.evaluate("""(() => {
        const [above, below] = document.querySelector("mfrac").children;
        return [above.getBoundingClientRect().bottom, below.getBoundingClientRect().top];
    })()""")
    assert above <= below


@pytest.mark.parametrize("width", [420, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_clipped(page, address, name, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{address}/{name}.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    clipped = page.evaluate("""[...document.querySelectorAll("article pre, .formula")].filter(block =>
        block.scrollWidth > block.clientWidth && !["auto", "scroll"].includes(getComputedStyle(block).overflowX)
    ).map(block => block.textContent)""")
    assert clipped == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["runs", "evaluation"])
def test_pages_about_results_fit_a_phone_in_both_colour_schemes(page, address, name, width, scheme):
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{address}/{name}.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shown = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, shown.removeprefix("rgb(").removesuffix(")").split(",")[:3])) < 384) == (scheme == "dark")
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


def test_short_lines_of_code_need_no_scrolling(page, address):
    page.goto(f"{address}/get-started/first-student.html")
    wide = page.evaluate("""[...document.querySelectorAll("article pre")].filter(block =>
        block.scrollWidth > block.clientWidth).map(block => block.textContent)""")
    assert wide == []


def test_the_footer_has_licence_and_version(page, address):
    from datafree import __version__

    page.goto(f"{address}/index.html")
    footer = page.locator("footer").last.inner_text()
    assert "Apache-2.0" in footer and __version__ in footer


@pytest.mark.parametrize("word", ["onnx", "int8", "resume", "out of memory"])
def test_search_finds(page, address, word):
    page.goto(f"{address}/search.html?q={word}")
    results = page.locator("#search-results li a")
    results.first.wait_for(timeout=20_000)
    assert any("guides/" in (link.get_attribute("href") or "") for link in results.all())


def test_pages_load_nothing_from_elsewhere(site):
    loading = ('src="http', "src='http", "url(http", "@import", 'rel="stylesheet" href="http', 'src="//')
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(pages) > 30
    assert [(path.name, part) for path in pages for part in loading if part in path.read_text()] == []
