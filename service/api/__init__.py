"""HTTP and nothing else: handlers, problem documents, the edge."""
