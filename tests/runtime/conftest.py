"""What all tests of the runtime share."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.runtime.object_store import s3_server
from tests.states import fresh


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    """Afterwards no library knows of an Accelerator that a test has made."""
    yield
    fresh()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A real S3 server: what `FsspecStore` needs to reach it."""
    with s3_server(tmp_path_factory.mktemp("s3")) as options:
        yield options
