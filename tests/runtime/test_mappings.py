"""Batches that are mappings of a kind whose constructor takes no dict stay what they are."""

from collections import ChainMap, Counter, OrderedDict, UserDict, defaultdict
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from runtime.collectives.metrics import _joined
from runtime.collectives.nested import concatenate, map_tensors, send_to_device
from runtime.data_loader import prepare_data_loader


class Named(dict[str, Any]):
    """A record whose constructor takes its name first."""

    def __init__(self, name: str, **fields: Any) -> None:
        super().__init__(**fields)
        self.name = name


class NamedOrdered(OrderedDict[str, Any]):
    """The same in order."""

    def __init__(self, name: str, **fields: Any) -> None:
        super().__init__(**fields)
        self.name = name


class NamedDefault(defaultdict[str, Any]):
    """The same with lists for other keys."""

    def __init__(self, name: str, **fields: Any) -> None:
        super().__init__(list, **fields)
        self.name = name


class NamedUser(UserDict[str, Any]):
    """The same around a dict."""

    def __init__(self, name: str, **fields: Any) -> None:
        super().__init__(**fields)
        self.name = name


class Output(OrderedDict[str, Any]):
    """As transformers' outputs: fields are attributes, too, and cannot be updated."""

    def __init__(self, **fields: Any) -> None:
        super().__init__()
        for key, value in fields.items():
            self[key] = value

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        super().__setattr__(key, value)

    def update(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError


class Fixed(dict[str, Any]):
    """A dict that is not to be changed."""

    def __setitem__(self, key: str, value: Any) -> None:
        raise TypeError


class Slots(dict[str, Any]):
    """A dict that can have no attributes."""

    __slots__ = ()


class ReadOnly(Mapping[str, Any]):
    """A mapping of another kind, whose constructor takes two."""

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        self.name, self.fields = name, fields

    def __getitem__(self, key: str) -> Any:
        return self.fields[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)


KINDS: dict[str, Any] = {
    "dict": dict,
    "OrderedDict": OrderedDict,
    "UserDict": UserDict,
    "Counter": Counter,
    "ChainMap": ChainMap,
    "MappingProxyType": MappingProxyType,
    "defaultdict": lambda fields: defaultdict(list, fields),
    "a dict with a name": lambda fields: Named("n", **fields),
    "an OrderedDict with a name": lambda fields: NamedOrdered("n", **fields),
    "a defaultdict with a name": lambda fields: NamedDefault("n", **fields),
    "a UserDict with a name": lambda fields: NamedUser("n", **fields),
    "an output with attributes": lambda fields: Output(**fields),
    "a dict that is not changed": Fixed,
    "a dict with slots": Slots,
}


def doubled(data: Any) -> Any:
    return map_tensors(lambda tensor: 2 * tensor, data)


def collated(data: Any) -> Any:
    """What a prepared loader gives of it."""
    loader: Any = DataLoader([0], collate_fn=lambda _: data)  # type: ignore[arg-type]  # a list is a dataset
    (batch,) = prepare_data_loader(loader, torch.device("cpu"), put_on_device=True)
    return batch


WAYS: dict[str, tuple[Any, list[int]]] = {
    "each tensor changed": (doubled, [2, 4]),
    "put on a device": (lambda data: send_to_device(data, "cpu"), [1, 2]),
    "but for a key": (lambda data: send_to_device(data, "cpu", skip_keys="x"), [1, 2]),
    "joined": (lambda data: concatenate([data, data]), [1, 2, 1, 2]),
    "joined for metrics": (lambda data: _joined([data, data], 3), [1, 2, 1]),
    "given by a loader": (collated, [1, 2]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_mapping_keeps_its_kind_its_attributes_and_its_keys(kind: str, way: str) -> None:
    change, expected = WAYS[way]
    data = KINDS[kind]({"x": torch.tensor([1, 2])})
    made = change(data)
    assert type(made) is type(data)
    assert list(made) == ["x"]
    assert made["x"].tolist() == expected
    assert getattr(made, "name", "n") == "n"
    assert getattr(made, "x", made["x"]) is made["x"]
    if isinstance(data, defaultdict):
        assert made["new"] == []
    assert data["x"].tolist() == [1, 2]
    assert list(data) == ["x"]


def test_a_mapping_that_cannot_be_made_becomes_a_dict() -> None:
    """As in torch's default_collate."""
    made = doubled(ReadOnly("n", {"x": torch.tensor([1, 2])}))
    assert type(made) is dict
    assert made["x"].tolist() == [2, 4]
