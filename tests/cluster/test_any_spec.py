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

from acceleratedjob.api.names import KIND, Manifest
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.errors import ClusterError, InvalidSpec, Refused
from acceleratedjob.kube.client import Connection
from acceleratedjob.kube.cluster import collection
from tests.cluster.operators import connection
from tests.contract.specs import manifest, specs

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd"), pytest.mark.timeout(1800)]

COUNT = int(os.environ.get("ACCELERATEDJOB_SPECS", "400"))
# What the CRD leaves to the operator: a schema cannot say which container trains, nor read amounts.
OPERATORS = re.compile(
    r"spec\.template\.spec\.containers\[\d+\]\.(env\[\d+\]\.name|resources\.limits.*"
    r"|volumeMounts\[\d+\]\.mountPath)|spec\.template\.spec\.volumes\[\d+\]\.name"
)


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
    params = {"dryRun": "All", "fieldValidation": "Strict"}
    try:
        made: Manifest = await link.request(
            "POST", path, manifest(spec, namespace=namespace), params=params
        )
    except Refused as refusal:
        return refusal
    return made


async def answers(
    kubeconfig: Path, namespace: str, asked: list[Manifest]
) -> list[Manifest | Refused]:
    """All answers, in order."""
    async with connection(kubeconfig) as link:
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
