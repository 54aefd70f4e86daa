"""Reasons why a pod does not run: which have a time limit, and which are synonyms."""

import re
from datetime import timedelta

from acceleratedjob.api.names import Reason

# If a container cannot be created, the kubelet retries forever. After these times the attempt has
# failed: zero for errors that never go away. A registry may be unavailable for a moment, and a
# Secret may be created after the job.
CANNOT_START = {
    "InvalidImageName": timedelta(),
    "ErrImageNeverPull": timedelta(),
    "ErrImagePull": timedelta(seconds=60),
    "ImagePullBackOff": timedelta(seconds=60),
    "ImageInspectError": timedelta(seconds=60),
    "CreateContainerConfigError": timedelta(seconds=60),
    "CreateContainerError": timedelta(seconds=60),
}
# Reasons that lead to a decision after some time, so the time is recorded for each replica.
TIMED = frozenset({*CANNOT_START, Reason.UNSCHEDULABLE})

# The kubelet alternates between these reasons for the same problem; the first one is recorded.
_ALIKE = (("ImagePullBackOff", "ErrImagePull"),)
_OF_ONE_POD = re.compile(r" pod=\S+|(?<=back-off )\S+ |pods \"[^\"]+\" (is forbidden: )?")


def alike(reason: str) -> frozenset[str]:
    """Return a reason and its synonyms.

    >>> sorted(alike("ErrImagePull"))
    ['ErrImagePull', 'ImagePullBackOff']
    """
    return frozenset(next((words for words in _ALIKE if reason in words), (reason,)))


def usual_word(reason: str) -> str:
    """Return the first of the synonyms of a reason.

    >>> usual_word("ErrImagePull"), usual_word("Unschedulable")
    ('ImagePullBackOff', 'Unschedulable')
    """
    return next((words[0] for words in _ALIKE if reason in words), reason)


def without_names(message: str) -> str:
    """Return a message without the parts that differ between pods.

    >>> without_names('pods "digits-0-1" is forbidden: exceeded quota: few')
    'exceeded quota: few'
    """
    return _OF_ONE_POD.sub("", message)
