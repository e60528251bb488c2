# SPDX-License-Identifier: Apache-2.0
"""Writes small random checkpoints of every architecture that Wisp reads from Hugging Face folders, and their logits.

    make_checkpoints.py FOLDER [NAME...]

Each FOLDER/NAME has config.json, tokenizer.json, weights in one of the containers, and expected.json: {"ids": [...], "logits": [[...], ...]} of
forward.py, from the weights as they are stored. Same names, same bytes.
"""

import json
import pathlib
import sys

import numpy as np

import containers
import forward

BASE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 288,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
R1 = {
    "model_type": "llama4_text",
    "intermediate_size": 512,
    "intermediate_size_mlp": 96,
    "head_dim": 16,
    "rope_theta": 8e6,
    "use_qk_norm": True,
    "no_rope_layers": [1, 1, 1],
    "layer_types": ["full_attention"] * 3,
    "num_local_experts": 0,
    "moe_layers": [],
    "interleave_moe_layer_step": 0,
    "attn_temperature_tuning": False,
    "attention_chunk_size": 32768,
    "tie_word_embeddings": True,
    "eos_token_id": [2, 5, 7],
}
GEMMA = {
    "model_type": "gemma3_text",
    "num_hidden_layers": 7,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "rope_theta": 1e6,
    "rope_local_base_freq": 10000.0,
    "query_pre_attn_scalar": 32,
    "hidden_activation": "gelu_pytorch_tanh",
    "sliding_window": 5,
    "layer_types": ["full_attention" if i % 6 == 5 else "sliding_attention" for i in range(7)],
    "rms_norm_eps": 1e-6,
}
PRO = {
    **R1,
    "model_type": "mobilellm_p1",
    "num_hidden_layers": 5,
    "rope_theta": 5e5,
    "no_rope_layers": [1] * 5,
    "layer_types": ["full_attention"] + ["sliding_attention"] * 3 + ["full_attention"],
    "sliding_window": 6,
}
MOBILELLM = {"model_type": "mobilellm", "tie_word_embeddings": False, "head_dim": 16}

# name -> (changes of the config, dtype, container); a container that ends in 2 has two shards.
CHECKPOINTS = {
    "llama-tied": ({"model_type": "llama", "tie_word_embeddings": True}, "F32", "safetensors"),
    "llama-untied": ({"model_type": "llama"}, "F32", "torch"),
    "llama-sharded": ({"model_type": "llama"}, "F32", "safetensors2"),
    "llama-bf16": ({"model_type": "llama", "tie_word_embeddings": True}, "BF16", "torch2"),
    "llama-3.2": ({"model_type": "llama", "rope_theta": 5e5, "rope_scaling": LLAMA3, "tie_word_embeddings": True}, "F32", "safetensors"),
    "mobilellm": ({**MOBILELLM, "share_embedding": True, "layer_sharing": False}, "F16", "torch"),
    "mobilellm-ls": ({**MOBILELLM, "layer_sharing": True, "use_cache": False}, "F32", "torch"),
    "mobilellm-head": ({**MOBILELLM, "share_embedding": False}, "F32", "safetensors"),
    "mobilellm-r1": (R1, "F32", "safetensors"),
    "mobilellm-pro": (PRO, "F32", "safetensors"),
    "qwen2": ({"model_type": "qwen2", "rope_theta": 1e6, "tie_word_embeddings": True}, "F32", "safetensors"),
    "qwen3": ({"model_type": "qwen3", "head_dim": 32, "rope_theta": 1e6, "tie_word_embeddings": True}, "F32", "safetensors"),
    "gemma3": (GEMMA, "F32", "safetensors"),
    **{f"paretoq-{b}": ({**MOBILELLM, "w_bits": b}, "F32", "safetensors" if b % 2 else "torch") for b in range(5)},
}


def tokenizer():
    """tokenizer.json of a small SentencePiece-like BPE: special tokens, bytes, letters, two merges."""
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *"abcdefghijklmnopqrstuvwxyz", "\u2581t", "he"]
    assert len(texts) == BASE["vocab_size"]
    steps = [{"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]
    return {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": texts[i], "special": True} for i in range(3)],
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]},
        "model": {
            "type": "BPE",
            "byte_fallback": True,
            "unk_token": "<unk>",
            "vocab": {text: i for i, text in enumerate(texts)},
            "merges": ["\u2581 t", "h e"],
        },
    }


