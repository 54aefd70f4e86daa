import pytest

from acceleratedjob.api.names import Manifest
from acceleratedjob.manifests.network import network_policy, service
from acceleratedjob.manifests.pod import shared_memory_size
from acceleratedjob.observe.pod import read_pod
from tests.attempts import pod_of
from tests.operator.builders import CONTAINER, UID, spec


def template(metadata: Manifest | None = None, **fields: object) -> Manifest:
    return {"metadata": metadata or {}, "spec": {"containers": [CONTAINER]} | fields}


def test_a_pod_has_its_name_its_owner_and_no_access_to_the_api() -> None:
    made = pod_of(spec(), attempt=2, index=1)
    assert made["metadata"]["name"] == "digits-2-1"
    assert made["metadata"]["labels"] | {} == {
        "sidecar.istio.io/inject": "false",
        "app.kubernetes.io/managed-by": "acceleratedjob-operator",
        "app.kubernetes.io/component": "trainer",
        "accelerated.dev/job-name": "digits",
        "accelerated.dev/job-uid": UID,
        "accelerated.dev/attempt": "2",
        "accelerated.dev/replica-index": "1",
    }
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (UID, True, True)
    got = {
        name: made["spec"][name] for name in made["spec"] if name not in ("containers", "volumes")
    }
    assert got == {
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "hostname": "digits-2-1",
        "subdomain": "digits",
    }


def test_the_template_is_not_changed_and_its_wishes_stand() -> None:
    given = template(automountServiceAccountToken=True, nodeSelector={"gpu": "yes"})
    job = spec(template=given)
    made = pod_of(job, attempt=0, index=0)
    assert made["spec"]["automountServiceAccountToken"] is True
    assert made["spec"]["nodeSelector"] == {"gpu": "yes"}
    assert job.template == given


def test_a_mesh_is_joined_if_the_template_says_so() -> None:
    given = template(metadata={"labels": {"sidecar.istio.io/inject": "true"}})
    labels = pod_of(spec(template=given), attempt=0, index=0)["metadata"]["labels"]
    assert labels["sidecar.istio.io/inject"] == "true"


