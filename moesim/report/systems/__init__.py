"""Tables, pages and figures of published systems."""

from moesim.report.systems.figures import FIGURE, save
from moesim.report.systems.page import overview, page
from moesim.report.systems.tables import given_table, laws_table, points_table, systems_table
from moesim.report.systems.write import write_system

__all__ = [
    "FIGURE", "given_table", "laws_table", "overview", "page", "points_table", "save",
    "systems_table", "write_system",
]  # fmt: skip
