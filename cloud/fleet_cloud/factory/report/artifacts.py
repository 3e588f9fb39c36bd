"""A report as the files that are kept with a version."""

from fleet_cloud.factory.report.document import Report, write_report
from fleet_cloud.factory.report.page import render_page


def make_artifacts(report: Report) -> dict[str, bytes]:
    """Return them by the names of their artifacts."""
    return {"report.html": render_page(report).encode(), "report.json": write_report(report)}
