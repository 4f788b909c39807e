"""What `make test` takes of many parameters: some of everything."""

import itertools

import pytest
from sizes import crossed

AXES = [{"a": 1, "b": 2, "c": 3}, {"x": (4, 5), "y": (6, 7)}, {"p": 8, "q": 9, "r": 10}]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_every_value_of_every_axis_is_taken_and_the_rest_is_slow(step: int) -> None:
    found = crossed(step, *AXES)
    assert [one.id for one in found] == ["-".join(names) for names in itertools.product(*AXES)]
    assert found[0].values == (1, 4, 5, 8)
    quick = [one for one in found if not one.marks]
    assert len(quick) == len(found) / step
    assert {name for one in quick for name in str(one.id).split("-")} == {name for axis in AXES for name in axis}
    assert all([mark.name for mark in one.marks] == ["slow"] for one in found if one not in quick)
