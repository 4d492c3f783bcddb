"""The client of an OpenAI-compatible model server: no pool of runs, no database, nothing of what is asked."""
