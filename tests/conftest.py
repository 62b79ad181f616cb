"""For all tests: no test is judged by how long it took, on whatever machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("obsdimg", deadline=None)
settings.load_profile("obsdimg")
