"""The text of a manifest: every value has its place, and no text takes long or is misread."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from acceleratedjob.api.bounds import MAX_DEPTH, MAX_VALUES
from acceleratedjob.validation import scalars, source
from acceleratedjob.validation.nodes import Node, Place, replaced


def only(text: str | bytes) -> Node:
    """The only document of a text in which nothing is wrong."""
    found = source.read(text if isinstance(text, bytes) else text.encode())
    assert found.faults == ()
    (document,) = found.documents
    return document


def wrong(text: str | bytes) -> list[str]:
    """What is wrong in a text."""
    found = source.read(text if isinstance(text, bytes) else text.encode())
    return [str(fault) for fault in found.faults]


@pytest.mark.parametrize(
    ("path", "place", "value"),
    [
        ("", (1, 1), None),
        ("a", (1, 1), 1),
        ("b.c[1].d", (4, 8), "x"),
        ("b.c[1]", (4, 7), {"d": "x"}),
        ("limits[nvidia.com/gpu]", (5, 10), 8),
        ("limits.nvidia.com/gpu", (5, 10), 8),
        ("dots.a.b", (6, 14), 2),
        ("dots.a", (6, 8), 1),
        ("ü.ö", (7, 5), 3),
    ],
)
def test_each_value_has_the_place_of_its_key(path: str, place: tuple[int, int], value: Any) -> None:
    text = "a: 1\nb:\n  c: [1,\n      {d: x}]\nlimits: {nvidia.com/gpu: 8}\n"
    text += "dots: {a: 1, a.b: 2}\nü: {ö: 3}\n"
    found = only(text).find(path)
    assert found.is_whole
    assert found.place == place
    assert value is None or found.node.value == value


@pytest.mark.parametrize(
    ("path", "place"), [("b.x", (2, 1)), ("b.c[7]", (3, 3)), ("x", (1, 1)), ("b.cc", (2, 1))]
)
def test_a_missing_value_has_the_place_of_what_lacks_it(path: str, place: tuple[int, int]) -> None:
    found = only("a: 1\nb:\n  c: [1]\n").find(path)
    assert (found.is_whole, found.place) == (False, place)


def test_line_ends_of_windows_and_a_byte_order_mark_move_no_place() -> None:
    text = "a: 1\r\nb: 2\r\n"
    for data in (text.encode("utf-8-sig"), text.encode("utf-16"), text.encode()):
        assert only(data).find("b").place == (2, 1)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("a: [", "1:5: manifest: must be YAML, got a bracket", id="a bracket"),
        pytest.param(
            "a:\n\tb: 1", "2:1: manifest: must be YAML, got a tab: write spaces", id="a tab"
        ),
        pytest.param("a: b: c", "1:5: manifest: must be YAML, got a key where", id="two keys"),
        pytest.param("a: 'b", "got a quote that is not closed: close it", id="a quote"),
        pytest.param("a: @b", "special character: put it in quotes", id="a special character"),
        pytest.param("a: *b", "1:4: manifest: must be YAML, got a name after *", id="an alias"),
        pytest.param("a: \x07", "1:4: manifest: must be YAML, got a control", id="a bell"),
        pytest.param("a: {{ b }}", "1:5: manifest: a key must be a text", id="a template"),
        pytest.param("~: 1", "1:1: manifest: a key must be a text, got null", id="a null key"),
        pytest.param("a: &a [*a]", "1:8: manifest: an anchor must not contain itself", id="itself"),
        pytest.param("<<: 1", "1:5: manifest: << must name a mapping", id="a merge of a number"),
        pytest.param("a: .nan", "1:4: manifest: must be a number that JSON has", id="no number"),
        pytest.param("a: !!set {}", "1:4: manifest: must have no tag", id="a tag"),
        pytest.param("a: 1\nb: 2\na: 3", "3:1: a: must be given once, but line 1 has", id="twice"),
        pytest.param("a: {b: 1, b: 2}", "1:11: a.b: must be given once", id="twice inside"),
        pytest.param("a: [{b: 1, 'b': 2}]", "1:12: a[0].b: must be given", id="twice in a list"),
        pytest.param(
            b"a: 1\nb: \xc3\x28", "2:4: manifest: must be UTF-8, got the byte 0xc3", id="bytes"
        ),
        pytest.param(b"\xff\xfea\x00:", "must be UTF-8", id="half of UTF-16"),
        pytest.param("%YAML 3.0\n---\na: 1", "1:1: manifest: must be YAML", id="a later YAML"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str | bytes, fault: str) -> None:
    (found,) = wrong(text)
    assert fault in found


def test_what_is_given_twice_is_told_together() -> None:
    assert [one.split(": ")[0] for one in wrong("a: 1\na: 2\nb: {c: 1, c: 2}\nb: 3")] == [
        *("2:1", "3:11", "4:1")
    ]


LAUGHS = "a0: &a0 [1, 1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 20)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(LAUGHS, f"must have at most {MAX_VALUES} values", id="a billion laughs"),
        pytest.param("[" * 100_000, f"at most {MAX_DEPTH} levels deep", id="brackets"),
        pytest.param("- " * 10_000, f"at most {MAX_DEPTH} levels deep", id="lists in lists"),
        pytest.param("a" * 1_500_001, "must have at most 1500000 bytes, got 1500001", id="bytes"),
    ],
)
def test_what_would_take_long_is_refused(text: str, message: str) -> None:
    (found,) = wrong(text)
    assert message in found


def test_a_job_as_deep_and_as_large_as_may_be_is_read() -> None:
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert only(deep).size == MAX_DEPTH
    repeated = f"[&a [{'1, ' * 997}1]{', *a' * 49}]"  # 50 lists of 999 values
    assert only(repeated).size == MAX_VALUES - 49


def test_documents_are_told_apart_and_empty_ones_left_out() -> None:
    found = source.read(b"---\n---\na: &x 1\n---\n# nothing\n---\nb: 2\n...\n")
    assert [one.value for one in found.documents] == [{"a": 1}, {"b": 2}]
    assert wrong("a: &x 1\n---\nb: *x") != []  # an anchor ends with its document


def test_a_merge_gives_what_is_not_set_itself() -> None:
    text = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz: {<<: [*x, *y], c: 5}\n"
    assert only(text).value["z"] == {"a": 1, "b": 2, "c": 5}
    assert only(text).find("z.c").place == Place(3, 19)


@pytest.mark.parametrize(
    ("text", "key"), [("on: 1", "true"), ("n: 1", "false"), ("1: 1", "1"), ("0x1F: 1", "31")]
)
def test_a_key_that_is_no_text_is_what_kubectl_makes_of_it(text: str, key: str) -> None:
    assert only(text).value == {key: 1}


@pytest.mark.parametrize("text", ["9" * 5_000, "2026-01-01", "1:30", "=", "0o8"])
def test_what_kubectl_reads_as_text_is_text(text: str) -> None:
    assert only(f"a: {text}").value == {"a": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, True) for word in ("y", "Y", "yes", "Yes", "YES", "on", "ON", "true", "True")),
        *((word, False) for word in ("n", "N", "no", "No", "NO", "off", "Off", "false", "FALSE")),
        *((word, None) for word in ("~", "null", "Null", "NULL")),
        *((word, word) for word in ("yEs", "oN", "nUll", "_1", "1a", "0x", "8Gi", "1e400", ".")),
        *(("010", 8), ("08", 8), ("0o17", 15), ("0x1F", 31), ("-0b11", -3), ("+5", 5)),
        *(("1_000", 1000), ("1.0", 1), ("1e3", 1000), (".5", 0.5), ("1.5_0", 1.5), ("-0", 0)),
    ],
)
def test_a_scalar_is_read_as_kubectl_reads_it(text: str, value: Any) -> None:
    """The tests with a cluster compare more of them with kubectl."""
    found = only(f"a: {text}").value["a"]
    assert (type(found), found) == (type(value), value)


PLAIN = ("yes", "on", "y", "No", "010", "0o17", "1_000", "1e3", "1.0", "1:30", "2026-01-01", "~")


@pytest.mark.parametrize("text", PLAIN)
def test_in_quotes_everything_is_text(text: str) -> None:
    assert only(f"a: '{text}'").value == {"a": text}
    assert only(f'a: "{text}"').value == {"a": text}
    assert only(f"a: !!str {text}").value == {"a": text}
    assert only(f"a: |-\n  {text}").value == {"a": text}


TEXTS = st.recursive(
    st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8).filter(lambda key: key != "<<"), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_json_is_read_as_it_is(value: Any) -> None:
    found = source.read(json.dumps(value).encode())
    assert [one.value for one in found.documents] == ([] if value is None else [value])
    assert found.faults == ()


@given(TEXTS)
def test_what_pyyaml_writes_is_read_back(value: Any) -> None:
    """In quotes, because PyYAML leaves out those of `y` and `n`, which are booleans for kubectl."""
    text = yaml.safe_dump(value, allow_unicode=True, default_style='"')
    assert only(text).value == value


ODD = st.lists(
    st.sampled_from([*"abn:-[]{},&*!|>'\"%@#?~ \t\n\r.0_", "<<", "\x00", "é", "---", "yes"]),
    max_size=40,
)


@given(ODD.map("".join) | st.binary(max_size=60))
def test_any_text_is_read_or_its_place_is_named(text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    for fault in source.read(data).faults:
        assert 1 <= fault.place.line <= data.count(b"\n") + data.count(b"\r") + 2
        assert fault.place.column >= 1
        assert fault.message


@given(st.text("yYnNoOfFtTrueals.-+0123456789_eExXbB~", max_size=12))
def test_a_scalar_is_a_value_of_json(text: str) -> None:
    value = scalars.read(text)
    assert value is None or isinstance(value, str | int | float)
    assert not isinstance(value, str) or value == text


def test_a_value_is_replaced_in_a_copy() -> None:
    value = {"a": [{"b": 1}], "c": 2}
    assert replaced(value, ("a", 0, "b"), 3) == {"a": [{"b": 3}], "c": 2}
    assert value == {"a": [{"b": 1}], "c": 2}
