"""What reads a task and names a candidate: the local model, a program, and the ladder that tries them in order."""
