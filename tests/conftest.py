"""Settings of all tests."""

import os

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("tests.enduring")  # else its failures do not say what was found
# Programs that import more libraries than a process that collects tests should.
collect_ignore = ["distributed/libraries.py", "distributed/trainer.py"]
# Several workers and worlds share the cores: with a thread for each core in every process, the
# threads would wait for each other, spinning. torch reads it when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Unbuffered, Python writes the end of a line by itself: lines of several processes would mix.
os.environ.pop("PYTHONUNBUFFERED", None)
# A busy machine makes any example slow. What hypothesis itself sets on CI stays as it is.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
