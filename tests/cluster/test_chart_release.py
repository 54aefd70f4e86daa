"""A release on a real API server: its account's rights, its users' rights, its upgrade.

The operator's pods are on fake nodes; what works is the same program as a process, as the release's
service account.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from acceleratedjob.api.names import GROUP
from tests.cluster.charts import (
    FULL_NAME,
    RELEASE,
    Release,
    Rights,
    documented,
    found,
    render,
    rights,
)
from tests.cluster.jobs import CHART, Job, fake_job
from tests.cluster.members import LONG, member, one_leads
from tests.cluster.testbed import kwok
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.processes import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd", "fake_nodes")]

LINE = r"^(\w+)(?:\.([^/\s]+))?(?:/(\S+))?\s+\[\]\s+\[(.*?)\]\s+\[(.*?)\]$"  # of `can-i --list`
ACCOUNT = "system:serviceaccount:{0}:{0}"
SECONDS = "--timeout=240s"
REVIEWS = ("authentication.k8s.io", "authorization.k8s.io")  # what every account may ask
READ = {"get", "list", "watch"}
WRITE = {"create", "update", "patch", "delete", "deletecollection"}
MAY = {"view": READ, "edit": READ | WRITE, "admin": READ | WRITE}
UIDS = 'jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.uid}{"\\n"}{end}'
OF_JOBS = ("get", "aj,pods,services", "--selector=!app.kubernetes.io/instance", "--output", UIDS)
IMAGE = "--output=jsonpath={.spec.template.spec.containers[0].image}"
EXISTING = {"crds": {"enabled": False}, "rbac": {"userRoles": True}, **kwok.PLACEMENT}


@pytest.fixture
def release(testbed: Cluster, namespace: str) -> Iterator[Release]:
    """The chart, installed to serve its own namespace."""
    made = Release(testbed, namespace)
    values = EXISTING | {"namespaces": [namespace], "fullnameOverride": namespace}
    made.helm("install", RELEASE, CHART, "--wait", SECONDS, values=values)
    yield made
    made.helm("uninstall", RELEASE, "--wait", SECONDS)


@pytest.mark.parametrize(
    ("served", "warned"),
    [
        pytest.param([], False, id="all namespaces are served"),
        pytest.param(["red"], False, id="others are served"),
        pytest.param(["red", "its own"], True, id="its own is served"),
    ],
)
def test_the_notes_say_whose_the_releases_namespace_is(
    testbed: Cluster, namespace: str, served: list[str], warned: bool
) -> None:
    release = Release(testbed, namespace)
    names = [namespace if name == "its own" else name for name in served]
    values = {"namespaces": names, "crds": {"enabled": False}, "rbac": {"userRoles": False}}
    notes = release.helm("install", RELEASE, CHART, "--dry-run=client", values=values)
    assert f"Keep the namespace {namespace} for the operator alone: whoever may create" in notes
    assert (f"WARNING: the operator serves jobs in {namespace} itself" in notes) == warned


def may(release: Release, user: str) -> Rights:
    """What a user may do in the release's namespace, as the API server lists it."""
    asked = ("auth", "can-i", "--list", "--no-headers", f"--as={user}")
    text = release.kubectl(*asked)
    lines = re.findall(LINE, text, re.MULTILINE)
    return {
        (group, "/".join(part for part in (resource, sub, name) if part), verb)
        for resource, group, sub, name, verbs in lines
        for verb in verbs.split()
    }


def test_the_account_may_do_exactly_what_is_documented(release: Release) -> None:
    own = may(release, ACCOUNT.format(release.namespace))
    told = {
        (group, name.replace(FULL_NAME, release.namespace), verb)
        for group, name, verb in documented()
    }
    assert {right for right in own if right[0] not in REVIEWS} == told
    roles = found(render(namespaces=["red"], rbac={"userRoles": False}), "Role")
    assert set().union(*map(rights, roles)) == set(documented())


@pytest.mark.parametrize("role", MAY)
def test_users_of_a_namespace_may_do_with_its_jobs_what_their_role_says(
    release: Release, role: str
) -> None:
    user = f"{role}-{release.namespace}"
    bind = ("create", "rolebinding", role, f"--clusterrole={role}", f"--user={user}")
    release.kubectl(*bind)

    def granted(resource: str) -> set[str]:
        return {
            verb for group, name, verb in may(release, user) if (group, name) == (GROUP, resource)
        }

    wait_until(lambda: granted("acceleratedjobs") == MAY[role], what=role, seconds=120)
    assert granted("acceleratedjobs/status") == {"get"}


def test_an_upgrade_touches_no_job_that_runs(release: Release, tmp_path: Path) -> None:
    job, place = Job(release.cluster, release.namespace), release.namespace
    account = release.kubeconfig(place, tmp_path / "kubeconfig")
    flags = ("--leader-elect", f"--lease-name={place}", f"--lease-namespace={place}", *LONG)
    with member(account, tmp_path / "old.log", place, *flags) as old:
        job.apply(fake_job(place))
        job.wait("jsonpath={.status.phase}=Running")
        before = job.kubectl(*OF_JOBS)
        assert before.count("Pod digits-0-") == 2
        chart = tmp_path / "chart"
        shutil.copytree(CHART, chart)
        about = yaml.safe_load((chart / "Chart.yaml").read_text())
        later = about | {"version": "99.0.0", "appVersion": "99.0.0"}
        (chart / "Chart.yaml").write_text(json.dumps(later))
        release.helm("upgrade", RELEASE, chart, "--reuse-values", "--wait", SECONDS)
        assert old.end() == 0
    image = job.kubectl("get", f"deployment/{place}", IMAGE)
    assert image == "acceleratedjob-operator:99.0.0"
    with member(account, tmp_path / "new.log", place, *flags) as new:
        assert one_leads([new]) is new
        job.apply(fake_job(place, name="next"))
        job.wait_for("next", "jsonpath={.status.phase}=Running")
        job.kubectl("delete", "aj/next")
        job.wait_gone("pods,services", "--selector=accelerated.dev/job-name=next")
        assert job.kubectl(*OF_JOBS) == before
        assert new.end() == 0
