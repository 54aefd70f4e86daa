"""The arguments of `Client.train`, and the manifests that they become."""

import io
import random
import zipfile
from base64 import b64decode
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceleratedjob.api.names import MAX_NAME_LENGTH, Manifest
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.client.code import MAX_BYTES, MAX_FOLDER_BYTES, Code, config_map, read_code
from acceleratedjob.client.training import Training, job_manifest, job_name, with_owner
from acceleratedjob.errors import InvalidSpec, NotShippable
from acceleratedjob.local.process import expand
from tests.contract.test_examples import SPEC
from tests.operator.builders import job

SCRIPT = Code("train.py", (), {"train.py": b"print(1)\n"})


def manifest(code: Code = SCRIPT, **fields: Any) -> Manifest:
    training = Training(**({"name": "digits", "namespace": "research", "image": "i:1"} | fields))
    return job_manifest(training, code, config_map="digits-code")


def container(found: Manifest) -> Manifest:
    (one,) = found["spec"]["template"]["spec"]["containers"]
    return dict(one)


def shipped(code: Code, *packages: str) -> Manifest:
    return config_map(code, packages, job="digits", name="digits-code")


def test_the_least_job() -> None:
    assert manifest()["spec"] == {
        "replicas": 1,
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "trainer",
                        "image": "i:1",
                        "command": [
                            *("python", "/acceleratedjob/code/start.py", "/acceleratedjob/work")
                        ],
                        "args": ["train.py"],
                        "volumeMounts": [
                            {
                                "name": "acceleratedjob-code",
                                "mountPath": "/acceleratedjob/code",
                                "readOnly": True,
                            },
                            {"name": "acceleratedjob-work", "mountPath": "/acceleratedjob/work"},
                        ],
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                    }
                ],
                "volumes": [
                    {"name": "acceleratedjob-code", "configMap": {"name": "digits-code"}},
                    {"name": "acceleratedjob-work", "emptyDir": {}},
                ],
            }
        },
    }


def claim(mode: str) -> Manifest:
    spec = {"accessModes": [mode], "resources": {"requests": {"storage": "20Gi"}}}
    return {"volume": {"volumeClaimTemplate": {"spec": spec}}}


FIELDS: Manifest = {"uri": "gs://b", "everySteps": 5}


@pytest.mark.parametrize(
    ("given", "path", "found"),
    [
        pytest.param({"replicas": 4}, "replicas", 4, id="replicas"),
        pytest.param({"processes": 2}, "processesPerReplica", 2, id="processes"),
        pytest.param({"checkpoint": "s3://b/c"}, "checkpoint", {"uri": "s3://b/c"}, id="a URL"),
        pytest.param(
            {"checkpoint": "20Gi"}, "checkpoint", claim("ReadWriteOnce"), id="a volume of one pod"
        ),
        pytest.param(
            {"checkpoint": "20Gi", "replicas": 2},
            "checkpoint",
            claim("ReadWriteMany"),
            id="a volume of several pods",
        ),
        pytest.param({"checkpoint": FIELDS}, "checkpoint", FIELDS, id="the fields of checkpoint"),
        pytest.param(
            {"spec": {"failurePolicy": {"maxRestarts": 0}}},
            "failurePolicy",
            {"maxRestarts": 0},
            id="another field of the spec",
        ),
    ],
)
def test_what_an_argument_sets_in_the_spec(given: Any, path: str, found: object) -> None:
    made = manifest(**given)["spec"]
    assert made[path] == found
    jsonschema.validate(made, SPEC)


@pytest.mark.parametrize(
    ("given", "path", "found"),
    [
        pytest.param({"gpus": 8}, "resources", {"limits": {"nvidia.com/gpu": 8}}, id="GPUs"),
        pytest.param(
            {"gpus": 1, "resources": {"cpu": 4}},
            "resources",
            {"limits": {"cpu": 4, "nvidia.com/gpu": 1}},
            id="GPUs and cores",
        ),
        pytest.param({"env": {"A": "b"}}, "env", [{"name": "A", "value": "b"}], id="variables"),
        pytest.param({"container": {"tty": True}}, "tty", True, id="another field"),
        pytest.param({"image": "b:2"}, "image", "b:2", id="an image"),
    ],
)
def test_what_an_argument_sets_in_the_container(given: Any, path: str, found: object) -> None:
    made = manifest(**given)
    assert container(made)[path] == found
    jsonschema.validate(made["spec"], SPEC)