def test_only_the_training_container_gets_the_environment() -> None:
    sidecar = {"name": "logs", "image": "logs:1"}
    made = pod_of(spec(template=template(containers=[sidecar, CONTAINER])), attempt=0, index=0)
    assert made["spec"]["containers"][0] == sidecar
    assert made["spec"]["containers"][1]["env"][0]["name"] == "ACCELERATEDJOB_NAME"
    assert made["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == "trainer"


@pytest.mark.parametrize(
    ("limits", "fields", "size"),
    [
        pytest.param({}, {}, None, id="no limit: the node's"),
        pytest.param({"memory": "64Gi"}, {}, "32768Mi", id="half of the memory limit"),
        pytest.param({"memory": "64Gi"}, {"sizeLimit": "8Gi"}, "8Gi", id="as the author says"),
    ],
)
def test_shared_memory(limits: Manifest, fields: Manifest, size: str | None) -> None:
    job = spec({"resources": {"limits": limits}}, sharedMemory=fields)
    assert shared_memory_size(job) == size
    volume = pod_of(job, attempt=0, index=0)["spec"]["volumes"][0]["emptyDir"]
    assert volume == {"medium": "Memory"} | ({"sizeLimit": size} if size else {})


@pytest.mark.parametrize("path", ["/dev/shm", "/dev/shm/", "/dev//shm", "/dev/./shm"])  # noqa: S108
def test_a_mount_of_ones_own_at_dev_shm_stays(path: str) -> None:
    mounts = [{"name": "mine", "mountPath": path}]
    made = pod_of(spec({"volumeMounts": mounts}), attempt=0, index=0)
    assert made["spec"]["containers"][0]["volumeMounts"] == mounts
    assert "volumes" not in made["spec"]


def test_a_volume_of_ones_own_may_have_the_name_of_ours() -> None:
    own = [
        {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
        {"name": "shared-memory-1", "emptyDir": {}},
    ]
    mount = {"name": "shared-memory", "mountPath": "/plasma"}
    given = template(volumes=own, containers=[CONTAINER | {"volumeMounts": [mount]}])
    made = pod_of(spec(template=given), attempt=0, index=0)["spec"]
    assert made["volumes"][:2] == own
    ours = made["volumes"][2]["name"]
    assert ours not in ("shared-memory", "shared-memory-1")
    assert made["containers"][0]["volumeMounts"] == [
        mount,
        {"name": ours, "mountPath": "/dev/shm"},  # noqa: S108
    ]


@pytest.mark.parametrize(
    ("fields", "policy"),
    [
        pytest.param({}, None, id="the pod's own network: as the cluster's default"),
        pytest.param({"hostNetwork": True}, "ClusterFirstWithHostNet", id="the node's"),
        pytest.param(
            {"hostNetwork": True, "dnsPolicy": "ClusterFirst"},
            "ClusterFirstWithHostNet",
            id="what Kubernetes would take for the node's DNS",
        ),
        pytest.param({"hostNetwork": True, "dnsPolicy": "None"}, "None", id="as its author says"),
    ],
)
def test_pods_find_each_other_by_the_clusters_dns(fields: Manifest, policy: str | None) -> None:
    made = pod_of(spec(template=template(**fields)), attempt=0, index=0)["spec"]
    assert made.get("dnsPolicy") == policy


# A deleted job of the same name may have pods that stop for ever: they are none of this one's.
OURS = {"accelerated.dev/job-name": "digits", "accelerated.dev/job-uid": UID}


def test_the_service_gives_names_to_pods_that_are_not_ready() -> None:
    assert service(spec())["spec"] == {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": OURS,
        "ports": [{"name": "rendezvous", "port": 29500, "appProtocol": "tcp"}],
    }


def test_the_wall_lets_in_the_jobs_own_pods_and_the_operator_where_progress_is_told() -> None:
    ours = {"podSelector": {"matchLabels": OURS}}
    operator = {
        "namespaceSelector": {},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "acceleratedjob"}},
    }
    made = network_policy(spec(network={"isolate": True, "progressPort": 3001}))
    assert made["spec"] == ours | {
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [ours]},
            {"from": [operator], "ports": [{"protocol": "TCP", "port": 3001}]},
        ],
    }


def test_a_pod_is_read_back_as_it_was_named() -> None:
    made = pod_of(spec(), attempt=12, index=345)
    made["metadata"]["uid"] = "u"
    seen = read_pod(made)
    assert seen is not None
    assert (seen.attempt, seen.index, seen.node, seen.ending) == (12, 345, None, None)


NAMED = {"name": "progress", "containerPort": 29400}


@pytest.mark.parametrize(
    ("given", "network", "ports"),
    [
        pytest.param([], {}, [NAMED], id="none"),
        pytest.param([], {"progressPort": 3001}, [NAMED | {"containerPort": 3001}], id="another"),
        pytest.param([{"containerPort": 80}], {}, [{"containerPort": 80}, NAMED], id="another's"),
        pytest.param([{"containerPort": 29400}], {}, None, id="the template's own, of this number"),
        pytest.param([NAMED | {"containerPort": 80}], {}, None, id="of this name"),
        pytest.param([{}], {}, [{}, NAMED], id="no port: the API server says so"),
    ],
)
def test_the_progress_port_has_a_name(
    given: list[Manifest], network: Manifest, ports: list[Manifest] | None
) -> None:
    made = pod_of(spec({"ports": given}, network=network), attempt=0, index=1)
    assert made["spec"]["containers"][0]["ports"] == (given if ports is None else ports)


def test_no_port_is_reserved_on_a_node() -> None:
    made = pod_of(spec(template=template(hostNetwork=True)), attempt=0, index=0)
    assert "ports" not in made["spec"]["containers"][0]
