"""Pointsman decides, before a task is dispatched, which coding agent and which model should handle it."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
"""Told before numpy is loaded, which reads it then. Matrices here are small, and several threads wait for each other:
on a machine that others use as well, learning from 40,000 outcomes took 6 to 10 s with two and 1 to 2 s with one."""

__version__ = "0.1.0"
"""The one place beside pyproject.toml where it stands, and a test holds them together: to look it up among the
installed packages would cost each `pointsman classify` some 30 ms."""
