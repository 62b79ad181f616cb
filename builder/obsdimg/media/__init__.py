"""Media: downloads, signify, checksum lists, ISO, boot kernel; nothing of the configuration."""
