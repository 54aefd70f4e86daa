"""Environment variables for a while, and the questions that are asked of them."""

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

_TRUE = ("y", "yes", "t", "true", "on", "1")
_FALSE = ("n", "no", "f", "false", "off", "0")


def str_to_bool(value: str, to_bool: bool = False) -> int | bool:
    """1 or 0 (True or False, if asked) for the usual words.

    Raises:
        ValueError: another word.
    """
    word = value.lower()
    if word not in (*_TRUE, *_FALSE):
        sentence = f"invalid truth value {value}"
        raise ValueError(sentence)
    return word in _TRUE if to_bool else int(word in _TRUE)


def get_int_from_env(env_keys: Sequence[str], default: int) -> int:
    """The first variable of some that has a number that is not negative."""
    found = (int(os.environ.get(name, "-1")) for name in env_keys)
    return next((number for number in found if number >= 0), default)


def parse_flag_from_env(key: str, default: bool = False) -> bool:
    """Whether a variable says yes."""
    return bool(str_to_bool(os.environ.get(key, str(default))))


def parse_choice_from_env(key: str, default: str = "no") -> str:
    """A variable's text."""
    return os.environ.get(key, str(default))


@contextlib.contextmanager
def clear_environment() -> Iterator[None]:
    """Within, there are no environment variables; afterwards there are those of before."""
    before = dict(os.environ)
    os.environ.clear()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def patch_environment(**kwargs: Any) -> Iterator[None]:
    """Within, some variables are set; their names are given in any case."""
    before = {name.upper(): os.environ.get(name.upper()) for name in kwargs}
    os.environ.update({name.upper(): str(value) for name, value in kwargs.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def is_port_in_use(port: int | None = None) -> bool:
    """Whether something listens at a port of this machine; default: 29500."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(("localhost", 29500 if port is None else port)) == 0


def get_free_port() -> int:
    """A port of this machine at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
