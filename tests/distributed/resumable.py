"""Trainings that can be begun, saved and begun again, in any layout of a world."""

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from runtime import Accelerator
from runtime.utils import set_seed
from tests.distributed.by_layout import forget


class Training:
    """One that can be begun, saved, and begun again.

    Attributes:
        all_steps: the steps in all.
        saved_after: those before a checkpoint.
    """

    all_steps: int
    saved_after: int

    def __init__(self, accelerator: Accelerator, *objects: Any) -> None:
        """Prepare a model, an optimizer and a loader."""
        self.accelerator = accelerator
        self.model, self.optimizer, self.loader = accelerator.prepare(*objects)
        self.losses: list[float] = []
        self.norms: list[float] = []

    def step(self, batch: Any) -> None:
        """Train on a batch, and note the loss."""
        raise NotImplementedError

    def steps(self, steps: int, *, save: Path | None = None) -> None:
        """Train on some batches, and save after the first ones."""
        while len(self.losses) < steps:
            for batch in self.loader:
                self.step(batch)
                if save is not None and len(self.losses) == self.saved_after:
                    self.accelerator.save_state(save)
                if len(self.losses) == steps:
                    break

    def go_on(self, checkpoint: Path) -> None:
        """Train as many steps as are left after a checkpoint."""
        self.accelerator.load_state(checkpoint)
        self.steps(self.all_steps - self.saved_after)

    def facts(self) -> dict[str, Any]:
        """Losses, norms, whole weights and optimizer states, and how much of them is here."""
        parameters = list(self.model.named_parameters())
        numbers = [sum(count(one).numel() for _, one in parameters) for count in (local, whole)]
        return {
            "losses": self.losses,
            "norms": self.norms,
            "weights": {plain_name(name): whole(one) for name, one in parameters},
            "moments": [whole(self.optimizer.state[one]["exp_avg"]) for _, one in parameters],
            "share": numbers[0] / numbers[1],
        }


def loaded(make: Callable[[], Training], folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """The rest of each training whose checkpoint is there, of whatever layout."""
    found = {}
    for name in names:
        if (folder / name).is_dir():
            training = make()
            training.go_on(folder / name)
            found[name] = training.facts()
            forget()
    return found


def resumed(make: Callable[[], Training], target: Path) -> list[Any]:
    """The rest of a training with dropout, in the same life and in the next one."""
    found: list[Any] = []
    for seed in (5, 6):
        training = make()
        set_seed(seed, device_specific=True)
        if found:
            training.go_on(target)
        else:
            training.steps(training.all_steps, save=target)
        facts = training.facts()
        last = training.saved_after - training.all_steps
        found.append([facts["weights"], facts["moments"], facts["losses"][last:]])
        forget()
    return found


def small(kind: str = "Llama", head: str = "ForCausalLM", **more: Any) -> Any:
    """A model of transformers with two layers; two heads of queries may share one of keys."""
    transformers = importlib.import_module("transformers")
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 16,
        "pad_token_id": 0,
    }
    if kind == "GPT2":
        sizes = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 16}
        more |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    if kind == "Bart":
        sizes = {"d_model": 16, "decoder_layers": 1, "decoder_attention_heads": 2}
    config = getattr(transformers, f"{kind}Config")(vocab_size=20, **sizes, **more)
    return getattr(transformers, f"{kind}{head}")(config)


def plain_name(name: str) -> str:
    """The name of a parameter in the model of the script."""
    return name.replace("_orig_mod.", "").replace("_checkpoint_wrapped_module.", "")


def local(tensor: Any) -> torch.Tensor:
    """The part of a tensor that is here."""
    return tensor.to_local() if isinstance(tensor, DTensor) else torch.as_tensor(tensor)


def whole(tensor: Any) -> torch.Tensor:
    """The parts of all processes."""
    found = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return torch.as_tensor(found).detach()
