"""Names of the files in a checkpoint.

They are Accelerate's, so that each library can read the weights that the other has saved.
"""

MODEL_NAME = "pytorch_model"
SAFE_MODEL_NAME = "model"
FSDP_MODEL_NAME = "pytorch_model_fsdp"
OPTIMIZER_NAME = "optimizer"
SCHEDULER_NAME = "scheduler"
SAMPLER_NAME = "sampler"
SCALER_NAME = "scaler.pt"
RNG_STATE_NAME = "random_states"
LOADER_STATE_NAME = "dl_state_dict"
CUSTOM_STATE_NAME = "custom_checkpoint"
WEIGHTS_NAME = f"{MODEL_NAME}.bin"
WEIGHTS_PATTERN_NAME = "pytorch_model{suffix}.bin"
WEIGHTS_INDEX_NAME = f"{WEIGHTS_NAME}.index.json"
SAFE_WEIGHTS_NAME = f"{SAFE_MODEL_NAME}.safetensors"
SAFE_WEIGHTS_PATTERN_NAME = "model{suffix}.safetensors"
SAFE_WEIGHTS_INDEX_NAME = f"{SAFE_WEIGHTS_NAME}.index.json"


def numbered(name: str, index: int, ending: str) -> str:
    """Return the name of a file in a numbered series; the first file has no number.

    >>> numbered(OPTIMIZER_NAME, 0, "bin"), numbered(OPTIMIZER_NAME, 1, "bin")
    ('optimizer.bin', 'optimizer_1.bin')
    """
    return f"{name}_{index}.{ending}" if index else f"{name}.{ending}"
