"""The reasons why a pod does not run: those that are timed, those that mean the same."""

import re
from datetime import timedelta

from acceleratedjob.api.names import Reason

# The kubelet goes on trying for ever when a container cannot be made. For what never changes it is
# given no time; a registry may be away for a moment, and a Secret may come after the job.
CANNOT_START = {
    "InvalidImageName": timedelta(),
    "ErrImageNeverPull": timedelta(),
    "ErrImagePull": timedelta(seconds=60),
    "ImagePullBackOff": timedelta(seconds=60),
    "ImageInspectError": timedelta(seconds=60),
    "CreateContainerConfigError": timedelta(seconds=60),
    "CreateContainerError": timedelta(seconds=60),
}
# What decides something when it lasts, and so is timed for each replica.
TIMED = frozenset({*CANNOT_START, Reason.UNSCHEDULABLE})

# The kubelet uses these words in turns for the same problem; the first one stands for all.
_ALIKE = (("ImagePullBackOff", "ErrImagePull"),)
_OF_ONE_POD = re.compile(r" pod=\S+|(?<=back-off )\S+ |pods \"[^\"]+\" (is forbidden: )?")


def alike(reason: str) -> frozenset[str]:
    """All words for what a reason says, itself among them.

    >>> sorted(alike("ErrImagePull"))
    ['ErrImagePull', 'ImagePullBackOff']
    """
    return frozenset(next((words for words in _ALIKE if reason in words), (reason,)))


def usual_word(reason: str) -> str:
    """The one word for all that are alike.

    >>> usual_word("ErrImagePull"), usual_word("Unschedulable")
    ('ImagePullBackOff', 'Unschedulable')
    """
    return next((words[0] for words in _ALIKE if reason in words), reason)


def without_names(message: str) -> str:
    """A message without what is different for each pod.

    >>> without_names('pods "digits-0-1" is forbidden: exceeded quota: few')
    'exceeded quota: few'
    """
    return _OF_ONE_POD.sub("", message)
