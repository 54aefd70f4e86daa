"""What tests that run side by side rely on."""

import pytest


@pytest.mark.xdist_group("together")
def test_the_tests_of_a_group_are_kept_on_one_worker(request: pytest.FixtureRequest) -> None:
    """Workers are given tests by their ids, behind which pytest-xdist writes the group."""
    wanted = request.config.getoption("loadgroup", default=False)
    assert request.node.nodeid.endswith("@together") == wanted
