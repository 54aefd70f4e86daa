"""Merges the shards of a model's checkpoint into one file of weights."""

import shutil
from pathlib import Path

from runtime.checkpoint.filenames import FSDP_MODEL_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_NAME
from runtime.checkpoint.formats import save
from runtime.checkpoint.sharded import MODEL
from runtime.checkpoint.sharded_metadata import METADATA
from runtime.checkpoint.sharded_reader import tensors
from runtime.checkpoint.weights import remove_others
from runtime.collectives.objects import on_main


def merge_fsdp_weights(
    checkpoint_dir: str,
    output_path: str,
    safe_serialization: bool = True,
    remove_checkpoint_dir: bool = False,
) -> None:
    """Merge a sharded model's directory into one file. Rank 0 writes it; the others wait.

    Args:
        checkpoint_dir: the directory `pytorch_model_fsdp_0` of a checkpoint.
        output_path: the directory to write the file to; it is created if needed.
        safe_serialization: whether to write `model.safetensors` instead of `pytorch_model.bin`.
        remove_checkpoint_dir: whether to remove `checkpoint_dir` afterwards.

    Raises:
        ValueError: `checkpoint_dir` is not the directory of a sharded model.
        RuntimeError: rank 0 has failed, on the other ranks.
    """
    folder, output = Path(checkpoint_dir), Path(output_path)
    if not (folder / METADATA).exists():
        inside = sorted(one.parent.name for one in folder.glob(f"*/{METADATA}"))
        sentence = f"Tried to load from {folder} but couldn't find a valid metadata file."
        raise ValueError(f"{sentence} It contains: {inside}" if inside else sentence)
    on_main(lambda: _merge(folder, output, safe_serialization))
    if remove_checkpoint_dir:
        on_main(lambda: shutil.rmtree(folder))


def _merge(folder: Path, output: Path, safe_serialization: bool) -> None:
    found = tensors(folder)
    if not all(name.startswith(f"{MODEL}.") for name in found):
        sentence = f"{folder} must contain a model; pass the directory {FSDP_MODEL_NAME}_0"
        raise ValueError(sentence)
    output.mkdir(parents=True, exist_ok=True)
    weights = {name.removeprefix(f"{MODEL}."): tensor for name, tensor in found.items()}
    name = SAFE_WEIGHTS_NAME if safe_serialization else WEIGHTS_NAME
    save(weights, output / name, safe_serialization=safe_serialization)
    remove_others(output, {name})
