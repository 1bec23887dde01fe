"""Makes statistics.json: what scipy and statsmodels say of paired results.

    python -m venv VENV && VENV/bin/pip install scipy==1.17.1 statsmodels==0.15.0
    VENV/bin/python tests/golden/make_statistics.py
"""

import itertools
import json
import pathlib

import numpy as np
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

rng = np.random.default_rng(20261127)


def one_seed(b, c):
    """b questions that only the first has right, c that only the second has."""
    table = [[10, b], [c, 10]]
    result = {"better": b, "worse": c}
    result["exact"] = mcnemar(table, exact=True).pvalue if b + c else 1.0
    if b + c:
        result["chi_square"] = mcnemar(table, exact=False, correction=True).pvalue
    return result


def several_seeds(differences):
    """Every way in which the signs can fall: scipy's permutation test where it has fewer than it, else by hand."""
    d = np.array(differences)
    signs = np.array(list(itertools.product([-1, 1], repeat=len(d))))
    by_hand = float(np.mean(np.abs(signs @ d) >= abs(d.sum())))
    # two-sided in scipy is twice the smaller side, which is the same: the distribution is symmetric
    found = stats.permutation_test((d,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert abs(by_hand - min(1.0, found.pvalue)) < 1e-12, (by_hand, found.pvalue)
    return {"differences": differences, "p": by_hand}


def intervals(n, shares, resamples):
    """scipy's paired percentile interval; sigma is the standard error of the mean."""
    d = rng.choice([-1, 0, 1], size=n, p=shares)
    found = stats.bootstrap((d,), np.mean, n_resamples=resamples, method="percentile", random_state=7, batch=500)
    low, high = found.confidence_interval
    return {"differences": d.tolist(), "low": low, "high": high, "sigma": found.standard_error, "resamples": resamples}


def crossed(seeds, n, resamples):
    """The same for questions and seeds together, resampled here in plain numpy."""
    skill = rng.normal(size=n)
    d = np.stack([np.sign(np.round(0.7 * skill + rng.normal(size=n) * 0.6 + 0.25 * rng.normal())) for _ in range(seeds)])
    means = np.empty(resamples)
    for r in range(resamples):
        means[r] = d[rng.integers(seeds, size=seeds)][:, rng.integers(n, size=n)].mean()
    low, high = np.quantile(means, [0.025, 0.975])
    return {"differences": d.astype(int).tolist(), "low": low, "high": high, "sigma": means.std(), "resamples": resamples}


def detectable(n, share):
    """Connor's equation solved by brentq; a simulated McNemar test must then find the difference 4 times in 5."""
    z_level, z_power = stats.norm.ppf(0.975), stats.norm.ppf(0.8)
    gap = lambda x: n**0.5 * x - z_level * share**0.5 - z_power * max(share - x * x, 0) ** 0.5
    discordant = round(n * share)
    share = discordant / n
    if gap(share) < 0:
        return {"n": n, "discordant": discordant, "difference": None}
    x = optimize.brentq(gap, 0, share, xtol=1e-14)
    b = rng.multinomial(n, [(share + x) / 2, (share - x) / 2, 1 - share], size=200_000)
    statistic = (b[:, 0] - b[:, 1]) / np.sqrt(np.maximum(b[:, 0] + b[:, 1], 1))
    power = np.mean(np.abs(statistic) > z_level)
    assert 0.77 < power < 0.83, (n, share, x, power)
    return {"n": n, "discordant": discordant, "difference": x}


ps = [[0.01, 0.04, 0.03, 0.005], [0.5], [0.2, 0.2, 0.01, 0.9, 0.011, 0.0004], rng.random(12).round(4).tolist()]
values = [[0.5, 0.52], [0.6, 0.61, 0.64], rng.random(5).tolist(), rng.random(6).tolist(), rng.random(31).tolist()]
cases = {
    "mcnemar": [one_seed(b, c) for b, c in [(0, 0), (0, 1), (0, 6), (5, 12), (9, 9), (30, 51), (400, 330), (700, 620)]],
    "sign_flip": [several_seeds(d) for d in [[3, -1, 2, 2, -3, 1, 0, 4], [5, 5, 5], [1, -1], rng.integers(-5, 6, size=14).tolist()]],
    "holm": [{"p": p, "adjusted": multipletests(p, method="holm")[1].tolist()} for p in ps],
    "bootstrap": [intervals(200, [0.1, 0.75, 0.15], 20_000), intervals(60, [0.3, 0.3, 0.4], 20_000)],
    "bootstrap_crossed": [crossed(5, 120, 20_000), crossed(3, 80, 20_000)],
    "detectable": [detectable(n, s) for n, s in [(200, 0.2), (1276, 0.15), (1276, 0.3), (4183, 0.1), (50, 0.5), (40, 0.1)]],
    "student": [
        {"values": v, "interval": list(stats.t.interval(0.95, len(v) - 1, np.mean(v), stats.sem(v)))} for v in values
    ],
}
path = pathlib.Path(__file__).with_name("statistics.json")
path.write_text(json.dumps(cases, indent=None, separators=(",", ":")).replace('],"', '],\n"') + "\n")
