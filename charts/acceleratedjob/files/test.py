"""Creates the job of `helm test` and exits with 0 once it has succeeded; needs only Python."""

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
    """Create the job; an existing one is deleted first, which may take a moment."""
    while True:
        try:
            ask("POST", jobs, job)
        except urllib.error.HTTPError as error:
            if error.code != 409 or time.monotonic() > end:  # the job exists already
                sys.exit(f"cannot create the job: {error} {error.read().decode()}")
        else:
            return
        try:
            ask("DELETE", f"{jobs}/{job['metadata']['name']}")
        except urllib.error.HTTPError as error:
            if error.code != 404:  # already deleted
                raise
        time.sleep(1)


def main() -> None:
    """Create the job, wait for it, and delete it; a failed job is kept for inspection."""
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
        sys.exit(f"the job must succeed within {seconds} s; status: {json.dumps(status, indent=1)}")
    ask("DELETE", f"{jobs}/{name}")


main()
