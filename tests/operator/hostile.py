"""Jobs that are made to hurt the operator: deep, large, with numbers and texts of any kind."""

import json
import random
from collections.abc import Callable, Iterator

from acceleratedjob.api.names import ConditionType, Manifest, Reason
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Status
from acceleratedjob.errors import InvalidSpec
from tests.operator.builders import job

HERE = "HERE"  # in the place of a value that is put in as JSON text
LARGE = 100  # one job in so many has a megabyte
Value = Callable[[random.Random], str]  # JSON
SCRIPTS = (
    "\u202e\u2066",
    "\ufdfa" * 9,
    "\U0001f469\u200d\U0001f52c",
    "\x1b[2J",
    "\u0000"[:0],
    "İıſ",
)


def _nested(chance: random.Random) -> str:
    depth = chance.choice([10, 60, 64, 65, 150, 199, 200, 201, 900, 960, 990, 1_000, 4_000, 9_000])
    left, right = chance.choice([("[", "]"), ('{"a":', "}")])
    return left * depth + "1" + right * depth


def _wide(chance: random.Random, size: int = 20_000) -> str:
    entry = chance.choice(["[]", "{}", "0", '""', "[[]]", '{"a":[]}', "true"])
    return "[" + ",".join([entry] * (size // (len(entry) + 1))) + "]"


def _text(chance: random.Random, size: int = 20_000) -> str:
    one = chance.choice(["<", "a", "9", '"', "\\", "\n", "é", "\U0001f600", *SCRIPTS])
    return json.dumps(one * (size // 6))


def _quantity(chance: random.Random) -> str:
    digits = "9" * chance.choice([1, 20, 64, 65, 4_000, 20_000])
    return json.dumps(
        chance.choice(["", "-", "."])
        + digits
        + chance.choice(["", "e999999", "e99999999", "E-5", "!", "Ei", "e" + digits])
    )


def _number(chance: random.Random) -> str:
    return chance.choice(["1e308", "-1e-308", "9223372036854775807", "-9223372036854775808", "0.1"])


def _megabyte(chance: random.Random) -> str:
    size = 1_000_000
    return chance.choice([_wide(chance, size), json.dumps("<" * size), '"' + "9" * size + '"'])


PLACES = {  # where in a pod's template a value stands, and which values go there
    "volumes": (_nested, _wide, _text, _number),
    "schedulerName": (_nested, _wide, _text, _number),
    "limits": (_quantity, _number, _text, _nested),
    "labels": (_text,),
    "args": (_text,),
    "env": (_text,),
}


def _template(place: str) -> dict[str, object]:
    """A part of a job's spec with the place in it."""
    container: dict[str, object] = {"name": "trainer", "image": "train:1", "command": ["train"]}
    pod: dict[str, object] = {"containers": [container]}
    template: dict[str, object] = {"spec": pod}
    match place:
        case "volumes":
            pod["volumes"] = [{"name": HERE}]
        case "schedulerName":
            pod["schedulerName"] = HERE
        case "limits":
            container["resources"] = {"limits": {"cpu": HERE, "memory": "1Gi"}}
        case "labels":
            template["metadata"] = {"annotations": {"x": HERE}}
        case "args":
            container["args"] = [HERE]
        case _:
            container["env"] = [{"name": "X", "value": HERE}]
    return template


def jobs(namespace: str, count: int) -> Iterator[bytes]:
    """So many jobs as JSON, the same ones each time; most make no pods, if they are valid."""
    for number in range(count):
        chance = random.Random(number)
        place = chance.choice(list(PLACES))
        large = number % LARGE == LARGE - 1
        value = (_megabyte if large else chance.choice(PLACES[place]))(chance)
        suspend = chance.random() < 0.95
        made = job(replicas=1, suspend=suspend, template=_template(place))
        made["metadata"] = {"name": f"hostile-{number}", "namespace": namespace}
        yield json.dumps(made).replace(f'"{HERE}"', value).encode()


def told(found: Manifest) -> str:
    """What the operator has said of a job; empty before it has."""
    status = Status.from_manifest(found)
    try:
        spec = JobSpec.from_manifest(found)
    except InvalidSpec:
        failed = status.condition(ConditionType.FAILED)
        return "refused" if failed and failed.reason == Reason.INVALID_SPEC else ""
    if spec.suspend:
        return "suspended" if status.holds(ConditionType.SUSPENDED) else ""
    return str(status.phase or "")
