"""For all tests: no test is judged by how long it took, what one run finds the next finds too, and
what a command prints as JSON is what docs/json.md says.

`OBSDIMG_FUZZ=1 ./test tests/tunnel` looks for new random examples instead.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import settings

from obsdimg.cli.ui import Ui

settings.register_profile("obsdimg", deadline=None, derandomize=not os.environ.get("OBSDIMG_FUZZ"))
settings.load_profile("obsdimg")


@pytest.fixture(autouse=True)
def documents_are_as_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold every document against its type, and let there be one."""
    prints = Ui.json

    def checked(ui: Ui, value: Any) -> None:
        from support.documents import DOCUMENTS, validate

        assert not ui.documents, "there is one document already"
        prints(ui, value)
        if ui.command in DOCUMENTS:
            validate(ui.command, json.dumps(value, default=str))

    monkeypatch.setattr(Ui, "json", checked)
