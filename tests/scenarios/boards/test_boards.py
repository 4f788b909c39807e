"""Boards never change, and are told from scenarios that are none."""

from pathlib import Path

import pytest
import small_board

from autoflip_secure.errors import InputError
from autoflip_secure.files.canonical_json import digest
from autoflip_secure.interfaces.known_attacks import OF_COORDINATES
from autoflip_secure.scenarios.boards.boards import Board, board_names, read_board
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.suites import SUITES

DIGESTS = {  # of what each fixes, and of the names of FedAvg's runs: a board that has to change gets the next number
    "board-digits-1": ("1b919868f4855c5e", "484ec60bfa2ff147"),
    "board-mnist-1": ("6d224ee0f3a4bcdd", "2ac727e3d783323f"),
}


@pytest.fixture
def small(tmp_path: Path) -> Board:
    return read_board(small_board.write(tmp_path))


def test_the_boards_are_these() -> None:
    assert board_names() == sorted(DIGESTS)


@pytest.mark.parametrize("name", sorted(DIGESTS))
def test_no_board_ever_changes(name: str) -> None:
    board = read_board(name)
    scenario = board.scenario("fedavg")
    assert scenario.tuning is not None
    cells = [cell.key for cell in (*scenario.tuning.stage.cells, *scenario.cells)]
    assert (board.terms.digest, digest(cells)) == DIGESTS[name]


@pytest.mark.parametrize("name", sorted(DIGESTS))
def test_a_board_is_a_fair_comparison(name: str) -> None:
    """All suites, three splits, tuned on seeds that are for that alone, and none of them reported."""
    terms = read_board(name).terms
    assert terms.suites == ["standard-1", "optimised-1", "adaptive"]
    assert [one["partition"]["kind"] for one in terms.settings] == ["iid", "dirichlet", "pathological"]
    assert set(terms.tuning_seeds) <= set(range(10))
    assert not set(terms.seeds) & set(range(10))
    assert len(terms.candidates) >= 4
    met = [one["kind"] for one in terms.attacks]
    assert met == [one["kind"] for name in ("standard-1", "optimised-1") for one in SUITES[name]]
    assert load(name, ["sweep.algorithm=[fedavg]"]).header.name == name


def test_a_defence_meets_what_its_parts_name(small: Board) -> None:
    plain, median = ([one["kind"] for one in small.attacks(name)] for name in ("fedavg", "median"))
    assert plain == ["greedy_oracle", "sign_flip"]
    assert sorted({*median} - {*plain}) == sorted(str(one["kind"]) for one in OF_COORDINATES)


def test_where_data_lie_is_no_part_of_a_board() -> None:
    board = read_board("board-mnist-1")
    here, there = (board.scenario("fedavg", {"training.lr": 0.1}, {"data.root": root}) for root in ("/a", "/b"))
    assert here.cells[0].key != there.cells[0].key
    assert board.setting(here.cells[0].config) == board.setting(there.cells[0].config) == board.terms.settings[0]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (f"name: {small_board.NAME}", "name: mine", "is no board"),
        (f"name: {small_board.NAME}", "name: board-digits-1", "give it another one"),
        ("    algorithm: [fedavg, median]\n", "", "axis algorithm"),
        ("suite: {name: adaptive, attacks: [sign_flip], scope: 0.2}\n", "", "give it a suite"),
        ("scope: 0.2}", "}", "attack.scope"),
        ("  product:\n", "  product:\n    data.train_samples: [100, 200]\n", "made from one data set"),
    ],
)
def test_what_is_no_board_is_refused(tmp_path: Path, old: str, new: str, why: str) -> None:
    text = small_board.TEXT.replace(old, new)
    if why == "attack.scope":
        text = text.replace("  product:\n", "  product:\n    attack.scope: [0.1, 0.2]\n")
    path = tmp_path / "other.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=why) as caught:
        read_board(path)
    assert "\n" not in str(caught.value)


def test_another_board_has_another_digest(tmp_path: Path, small: Board) -> None:
    path = tmp_path / "other.yaml"
    for old, new in (("rounds: 2", "rounds: 3"), ("[10, 11]", "[10, 12]"), ("[0.1, 0.4]", "[0.1, 0.5]")):
        path.write_text(small_board.TEXT.replace(old, new), encoding="utf-8")
        assert read_board(path).terms.digest != small.terms.digest
