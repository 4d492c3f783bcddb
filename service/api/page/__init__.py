"""The page: what decisions are made now, why one was made, and whether the forecast keeps its word, for people."""
