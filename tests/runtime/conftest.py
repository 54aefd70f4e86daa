"""What all tests of the runtime share."""

from collections.abc import Iterator

import pytest

from tests.states import fresh


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    """Afterwards no library knows of an Accelerator that a test has made."""
    yield
    fresh()