def test_volumes_are_added_to_those_of_the_code() -> None:
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    mount = {"name": "data", "mountPath": "/data"}
    made = manifest(
        pod={"volumes": [volume], "nodeSelector": {"a": "b"}}, container={"volumeMounts": [mount]}
    )
    pod = made["spec"]["template"]["spec"]
    assert [one["name"] for one in pod["volumes"]] == [
        *("acceleratedjob-code", "acceleratedjob-work", "data")
    ]
    assert pod["nodeSelector"] == {"a": "b"}
    assert container(made)["volumeMounts"][2:] == [mount]


def test_there_is_a_process_for_each_gpu() -> None:
    assert JobSpec.from_manifest(manifest(gpus=8)).processes == 8


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param({"name": "Digits"}, "metadata.name: must be", id="a name in capitals"),
        pytest.param({"replicas": 0}, "spec.replicas: must be", id="no replica"),
        pytest.param({"gpus": -1}, "gpus: must be", id="less than no GPU"),
        pytest.param({"gpus": "8"}, "gpus: must be", id="GPUs as text"),
        pytest.param({"processes": 0}, "spec.processesPerReplica: must be", id="no process"),
        pytest.param({"packages": "torch"}, "packages: must be a list", id="packages as text"),
        pytest.param({"packages": ["--pre"]}, "packages[0]: must be a package", id="a flag of pip"),
        pytest.param({"packages": ["a", "b\nc"]}, "packages[1]: must be a package", id="two lines"),
        pytest.param({"env": ["A=b"]}, "env: must be a dict", id="variables in a list"),
        pytest.param(
            {"env": {"A": 1}}, "env['A']: must be a string, got 1", id="a variable that is a number"
        ),
        pytest.param({"env": {"RANK": "1"}}, "RANK is set by the operator", id="a rank"),
        pytest.param({"checkpoint": "runs"}, "checkpoint: must be a URL", id="a folder"),
        pytest.param({"checkpoint": {}}, "spec.checkpoint: must have", id="an empty checkpoint"),
        pytest.param(
            {"spec": {"replicas": 2}}, "spec['replicas']: is made", id="it is given twice"
        ),
        pytest.param({"pod": {"containers": []}}, "pod['containers']: is", id="the container"),
        pytest.param({"container": {"env": []}}, "container['env']: is", id="variables twice"),
        pytest.param({"spec": {"replica": 2}}, "spec.replica", id="an unknown field"),
        pytest.param(
            {"pod": {"nodeselector": {}}},
            "did you mean nodeSelector",
            id="a misspelt field of pods",
        ),
        pytest.param(
            {"container": {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}},
            "must be one of the pod's volumes, got 'data'",
            id="a mount without a volume",
        ),
        pytest.param({"image": 3}, ".image: must be a string, got 3", id="a number as the image"),
        pytest.param(
            {"gpus": 2, "resources": {"nvidia.com/gpu": 1}},
            "resources['nvidia.com/gpu']: is made from gpus",
            id="GPUs twice",
        ),
    ],
)
def test_an_invalid_argument_is_named(given: Any, words: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        manifest(**given)
    assert words in str(error.value)


@given(st.text("$()ab\\", max_size=6))
def test_the_words_of_a_script_arrive_as_they_are(word: str) -> None:
    (_, sent) = container(manifest(Code("train.py", (word,), {"train.py": b""})))["args"]
    assert expand(sent, {"a": "?", "ab": "?"}) == word


@given(st.text(max_size=60), st.text("abc123", min_size=5, max_size=5))
def test_the_name_of_any_function_gives_the_name_of_a_job(title: str, suffix: str) -> None:
    name = job_name(title, suffix)
    JobSpec.from_manifest(job() | {"metadata": {"name": name}})
    assert name.endswith(f"-{suffix}")
    assert len(name) <= MAX_NAME_LENGTH


def test_a_script_that_fits_is_readable_text() -> None:
    made = shipped(SCRIPT)
    assert made["data"].keys() == {"start.py", "train.py"}
    assert made["data"]["train.py"] == "print(1)\n"
    assert "binaryData" not in made
    assert made["immutable"]


def test_packages_are_listed_as_typed() -> None:
    made = shipped(SCRIPT, "einops==0.8.1", "x[y]>=2")
    assert made["data"]["packages.txt"] == "einops==0.8.1\nx[y]>=2\n"


LONG = b"print('the same line again')\n" * (MAX_BYTES // 20)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(Code("train.py", (), {"train.py": LONG}), id="a text that is too large"),
        pytest.param(Code("train.py", (), {"train.py": b"\xff"}), id="a script that is not UTF-8"),
        pytest.param(Code("my script.py", (), {"my script.py": b""}), id="a name with a space"),
        pytest.param(Code("start.py", (), {"start.py": b"mine"}), id="a name that is ours"),
        pytest.param(
            Code("a/b.py", (), {"a/b.py": b"", "c.bin": b"\0"}, is_folder=True), id="a folder"
        ),
    ],
)
def test_other_code_is_an_archive(code: Code) -> None:
    made = shipped(code)
    assert made["data"].keys() == {"start.py"}
    data = b64decode(made["binaryData"]["code.zip"])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == code.files
    assert shipped(code) == made


