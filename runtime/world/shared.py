"""The base class of the global states.

`PartialState`, `AcceleratorState` and `GradientState` can be instantiated anywhere and repeatedly,
as in Accelerate: all instances of a class share one state, which the first instance creates.
"""

from typing import Any, ClassVar, NoReturn


class Shared:
    """A class whose instances share one state."""

    _shared_state: ClassVar[dict[str, Any]]
    _known_attrs: ClassVar[tuple[str, ...]] = ()  # attributes that are missing only after a reset

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._shared_state = {}

    def __init__(self) -> None:
        self.__dict__ = self._shared_state

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the class only: a copy has the state of the process that it is created in."""
        return _view, (type(self),)

    @property
    def initialized(self) -> bool:
        """Whether the state was created."""
        return bool(self._shared_state)

    @classmethod
    def is_made(cls) -> bool:
        """Whether the state was created; does not create it."""
        return bool(cls._shared_state)

    @classmethod
    def _reset_state(cls) -> None:
        """Reset the state, for tests and notebooks; the next instance creates a new one."""
        cls._shared_state.clear()

    def __getattr__(self, name: str) -> Any:
        """Raise an AttributeError that says why an attribute is missing."""
        self._refuse(name)

    def _refuse(self, name: str) -> NoReturn:
        kind = type(self).__name__
        if name in self._known_attrs:
            sentence = (
                f"`{kind}` object has no attribute `{name}`. This happens if "
                f"`{kind}._reset_state()` was called and an `Accelerator` or `PartialState` was "
                "not reinitialized."
            )
            raise AttributeError(sentence)
        sentence = f"'{kind}' object has no attribute '{name}'"
        raise AttributeError(sentence)


def _view(kind: type[Shared]) -> Shared:
    view = kind.__new__(kind)
    Shared.__init__(view)
    return view
