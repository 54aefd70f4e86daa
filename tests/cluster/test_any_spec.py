"""The API server and the operator give one answer to any spec, thousands of them.

`ACCELERATEDJOB_SPECS=10000` asks for more than the few hundred that are asked every time.
"""

import asyncio
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.names import KIND, Manifest
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.errors import ClusterError, InvalidSpec, Refused
from acceleratedjob.kube.client import Connection
from acceleratedjob.kube.cluster import collection
from acceleratedjob.kube.limits import Limit
from acceleratedjob.manifests.claims import claim
from acceleratedjob.manifests.pod import pod
from acceleratedjob.validation import check
from tests.cluster.conftest import Kubectl
from tests.cluster.operators import connection
from tests.contract.specs import manifest, specs
from tests.operator.builders import UID

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd"), pytest.mark.timeout(1800)]

SIDE_BY_SIDE = Limit(in_flight=8)  # the API server answers so many in time, also if it is slow
COUNT = int(os.environ.get("ACCELERATEDJOB_SPECS", "400"))
# What the CRD leaves to the operator: a schema cannot say which container trains, nor read amounts.
OPERATORS = re.compile(
    r"spec\.template\.spec\.containers\[\d+\]\.(env\[\d+\]\.name|resources\.limits.*"
    r"|volumeMounts\[\d+\]\.mountPath)|spec\.template\.spec\.volumes\[\d+\]\.name"
)
DRY_AND_STRICT = {"dryRun": "All", "fieldValidation": "Strict"}
NOT_THERE = re.compile(r"no PriorityClass|RuntimeClass .* not found")  # the commands cannot know

NAMED = """
{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: nvidia}, handler: nvidia}
---
{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: high}, value: 1}
"""  # what the specs name


def examples(count: int) -> list[Manifest]:
    """So many specs, the same ones each time."""
    found: list[Manifest] = []

    @seed(1)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(specs())
    def collect(spec: Manifest) -> None:
        found.append(spec)

    collect()
    return found


async def answer(link: Connection, namespace: str, spec: Manifest) -> Manifest | Refused:
    """What the API server makes of a spec, without keeping it."""
    path = collection(KIND, namespace)
    try:
        made: Manifest = await link.request(
            "POST", path, manifest(spec, namespace=namespace), params=DRY_AND_STRICT
        )
    except Refused as refusal:
        return refusal
    return made


async def of_what_is_created(link: Connection, spec: JobSpec) -> str | None:
    """Why the API server refuses the first pod, or the claim, of a job; None if it takes them."""
    made = (claim(spec), pod(spec, attempt=Attempt.full(spec), index=0))
    for one in filter(None, made):
        path = collection(one["kind"], spec.namespace)
        try:
            await link.request("POST", path, one, params=DRY_AND_STRICT)
        except ClusterError as refusal:  # 500 for a RuntimeClass whose name is none
            return str(refusal)
    return None


async def verdict(link: Connection, namespace: str, spec: Manifest) -> str | None:
    """Why a cluster refuses a job, or what is created for it; None if it takes all."""
    told = await answer(link, namespace, spec)
    if isinstance(told, Refused):
        return str(told)
    told["metadata"].setdefault("uid", UID)
    refused = read(told)
    if refused is not None:
        return str(refused)
    return await of_what_is_created(link, JobSpec.from_manifest(told))


async def verdicts(kubeconfig: Path, namespace: str, asked: list[Manifest]) -> list[str | None]:
    """All verdicts, in order."""
    async with connection(kubeconfig, SIDE_BY_SIDE) as link:
        return list(await asyncio.gather(*(verdict(link, namespace, spec) for spec in asked)))


async def answers(
    kubeconfig: Path, namespace: str, asked: list[Manifest]
) -> list[Manifest | Refused]:
    """All answers, in order."""
    async with connection(kubeconfig, SIDE_BY_SIDE) as link:
        return list(await asyncio.gather(*(answer(link, namespace, spec) for spec in asked)))


def read(made: Manifest) -> InvalidSpec | None:
    """What the operator has against a manifest."""
    try:
        JobSpec.from_manifest(made)
    except InvalidSpec as error:
        return error
    return None


def differences(
    asked: list[Manifest], answered: list[Manifest | Refused]
) -> Iterator[tuple[Manifest, str]]:
    """Specs on which the two disagree, and how."""
    for spec, told in zip(asked, answered, strict=True):
        mine = read(manifest(spec))
        if isinstance(told, ClusterError):
            if mine is None:
                yield spec, f"only the API server refuses: {told}"
            continue
        for error in (mine, read(told)):
            if error is not None and not OPERATORS.fullmatch(error.field):
                yield spec, f"only the operator refuses: {error}"


def test_both_give_one_answer(kubeconfig: Path, namespace: str) -> None:
    asked = examples(COUNT)
    answered = asyncio.run(answers(kubeconfig, namespace, asked))
    taken = sum(not isinstance(told, Refused) for told in answered)
    assert min(taken, COUNT - taken) > COUNT // 5, f"{taken} of {COUNT} were taken"
    found = [f"{sentence}: {json.dumps(spec)}" for spec, sentence in differences(asked, answered)]
    if found:
        pytest.fail("\n".join(found))


def test_the_commands_and_a_cluster_accept_the_same(
    kubeconfig: Path, kubectl: Kubectl, namespace: str
) -> None:
    """A cluster accepts a job if it creates its pods, too."""
    kubectl("apply", "--filename=-", stdin=NAMED)
    asked = examples(COUNT)
    theirs = asyncio.run(verdicts(kubeconfig, namespace, asked))
    found = []
    for spec, said in zip(asked, theirs, strict=True):
        ours = check.faults(manifest(spec))
        if bool(ours) != bool(said) and not NOT_THERE.search(said or ""):
            found.append(f"we say {ours}, a cluster says {said}: {json.dumps(spec)}")
    if found:
        pytest.fail("\n".join(found))
