"""Figures with units and one self-contained HTML page."""

from allpet.report.figures import Panel, draw, image_panel, sinogram_panel, step_lines
from allpet.report.page import Section, Table, write_page

__all__ = ["Panel", "Section", "Table", "draw", "image_panel", "sinogram_panel", "step_lines", "write_page"]
