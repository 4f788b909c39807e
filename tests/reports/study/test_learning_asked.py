"""That nothing is said of training where something else was asked, and what is compared with what."""

from collections.abc import Callable
from typing import Any

import pytest
from learned import BAD, SCALED, TABLE, only, said

from autoflip_secure.records.run import FeatureScale, RunRecord
from autoflip_secure.reports.pages.markdown import summary
from autoflip_secure.reports.study.comparisons import compare
from autoflip_secure.reports.study.learning import references
from autoflip_secure.reports.study.losses import Course
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.wording.verdict import opening


@pytest.mark.parametrize(
    "other",
    [
        {"attacked": {"kind": "gaussian_noise", "sigma": 9.0, "scope": 0.4}},
        {"name": "autoflip"},
        {"privacy": {"kind": "sample_level", "clip": 1.0, "target_epsilon": 0.1}},
    ],
    ids=["attacked", "defended", "private"],
)
def test_where_the_reference_learned_what_falls_to_chance_was_asked(
    cell: Callable[..., RunRecord], other: dict[str, Any]
):
    reference = [cell(s) for s in range(2)]
    assert said([*reference, *(cell(s, [2.0, 60.0, 1e9, 1e12], 0.1, **other) for s in range(2))]) == []
    broken = [cell(s, [2.0, 60.0, None, None], 0.1, **other) for s in range(2)]
    found = only([*reference, *broken])
    assert (found.kind, found.refuses) == ("facts", False)
    assert "In 2 of 2 other runs a loss is not finite" in found.text
    assert "diverged" not in found.text


def test_without_fedavg_the_best_algorithm_is_the_reference(cell: Callable[..., RunRecord]):
    failed = [cell(s, BAD, 0.1, name="agreement_only") for s in range(2)]
    assert said([*failed, *(cell(s, name="autoflip") for s in range(2))]) == []
    assert "agreement only without attack in IID" in only(failed).text


def test_fedavg_in_the_clear_is_the_reference_however_well_others_do(cell: Callable[..., RunRecord]):
    failed = [cell(s, BAD, 0.1) for s in range(2)]
    clipped = [cell(s, privacy={"kind": "sample_level", "clip": 1.0, "target_epsilon": 8}) for s in range(2)]
    for others in ([cell(s, name="autoflip") for s in range(2)], clipped):
        assert only([*failed, *others]).text.startswith("Hardly better than chance, FedAvg without attack in ")


def test_where_all_is_private_the_best_is_judged_and_noise_is_blamed(cell: Callable[..., RunRecord]):
    def private(epsilon: float, *run: Any) -> list[RunRecord]:
        privacy = {"kind": "sample_level", "clip": 1.0, "target_epsilon": epsilon}
        return [cell(s, *run, privacy=privacy) for s in range(2)]

    noisy = [2.0, 60.0, 90.0, 90.0]  # noise makes losses walk away; that alone is not divergence
    assert said([*private(0.1, noisy, 0.1), *private(8.0)]) == []
    found = only([*private(0.1, noisy, 0.1), *private(8.0, noisy, 0.12)])
    assert found.kind == "unlearned"
    assert "12.0 % accuracy" in found.text
    assert "allow a larger epsilon" in found.text
    assert "more rounds" not in found.text


def test_every_setting_has_a_reference_of_its_own(cell: Callable[..., RunRecord]):
    cells = [cell(s, split=split) for s in range(2) for split in ("iid", "two_classes")]
    cells += [cell(s, BAD, 0.1, split="dirichlet") for s in range(2)]
    assert [(one.facet, one.accuracy) for one in references(study(cells))] == [
        ("IID", 0.9), ("Dirichlet 0.3", 0.1), ("2 classes per client", 0.9)
    ]  # fmt: skip
    assert "in Dirichlet 0.3:" in only(cells).text
    failed = {n: said([cell(s, BAD, 0.1, clients=c) for c in range(2, 2 + n) for s in range(2)]) for n in (4, 6)}
    assert [len(found) for found in failed.values()] == [4, 4]
    assert all(found.text.startswith("Hardly better than chance") for found in failed[4])
    assert failed[6][3].text.startswith("Training failed in 3 more settings: ")
    assert failed[6][3].refuses


