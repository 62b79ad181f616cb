"""The response file: how the installer matches answers, what it asks, how answers are written."""
