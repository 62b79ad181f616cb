"""The smoke test: boot an ISO in QEMU, talk to it, look at it, and report.

This room knows nothing of the configuration; what it is told stands in `plan.SmokePlan`.
"""
