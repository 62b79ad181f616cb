from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.deploy_bench import Bench, S3Store, bench, s3_store


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def store() -> Iterator[S3Store]:
    with s3_store() as made:
        yield made
