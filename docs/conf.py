"""Settings of Sphinx: Markdown by MyST, docstrings by autodoc, the theme furo."""

from datafree import __version__

project = "datafree"
author = "the authors of datafree"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
default_role = "code"  # single backticks in docstrings
html_theme = "furo"
html_title = f"datafree {__version__}"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_custom_sections = [("References", "notes_style")]
