"""The folder on the host, and its keys."""
