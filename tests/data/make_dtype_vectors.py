#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes dtype_vectors.h: random blocks of every type with the weights that the `gguf` Python package reads from them, and
weights with the bytes that it rounds them to. Needs gguf and numpy; run: make_dtype_vectors.py > dtype_vectors.h"""

import importlib.metadata

import gguf
import numpy as np

TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
WEIGHTS = 256


def finite_halves(raw, exponent=0x7C00):
    """Clears the top exponent bit where all are set: no infinities, no NaNs."""
    halves = raw.copy().view(np.uint16)
    halves[(halves & exponent) == exponent] &= 0xBFFF
    return halves.view(np.uint8)


def random_blocks(rng, name):
    weights, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    blocks = rng.integers(0, 256, (WEIGHTS // weights, size), dtype=np.uint8)
    if name == "F32":
        return rng.standard_normal((WEIGHTS, 1)).astype(np.float32).view(np.uint8)
    if name in ("F16", "BF16"):
        return finite_halves(blocks, 0x7C00 if name == "F16" else 0x7F80)
    for at in HALVES[name]:
        blocks[:, at : at + 2] = finite_halves(blocks[:, at : at + 2])
    return blocks


def sample_weights(rng):
    """Ordinary blocks, one whose quotients fall on ties, one that is all zero, one of very small numbers."""
    weights = (rng.standard_normal(WEIGHTS) * 0.05).astype(np.float32)
    weights[32:64] = (rng.integers(-16, 17, 32) / 16).astype(np.float32)
    weights[64:96] = 0
    weights[96:128] *= np.float32(1e-6)
    weights[128:160] = np.abs(weights[128:160])
    return weights


def array(kind, name, values, digits):
    words = [f"0x{int(v):0{digits}x}," for v in values]
    lines = ["    " + " ".join(words[i : i + 10]) for i in range(0, len(words), 10)]
    print(f"static const {kind} {name}[] = {{\n" + "\n".join(lines) + "\n};")


def main():
    rng = np.random.default_rng(20240222)
    print("/* SPDX-License-Identifier: Apache-2.0")
    print(f" * Made by make_dtype_vectors.py with gguf {importlib.metadata.version('gguf')}; floats as their bits. */")
    print("/* clang-format off */")
    weights = sample_weights(rng)
    array("uint32_t", "vector_weights", weights.view(np.uint32), 8)
    rows = []
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        lower = name.lower()
        blocks = random_blocks(rng, name)
        values = np.ascontiguousarray(gguf.dequantize(blocks, kind)).astype(np.float32).ravel()
        assert values.size == WEIGHTS and np.isfinite(values).all()
        array("uint8_t", f"vector_{lower}_blocks", blocks.ravel(), 2)
        array("uint32_t", f"vector_{lower}_weights", values.view(np.uint32), 8)
        rounded = "NULL"
        if not name.endswith("_K"):
            rounded = f"vector_{lower}_rounded"
            array("uint8_t", rounded, np.ascontiguousarray(gguf.quantize(weights, kind)).view(np.uint8).ravel(), 2)
        rows.append(f'    {{"{lower}", vector_{lower}_blocks, vector_{lower}_weights, {rounded}}},')
    print(f"enum {{ VECTOR_WEIGHTS = {WEIGHTS} }};")
    print("static const struct {\n  const char *name;\n  const uint8_t *blocks;    /* random */")
    print("  const uint32_t *weights;  /* [VECTOR_WEIGHTS], what they mean */")
    print("  const uint8_t *rounded;   /* vector_weights in this type, or NULL */\n} vectors[] = {")
    print("\n".join(rows) + "\n};\n/* clang-format on */")


main()