def test_an_archive_may_fill_a_config_map_but_no_more() -> None:
    room = MAX_BYTES - len(shipped(SCRIPT)["data"]["start.py"].encode())
    noise = random.Random(0).randbytes(MAX_BYTES)  # does not get smaller
    fits = Code("a.bin", (), {"a.bin": noise[: room - 1000]})  # with the headers of the archive
    assert len(b64decode(shipped(fits)["binaryData"]["code.zip"])) > room - 1000
    with pytest.raises(NotShippable) as error:
        shipped(Code("a.bin", (), {"a.bin": noise[:room]}))
    assert "1.0 MiB, compressed, but a ConfigMap holds 1.0 MiB: build an image" in str(error.value)
    assert "a.bin (1.0 MiB)" in str(error.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "train.py",
        "conf/a.json",
        ".env",
        ".git/x",
        "__pycache__/train.pyc",
        "m/__init__.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_a_folder_is_shipped_without_what_is_hidden(folder: Path) -> None:
    code = read_code(folder / "train.py", ["--lr", 0.1], folder=folder)
    assert code.script == "train.py"
    assert code.words == ("--lr", "0.1")
    assert sorted(code.files) == ["conf/a.json", "m/__init__.py", "train.py"]


def test_a_script_is_shipped_alone(folder: Path) -> None:
    assert read_code(str(folder / "train.py")).files == {"train.py": b"train.py"}


@pytest.mark.parametrize(
    ("script", "args", "inside", "words"),
    [
        pytest.param("none.py", [], None, "the script must be a file", id="no file"),
        pytest.param("conf", [], None, "the script must be a file", id="a folder"),
        pytest.param("train.py", [], "conf", "must be in the folder", id="another folder"),
        pytest.param(".env", [], ".", "hidden files are not shipped", id="a hidden script"),
        pytest.param("train.py", "--lr 1", None, "must be a list of words", id="one text"),
        pytest.param("train.py", {"lr": 1}, None, "must be a list of words", id="a mapping"),
        pytest.param("train.py", [None], None, "must be a list of words", id="an object"),
    ],
)
def test_what_is_wrong_with_a_script(
    folder: Path, script: str, args: Any, inside: str | None, words: str
) -> None:
    with pytest.raises(NotShippable) as error:
        read_code(folder / script, args, folder=inside and folder / inside)
    assert words in str(error.value)


def test_a_folder_of_data_is_not_even_read(folder: Path) -> None:
    with (folder / "data.bin").open("wb") as file:
        file.truncate(MAX_FOLDER_BYTES)  # sparse
    with pytest.raises(NotShippable) as error:
        read_code(folder / "train.py", folder=folder)
    assert "build an image" in str(error.value)
    assert "the largest files are data.bin (64.0 MiB)" in str(error.value)


def test_the_config_map_is_deleted_with_the_job() -> None:
    metadata = with_owner(shipped(SCRIPT), job())["metadata"]
    assert metadata["namespace"] == "research"
    assert metadata["ownerReferences"] == [
        {
            "apiVersion": "accelerated.dev/v1alpha1",
            "kind": "AcceleratedJob",
            "name": "digits",
            "uid": job()["metadata"]["uid"],
            "controller": True,
        }
    ]
