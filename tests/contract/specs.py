"""Jobs that nobody would write: a valid one, with a few things in it changed into anything."""

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from acceleratedjob.api.names import Manifest
from tests.contract.manifests import GOOD
from tests.operator.builders import CONTAINER, job

_WORDS = (
    *("auto", "none", "volcano", "kueue", "Running", "Fail", "Restart", "bf16", "fsdp", "gloo"),
    *("0", "1", "8Gi", "-1", "1e3", "0Gi", "a.b/c", "trainer", "RANK", "rack", "Never", "\n", ""),
)
_NUMBERS = (0, 1, -1, 2, 3, 64, 65, 255, 256, 1023, 1024, 1025, 10_000, 10_001, 29400, 29500)
_LARGE = (65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63)
_ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from((*_NUMBERS, *_LARGE, *_WORDS)),
        st.sampled_from((0.5, 1.5, 1e30)),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(("name", "value", "limits", "env", "x")), inner, max_size=3
        ),
    ),
    max_leaves=4,
)
_TEMPLATE: Manifest = {
    "metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}},
    "spec": {
        "containers": [
            {"name": "logs", "image": "logs:1"},
            CONTAINER
            | {
                "args": ["--fast"],
                "env": [{"name": "A", "value": "b"}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "resources": {
                    "limits": {"nvidia.com/gpu": 2, "memory": "8Gi", "cpu": 1.5},
                    "claims": [{"name": "gpus"}],
                },
                "securityContext": {"privileged": False},
            },
        ],
        "volumes": [
            {"name": "data", "emptyDir": {}},
            {"name": "node", "hostPath": {"path": "/srv"}},
        ],
        "runtimeClassName": "nvidia",
        "hostNetwork": False,
        "dnsPolicy": "ClusterFirst",
        "affinity": {
            "podAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]
            }
        },
        "terminationGracePeriodSeconds": 60,
        "priorityClassName": "high",
        "restartPolicy": "Never",
    },
}
_FULL = {name: value for name, value in GOOD[-1][1]["spec"].items() if name != "managedBy"}
_VALID: tuple[Manifest, ...] = (
    *(manifest["spec"] for _, manifest in GOOD),
    _FULL | {"template": _TEMPLATE, "suspend": True},
)
Place = tuple[Any, Any]  # a mapping or list, and a key or index of it


def places(value: Any) -> Iterator[Place]:
    """Every place of a value where something is."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


def alike(value: Any) -> st.SearchStrategy[Any]:
    """Other values of a value's kind."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, int):
        return st.sampled_from((*_NUMBERS, *_LARGE))
    if isinstance(value, str):
        return st.sampled_from(_WORDS)
    return st.just(value)


@st.composite
def specs(draw: st.DrawFn) -> Manifest:
    """The spec of a job: now and then as it should be."""
    spec = copy.deepcopy(draw(st.sampled_from(_VALID)))
    for _ in range(draw(st.sampled_from((0, 1, 1, 1, 2, 3)))):
        if not spec:
            break
        holder, key = draw(st.sampled_from(list(places(spec))))
        change = draw(st.sampled_from(("replace", "alike", "alike", "remove", "add")))
        if change == "replace":
            holder[key] = draw(_ANYTHING)
        elif change == "alike":
            holder[key] = draw(alike(holder[key]))
        elif change == "remove":
            del holder[key]
        elif isinstance(holder, dict):
            holder[draw(st.sampled_from(("replicas", "x", "env", "hostname")))] = draw(_ANYTHING)
    return spec


def manifest(spec: Manifest, name: str = "digits", namespace: str = "research") -> Manifest:
    """The job of a spec."""
    made = job() | {"spec": spec}
    return made | {"metadata": {"name": name, "namespace": namespace}}
