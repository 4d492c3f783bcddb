"""Log lines, the thread that writes them, and what commands print."""
