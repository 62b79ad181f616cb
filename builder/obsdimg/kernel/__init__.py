"""Boot kernels: ELF, and the ramdisk in it."""
