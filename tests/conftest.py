"""For all tests: no test is judged by how long it took, and what one run finds the next finds too.

`OBSDIMG_FUZZ=1 ./test tests/tunnel` looks for new examples instead.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("obsdimg", deadline=None, derandomize=not os.environ.get("OBSDIMG_FUZZ"))
settings.load_profile("obsdimg")
