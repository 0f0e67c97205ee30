"""Self-contained HTML pages: one file with its charts and their data, that asks nothing of the network.

Reports need the packages of the extra ``report``; ``require`` says so before anything is computed. The
explorer needs none.
"""

from undertow.report.compare_report import write_compare_report
from undertow.report.explorer import write_explorer
from undertow.report.extra import require
from undertow.report.fit_report import write_fit_report

__all__ = ["require", "write_compare_report", "write_explorer", "write_fit_report"]
