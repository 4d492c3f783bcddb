"""A handful of small tools that know nothing of the service."""
