"""One request: from a task to a decision."""
