"""Makes kmeans.json: what scikit-learn's Lloyd iterations find from given starts.

    python -m venv VENV && VENV/bin/pip install scikit-learn==1.9.1
    VENV/bin/python tests/golden/make_kmeans.py
"""

import json
import pathlib

import numpy as np
from sklearn.cluster import KMeans

rng = np.random.default_rng(7)


def case(n, width, k, spread):
    """Points around k centres, multiples of 1/64 so that f32 holds them; the starts are arbitrary points."""
    centres = rng.normal(size=(k, width)) * 2
    points = np.round((centres[rng.integers(k, size=n)] + spread * rng.normal(size=(n, width))) * 64) / 64
    starts = rng.choice(n, size=k, replace=False)
    found = KMeans(k, init=points[starts], n_init=1, algorithm="lloyd", tol=0, max_iter=300).fit(points)
    gaps = found.transform(points)
    own = gaps[np.arange(n), found.labels_]
    gaps[np.arange(n), found.labels_] = np.inf
    other = gaps.min(axis=1)
    assert len(set(found.labels_)) == k
    return {
        "points": points.tolist(),
        "starts": starts.tolist(),
        "labels": found.labels_.tolist(),
        "inertia": found.inertia_,
        "silhouette": float(np.mean((other - own) / np.maximum(own, other))),
    }


cases = [case(40, 3, 4, 0.5), case(60, 5, 6, 1.5), case(25, 2, 2, 1.0)]
path = pathlib.Path(__file__).with_name("kmeans.json")
path.write_text(json.dumps(cases, separators=(",", ":")) + "\n")
