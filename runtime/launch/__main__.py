"""`python -m runtime.launch train.py`: starts the training processes of a pod or machine.

The launcher stays: as the first process of a container it passes signals on, and ends all that it
has started. It does not import torch. In the pod of a job all settings are in the environment
already. With the flags that only torchrun has, torchrun replaces the launcher.
"""

import os
import sys
from collections.abc import Callable, Mapping

from runtime.config.settings import LoopSettings
from runtime.launch import flags
from runtime.launch.coordinator import control_of
from runtime.launch.counting import count
from runtime.launch.hosting import Control
from runtime.launch.plan import Pod, Replacement, plan
from runtime.launch.say import say
from runtime.launch.signals import Signals
from runtime.launch.starter import CannotStart
from runtime.launch.supervisor import RECEIVED, Supervisor

CANNOT_START = 127  # as in shells

Connect = Callable[[Pod, int, Mapping[str, str]], Control]  # pod, its processes, environment


def main(connect: Connect = control_of) -> None:
    """Run the training processes, and exit with their code; or replace this process by torchrun.

    Args:
        connect: makes the control channel.
    """
    found = plan(sys.argv[1:], os.environ)
    if isinstance(found, Replacement):
        os.execvpe(found.argv[0], found.argv, found.env)  # noqa: S606  # no shell is needed
    sys.exit(_supervise(found, connect))


def _supervise(pod: Pod, connect: Connect) -> int:
    signals = Signals(RECEIVED)
    try:
        number, settings = count(pod.processes, pod.env), LoopSettings.from_env(os.environ)
        control = connect(pod, number, os.environ)
    except ValueError as error:
        flags.parser(os.environ).error(str(error))
    supervisor = Supervisor(pod, control=control, signals=signals, settings=settings)
    try:
        return supervisor.run(number)
    except CannotStart as error:
        say(str(error))
        return CANNOT_START


if __name__ == "__main__":
    main()
