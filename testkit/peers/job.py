"""Runs a compiled case in ptxrun, the interpreter's program: a job out; findings, counters, results back."""
import dataclasses
import json
import subprocess

import numpy as np

from case import Buffer, Descriptor, Integer

SWIZZLE_BYTES = [0, 32, 64, 128]  # by Triton's number of the mode


@dataclasses.dataclass
class Run:
    """What ptxrun reports, and what the kernel left in each argument's buffer."""

    findings: list
    counters: dict
    results: dict


class Failed(Exception):
    """ptxrun cannot run the job; the text says why."""


def scalar(value):
    if isinstance(value, Integer):
        return {"i32": value.value}
    if isinstance(value, float):
        return {"f32": value}
    return {"i32" if abs(value) < 2**31 else "i64": value}


def descriptor(name, value, made):
    """A tensor map, then the shape and the strides, as Triton passes a descriptor."""
    rows, columns = value.buffer.data.shape
    size = value.buffer.data.itemsize
    yield {
        "tensor_map": {
            "buffer": name,
            "element_bytes": size,
            "shape": [columns, rows],  # ptxrun begins with the dimension that is contiguous
            "strides": [columns * size],
            "box": made["block_size"][::-1],
            "swizzle": SWIZZLE_BYTES[made["swizzle"]],
        }
    }
    yield from ({"i32": extent} for extent in (rows, columns))
    yield from ({"i64": stride} for stride in (columns, 1))


def prepare(case, compiled, folder):
    """Writes a compiled case's job into `folder`; returns the job file and the buffers by argument."""
    folder.mkdir(parents=True, exist_ok=True)
    made = json.loads(compiled.with_suffix(".json").read_text())
    maps = iter(made["descriptors"])
    buffers, arguments, tensors = {}, [], {}
    for name in made["parameters"]:
        value = case.arguments[name]
        tensor = value.buffer if isinstance(value, Descriptor) else value
        if not isinstance(tensor, Buffer):
            arguments.append(scalar(value))
            continue
        tensors[name] = tensor
        buffers[name] = {"bytes": tensor.data.nbytes, "to": f"{name}.out"}
        if not tensor.empty:
            tensor.data.tofile(folder / f"{name}.bin")
            buffers[name]["from"] = f"{name}.bin"
        if value is tensor:
            arguments.append({"buffer": name, "offset": 0})
        else:
            arguments.extend(descriptor(name, value, next(maps)))
    # Triton ends a kernel's parameters with two pointers to scratch memory that these kernels do not use.
    arguments += [{"u64": 0}, {"u64": 0}]
    job = {
        "ptx": str(compiled.with_suffix(".ptx")),
        "entry": made["entry"],
        "grid": list(case.grid),
        "block": [made["block"], 1, 1],
        "shared": made["shared"],
        "buffers": buffers,
        "args": arguments,
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job, indent=1))
    return path, tensors


def run(ptxrun, case, compiled, folder):
    """Runs a compiled case; its files stay in `folder`."""
    job, tensors = prepare(case, compiled, folder)
    done = subprocess.run([ptxrun, job], capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise Failed((done.stderr or done.stdout).strip())
    report = json.loads(done.stdout)
    results = {
        name: np.fromfile(folder / f"{name}.out", tensor.data.dtype).reshape(tensor.data.shape)
        for name, tensor in tensors.items()
        if name in case.truth
    }
    return Run(report["findings"], report["counters"], results)
