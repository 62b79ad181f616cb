"""What is wrong with a configuration."""

from __future__ import annotations

from obsdimg.core.errors import ObsdimgError


class ConfigError(ObsdimgError):
    """The configuration is missing, malformed, or asks for something that cannot work."""
