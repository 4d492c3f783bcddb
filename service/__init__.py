"""Pointsman decides, before a task is dispatched, which coding agent and which model should handle it."""

__version__ = "0.1.0"
"""The one place beside pyproject.toml where it stands, and a test holds them together: to look it up among the
installed packages would cost each `pointsman classify` some 30 ms."""
