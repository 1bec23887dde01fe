"""Compiles a case with Triton for an architecture, without a GPU: PTX, CUBIN, metadata."""
import json

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import extract
from case import Buffer, Constant, Descriptor, Integer


def specialise(value):
    """What the library's own call would make of a value: Triton's type of it, whether it is folded in, whether
    it is known to be divisible by 16."""
    match value:
        case Constant():
            return "constexpr", True, False
        case Buffer():
            return f"*{value.kind}", False, True
        case Descriptor():
            return f"tensordesc<{value.buffer.kind}[{','.join(map(str, value.box))}]>", False, False
        case Integer():
            return "i32", False, False
        case float():
            return "fp32", False, False
        case 1:
            return "constexpr", True, False
        case _:
            return "i32" if abs(value) < 2**31 else "i64", False, value % 16 == 0


def compile(case, sources, target, folder):
    """Writes NAME.ptx, NAME.cubin and NAME.json, the metadata that a launch needs, into `folder`."""
    module = extract.module(sources, case.sources, folder / "modules" / f"{case.name}.py")
    function = getattr(module, case.function)
    signature, constants, attributes, parameters = {}, {}, {}, []
    for index, name in enumerate(function.arg_names):
        value = case.arguments[name]
        signature[name], folded, divisible = specialise(value)
        if folded:
            constants[(index,)] = value.value if isinstance(value, Constant) else value
        else:
            parameters.append(name)
        if divisible:
            attributes[(index,)] = [["tt.divisibility", 16]]
    # The figures were taken with multiply and add fused; Triton's own default is about to change.
    options = {"num_warps": case.warps, "num_stages": case.stages, "enable_fp_fusion": True}
    source = ASTSource(function, signature, constants, attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
    metadata = {
        "entry": compiled.metadata.name,
        "block": 32 * compiled.metadata.num_warps,
        "shared": compiled.metadata.shared,
        "parameters": parameters,
        "descriptors": [dict(made) for made in getattr(compiled.metadata, "tensordesc_meta", [])],
    }
    (folder / f"{case.name}.ptx").write_text(compiled.asm["ptx"])
    (folder / f"{case.name}.cubin").write_bytes(compiled.asm["cubin"])
    (folder / f"{case.name}.json").write_text(json.dumps(metadata))
