"""Pictures and pages: the report of one run and the comparison of many, each one self-contained HTML file."""

from nolabel.report.compare import write_comparison
from nolabel.report.page import write_report
from nolabel.report.pictures import Gallery
from nolabel.report.samples import sample_pictures, shown_pictures, still
from nolabel.report.tokens import token_pictures

__all__ = [
    "Gallery",
    "sample_pictures",
    "shown_pictures",
    "still",
    "token_pictures",
    "write_comparison",
    "write_report",
]
