"""Self-contained HTML reports: one file with its charts and their data, that asks nothing of the network.

Needs the packages of the extra ``report``; ``require`` says so before anything is computed.
"""

from undertow.report.compare_report import write_compare_report
from undertow.report.extra import require
from undertow.report.fit_report import write_fit_report

__all__ = ["require", "write_compare_report", "write_fit_report"]
