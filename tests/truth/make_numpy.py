# SPDX-License-Identifier: Apache-2.0
"""Makes numpy.json: a float64 forward pass in NumPy over the float32 weights that the gguf package dequantises.

Reads prompts.json and llamacpp.json, shares no code with Wisp or llama.cpp's inference, and prints how far the two agree.
"""

import importlib.metadata
import json

import gguf
import numpy as np

import vectors
from prompts import ALL_POSITIONS


class Model:
    """Architecture "llama" of GGUF: RMSNorm, grouped-query attention, rotary pairs (2i, 2i + 1), SwiGLU, no biases."""

    def __init__(self, path, dtype):
        reader = gguf.GGUFReader(path)

        def key(name):
            return reader.get_field(f"llama.{name}").contents()

        self.dtype = dtype
        self.n_blocks = key("block_count")
        self.n_heads, self.n_kv_heads = key("attention.head_count"), key("attention.head_count_kv")
        self.head_dim = key("embedding_length") // self.n_heads
        self.eps = key("attention.layer_norm_rms_epsilon")
        self.inv_freq = key("rope.freq_base") ** (-np.arange(0, self.head_dim, 2) / self.head_dim)
        self.weight = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(dtype) for t in reader.tensors}
        self.head = self.weight.get("output.weight", self.weight["token_embd.weight"])

    def rmsnorm(self, x, name):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.dtype(self.eps)) * self.weight[f"{name}.weight"]

    def rope(self, x, positions):
        """Rotates each adjacent pair of x [tokens, heads, head_dim]."""
        angle = positions[:, None] * self.inv_freq
        cos, sin = np.cos(angle)[:, None].astype(self.dtype), np.sin(angle)[:, None].astype(self.dtype)
        even, odd = x[..., 0::2], x[..., 1::2]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)

    def attention(self, x, block, cache, positions):
        n, past = len(x), positions[0]
        q, k, v = (x @ self.weight[f"blk.{block}.attn_{r}.weight"].T for r in "qkv")
        q = self.rope(q.reshape(n, self.n_heads, self.head_dim), positions)
        k = self.rope(k.reshape(n, self.n_kv_heads, self.head_dim), positions)
        v = v.reshape(n, self.n_kv_heads, self.head_dim)
        if block in cache:
            k, v = np.concatenate([cache[block][0], k]), np.concatenate([cache[block][1], v])
        cache[block] = k, v
        out = np.empty_like(q)
        hidden = np.arange(len(k))[None, :] > past + np.arange(n)[:, None]
        for h in range(self.n_heads):
            g = h * self.n_kv_heads // self.n_heads
            score = q[:, h] @ k[:, g].T / np.sqrt(self.dtype(self.head_dim))
            score[hidden] = -np.inf
            score = np.exp(score - score.max(axis=1, keepdims=True))
            out[:, h] = score / score.sum(axis=1, keepdims=True) @ v[:, g]
        return out.reshape(n, -1) @ self.weight[f"blk.{block}.attn_output.weight"].T

    def ffn(self, x, block):
        gate, up = (x @ self.weight[f"blk.{block}.ffn_{r}.weight"].T for r in ("gate", "up"))
        return (gate / (1 + np.exp(-gate)) * up) @ self.weight[f"blk.{block}.ffn_down.weight"].T

    def forward(self, ids, cache, first_row=0):
        """Logits [len(ids) - first_row, vocab] of the positions from first_row on; cache is extended by ids."""
        past = len(cache[0][0]) if cache else 0
        positions = np.arange(past, past + len(ids))
        x = self.weight["token_embd.weight"][ids]
        for block in range(self.n_blocks):
            x = x + self.attention(self.rmsnorm(x, f"blk.{block}.attn_norm"), block, cache, positions)
            x = x + self.ffn(self.rmsnorm(x, f"blk.{block}.ffn_norm"), block)
        return self.rmsnorm(x[first_row:], "output_norm") @ self.head.T


def top(logits, n):
    """Ids and rounded values of the n largest logits of each row."""
    ids = np.argsort(-logits, axis=-1, kind="stable")[:, :n]
    return ids.tolist(), [[round(float(v), 4) for v in row] for row in np.take_along_axis(logits, ids, axis=-1)]


def greedy(model, prompt_ids, n_predict, end_ids):
    """(ids, end id or None, the row of logits each choice was made from)"""
    cache, ids, rows = {}, [], []
    row = model.forward(prompt_ids, cache, len(prompt_ids) - 1)[0]
    while len(rows) < n_predict:
        rows.append(row)
        best = int(np.argmax(row))
        if best in end_ids:
            return ids, best, np.stack(rows)
        ids.append(best)
        row = model.forward([best], cache)[0]
    return ids, None, np.stack(rows)


def near_ties(name, forced, forced_rows, llama):
    """Where, after the same ids, this pass and llama.cpp choose different tokens: both logits from both."""
    found = []
    for i, theirs in enumerate(llama["ids"] + ([llama["end_id"]] if llama["end_id"] is not None else [])):
        ours = forced["top_ids"][i][0]
        if ours == theirs:
            continue
        llama_logit = dict(zip(llama["top_ids"][i], llama["top_logits"][i]))
        entry = {
            "position": i,
            "numpy_id": ours,
            "llamacpp_id": theirs,
            "numpy_logits": [round(float(forced_rows[i][t]), 4) for t in (ours, theirs)],
            "llamacpp_logits": [llama_logit.get(t) for t in (ours, theirs)],
        }
        found.append(entry)
        print(f"  {name}[{i}]: {ours} or {theirs}: numpy {entry['numpy_logits']}, llama.cpp {entry['llamacpp_logits']}")
    return found


