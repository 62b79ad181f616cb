"""obsdimg: an OpenBSD install ISO that becomes an encrypted WireGuard server by itself."""

import os

__version__ = "0.1.0"

# pydantic would load whatever plugins lie in the environment; the settings are read without.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
