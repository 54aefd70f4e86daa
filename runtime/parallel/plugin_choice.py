"""Chooses the plugin for sharding: the one of the script or of the environment."""

import os
from typing import Any

from runtime.config.arguments import must_be_own
from runtime.config.settings import Settings, ShardingSettings


def plugin_of(given: Any, settings: Settings) -> Any:
    """Return the FullyShardedDataParallelPlugin; None if models are not sharded.

    Args:
        given: the plugin that the script gives.
        settings: the settings of the environment, which can turn on sharding without a plugin.

    Raises:
        TypeError: the script gives an object of another type.
    """
    if given is None and not settings.use_fsdp:
        return None
    from runtime.parallel.fsdp.plugin import FullyShardedDataParallelPlugin as Plugin  # noqa: PLC0415  # imports torch's FSDP, which takes a second

    plugin = Plugin() if given is None else given
    must_be_own(plugin, Plugin, "Accelerator()", "fsdp_plugin")
    if plugin.cpu_ram_efficient_loading:
        # With these variables Transformers loads weights on rank 0 only.
        os.environ[ShardingSettings.variable("cpu_ram_efficient_loading")] = "True"
        os.environ[Settings.variable("use_fsdp")] = "true"
    return plugin
