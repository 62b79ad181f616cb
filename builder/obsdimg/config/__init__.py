"""The configuration: one TOML file, typed, every mistake named with its key."""

from obsdimg.config.load import ConfigError, load, parse
from obsdimg.config.model import Config, PeerSettings

__all__ = ["Config", "ConfigError", "PeerSettings", "load", "parse"]