def main():
    path = vectors.model_path()
    prompts = json.loads((vectors.HERE / "prompts.json").read_text(encoding="utf-8"))["prompts"]
    llamacpp = json.loads((vectors.HERE / "llamacpp.json").read_text(encoding="utf-8"))
    end_ids, n_predict = llamacpp["about"]["end_ids"], llamacpp["about"]["n_predict"]

    single = Model(path, np.float32)
    model = Model(path, np.float64)

    results, cached_error = {}, 0.0
    nmse = {"llamacpp": {}, "llamacpp_float32": {}, "numpy_float32": {}}
    for prompt in prompts:
        name, prompt_ids, llama = prompt["id"], prompt["ids"], llamacpp["prompts"][prompt["id"]]
        last = len(prompt_ids) - 1
        # One pass over the prompt and llama.cpp's ids: every row of truth that the prompt needs.
        rows = model.forward(prompt_ids + llama["ids"], {})
        forced_rows = rows[last : last + len(llama["top_ids"])]
        forced = dict(zip(("top_ids", "top_logits"), top(forced_rows, 2)))

        ids, end_id, own_rows = greedy(model, prompt_ids, n_predict, end_ids)
        own = dict(zip(("top_ids", "top_logits"), top(own_rows, 2)))
        agree = next((i for i, (a, b) in enumerate(zip(ids, llama["ids"])) if a != b), min(len(ids), len(llama["ids"])))
        same = min(agree + 1, len(own_rows), len(forced_rows))
        cached_error = max(cached_error, float(np.abs(own_rows[:same] - forced_rows[:same]).max()))

        for engine, packed in (("llamacpp", llama["logits"]), ("llamacpp_float32", llama["float32"]["logits"])):
            packed_ids, values = vectors.unpack_logits(packed)
            nmse[engine][name] = vectors.nmse(values, rows[last][packed_ids])
        nmse["numpy_float32"][name] = vectors.nmse(single.forward(prompt_ids, {}, last)[0], rows[last])
        exact = ids == llama["float32"]["ids"] and end_id == llama["float32"]["end_id"]
        print(
            f"{name}: NMSE "
            + ", ".join(f"{engine} {values[name]:.2e}" for engine, values in nmse.items())
            + f"; greedy as llama.cpp for {agree} of {len(ids)} ids"
            + f", as llama.cpp in float32: {'yes' if exact else 'no'}",
            flush=True,
        )
        kept = range(last + 1) if name in ALL_POSITIONS else [last]
        results[name] = {
            "ids": ids,
            "end_id": end_id,
            **own,
            "forced": forced,
            "forced_differs": near_ties(name, forced, forced_rows, llama),
            "positions": list(kept),
            "logits": [vectors.pack_logits(rows[p], 64, 256) for p in kept],
        }

    if cached_error > 1e-9:
        raise SystemExit(f"cached decode differs from the full pass by {cached_error}")

    theirs, nll = llamacpp["perplexity"], []
    for window in vectors.windows(theirs["ids"]):
        nll.append(vectors.window_nll(model.forward(window, {}, vectors.FIRST_SCORED - 1)[:-1], window))
    perplexity = {"tokens": theirs["tokens"], **vectors.perplexity(nll)}
    print(f"perplexity {perplexity['ppl']} +- {perplexity['standard_error']}, llama.cpp {theirs['ppl']}")

    positions = sum(len(r["forced"]["top_ids"]) for r in results.values())
    about = {
        "engine": "NumPy forward pass, float64 arithmetic over float32 weights",
        "packages": [f"{p} {importlib.metadata.version(p)}" for p in ("numpy", "gguf")],
        "model": vectors.MODEL_NAME,
        "model_sha256": vectors.MODEL_SHA256,
        "n_predict": n_predict,
        "forced_positions": positions,
        "forced_differences": sum(len(r["forced_differs"]) for r in results.values()),
        "same_greedy_ids": sum(r["ids"] == llamacpp["prompts"][n]["ids"] for n, r in results.items()),
        "same_greedy_ids_float32": sum(r["ids"] == llamacpp["prompts"][n]["float32"]["ids"] for n, r in results.items()),
        "nmse": {engine: {n: float(f"{v:.3e}") for n, v in values.items()} for engine, values in nmse.items()},
    }
    print(f"{about['forced_differences']} of {positions} positions differ from llama.cpp's choice after the same ids")
    print(f"{about['same_greedy_ids']} of {len(results)} prompts have llama.cpp's greedy ids, "
          f"{about['same_greedy_ids_float32']} those of llama.cpp in float32")
    print("largest NMSE: " + ", ".join(f"{engine} {max(values.values()):.2e}" for engine, values in nmse.items()))
    print(f"cached decode against full pass: {cached_error:.1e}")
    vectors.write_json("numpy.json", {"about": about, "perplexity": perplexity, "prompts": results})


if __name__ == "__main__":
    main()
