"""A pytest plugin: SIGTERM ends the tests as Ctrl-C does, with a JUnit file of those that are done."""

import signal


def pytest_configure() -> None:
    """Take SIGTERM for SIGINT."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
