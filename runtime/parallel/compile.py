"""Compiling models with torch.compile."""

import importlib
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from runtime.config.enums import DynamoBackend
from runtime.config.handlers import KwargsHandler
from runtime.config.parsing import naming
from runtime.config.settings import Settings, env_name


@dataclass
class TorchDynamoPlugin(KwargsHandler):
    """How models are compiled; what is not said is the job's to say (ACCELERATE_DYNAMO_...)."""

    backend: Any = None  # a DynamoBackend or its name, in any case; NO compiles nothing
    mode: str | None = None  # `default`, `reduce-overhead`, `max-autotune`
    fullgraph: bool | None = None
    dynamic: bool | None = None
    options: Any = None
    disable: bool = False
    use_regional_compilation: bool | None = None  # each block of a repeated kind, compiled once

    def __post_init__(self) -> None:
        """Fill what is not said.

        Raises:
            ValueError: the backend is unknown, or its mode.
        """
        settings = Settings.from_env(os.environ)
        source = None if self.backend else env_name("dynamo_backend")
        backend = self.backend or settings.dynamo_backend or "no"
        with naming(source):
            self.backend = _known(str(backend).upper())
        source = None if self.mode else env_name("dynamo_mode")
        self.mode = self.mode or settings.dynamo_mode or "default"
        with naming(source):
            _check_mode(self.mode, self.backend)
        if self.fullgraph is None:
            self.fullgraph = bool(settings.dynamo_use_fullgraph)
        if self.dynamic is None:
            self.dynamic = settings.dynamo_use_dynamic
        if self.use_regional_compilation is None:
            self.use_regional_compilation = bool(settings.dynamo_use_regional_compilation)

    def to_dict(self) -> dict[str, Any]:
        """The arguments of torch.compile, and `use_regional_compilation`."""
        return super().to_dict() | {"backend": self.backend.value.lower()}

    def to_kwargs(self) -> dict[str, Any]:
        """Those that differ from this class' defaults."""
        default = TorchDynamoPlugin.__dataclass_fields__
        fixed = {"backend": "no", "mode": "default", "fullgraph": False}
        fixed["use_regional_compilation"] = False
        known = {name: fixed.get(name, default[name].default) for name in self.to_dict()}
        return {name: value for name, value in self.to_dict().items() if value != known[name]}


def _known(backend: str) -> DynamoBackend:
    if backend not in DynamoBackend:
        sentence = f"dynamo_backend must be one of {', '.join(DynamoBackend.list())}, got {backend}"
        raise ValueError(sentence)
    return DynamoBackend(backend)


def _check_mode(mode: str, backend: DynamoBackend) -> None:
    """Modes are inductor's; other backends take any."""
    if backend != DynamoBackend.INDUCTOR or mode == "default":
        return
    modes = importlib.import_module("torch._inductor").list_mode_options()
    if mode not in modes:
        sentence = f"dynamo_mode must be one of {', '.join(modes)}, got {mode}"
        raise ValueError(sentence)


def plugin_of(backend: Any, plugin: TorchDynamoPlugin | None) -> TorchDynamoPlugin:
    """Return the plugin that was given, or one for the backend that was given.

    Raises:
        ValueError: both were given.
    """
    if backend is not None and plugin is not None:
        sentence = "You cannot pass in both `dynamo_plugin` and `dynamo_backend`."
        raise ValueError(sentence)
    return plugin or TorchDynamoPlugin(backend=backend)


def compile_model(model: nn.Module, plugin: TorchDynamoPlugin) -> nn.Module:
    """The model, compiled as the plugin says; as it is if that says NO."""
    if plugin.backend == DynamoBackend.NO:
        return model
    options = plugin.to_kwargs()
    if options.pop("use_regional_compilation", False):
        return compile_regions(model, **options)
    compiled: nn.Module = torch.compile(model, **options)  # type: ignore[assignment]  # of a module it makes one
    return compiled


def compile_regions(module: nn.Module, **compile_kwargs: Any) -> nn.Module:
    """Compile the blocks of a model that has many of one kind, in place of the whole model.

    The compiler sees the kind once. A model without such blocks is compiled as a whole.
    """
    found = False
    for child in module.modules():
        if not isinstance(child, nn.ModuleList) or len({type(block) for block in child}) != 1:
            continue
        for block in child:
            block.compile(**compile_kwargs)
        found = True
    if not found:
        module.compile(**compile_kwargs)
    return module
