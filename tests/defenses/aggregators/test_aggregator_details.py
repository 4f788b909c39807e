"""What single aggregators promise beyond the table of all."""

import numpy as np
import pytest
import torch
from aggregator_cases import AGGREGATOR_CASES
from decided_rounds import LAYOUT, WEIGHTS, P, cohort, decided, near, shown
from shared_rules import step

from autoflip_secure.defenses.aggregators.centered_clipping import CenteredClipping
from autoflip_secure.defenses.aggregators.geometric_median import GeometricMedian
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.federation.secure_updates import score_secretly
from autoflip_secure.interfaces import RoundView
from autoflip_secure.scenarios.config.tables import AGGREGATORS
from autoflip_secure.secure_rows.own_parties import OwnParties


def test_the_same_draws_give_the_same_noise_and_others_do_not() -> None:
    weak = next(case for case in AGGREGATOR_CASES if case.noise)
    rows = cohort(6, 1)
    clean = decided(weak.make().model_copy(update={"noise": 0.0}), rows).delta
    one, other = decided(weak.make(), rows).delta, decided(weak.make(), rows).delta
    assert torch.equal(one, other)
    added = one - clean
    assert float(added.norm()) == pytest.approx(0.1 * float(rows.norm(dim=1).median()), rel=0.7)
    seen = shown(rows)
    elsewhere = RoundView(**{**vars(seen), "generator": lambda *_: torch.Generator().manual_seed(77)})
    third = weak.make().aggregate(torch.full((6,), torch.nan), elsewhere).delta
    assert not torch.equal(one, third)


def test_norm_clip_remembers_how_long_updates_are() -> None:
    """A cohort of long rows alone is clipped to what was typical before."""
    rule = AGGREGATORS["norm_clip"]()
    state = rule.start(LAYOUT, WEIGHTS, 6, None)
    quiet, loud = cohort(3, 1), 100 * cohort(3, 2)
    first = rule.aggregate(state, shown(quiet))
    typical = np.exp(np.quantile(np.log(quiet.norm(dim=1).numpy()), 0.4))
    near(first.delta, torch.stack([r * min(1, typical / r.norm()) for r in quiet]).mean(0))
    second = rule.aggregate(first.state, shown(loud, torch.tensor([3, 4, 5])))
    logs = np.log(np.concatenate([quiet.norm(dim=1).numpy(), loud.norm(dim=1).numpy()]))
    bound = np.exp(np.quantile(logs, 0.4))
    assert bound < 10
    assert float(second.delta.norm()) <= bound * (1 + 1e-4)
    assert rule.typical_norm(second.state) == pytest.approx(bound, rel=1e-4)


@pytest.mark.parametrize("kind", ["norm_clip", "weak_dp"])
def test_the_clipped_mean_is_the_same_on_shares(kind: str) -> None:
    rows, rule = cohort(6, 1), AGGREGATORS[kind]()
    rows[2] *= 20
    seen, draws = shown(rows), torch.Generator().manual_seed(0)
    state = rule.start(LAYOUT, WEIGHTS, 6, None)
    everybody, found = torch.ones(6, dtype=torch.bool), rule.aggregate(state, seen)
    scored = score_secretly(OwnParties(), rule, state, seen.public, rows, everybody, draws, None)
    assert scored.aggregate is not None
    near(scored.aggregate.delta, found.delta, atol=1e-3)
    near(scored.aggregate.trust, found.trust)
    assert scored.revealed.norms + scored.revealed.products <= 5, "one norm, and the four checks"


def test_dnc_draws_coordinates_where_there_are_more_than_it_takes() -> None:
    rows = cohort(10, 5)
    rows[0, 0] = 40.0  # seen by draws that have coordinate 0
    few = AGGREGATORS["dnc"](bad_share=0.1, coordinates=5, draws=30)
    trust = decided(few, rows).trust
    assert float(trust[0]) == 0
    assert 0 < int((trust > 0).sum()) < 10
    whole = AGGREGATORS["dnc"](bad_share=0.1)
    assert decided(whole, rows).trust.tolist() == pytest.approx([0] + [1 / 9] * 9)


def test_geometric_median_stands_still() -> None:
    rows = cohort(7, 1)
    once, again = (step(GeometricMedian(tolerance=t), rows, of=LAYOUT) for t in (1e-6, 1e-9))
    near(once, again, atol=1e-5)


def test_centered_clipping_by_hand() -> None:
    updates = torch.zeros(3, P)
    updates[0, 0], updates[1, 0], updates[2, 0] = 1.0, 2.0, 100.0
    assert float(step(CenteredClipping(), updates, of=LAYOUT)[0]) == pytest.approx((1 + 2 + 2) / 3)


def test_mean_weights_with_numbers_of_samples() -> None:
    updates = torch.stack([torch.zeros(P), torch.ones(P)])
    assert float(step(Mean(), updates, torch.tensor([1.0, 3.0]), of=LAYOUT)[0]) == 0.75
