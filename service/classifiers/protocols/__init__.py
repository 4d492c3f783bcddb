"""How the local model is asked: each way is one file, and all of them give a verdict or an error that says who erred."""
