"""Results: one run as a folder that can be read, compared and run again."""

from moesim.results.files import check_new_folder
from moesim.results.folder import is_result, read_result, write_result
from moesim.results.provenance import provenance
from moesim.results.rebuild import rebuild
from moesim.results.result import TABLES, TIME_SHARES, Result, empty_table

__all__ = [
    "TABLES",
    "TIME_SHARES",
    "Result",
    "check_new_folder",
    "empty_table",
    "is_result",
    "provenance",
    "read_result",
    "rebuild",
    "write_result",
]
