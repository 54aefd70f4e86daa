"""Compiles models with torch.compile."""

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
    """Arguments of `torch.compile`, and which parts of a model are compiled.

    Attributes:
        backend: the backend: a DynamoBackend, or its name in upper or lower case. NO turns
            compilation off. None: ACCELERATE_DYNAMO_BACKEND, or NO.
        mode: `default`, `reduce-overhead`, `max-autotune` or another mode of the backend.
            None: ACCELERATE_DYNAMO_MODE, or `default`.
        fullgraph: whether a model must be compiled into a single graph, so that a graph break is
            an error. None: ACCELERATE_DYNAMO_USE_FULLGRAPH, or False.
        dynamic: whether kernels are compiled for variable shapes. None:
            ACCELERATE_DYNAMO_USE_DYNAMIC; if that is not set, torch decides when shapes change.
        options: a dict of options of the backend.
        disable: whether torch.compile does nothing, for tests.
        use_regional_compilation: whether repeated blocks are compiled instead of the whole model,
            so that the compiler processes each kind of block once. None:
            ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION, or False.

    Raises:
        ValueError: the backend or the mode is unknown.
    """

    backend: Any = None
    mode: str | None = None
    fullgraph: bool | None = None
    dynamic: bool | None = None
    options: Any = None
    disable: bool = False
    use_regional_compilation: bool | None = None

    def __post_init__(self) -> None:
        """Replace None by the settings of the environment.

        Raises:
            ValueError: the backend or the mode is unknown.
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
        """Return the arguments of torch.compile, and `use_regional_compilation`."""
        return super().to_dict() | {"backend": self.backend.value.lower()}

    def to_kwargs(self) -> dict[str, Any]:
        """Return the fields that differ from the defaults without environment variables."""
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
    """Check the mode of inductor; the modes of other backends are unknown."""
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
    """Compile a model; returns it unchanged if the backend is NO.

    Args:
        model: the model.
        plugin: how it is compiled.
    """
    if plugin.backend == DynamoBackend.NO:
        return model
    options = plugin.to_kwargs()
    if options.pop("use_regional_compilation", False):
        return compile_regions(model, **options)
    compiled: nn.Module = torch.compile(model, **options)  # type: ignore[assignment]  # a module is compiled to a module
    return compiled


def compile_regions(module: nn.Module, **compile_kwargs: Any) -> nn.Module:
    """Compile the repeated blocks of a model instead of the whole model, in place.

    Repeated blocks are the elements of an `nn.ModuleList` that all have one class; the compiler
    processes each class once. A model without such blocks is compiled as a whole.

    Args:
        module: the model.
        **compile_kwargs: arguments of torch.compile.

    Returns:
        The model.
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
