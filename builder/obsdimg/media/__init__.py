"""Media: downloads, signify, checksum lists, the ISO, the boot kernel; nothing of the configuration."""
