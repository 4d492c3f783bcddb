"""Runs whole tasks on the local model: the log it writes, one run, and the executions that callers see."""
