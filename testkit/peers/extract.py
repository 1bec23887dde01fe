"""Takes kernels out of a library's files without importing the library.

The libraries import torch and ask it for a device as soon as they are imported. Their kernels need neither:
a kernel is a function of the Triton language alone. So the wanted definitions are cut out of the parsed file
and written, one file a kernel, into a scratch module that imports only Triton.
"""
import ast
import importlib.util
import sys

IMPORTS = """\
import sys

import triton
import triton.language as tl
from triton.language.extra import libdevice
from triton.language.extra import libdevice as tl_libdevice
from triton.language.extra.libdevice import rsqrt, tanh

tle = sys.modules[__name__]  # what a library's own extension module offers is among the definitions here
"""


def definitions(path):
    """Every function and every constant of the file, by name; of several with one name the last counts."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            # Decorators choose settings by the device that is present; ours are in the table of cases.
            node.decorator_list = [ast.parse("triton.jit", mode="eval").body]
            found[node.name] = node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name):
                found.setdefault(target.id, node)
    return found


def module(sources, wanted, scratch):
    """A module with the definitions of `wanted`: pairs of a file below `sources` and names in it."""
    parts = [IMPORTS]
    for file, names in wanted:
        found = definitions(sources / file)
        parts += [ast.unparse(found[name]) for name in names]
    scratch.parent.mkdir(parents=True, exist_ok=True)
    scratch.write_text("\n\n".join(parts) + "\n")
    spec = importlib.util.spec_from_file_location(scratch.stem, scratch)
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made
