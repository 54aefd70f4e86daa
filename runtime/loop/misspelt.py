"""Environment variables that were meant for the runtime, but that it does not know."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import fields

from runtime.config.settings import LoopSettings
from runtime.world import contract, last_words

_PREFIX = LoopSettings.PREFIX
_SIMILAR = 0.7  # the ratio of difflib from which a name counts as misspelt
_OURS = "CHECKPOINT_"  # no other program has variables that go on like this
KNOWN = (
    *(LoopSettings.variable(one.name) for one in fields(LoopSettings)),
    *contract.OF_JOB,
    last_words.PATH,
)


def misspelt(env: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each variable that has no effect, although it looks like a known one.

    Others with the prefix are left alone: Kubernetes sets ACCELERATEDJOB_*_SERVICE_HOST and more in
    all pods of a namespace with a Service whose name begins like that.

    Args:
        env: the environment variables.
    """
    known = [name.removeprefix(_PREFIX) for name in KNOWN]
    for name in sorted(name for name in env if name.startswith(_PREFIX) and name not in KNOWN):
        own = name.removeprefix(_PREFIX)
        close = difflib.get_close_matches(own, known, n=1, cutoff=_SIMILAR)
        if close:
            yield f"{name} has no effect; did you mean {_PREFIX}{close[0]}?"
        elif own.startswith(_OURS):
            those = ", ".join(one for one in KNOWN if one.startswith(_PREFIX + _OURS))
            yield f"{name} has no effect; known are {those}"
