#!/usr/bin/env python3
"""Runs other libraries' Triton kernels in the interpreter: right against numpy, counted as their figures say.

    python run.py PTXRUN FOLDER [NAME ...]

PTXRUN is the interpreter's program. FOLDER keeps what is fetched and made. Each NAME selects the kernels that
contain it. Prints a line for each kernel and architecture; exits 1 if one is wrong. Needs no GPU, but triton
and numpy; `cargo xtask peer-kernels` provides them.
"""
import os
import pathlib
import sys

sys.dont_write_bytecode = True
TARGETS = (80, 90)
FINDING = "{check}: line {line} [{instruction}], block {block}, warp {warp}, lanes {lanes:08x}: {message}"


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    ptxrun, folder, names = sys.argv[1], pathlib.Path(sys.argv[2]).resolve(), sys.argv[3:]
    os.environ["TRITON_CACHE_DIR"] = str(folder / "cache")  # read by Triton when it is imported
    import cases
    import fetch

    sources = fetch.sources(folder)
    wrong = total = 0
    for target in TARGETS:
        for make in cases.ALL:
            case = make(target)
            if case and (not names or any(name in case.name for name in names)):
                total += 1
                wrong += not judge(ptxrun, case, sources, target, folder)
    print(f"{total - wrong} kernels agree, {wrong} do not")
    sys.exit(1 if wrong or not total else 0)


def judge(ptxrun, case, sources, target, folder):
    """Compiles, runs and compares one case; prints its line and returns whether all of it is right."""
    import build
    import compare
    import job

    compiled = folder / f"sm_{target}" / case.name
    build.compile(case, sources, target, compiled.parent)
    try:
        run = job.run(ptxrun, case, compiled, folder / "jobs" / f"sm_{target}" / case.name)
    except job.Failed as why:
        print(f"{case.name:28} sm_{target}  cannot run: {why}", flush=True)
        return False
    faults, worst = compare.wrong_numbers(case, run.results)
    told, disagreements = compare.compare_figures(case, run.counters, TARGETS.index(target))
    faults += [FINDING.format_map(finding) for finding in run.findings] + disagreements
    verdict = "FAILED" if faults else "ok"
    told = [f"error {worst:.2f} of allowed", *told]
    print(f"{case.name:28} sm_{target}  {verdict:6}  {', '.join(told)}", *faults, sep="\n    ", flush=True)
    return not faults


if __name__ == "__main__":
    main()
