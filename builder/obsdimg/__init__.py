"""obsdimg: an OpenBSD install ISO that becomes an encrypted WireGuard server by itself."""

__version__ = "0.1.0"