def test_nobody_came_is_no_missing_loss(cell: Callable[..., RunRecord]):
    cells = [cell(s) for s in range(2)]
    change = {"participants": [], "malicious": [], "trust": [], "rejected": [], "train_loss": None}
    empty = cells[0].rounds[1].model_copy(update=change)
    cells[0] = cells[0].model_copy(update={"rounds": [cells[0].rounds[0], empty, *cells[0].rounds[2:]]})
    assert said(cells) == []
    untested = [e.model_copy(update={"test_accuracy": None, "test_loss": None}) for e in cells[1].rounds[:3]]
    cells[1] = cells[1].model_copy(update={"rounds": [*untested, cells[1].rounds[3]]})
    assert said(cells) == []


def test_parties_that_turn_down_a_round_now_and_then_are_no_divergence(cell: Callable[..., RunRecord]):
    def turned_down(rounds: int) -> list[RunRecord]:
        made = [cell(s, secure_sum={"parties": 3, "updates": True}) for s in range(2)]
        return [
            c.model_copy(
                update={
                    "rounds": [
                        e.model_copy(update={"rejected": e.participants}) if e.round <= rounds else e for e in c.rounds
                    ]
                }
            )
            for c in made
        ]

    assert said(turned_down(2)) == []
    assert only(turned_down(3)).kind == "diverged"


def test_seeds_that_are_equal_to_the_last_bit_are_named(cell: Callable[..., RunRecord]):
    cells = [cell(s) for s in range(3)]
    assert said([c.model_copy(update={"final_accuracy": 1.0}) for c in cells]) == []  # accuracies may meet
    same = [c.model_copy(update={"rounds": cells[0].rounds}) for c in cells[:2]]
    for equal in ([*same, cells[2]], same):
        found = only(equal)
        assert (found.kind, found.refuses) == ("equal seeds", True)
        assert "in 1 of 1 sets of runs (FedAvg, IID, no attack)" in found.text
    dead = [cell(s, [None] * 4) for s in range(3)]
    assert [one.kind for one in said(dead)] == ["diverged"]  # of runs without one loss nobody can tell


def test_features_that_are_not_scaled_are_a_remark_where_training_worked(cell: Callable[..., RunRecord]):
    found = only([cell(s, features=TABLE) for s in range(2)])
    assert (found.kind, found.refuses) == ("features", False)
    assert "Unless the model scales them itself" in found.text
    pixels = FeatureScale(columns=784, typical=80.0, largest=130.0, where=400)
    assert said([cell(s, features=pixels) for s in range(2)]) == []
    assert (
        "The features are not scaled: column 400" in only([cell(s, BAD, 0.1, features=pixels) for s in range(2)]).text
    )


def test_where_nobody_ran_without_attack_only_facts_are_told(cell: Callable[..., RunRecord], attack: dict[str, Any]):
    noise = attack["noise"](0.5)
    assert said([cell(s, BAD, 0.1, attacked=noise) for s in range(2)]) == []
    broken = [cell(s, [2.0, None, None, None], 0.1, attacked=noise, features=SCALED) for s in range(2)]
    assert [(one.kind, one.refuses) for one in said(broken)] == [("facts", False)]
    assert "In 2 of 2 runs" in only(broken).text
    table = [cell(s, [2.0, None, None, None], 0.1, attacked=noise, features=TABLE) for s in range(2)]
    assert [(one.kind, one.refuses) for one in said(table)] == [("features", True), ("facts", False)]


def test_the_report_opens_with_it(cell: Callable[..., RunRecord]):
    found = study([cell(s, [2.0, 1e9, None, None], 0.1) for s in range(2)])
    text = opening(found, compare(found), {}, 0)
    assert len(text.training) == 1
    page = summary(found, text, [], name="x")
    assert page.index("Training diverged") < page.index("reaches 10.0")


def test_the_course_of_a_run(cell: Callable[..., RunRecord]):
    found = Course.of(cell(0, [4.0, 2.0, 1.0, 0.9, 0.8, 0.7, 0.6]))
    assert (found.first, found.last, found.rise, found.far) == (4.0, pytest.approx(0.8), None, False)
    assert (found.broken, found.left_out, found.best) == (0, 0, 0.9)
    short = Course.of(cell(0, [4.0, 8.0]))
    assert (short.first, short.last, short.rise) == (4.0, 8.0, (4.0, 8.0))