def shapes(config):
    """(name, shape, how large its random numbers are, added to them) of every tensor, by the models' published code."""
    c, kind = config, config["model_type"]
    width, d = c["hidden_size"], c.get("head_dim", c["hidden_size"] // c["num_attention_heads"])
    q, kv = c["num_attention_heads"] * d, c["num_key_value_heads"] * d
    llama4, gemma = kind in ("llama4_text", "mobilellm_p1"), kind == "gemma3_text"
    ffn = c["intermediate_size_mlp" if llama4 else "intermediate_size"]
    norm = (0.2, 0.0 if gemma else 1.0)
    yield "model.embed_tokens.weight", (c["vocab_size"], width), 0.3 if gemma else 1.0, 0.0
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        attention = {"q": (q, width), "k": (kv, width), "v": (kv, width), "o": (width, q)}
        for name, shape in attention.items():
            yield f"{p}self_attn.{name}_proj.weight", shape, shape[1] ** -0.5, 0.0
            if kind == "qwen2" and name != "o":
                yield f"{p}self_attn.{name}_proj.bias", shape[:1], 0.5, 0.0
        if kind in ("qwen3", "gemma3_text"):
            yield f"{p}self_attn.q_norm.weight", (d,), *norm
            yield f"{p}self_attn.k_norm.weight", (d,), *norm
        network = p + ("feed_forward." if llama4 else "mlp.")
        for name, shape in {"gate": (ffn, width), "up": (ffn, width), "down": (width, ffn)}.items():
            yield f"{network}{name}_proj.weight", shape, 1.5 * shape[1] ** -0.5, 0.0
        norms = ["input_layernorm", "post_attention_layernorm"]
        if gemma:
            norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
        for name in norms:
            yield f"{p}{name}.weight", (width,), *norm
    yield "model.norm.weight", (width,), *norm
    shared = c.get("share_embedding", True) if kind == "mobilellm" else c.get("tie_word_embeddings", gemma)
    if not shared:
        yield "lm_head.weight", (c["vocab_size"], width), width**-0.5, 0.0


def add_scales(weights, bits, random):
    """ParetoQ's alpha of each row, about as large as training finds it; its multiples that count are exact in 16 bits."""
    for name in [n for n in weights if n.endswith("_proj.weight")]:
        rows = weights[name].shape[0]
        largest = np.abs(weights[name]).max(axis=1, keepdims=True)
        wanted = {0: largest * 0.7, 1: largest * 0.4, 2: largest * 0.7}.get(bits, largest / 2 ** max(bits - 1, 1))
        steps = np.clip(np.rint(wanted * 4096 / 3 * random.uniform(0.8, 1.2, (rows, 1))), 1, 220)
        weights[name.replace(".weight", ".weight_clip_val")] = (3 * steps / 4096).astype(np.float32)


def draw(name):
    """config, weights, and the generator that drew them."""
    changes, dtype, _ = CHECKPOINTS[name]
    config = {**BASE, **changes, "torch_dtype": {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[dtype]}
    random = np.random.default_rng(list(name.encode()))
    weights = {
        tensor: (random.standard_normal(shape) * scale + shift).astype(np.float32) for tensor, shape, scale, shift in shapes(config)
    }
    if "w_bits" in config:
        add_scales(weights, config["w_bits"], random)
    return config, weights, random


def write(folder, name):
    _, dtype, container = CHECKPOINTS[name]
    config, weights, random = draw(name)
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    (target / "tokenizer.json").write_text(json.dumps(tokenizer()) + "\n", encoding="utf-8")
    kind = container.rstrip("2")
    save, stem, suffix = {
        "safetensors": (containers.write_safetensors, "model", "safetensors"),
        "torch": (containers.write_torch, "pytorch_model", "bin"),
    }[kind]
    if container == kind:
        save(target / f"{stem}.{suffix}", weights, dtype)
    else:
        names, where = list(weights), {}
        for part, half in enumerate((names[::2], names[1::2]), 1):
            shard = f"{stem}-{part:05}-of-00002.{suffix}"
            save(target / shard, {n: weights[n] for n in half}, dtype)
            where.update(dict.fromkeys(half, shard))
        index = {"metadata": {"total_size": sum(w.nbytes for w in weights.values())}, "weight_map": where}
        (target / f"{stem}.{suffix}.index.json").write_text(json.dumps(index) + "\n", encoding="utf-8")

    ids = random.integers(3, config["vocab_size"], 24).tolist()
    logits = forward.Model(config, {n: containers.rounded(w, dtype) for n, w in weights.items()}).forward(ids)
    expected = {"ids": ids, "logits": [[float(f"{v:.9g}") for v in row] for row in logits]}
    (target / "expected.json").write_text(json.dumps(expected) + "\n", encoding="utf-8")
    return target


def write_doubled(folder):
    """mobilellm-ls with each block written twice instead of shared: folder/mobilellm-ls-doubled."""
    changes, dtype, _ = CHECKPOINTS["mobilellm-ls"]
    config = {**BASE, **changes, "layer_sharing": False, "num_hidden_layers": 2 * BASE["num_hidden_layers"]}
    random = np.random.default_rng(list(b"mobilellm-ls"))
    weights = {}
    for tensor, shape, scale, shift in shapes({**BASE, **changes}):
        array = (random.standard_normal(shape) * scale + shift).astype(np.float32)
        parts = tensor.split(".")
        if parts[1] == "layers":
            for twice in (0, 1):
                weights[".".join([*parts[:2], str(2 * int(parts[2]) + twice), *parts[3:]])] = array
        else:
            weights[tensor] = array
    target = folder / "mobilellm-ls-doubled"
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    containers.write_safetensors(target / "model.safetensors", weights, dtype)
    return target


def main():
    folder = pathlib.Path(sys.argv[1])
    for name in sys.argv[2:] or CHECKPOINTS:
        write(folder, name)


if __name__ == "__main__":
    main()
