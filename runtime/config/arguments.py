"""Checks the arguments that scripts most often get wrong.

Each error says what the call takes, what it got, and what to pass instead.
"""

import operator
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

_SHORT = 60  # characters of a value that are shown


def described(value: object) -> str:
    """Describe a value that a script has passed, in a few words.

    >>> described(1.5), described(None), described([1, 2]), described(dict)
    ('the float 1.5', 'None', 'a list', 'the class dict')
    """
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, bool | int | float | str):
        shown = repr(value)
        short = shown if len(shown) <= _SHORT else f"{shown[:_SHORT]}..."
        return f"the {type(value).__name__} {short}"
    name = type(value).__name__
    vowels = "AEFHILMNORSX" if name.isupper() else "AEIOaeiou"  # SGD is spelled, Adam is read
    return f"{'an' if name[0] in vowels else 'a'} {name}"


def check_loss(loss: Any, **kwargs: Any) -> None:
    """Check that gradients of a loss can be computed.

    Args:
        loss: what the script has passed to `backward`.
        **kwargs: the arguments of `torch.Tensor.backward`.

    Raises:
        TypeError: it is not a tensor.
        RuntimeError: it has several elements, or depends on no parameter.
    """
    if not hasattr(loss, "backward"):
        raise TypeError(
            f"backward() takes the loss as a tensor, got {described(loss)}{_hint(loss)}"
        )
    if not isinstance(loss, torch.Tensor):
        return
    if not loss.requires_grad:
        raise RuntimeError(
            "backward() takes a loss that depends on parameters, got a tensor that does not "
            "require grad: compute it from the model's outputs, outside torch.no_grad(), without "
            "detach()"
        )
    if loss.numel() != 1 and kwargs.get("gradient") is None:
        raise RuntimeError(
            "backward() takes a loss of one element, got a tensor of the shape "
            f"{list(loss.shape)}: reduce it, as loss.mean() does"
        )


def _hint(loss: object) -> str:
    """Return what to pass instead of something that is not a loss."""
    if isinstance(loss, bool | int | float):
        return ": pass the tensor itself, without item() or float()"
    if isinstance(loss, Mapping) and "loss" in loss:
        return ": pass the loss in it, as backward(outputs['loss'])"
    if hasattr(loss, "loss"):
        return ": pass the loss in it, as backward(outputs.loss)"
    if isinstance(loss, tuple | list) and any(isinstance(one, torch.Tensor) for one in loss):
        return ": pass the tensor in it that is the loss"
    return ": return the loss from the function that computes it" if loss is None else ""


def whole(value: Any, call: str, what: str, hint: str = "") -> int:
    """Return a whole number; numbers of NumPy and tensors of one element are accepted, too.

    Args:
        value: what the script has passed.
        call: the call, for the error.
        what: what the number is, for the error.
        hint: what to pass instead, for the error.

    Raises:
        TypeError: it is not a whole number.
    """
    try:
        return operator.index(value)
    except TypeError as error:
        sentence = f"{call} takes {what}, a whole number, got {described(value)}{hint}"
        raise TypeError(sentence) from error


def hint_of(epochs: object) -> str:
    """Return what to pass to `epochs` instead of something that is not a whole number."""
    if isinstance(epochs, range):
        return f": write epochs({len(epochs)})"
    if isinstance(epochs, str | float):
        return ": write epochs(int(...))"
    return ""


def must_be(value: Any, kind: Any, call: str, what: str, hint: str = "") -> None:
    """Check the class of an argument.

    Args:
        value: what the script has passed.
        kind: the class, or several.
        call: the call, for the error.
        what: the argument, for the error.
        hint: what to pass instead, for the error.

    Raises:
        TypeError: it is not of this class.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{call} takes {what}, got {described(value)}{hint}")


def must_be_own(value: Any, kind: type, call: str, name: str) -> None:
    """Check that an argument is an object of one of this library's classes.

    Args:
        value: what the script has passed.
        kind: the class.
        call: the call, for the error.
        name: the name of the argument, for the error.

    Raises:
        TypeError: it is another object.
    """
    hint = ""
    if isinstance(value, type):
        hint = ": make an object of it"
    elif isinstance(value, Mapping):
        hint = f": write {kind.__name__}(**...)"
    elif type(value).__name__ == kind.__name__:
        hint = f" of {type(value).__module__}: import it from runtime"
    must_be(value, kind, call, f"{name} as a {kind.__name__}", hint)


def must_have(value: Any, attribute: str, call: str, what: str) -> None:
    """Check that an object can be used as what a call takes, by an attribute.

    Raises:
        TypeError: it is a class, or lacks the attribute.
    """
    if isinstance(value, type) or not hasattr(value, attribute):
        hint = ": make an object of it" if isinstance(value, type) else ""
        raise TypeError(f"{call} takes {what}, got {described(value)}{hint}")


def path(value: Any, call: str) -> Path:
    """Return a path.

    Raises:
        TypeError: it is none.
    """
    must_be(value, (str, os.PathLike), call, "the path of a directory")
    return Path(value)


def parameters(value: Any, call: str) -> list[torch.Tensor]:
    """Return parameters, of which a script may pass one or several.

    Raises:
        TypeError: there are none in it.
    """
    if isinstance(value, torch.Tensor):
        return [value]
    hint = ": pass its parameters, as model.parameters()" if isinstance(value, nn.Module) else ""
    is_many = isinstance(value, Iterable) and not isinstance(value, nn.Module | str)
    if not is_many:
        raise TypeError(f"{call} takes parameters, got {described(value)}{hint}")
    return list(value)


def passed_over(value: object, kinds: tuple[type, ...]) -> str | None:
    """Return what to pass to `prepare` instead of an object that it leaves as it is.

    Args:
        value: what the script has passed.
        kinds: the classes of the objects that are prepared.
    """
    if isinstance(value, type) and issubclass(value, kinds):
        return "make an object of it"
    if isinstance(value, Dataset):
        return "pass a DataLoader that reads it"
    return None
