"""The build: upstream medium, changed ramdisk, ISO and manifest; and looking into an ISO."""
