"""Settings of Sphinx: Markdown by MyST, docstrings by autodoc, formulas by MathML, the theme furo."""

import sys
from pathlib import Path
from typing import Any

from datafree import __version__

sys.path.insert(0, str(Path(__file__).parent))  # for the extensions of this folder

project = "datafree"
author = "the datafree authors"
copyright = f"{author}, Apache-2.0 licence · version {__version__}"  # the footer
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml", "settings_table"]
exclude_patterns = ["_build"]
default_role = "code"  # single backticks in docstrings

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_custom_sections = [("References", "notes_style")]

html_theme = "furo"
html_title = f"datafree {__version__}"
html_favicon = "static/favicon.svg"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False


def keep_colons(_app: Any, what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Mark the docstring of a field as text, because napoleon reads `text: text` as `type: description`."""
    if what in ("attribute", "data", "property") and lines and lines[0]:
        lines[0] = f": {lines[0]}"  # an empty type


def setup(app: Any) -> None:
    """Register `keep_colons` before napoleon."""
    app.connect("autodoc-process-docstring", keep_colons, priority=400)
