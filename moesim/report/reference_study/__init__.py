"""Figures and text of the rebuilt reference study."""

from moesim.report.reference_study.terminal import study_table
from moesim.report.reference_study.write import write_study

__all__ = ["study_table", "write_study"]
