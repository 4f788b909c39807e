"""What attacks on updates promise of the plain mean: of the rows of malicious clients, and of the step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from attacked_cohort import MALICIOUS, Round, problem

from autoflip_secure.defenses.aggregators.krum import krum_scores

Promise = Callable[[Round], bool]
BEFORE = problem().initial - torch.randn(problem().layout.size, generator=torch.Generator().manual_seed(8))
"""A global model of an earlier round."""


def against(found: Round) -> bool:
    """Every lie points against the honest mean, and the step makes less progress along it."""
    mean = found.honest.mean(0)
    return bool((found.lies @ mean < 0).all()) and float(found.step @ mean) < 0.9 * float(mean @ mean)


def below(found: Round) -> bool:
    """The step lies below the honest mean by what s says."""
    mean, s = found.honest.mean(0), found.honest.std(0)
    return float((found.step - mean) @ s) < -0.1 * float(s @ s)


def away(found: Round) -> bool:
    """The step is further from the honest mean than without an attack, by half."""
    mean = found.honest.mean(0)
    return float((found.step - mean).norm()) > 1.5 * float(
        (torch.where(found.active, found.trained.mean(0), 0) - mean).norm()
    )


def opposed(found: Round) -> bool:
    """The step makes less progress along the honest mean than without an attack."""
    mean = found.honest.mean(0)
    return float(found.step @ mean) < 0.8 * float(mean @ mean)


def beyond(found: Round) -> bool:
    """Every lie is beyond all honest values, by no more than a factor of 2, on the side that the mean does not go to;
    all differ, and there is less progress along the mean."""
    low, high = found.honest.amin(0), found.honest.amax(0)
    rising, falling = found.honest.mean(0) > 0, found.honest.mean(0) < 0
    below_all = (found.lies <= low + 1e-6) & (found.lies >= torch.minimum(low / 2, low * 2) - 1e-6)
    above_all = (found.lies >= high - 1e-6) & (found.lies <= torch.maximum(high / 2, high * 2) + 1e-6)
    inside = bool((below_all | ~rising).all()) and bool((above_all | ~falling).all())
    return inside and not torch.equal(found.lies[0], found.lies[1]) and opposed(found)


def picked_by_krum(found: Round) -> bool:
    """They reverse every sign, and Krum takes one of them for its step."""
    best = krum_scores(torch.where(found.active, found.sent, 0.0), len(MALICIOUS)).argmin()
    reversed_ = torch.equal(found.lies.sign(), -found.honest.mean(0).sign().expand_as(found.lies))
    return reversed_ and int(best) in MALICIOUS


def across(found: Round) -> bool:
    """Every lie is as long as a typical row and at right angles to the mean, which moves the step away from it."""
    mean, norms = found.honest.mean(0), found.honest.norm(dim=1)
    cosines = found.lies @ mean / (found.lies.norm(dim=1) * mean.norm())
    typical = torch.allclose(found.lies.norm(dim=1), norms.median().expand(len(found.lies)))
    return typical and bool((cosines.abs() < 1e-4).all()) and away(found)


def _agreement(found: Round) -> tuple[torch.Tensor, torch.Tensor]:
    """Of all clients and of honest ones, about the prunable weights on which the malicious are not as trained."""
    here = problem().layout.prunable & (found.sent != found.trained).any(0)
    everybody, honest = found.sent[:, here], found.honest[:, here]
    assert torch.equal(found.sent[:, ~here], found.trained[:, ~here])
    of_all, own = (one.sum(0).abs() / one.abs().sum(0) for one in (everybody, honest))
    return of_all, own


def cancelled(found: Round) -> bool:
    """There are weights about which nobody agrees."""
    everybody, _ = _agreement(found)
    return len(everybody) > 5 and bool((everybody < 1e-5).all())


def unanimous(found: Round) -> bool:
    """There are weights about which clients agree more than the honest do."""
    everybody, honest = _agreement(found)
    return len(everybody) > 5 and bool((everybody > honest - 1e-6).all()) and bool((everybody >= 0.5 - 1e-6).all())


def apart(found: Round) -> bool:
    """No two lies are alike, each is sqrt(10) means long, and the step makes less progress along the honest mean."""
    unit = torch.nn.functional.normalize(found.lies)
    alike = (unit @ unit.T).fill_diagonal_(0).amax()
    lengths = found.lies.norm(dim=1) / found.honest.mean(0).norm()
    return float(alike) < 0.4 and bool(((lengths - 10**0.5).abs() < 0.5).all()) and opposed(found)


def medoids(found: Round) -> bool:
    """All lies are the honest row that is nearest to the others together, which no longer is as far from the step."""
    distances = [sum(float((one - other).norm()) for other in found.honest) for one in found.honest]
    chosen = found.honest[distances.index(min(distances))]
    calm = torch.where(found.active, found.trained.mean(0), 0.0)
    return bool((found.lies == chosen).all()) and float((found.step - chosen).norm()) < 0.8 * float(
        (calm - chosen).norm()
    )


def multiplied(factor: float) -> Promise:
    """Own updates times a factor."""

    def promise(found: Round) -> bool:
        own = torch.where(found.active, found.trained[list(MALICIOUS)], 0.0)
        return torch.allclose(found.lies, factor * own, rtol=1e-5)

    return promise


def shortened(norm: float, *, typical: bool = True) -> Promise:
    """Own updates, with at most this norm."""

    def promise(found: Round) -> bool:
        own = torch.where(found.active, found.trained[list(MALICIOUS)], 0.0)
        bound = norm * float(found.honest.norm(dim=1).median() if typical else 1.0)
        norms = found.lies.norm(dim=1)
        alike = torch.nn.functional.cosine_similarity(found.lies, own)
        return torch.allclose(norms, torch.full((3,), bound)) and torch.allclose(alike, torch.ones(3))

    return promise


def spares_most_moved(share: float) -> Promise:
    """Own updates, with zeros on the coordinates that the last step moved most, found by sorting."""

    def promise(found: Round) -> bool:
        step = (problem().initial - BEFORE).abs()
        live = found.active.nonzero().squeeze(1).tolist()
        most = sorted(live, key=lambda j: -float(step[j]))[: round(share * len(live))]
        expected = torch.where(found.active, found.trained[list(MALICIOUS)], 0.0)
        expected[:, most] = 0.0
        return torch.equal(found.lies, expected)

    return promise
