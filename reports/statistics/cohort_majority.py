r"""How likely it is that at least half of a cohort is malicious: what no rule that looks at one round alone survives.

Of :math:`N` clients :math:`f` are malicious. A cohort of a fixed size :math:`n` is drawn without replacement, so the
number of malicious ones in it is hypergeometric; under Poisson sampling every client comes with probability
:math:`q = n / N`, so those of either side are binomial, and independent of each other:

.. math::
    \Pr\big[X \ge \lceil n/2 \rceil\big], \quad X \sim \mathrm{Hyp}(N, f, n); \qquad
    \Pr[X \ge Y,\; X > 0], \quad X \sim \mathrm{Bin}(f, q),\; Y \sim \mathrm{Bin}(N - f, q)
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import stats


@lru_cache(maxsize=1024)  # runs of a sweep ask for the same few
def majority_probability(clients: int, malicious: int, cohort: int, *, poisson: bool = False) -> float:
    """Probability that a cohort is not empty and at least half of it is malicious.

    Args:
        clients: all of them, N.
        malicious: of these, f.
        cohort: clients in a round, n; under Poisson sampling the expected number.
        poisson: every client comes independently with probability n / N.

    >>> round(majority_probability(20, 4, 5), 3), round(majority_probability(20, 8, 5), 3)
    (0.032, 0.296)
    """
    if not poisson:
        return float(stats.hypergeom(clients, malicious, min(cohort, clients)).sf(-(-min(cohort, clients) // 2) - 1))
    share, lies = min(1.0, cohort / clients), np.arange(1, malicious + 1)
    return float(stats.binom(malicious, share).pmf(lies) @ stats.binom(clients - malicious, share).cdf(lies))
