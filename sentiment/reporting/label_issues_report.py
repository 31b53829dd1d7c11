"""The report of label issues: report.md and report.html."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sentiment.reporting.rendering import JsonObject, write_report_files

SHOWN_ISSUES = 100


def write_label_issues_report(folder: Path, summary: JsonObject, issues: Sequence[Mapping[str, Any]]) -> None:
    """Write the report of a label_issues.json and its rows, of which the first are shown."""
    write_report_files(folder, "label_issues.j2", {"summary": summary, "issues": issues[:SHOWN_ISSUES]}, {})
