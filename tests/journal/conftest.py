"""A journal on a real file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from opened import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "home")
    yield opened
    opened.close()
