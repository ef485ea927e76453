"""Configures Sphinx, which builds the documentation site from these pages and the docstrings: `make docs`."""

import re

import sas_jax

project = "sas_jax"
release = version = sas_jax.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "alabaster"
html_theme_options = {"description": "SAS data selection for contrastive pre-training, in JAX", "page_width": "1100px"}
html_sidebars = {"**": ["about.html", "searchfield.html", "navigation.html"]}
html_show_sourcelink = False

myst_heading_anchors = 3  # as GitHub makes them: page.md#a-heading

autodoc_typehints = "none"  # the docstrings state shapes and dtypes
autodoc_member_order = "bysource"
napoleon_custom_sections = ["Source"]
napoleon_attr_annotations = False
napoleon_use_ivar = True  # lists attributes once, as the fields of the class
default_role = "code"

# Literal in our docstrings, but markup in reStructuredText: s_ (a reference), |V| (a substitution), * (emphasis).
_CODE = re.compile(r"(`+[^`]+`+)")
_MARKUP = re.compile(r"[*|\\]|_(?!\w)")


def _escape(app, what, name, obj, options, lines):
    """Escapes reStructuredText's markup in a docstring, outside of code."""
    for number, line in enumerate(lines):
        parts = _CODE.split(line)
        parts[::2] = [_MARKUP.sub(r"\\\g<0>", part) for part in parts[::2]]
        lines[number] = "".join(parts)


def setup(app):
    app.connect("autodoc-process-docstring", _escape, priority=400)  # before napoleon, at 500
