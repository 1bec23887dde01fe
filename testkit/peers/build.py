"""Compiles a case with Triton for an architecture, without a GPU: PTX, CUBIN, metadata."""
import hashlib
import json
import subprocess

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import extract
from case import Buffer, Constant, Descriptor, Integer


def specialise(value):
    """Triton's type of an argument, whether it is folded in, and whether it is divisible by 16: what the library's
    own call would make of this value."""
    if isinstance(value, Constant):
        return "constexpr", True, False
    if isinstance(value, Buffer):
        return "*" + value.kind, False, True
    if isinstance(value, Descriptor):
        return f"tensordesc<{value.buffer.kind}[{','.join(map(str, value.box))}]>", False, False
    if isinstance(value, Integer):
        return "i32", False, False
    if isinstance(value, float):
        return "fp32", False, False
    if value == 1:
        return "constexpr", True, False
    return "i32" if abs(value) < 2**31 else "i64", False, value % 16 == 0


def parameters(case):
    """The arguments that stay run-time parameters, in order."""
    return {name: value for name, value in case.arguments.items() if not specialise(value)[1]}


def compile(case, sources, target, folder):
    """Writes NAME.ptx, NAME.cubin and NAME.json into `folder`; returns the metadata."""
    module = extract.module(sources, case.sources, folder / "modules" / f"{case.name}.py")
    signature, constants, attributes = {}, {}, {}
    for index, (name, value) in enumerate(case.arguments.items()):
        signature[name], folded, divisible = specialise(value)
        if folded:
            constants[(index,)] = value.value if isinstance(value, Constant) else value
        if divisible:
            attributes[(index,)] = [["tt.divisibility", 16]]
    # Fusion of multiply and add is what the figures were taken with; Triton is about to change its default.
    options = {"num_warps": case.warps, "num_stages": case.stages, "enable_fp_fusion": True}
    source = ASTSource(getattr(module, case.function), signature, constants, attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
    metadata = {
        "entry": compiled.metadata.name,
        "block": 32 * compiled.metadata.num_warps,
        "shared": compiled.metadata.shared,
        "descriptors": [dict(d) for d in getattr(compiled.metadata, "tensordesc_meta", None) or []],
    }
    (folder / f"{case.name}.ptx").write_text(compiled.asm["ptx"])
    (folder / f"{case.name}.cubin").write_bytes(compiled.asm["cubin"])
    (folder / f"{case.name}.json").write_text(json.dumps(metadata))
    return metadata
