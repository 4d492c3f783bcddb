"""How the local model is asked: each way is a file, and all give a verdict, or an error that says who erred."""
