"""Create the job of `helm test`, and end with 0 when it has succeeded. Needs nothing but Python."""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PLACE = Path(os.environ.get("CREDENTIALS", "/var/run/secrets/kubernetes.io/serviceaccount"))
HOST = os.environ["KUBERNETES_SERVICE_HOST"]
SERVER = f"https://{f'[{HOST}]' if ':' in HOST else HOST}:{os.environ['KUBERNETES_SERVICE_PORT']}"


def ask(method: str, url: str, body: object = None) -> dict[str, Any]:
    """Send a request to the API server."""
    token = (PLACE / "token").read_text()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    trust = ssl.create_default_context(cafile=PLACE / "ca.crt")
    with urllib.request.urlopen(request, context=trust, timeout=30) as answer:
        return dict(json.load(answer))


def create(jobs: str, job: dict[str, Any], end: float) -> None:
    """Create the job; one of before is deleted first, and may need a moment."""
    while True:
        try:
            ask("POST", jobs, job)
        except urllib.error.HTTPError as error:
            if error.code != 409 or time.monotonic() > end:  # it exists
                sys.exit(f"cannot create the job: {error} {error.read().decode()}")
        else:
            return
        try:
            ask("DELETE", f"{jobs}/{job['metadata']['name']}")
        except urllib.error.HTTPError as error:
            if error.code != 404:  # gone meanwhile
                raise
        time.sleep(1)


def main() -> None:
    """Create, wait, delete; a job that did not succeed is left to be looked at."""
    job, seconds = json.loads(os.environ["JOB"]), int(os.environ["TIMEOUT_SECONDS"])
    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    jobs = f"{SERVER}/apis/{job['apiVersion']}/namespaces/{namespace}/acceleratedjobs"
    end, phase, status = time.monotonic() + seconds, "", {}
    create(jobs, job, end)
    while phase not in {"Succeeded", "Failed"} and time.monotonic() < end:
        time.sleep(0.5)
        status = ask("GET", f"{jobs}/{name}").get("status", {})
        if status.get("phase", "") != phase:
            phase = status["phase"]
            print(f"{namespace}/{name}: {phase}", flush=True)
    if phase != "Succeeded":
        sys.exit(f"must succeed within {seconds} s; its status: {json.dumps(status, indent=1)}")
    ask("DELETE", f"{jobs}/{name}")


main()
