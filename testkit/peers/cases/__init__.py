"""The kernels that are run, a module for each op: functions of an architecture, which may have none."""
from cases import attention, cross_entropy, linear_cross_entropy, matmul, nf4, rmsnorm, rope, swiglu

MODULES = [rmsnorm, swiglu, rope, cross_entropy, nf4, attention, linear_cross_entropy, matmul]
ALL = [case for module in MODULES for case in module.CASES]
