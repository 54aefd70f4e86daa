"""Makes the volumes of a pod on this machine, if its ConfigMaps are there.

They are those of a pod that `acceleratedjob.Client` has shipped code to. The volumes of any other
pod are ignored.
"""

from base64 import b64decode
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from acceleratedjob.api.names import View
from acceleratedjob.api.template import trainer


def make_volumes(pod: View, config_maps: Iterable[View], folder: Path) -> dict[str, Path]:
    """Make the volumes of the training container that are ConfigMaps or empty.

    Args:
        pod: the manifest of the pod.
        config_maps: the ConfigMaps that there are.
        folder: where the volumes are made; it need not exist.

    Returns:
        The folder of each volume by its mount path; empty if the pod has no ConfigMap that exists.
    """
    maps = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in config_maps}
    space = pod["metadata"]["namespace"]
    sources: dict[str, Any] = {one["name"]: one for one in pod["spec"].get("volumes") or ()}
    found = {
        name: maps[space, source["configMap"]["name"]]
        for name, source in sources.items()
        if "configMap" in source and (space, source["configMap"].get("name")) in maps
    }
    if not found:
        return {}
    empty = {name for name, one in sources.items() if _is_on_disk(one)}
    mounts = {
        mount["mountPath"]: folder / mount["name"]
        for mount in trainer(pod).get("volumeMounts") or ()
        if mount["name"] in found or mount["name"] in empty
    }
    for place in mounts.values():
        place.mkdir(parents=True, exist_ok=True)
    for name, config_map in found.items():
        _write(config_map, folder / name)
    return mounts


def _is_on_disk(volume: Mapping[str, Any]) -> bool:
    return "emptyDir" in volume and (volume["emptyDir"] or {}).get("medium") != "Memory"


def _write(config_map: View, folder: Path) -> None:
    for name, text in (config_map.get("data") or {}).items():
        (folder / name).write_text(text, encoding="utf-8")
    for name, data in (config_map.get("binaryData") or {}).items():
        (folder / name).write_bytes(b64decode(data))
