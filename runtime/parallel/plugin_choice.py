"""Whether models are sharded: the plugin of the script, or of the environment."""

import os
from typing import Any

from runtime.config.settings import Settings, ShardingSettings


def plugin_of(given: Any, settings: Settings) -> Any:
    """The FullyShardedDataParallelPlugin: the script's, else the environment's, else None.

    Raises:
        TypeError: the script's is something else.
    """
    if given is None and not settings.use_fsdp:
        return None
    from runtime.parallel.fsdp.plugin import FullyShardedDataParallelPlugin as Plugin  # noqa: PLC0415  # imports torch's FSDP, which takes a second

    plugin = Plugin() if given is None else given
    if not isinstance(plugin, Plugin):
        sentence = f"`fsdp_plugin` must be a {Plugin.__module__}.{Plugin.__name__}, got {plugin!r}"
        raise TypeError(sentence)
    if plugin.cpu_ram_efficient_loading:
        # Transformers reads these, and then reads weights on rank 0 only.
        os.environ[ShardingSettings.variable("cpu_ram_efficient_loading")] = "True"
        os.environ[Settings.variable("use_fsdp")] = "true"
    return plugin
