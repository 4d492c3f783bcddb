"""Runs one program, bounded in time, output and number, and leaves nothing of it behind. Knows nothing of models."""
