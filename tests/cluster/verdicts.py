"""What a cluster makes of the text of a manifest: of the job, and of what the operator creates."""

import json
import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.manifests.claims import claim
from acceleratedjob.manifests.pod import pod
from docs.manifest_errors import ANSWERS
from docs.wrong_manifests import WRONG
from tests.cluster.conftest import fresh_namespace
from tests.cluster.jobs import install_crd
from tests.cluster.testbed.cluster import Cluster

ACCEPTED = "accepted"
UID = "00000000-0000-0000-0000-000000000001"


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks a cluster, which keeps nothing, in a namespace."""

    cluster: Cluster
    namespace: str

    def verdict(self, data: bytes) -> str:
        """Return ACCEPTED, or the sentence of kubectl, the API server or the operator."""
        done = self._kubectl("apply", data)
        if done.returncode:
            return self._sentence(done.stderr)
        try:
            spec = JobSpec.from_manifest(self._stored(done.stdout))
        except InvalidSpec as error:
            return f"accepted; then the operator: {error}"
        for made in (claim(spec), pod(spec, attempt=Attempt.full(spec), index=0)):
            done = self._kubectl("create", json.dumps(made).encode()) if made else done
            if made and done.returncode:
                return (
                    f"accepted; then the {made['kind']} is refused: {self._sentence(done.stderr)}"
                )
        return ACCEPTED

    def accepted_pods(self, jobs: Iterable[Manifest]) -> list[str]:
        """Return the names of the first pods of jobs that the API server accepts."""
        specs = [JobSpec.from_manifest(self._with_uid(one)) for one in jobs]
        made = [pod(spec, attempt=Attempt.full(spec), index=0) for spec in specs]
        data = json.dumps({"apiVersion": "v1", "kind": "List", "items": made}).encode()
        done = self._kubectl("create", data, output="name")
        return [name.removeprefix("pod/") for name in done.stdout.decode().split()]

    def _with_uid(self, made: Manifest) -> Manifest:
        metadata = made["metadata"] | {"uid": UID, "namespace": self.namespace}
        return made | {"metadata": metadata}

    def _stored(self, text: bytes) -> Manifest:
        made: Manifest = json.loads(text)
        made["metadata"]["uid"] = UID
        return made

    def _kubectl(
        self, verb: str, data: bytes, output: str = "json"
    ) -> subprocess.CompletedProcess[bytes]:
        """Have objects checked strictly."""
        command = [self.cluster.program, "--kubeconfig", str(self.cluster.kubeconfig)]
        command += ["--namespace", self.namespace, verb, "--validate=strict", "--dry-run=server"]
        command += [f"--output={output}", "--filename=-"]
        return subprocess.run(command, input=data, capture_output=True, check=False, timeout=240)

    def _sentence(self, said: bytes) -> str:
        """Return what kubectl says in one line, without names of this cluster."""
        text = " ".join(said.decode().split())
        text = re.sub(r'^(Error from server \(\w+\)|error|The \w+ "[^"]*" is invalid): ', "", text)
        text = re.sub(r'error when creating "STDIN": ', "", text)
        return re.sub(r"\bSTDIN\b", "job.yaml", text).replace(self.namespace, "default")


def main() -> None:
    """Record what the cluster of KUBECONFIG says about the wrong manifests of the docs."""
    cluster = Cluster(Path(os.environ["KUBECONFIG"]))
    install_crd(cluster)
    with fresh_namespace(cluster.kubectl) as namespace:
        asker = Asker(cluster, namespace)
        said = {case.about: asker.verdict(case.data()) for case in WRONG}
    ANSWERS.write_text(f"{json.dumps(said, indent=1)}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
