"""Exports: every row of a filter in the order of the list, and the forms in which files hold them.

A connection inside one read transaction comes in, rows and lines of text go out, a bounded number of rows at a time.
Nothing here changes the books, and nothing knows who reads.
"""

from farebox_ledger.exports.focus import FOCUS_COLUMNS, focus_values
from farebox_ledger.exports.rows import all_rows

__all__ = ["FOCUS_COLUMNS", "all_rows", "focus_values"]
