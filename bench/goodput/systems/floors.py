"""The floor: a raw loop, which keeps nothing."""

from bench.goodput.systems.system import Command, Setup, Spot, System
from bench.goodput.systems.torchrun import torchrun

RAW = "raw"


def _make(spot: Spot) -> Setup:
    argv = torchrun(spot, "bench.goodput.scripts.train_raw", restarts=0)
    return Setup(units=(Command(name="raw", argv=argv),))


SYSTEMS = (System(name=RAW, group="raw loop", make=_make),)
