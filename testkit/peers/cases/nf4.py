"""unsloth's NF4 decoder: 4-bit weights with doubly quantised scales to bf16, equal to the last bit."""
import numpy as np

from arrays import to_f64, to_bf16
from case import Buffer, Case, Constant, Truth

ELEMENTS = 65536
BLOCK, BLOCK_OF_SCALES = 64, 256
ROWS = 64  # scales a program: 2048 bytes of weight


def unsloth(target):
    random = np.random.default_rng(41)
    packed = random.integers(0, 256, ELEMENTS // 2).astype(np.uint8)
    scales = random.integers(0, 256, ELEMENTS // BLOCK).astype(np.uint8)
    table = np.sort(random.uniform(-1, 1, 16)).astype(np.float32)
    scale_table = random.uniform(-1, 1, 256).astype(np.float32)
    outer = random.uniform(0.01, 0.1, ELEMENTS // BLOCK // BLOCK_OF_SCALES).astype(np.float32)
    offset = np.array([0.05], np.float32)
    # Each f32 step rounds once, in this order; numpy's f32 does the same.
    scale = scale_table[scales] * np.repeat(outer, BLOCK_OF_SCALES) + offset
    nibbles = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)
    value = to_f64(to_bf16(table[nibbles] * np.repeat(scale, BLOCK)), "bf16")
    # The tables are the same for every weight, so they are not part of the least.
    return Case(
        name="unsloth-nf4",
        sources=[("unsloth/kernels/nf4.py", ["_mul", "_lut_gather", "_nf4_lut", "_nf4_dequant_kernel"])],
        arguments=dict(
            W_ptr=Buffer("u8", packed), absmax_ptr=Buffer("u8", scales),
            code2_ptr=Buffer("fp32", scale_table), absmax2_ptr=Buffer("fp32", outer),
            offset_ptr=Buffer("fp32", offset), lut_ptr=Buffer("fp32", table),
            out_ptr=Buffer("bf16", np.zeros(ELEMENTS, np.uint16), empty=True), n_elements=ELEMENTS,
            n_bytes=ELEMENTS // 2, n_blocks=ELEMENTS // BLOCK, HALF=Constant(BLOCK // 2),
            BLOCKSIZE2_SHIFT=Constant(8), NESTED=Constant(True), USE_MUL_RN=Constant(True),
            ROWS=Constant(ROWS), WORDS=Constant(False), EVICT=Constant(""), LUT_MODE=Constant(0),
        ),
        truth=dict(out_ptr=Truth(value, np.zeros(ELEMENTS))),
        grid=(ELEMENTS // BLOCK // ROWS, 1, 1), warps=4, elements=ELEMENTS,
        least_bytes=packed.nbytes + scales.nbytes + outer.nbytes + ELEMENTS * 2,
    )


CASES = [unsloth]
