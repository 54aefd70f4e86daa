"""The first tensor that differs is found by few questions, whatever differs."""

from collections.abc import Iterable, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from runtime.control.messages import Compare, Compared
from runtime.control.tables import Tables
from runtime.control.verdicts.divergence import compare
from runtime.control.verdicts.search import Search

STEP = 7
Table = Mapping[str, int]
digests = some.integers(0, 2**64 - 1)
tables = some.dictionaries(some.text(max_size=5), digests, max_size=40)


def searched(ranks: Sequence[Table], *, search: Search | None = None, step: int = STEP) -> Search:
    """Run a search through the tables of all ranks, which answer each question."""
    search, kept = search or Search(size=len(ranks)), [Tables() for _ in ranks]
    for rank, table in enumerate(ranks):
        search = search.told(rank, kept[rank].keep(step, table))
    questions = 0
    while (asked := search.asked) is not None:
        questions += 1
        for rank, one in enumerate(kept):
            search = search.answered(rank, one.compared(asked))
    assert questions <= max(map(len, ranks)).bit_length() + 1
    return search


@settings(max_examples=40)
@given(tables, some.integers(2, 5), some.data())
def test_what_is_found_is_what_all_digests_together_show(
    table: Table, size: int, data: some.DataObject
) -> None:
    ranks = [dict(table) for _ in range(size)]
    names = some.sampled_from(sorted(table)) if table else some.just("new")
    for rank in data.draw(some.lists(some.integers(0, size - 1), max_size=3)):
        ranks[rank][data.draw(names)] = data.draw(digests)
    expected = compare(dict(enumerate(ranks)))
    found = searched(ranks).found
    if expected is None or found is None:
        assert found is expected
    else:
        assert (found.number, found.tensors) == (expected.number, expected.tensors)
        assert (found.ranks, found.has_majority) == (expected.ranks, expected.has_majority)
        assert found.step == STEP


@pytest.mark.parametrize("number", [1, 2, 3000, 4096])
def test_a_search_through_many_tensors_is_short(number: int) -> None:
    table = {f"tensor {one}": one for one in range(1, 4097)}
    found = searched([table, table, table | {f"tensor {number}": 0}]).found
    assert found is not None
    assert (found.tensor, found.ranks) == (f"tensor {number}", (2,))


@pytest.mark.parametrize(
    "other",
    [{"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3, "d": 4}, {"a": 1, "c": 3, "b": 2}, {}],
    ids=["fewer tensors", "more tensors", "another order", "none"],
)
def test_a_rank_with_other_tensors_is_named(other: Table) -> None:
    table = {"a": 1, "b": 2, "c": 3}
    found = searched([table, table, other]).found
    assert found is not None
    assert found.ranks == (2,)


def test_ranks_that_agree_again_are_not_blamed_any_more() -> None:
    search = searched([{"a": 1}, {"a": 2}])
    assert search.found is not None
    assert searched([{"a": 3}, {"a": 3}], search=search, step=STEP + 1).found is None


def test_digests_of_different_steps_are_not_compared() -> None:
    search, one = Search(size=2), Tables()
    search = search.told(0, one.keep(1, {"a": 1})).told(1, one.keep(2, {"a": 2}))
    assert (search.asked, search.found) == (None, None)


@settings(max_examples=30)
@given(some.lists(some.tuples(some.integers(0, 1), some.integers(0, 3), some.integers(0, 3))))
def test_answers_that_nobody_asked_for_change_nothing(
    said: Iterable[tuple[int, int, int]],
) -> None:
    search, one = Search(size=2), Tables()
    for rank in (0, 1):
        search = search.told(rank, one.keep(9, {"a": rank, "b": 2, "c": 3}))
    for rank, step, count in said:
        answer = Compared(step=step, count=count, digest="0" * 16)
        assert search.answered(rank, answer) == search


def test_a_search_ends_if_a_rank_has_forgotten_what_it_is_asked_for() -> None:
    search = Search(size=2)
    kept = [Tables(), Tables()]
    for rank, one in enumerate(kept):
        search = search.told(rank, one.keep(1, {"a": rank, "b": 2}))
    for step in range(2, 20):
        kept[1].keep(step, {})
    for rank, one in enumerate(kept):
        assert search.asked is not None
        search = search.answered(rank, one.compared(search.asked))
    assert (search.asked, search.found) == (None, None)


def test_the_table_that_was_asked_for_is_kept() -> None:
    one = Tables()
    one.keep(1, {"a": 1})
    for step in range(1, 20):
        assert one.compared(Compare(step=1, count=1)).name == "a"
        one.keep(step + 1, {"a": 2})
