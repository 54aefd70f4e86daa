import json
from typing import Any

import pytest

from acceleratedjob.cluster import Ref
from tests.attempts import gang_of, pod_of
from tests.operator.builders import spec

AUTHORS = {"env": [{"name": "TEXT", "value": "-1 é\n{index}"}]}
SPECS: dict[str, dict[str, Any]] = {
    "one process a replica": {"replicas": 12},
    "several processes a replica": {"replicas": 3, "processesPerReplica": 4},
    "a queue's group": {"replicas": 3, "scheduling": {"gang": "kueue", "queue": "team"}},
    "a gang on a rack of its own": {
        "replicas": 3,
        "scheduling": {"gang": "volcano", "exclusiveTopologyKey": "rack"},
    },
    "the index -1 in the author's own text": {"replicas": 2, "runtime": {"seed": 1}},
}


@pytest.mark.parametrize("fields", SPECS.values(), ids=SPECS)
def test_each_pod_is_as_if_it_was_made_alone(fields: dict[str, Any]) -> None:
    made = spec(AUTHORS, **fields)
    gang = gang_of(made, 3)
    for index in range(made.replicas):
        rendered = gang.pod(index)
        assert json.loads(rendered.body) == pod_of(made, attempt=3, index=index)
        assert rendered.ref == Ref("Pod", made.namespace, f"{made.name}-3-{index}")
        assert rendered.is_checked == (index == 0)
