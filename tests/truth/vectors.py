# SPDX-License-Identifier: Apache-2.0
"""What both generators share: the model file, the compact form of a row of logits, JSON output."""

import base64
import hashlib
import json
import os
import pathlib

import numpy as np

HERE = pathlib.Path(__file__).parent
MODEL_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

# Perplexity: windows of WINDOW ids, of which those from FIRST_SCORED on are scored.
WINDOW, FIRST_SCORED = 512, 256


def model_path():
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    path = pathlib.Path(cache) / "wisp" / MODEL_NAME
    if hashlib.sha256(path.read_bytes()).hexdigest() != MODEL_SHA256:
        raise SystemExit(f"{path}: SHA-256 differs from {MODEL_SHA256}; fetch it with tools/fetch_model.sh")
    return path


def base64_of(array, dtype):
    return base64.b64encode(np.ascontiguousarray(array, dtype=dtype).tobytes()).decode()


def pack_logits(row, n_top, n_even):
    """The n_top largest logits (largest first) and those of n_even evenly spaced ids 0, s, 2s, ..."""
    stride = len(row) // n_even
    top = np.argsort(-row, kind="stable")[:n_top]
    even = np.arange(n_even) * stride
    return {
        "top_ids": base64_of(top, "<u4"),
        "top": base64_of(row[top], "<f4"),
        "even_stride": stride,
        "even": base64_of(row[even], "<f4"),
    }


def unpack_logits(packed):
    """(ids, values) of a packed row, the top ones first; an id may occur twice."""
    top_ids = np.frombuffer(base64.b64decode(packed["top_ids"]), "<u4")
    top = np.frombuffer(base64.b64decode(packed["top"]), "<f4")
    even = np.frombuffer(base64.b64decode(packed["even"]), "<f4")
    even_ids = np.arange(len(even), dtype="<u4") * packed["even_stride"]
    return np.concatenate([top_ids, even_ids]), np.concatenate([top, even]).astype(np.float64)


def nmse(value, truth):
    """Normalised mean square error of logits, sum (value - truth)^2 / sum truth^2, after each lost its own mean.

    A constant added to all logits changes no probability, and without it the measure does not hang on where the mean lies.
    """
    value, truth = np.float64(value), np.float64(truth)
    value, truth = value - value.mean(), truth - truth.mean()
    return float(np.sum((value - truth) ** 2) / np.sum(truth**2))


def windows(ids):
    """Consecutive windows of WINDOW ids; a last partial one is left out."""
    return [ids[start : start + WINDOW] for start in range(0, len(ids) - WINDOW + 1, WINDOW)]


def window_nll(rows, window):
    """Negative log-likelihoods of window[FIRST_SCORED:]; rows[i] are the logits one position before the i-th of them."""
    rows = np.float64(rows)
    peak = rows.max(axis=1)
    log_sum = peak + np.log(np.exp(rows - peak[:, None]).sum(axis=1))
    return log_sum - rows[np.arange(len(rows)), window[FIRST_SCORED:]]


def perplexity(nll):
    """Perplexity of all scored positions, its standard error, and the mean of each window."""
    nll = np.concatenate(nll)
    ppl = np.exp(nll.mean())
    return {
        "window": WINDOW,
        "first_scored": FIRST_SCORED,
        "scored": len(nll),
        "mean_nll": round(float(nll.mean()), 7),
        "ppl": round(float(ppl), 6),
        "standard_error": round(float(ppl * nll.std(ddof=1) / np.sqrt(len(nll))), 6),
        "window_mean_nll": [round(float(m), 6) for m in nll.reshape(-1, WINDOW - FIRST_SCORED).mean(axis=1)],
    }


def write_json(name, value):
    """One line for each list of numbers, so that a diff stays readable."""
    path = HERE / name
    path.write_text(_lines(value, 0) + "\n", encoding="utf-8")
    print(f"{path.name}: {path.stat().st_size} bytes")


def _lines(value, depth):
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if depth == 3 or not any(isinstance(item, (dict, list)) for item in items):
        return json.dumps(value, ensure_ascii=False)
    is_dict = isinstance(value, dict)
    pad = "  " * (depth + 1)
    body = [pad + (f"{json.dumps(item)}: {_lines(value[item], depth + 1)}" if is_dict else _lines(item, depth + 1)) for item in value]
    left, right = "{}" if is_dict else "[]"
    return f"{left}\n" + ",\n".join(body) + f"\n{pad[2:]}{right}"
