"""signify(1): keys, signed messages, signed archives, signed lists."""
