"""The site: `make docs` builds it into site/. Warnings are errors, and the pages load nothing from elsewhere."""

import sys
from pathlib import Path

import allpet

sys.path.insert(0, str(Path(__file__).resolve().parent / "_site"))

project = "allpet"
author = "the allpet developers"
copyright = "the allpet developers, Apache-2.0"
version = release = allpet.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "allpet_site"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_site"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = [
    "ref.python",  # two modules may have a class of one name; the link then goes to the first
]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"allpet {release}"
html_static_path = ["_site/static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"footer_icons": [], "top_of_page_buttons": []}
