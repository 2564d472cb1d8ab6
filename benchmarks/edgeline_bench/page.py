"""placeholder"""
from edgeline_bench.report import Report
def page_from_report(report: Report) -> str:
    """x."""
    return ""
