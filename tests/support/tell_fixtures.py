"""What tests measured, shown at the end of the run: what a test process prints itself, pytest-xdist shows nowhere."""

from collections.abc import Callable

import pytest

Tell = Callable[[str], None]
"""`tell("image: built in 7 s")`."""

_NAME = "told"


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Takes a line that stands at the end of the run, whether the test passes or not."""
    return lambda line: record_property(_NAME, line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The lines, in the order in which the tests ended."""
    reports = [
        report
        for found in terminalreporter.stats.values()
        for report in found
        if isinstance(report, pytest.TestReport) and report.when == "call"
    ]
    for report in reports:
        for name, line in report.user_properties:
            if name == _NAME:
                terminalreporter.write_line(str(line))
