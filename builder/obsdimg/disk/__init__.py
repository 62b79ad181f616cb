"""The installed disk itself: made in QEMU, written as an image, brought to a machine."""
