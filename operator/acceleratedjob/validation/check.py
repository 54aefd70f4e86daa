"""Finds everything that is wrong in the manifest of a job, as `kubectl apply` and the operator do.

A cluster checks a job three times: the API server by the CRD, the operator by `JobSpec`, and the
API server again when the first pod or claim is created. This module checks all of that at once.
"""

import difflib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from acceleratedjob.api.checkpoint import VOLUME_NAME
from acceleratedjob.api.names import API_VERSION, GROUP, KIND, View
from acceleratedjob.api.schema import Faults, Reader, check_known, mapping
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.errors import InvalidSpec, shown
from acceleratedjob.validation import pod_rules
from acceleratedjob.validation.pod_types import reader_of

Check = Callable[[JobSpec], object]  # raises InvalidSpec

_TOP_LEVEL = dict.fromkeys(("apiVersion", "kind", "metadata", "spec", "status"))
_VOLUME = ("spec", "checkpoint", "volume")
_CLAIM = (*_VOLUME, "volumeClaimTemplate", "spec")
_POD = ("spec", "template", "spec")
_TYPED: tuple[tuple[tuple[str, ...], str], ...] = (  # where Kubernetes' own types are
    (("metadata",), "ObjectMeta"),
    (_POD, "PodSpec"),
    (_CLAIM, "PersistentVolumeClaimSpec"),
    ((*_VOLUME, "nfs"), "NFSVolumeSource"),
    ((*_VOLUME, "hostPath"), "HostPathVolumeSource"),
    ((*_VOLUME, "csi"), "CSIVolumeSource"),
)
_METADATA = (("metadata",), ("spec", "template", "metadata"))


def faults(manifest: Any, checks: tuple[Check, ...] = ()) -> list[InvalidSpec]:
    """Return everything that is wrong, at most one fault for each field.

    Args:
        manifest: a document, as decoded from JSON.
        checks: further checks of a job that is valid.
    """
    found: dict[str, InvalidSpec] = {}
    for fault in _faults(manifest, checks):
        found.setdefault(fault.field, fault)
    return list(found.values())


def _faults(manifest: Any, checks: tuple[Check, ...]) -> Iterator[InvalidSpec]:
    identity = _found(_check_identity, manifest)
    yield from identity
    if identity and not _is_meant(manifest):
        return
    ours = [*_found(check_known, manifest, _TOP_LEVEL, ""), *_found(_check_job, manifest, checks)]
    yield from ours
    typed = [fault for keys, kind in _TYPED for fault in _typed(manifest, keys, reader_of(kind))]
    yield from typed
    wrong = [fault.field for fault in (*ours, *typed)]
    yield from _rules(manifest, wrong)


def _found(check: Callable[..., object], *arguments: Any) -> list[InvalidSpec]:
    with_faults = Faults()
    try:
        with_faults.of(check, *arguments)
    except InvalidSpec as error:  # more than are told
        return list(error.all)
    return with_faults.found


def _check_identity(manifest: Any) -> None:
    given = mapping(manifest, "manifest")
    with Faults() as found:
        for name, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
            if given.get(name) is None:
                found.add(name, f"is required: write `{name}: {wanted}`")
            elif given[name] != wanted:
                found.add(name, f"must be {wanted}, got {shown(given[name])}")


def _is_meant(manifest: Any) -> bool:
    """Whether a document is meant to be a job: its kind is absent, or misspelt."""
    if not isinstance(manifest, dict):
        return False
    kind, version = manifest.get("kind") or KIND, manifest.get("apiVersion") or API_VERSION
    is_similar = bool(difflib.get_close_matches(str(kind)[:100], [KIND], cutoff=0.8))
    return is_similar and str(version).startswith(GROUP)


def _check_job(manifest: View, checks: tuple[Check, ...]) -> None:
    spec = JobSpec.from_manifest({**manifest, "apiVersion": API_VERSION, "kind": KIND})
    with Faults() as found:
        for check in checks:
            found.of(check, spec)


def _at(manifest: Any, keys: tuple[str, ...]) -> Any:
    """Return the value at some keys; None if there is none."""
    for key in keys:
        manifest = manifest.get(key) if isinstance(manifest, dict) else None
    return manifest


def _typed(manifest: View, keys: tuple[str, ...], reader: Reader) -> list[InvalidSpec]:
    value = _at(manifest, keys)
    return [] if value is None else _found(reader, value, ".".join(keys))


def _rules(manifest: View, wrong: list[str]) -> Iterator[InvalidSpec]:
    """Check the rules of pods and claims, where the fields have the right types."""
    volumes = [VOLUME_NAME] if _at(manifest, _VOLUME) is not None else []
    rules: tuple[tuple[tuple[str, ...], Callable[..., Iterator[InvalidSpec]]], ...] = (
        (_POD, partial(pod_rules.faults, volumes=volumes)),
        (_CLAIM, pod_rules.claim_faults),
        *(((*keys, "labels"), pod_rules.labels) for keys in _METADATA),
        *(((*keys, "annotations"), pod_rules.annotations) for keys in _METADATA),
    )
    for keys, rule in rules:
        value, path = _at(manifest, keys), ".".join(keys)
        if isinstance(value, dict) and not any(field.startswith(path) for field in wrong):
            yield from rule(value, path)
