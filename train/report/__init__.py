"""The report of stage two: a self-contained page, its numbers as JSON and CSV, a table for a terminal."""

from train.report.page import write_report
from train.report.structure import genotype_picture
from train.report.tables import terminal_table

__all__ = ["genotype_picture", "terminal_table", "write_report"]
