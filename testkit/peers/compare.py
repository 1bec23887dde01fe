"""Holds a run against the truth and against the figures."""
import pathlib
import tomllib

import numpy as np

from arrays import to_f64
from case import Descriptor

FIGURES = tomllib.loads(pathlib.Path(__file__).with_name("figures.toml").read_text())
# Figures are written with two or three digits, so half of the last digit may be lost: up to 1 %.
WITHIN = 0.01


def wrong_numbers(case, results):
    """What is wrong with the results, as text, and the largest error as a share of what is allowed."""
    wrong, worst = [], 0.0
    for name, truth in case.truth.items():
        value = case.arguments[name]
        tensor = value.buffer if isinstance(value, Descriptor) else value
        # A tensor of several heads has its truth for the first one; the kernel is launched for no other.
        got = to_f64(results[name], tensor.kind).reshape(len(truth.value), -1, *truth.value.shape[1:])[:, 0]
        not_finite = np.count_nonzero(~np.isfinite(got))
        error = np.nan_to_num(abs(got - truth.value)) / truth.allowed()
        worst = max(worst, error.max())
        if not_finite:
            wrong.append(f"{name}: {not_finite} of {got.size} elements are not finite")
        if error.max() > 1:
            at = np.unravel_index(error.argmax(), error.shape)
            off = np.count_nonzero(error > 1)
            found = f"{got[at]:.6g} at {[int(i) for i in at]} where {truth.value[at]:.6g} is right"
            wrong.append(f"{name}: {off} of {got.size} elements are off, worst {found}")
    return wrong, worst


def measures(case, counters):
    """The counters in the units of the figures."""
    kinds = counters["global"].values()
    requests = [counters["global"][kind] for kind in ("loads", "stores")]
    ideal = sum(r["ideal_sectors"] for r in requests)
    shared, mma = counters["shared"], counters["mma"]
    found = {"traffic": 32 * sum(kind["sectors"] for kind in kinds) / case.least_bytes}
    if ideal:
        found["sectors"] = sum(r["sectors"] for r in requests) / ideal
    if shared["least"]:
        found["wavefronts"] = shared["wavefronts"] / shared["least"]
    if case.elements:
        found["instructions"] = counters["lane_instructions"] / case.elements
    elif mma:
        found["instructions"] = counters["warp_instructions"] / mma
        found["mma"] = mma / 1000
    return found


def compare_figures(case, counters, column):
    """Lines of `measure ours (figure)`, and the disagreements among them. `column` 0 is sm_80, 1 sm_90."""
    found, told, wrong = measures(case, counters), [], []
    for measure, figures in FIGURES[case.name].items():
        ours, figure = found.get(measure, 0.0), figures[column]
        line = f"{measure} {ours:.4g} ({figure:.4g})"
        told.append(line)
        if abs(ours - figure) > WITHIN * figure:
            wrong.append(f"{line}: more than {WITHIN:.0%} from the figure")
    return told, wrong
