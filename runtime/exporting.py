"""A model's weights out of an Accelerator: in memory, and in files that others read."""

import os
from pathlib import Path
from typing import Any

from torch import nn

from runtime.checkpoint.formats import can_be_safetensors, save, writes
from runtime.checkpoint.sharding import full_state_dict
from runtime.checkpoint.sizes import size_in_bytes
from runtime.checkpoint.weights import write_weights
from runtime.config.plugins import ProjectConfiguration
from runtime.parallel.wrap import bare
from runtime.world.roles import StateView


class Exporting(StateView):
    """Mixed into the Accelerator."""

    project_configuration: ProjectConfiguration

    def save(self, obj: Any, f: Any, safe_serialization: bool = False) -> None:
        """Save an object on the main process, or on each machine's if the project says so.

        Args:
            obj: what torch.save takes; for safetensors a dict of tensors.
            f: the file.
            safe_serialization: as safetensors.
        """
        each = self.project_configuration.save_on_each_node
        save(obj, f, save_on_each_node=each, safe_serialization=safe_serialization)

    def get_state_dict(self, model: nn.Module, unwrap: bool = True) -> dict[str, Any]:
        """A model's weights.

        Args:
            model: prepared, or not.
            unwrap: under the names of the script's own model, which a sharded one always has.

        Returns:
            The whole weights; those of a sharded model are gathered by all ranks, for rank 0 only.
        """
        if self.state.is_fsdp2:
            return full_state_dict(model)
        return dict((bare(model) if unwrap else model).state_dict())

    def save_model(
        self,
        model: nn.Module,
        save_directory: str | os.PathLike[str],
        max_shard_size: int | str = "10GB",
        safe_serialization: bool = True,
    ) -> None:
        """Write a model's weights, in one file or several with an index, as Hugging Face reads.

        Weights of another form that an earlier `save_model` has left in the directory are removed;
        other files stay, and so do those of a checkpoint of `save_state`.

        Args:
            model: prepared, or not.
            save_directory: where to.
            max_shard_size: of one file: bytes, or as `5GB`, `200MiB`.
            safe_serialization: as safetensors, if the package is there.

        Raises:
            RuntimeError: a weight is on the meta device: it has no numbers.
        """
        if any(parameter.is_meta for parameter in model.parameters()):
            sentence = "You can't save the model since some parameters are on the meta device."
            raise RuntimeError(sentence)
        weights = self.get_state_dict(model)
        if not writes(self.project_configuration.save_on_each_node) or not weights:
            return
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        is_safe = can_be_safetensors(safe_serialization, weights)
        write_weights(self.save, weights, folder, size_in_bytes(max_shard_size), is_safe)
