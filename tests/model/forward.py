# SPDX-License-Identifier: Apache-2.0
"""Forward passes in NumPy over checkpoints in Hugging Face layout, in float64: one truth for the logits of tiny random models.

Written from the papers and the models' published descriptions; shares no code with Wisp, its file formats or conventions: weights
come by their Hugging Face names, as stored, with config.json as a dict.
"""

import numpy as np


def rmsnorm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def silu(x):
    return x / (1 + np.exp(-x))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def inverse_frequencies(config, theta, scaled):
    """theta^(-2i/d), with Llama 3's stretching of long waves where the config asks for it."""
    d = config["head_dim"]
    inverse = theta ** (-np.arange(0, d, 2) / d)
    scaling = config.get("rope_scaling") if scaled else None
    if not scaling:
        return inverse
    factor, low, high = scaling["factor"], scaling["low_freq_factor"], scaling["high_freq_factor"]
    waves = 2 * np.pi / inverse
    original = scaling["original_max_position_embeddings"]
    smooth = (original / waves - low) / (high - low)
    blended = (1 - smooth) * inverse / factor + smooth * inverse
    return np.where(waves < original / high, inverse, np.where(waves > original / low, inverse / factor, blended))


def rotate(x, positions, inverse, adjacent):
    """x [tokens, heads, d]: pairs (i, i + d/2), or (2i, 2i + 1) where adjacent."""
    angle = positions[:, None, None] * inverse
    cos, sin = np.cos(angle), np.sin(angle)
    if adjacent:
        a, b = x[..., 0::2], x[..., 1::2]
        return np.stack([a * cos - b * sin, a * sin + b * cos], axis=-1).reshape(x.shape)
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def paretoq(weight, alpha, bits):
    """The values that a ParetoQ model computes with, by its paper's table; np.rint rounds halves to even as torch does."""
    alpha = np.maximum(alpha.reshape(-1, 1), 1e-5)
    x = weight / alpha
    if bits == 1:
        return np.sign(weight) * alpha
    if bits == 0:
        return np.rint(np.clip(x, -0.99, 0.99) * 1.5) / 1.5 * alpha
    if bits == 2:
        return (np.rint(np.clip(x, -0.99, 0.99) * 2 - 0.5) + 0.5) / 2 * alpha
    low = -(2 ** (bits - 1))
    return np.clip(np.rint(x), low, -low - 1) * alpha


class Model:
    def __init__(self, config, weights):
        self.config = dict(config)
        self.kind = config["model_type"]
        self.config.setdefault("head_dim", config["hidden_size"] // config["num_attention_heads"])
        self.weights = {name: np.asarray(w, np.float64) for name, w in weights.items()}
        bits = config.get("w_bits", 16)
        for name in [n for n in self.weights if n.endswith(".weight_clip_val")] if bits < 16 else []:
            target = name.replace(".weight_clip_val", ".weight")
            self.weights[target] = paretoq(np.asarray(weights[target], np.float32), np.asarray(weights[name], np.float32), bits)
        self.gemma = self.kind == "gemma3_text"
        self.llama4 = self.kind in ("llama4_text", "mobilellm_p1")
        self.eps = config["rms_norm_eps"]

    def norm(self, x, name):
        weight = self.weights[name + ".weight"]
        return rmsnorm(x, 1 + weight if self.gemma else weight, self.eps)

    def linear(self, x, name):
        y = x @ self.weights[name + ".weight"].T
        bias = self.weights.get(name + ".bias")
        return y if bias is None else y + bias

    def windowed(self, layer):
        types = self.config.get("layer_types")
        return bool(types) and types[layer] == "sliding_attention"

    def attention(self, x, prefix, layer, positions):
        c = self.config
        n, d, heads, kv_heads = len(x), c["head_dim"], c["num_attention_heads"], c["num_key_value_heads"]
        q = self.linear(x, prefix + "q_proj").reshape(n, heads, d)
        k = self.linear(x, prefix + "k_proj").reshape(n, kv_heads, d)
        v = self.linear(x, prefix + "v_proj").reshape(n, kv_heads, d)
        if self.kind in ("qwen3", "gemma3_text"):
            q, k = self.norm(q, prefix + "q_norm"), self.norm(k, prefix + "k_norm")
        local = self.gemma and self.windowed(layer)
        theta = c["rope_local_base_freq"] if local else c["rope_theta"]
        inverse = inverse_frequencies(c, theta, not local)
        q, k = (rotate(a, positions, inverse, self.llama4) for a in (q, k))
        if self.llama4 and c["use_qk_norm"]:
            q, k = rmsnorm(q, 1, self.eps), rmsnorm(k, 1, self.eps)
        scale = c["query_pre_attn_scalar"] ** -0.5 if self.gemma else d**-0.5
        i, j = np.arange(n)[:, None], np.arange(n)[None, :]
        hidden = j > i
        if self.windowed(layer):
            hidden |= i - j >= c["sliding_window"]
        out = np.empty_like(q)
        for h in range(heads):
            g = h * kv_heads // heads
            score = np.where(hidden, -np.inf, q[:, h] @ k[:, g].T * scale)
            score = np.exp(score - score.max(axis=1, keepdims=True))
            out[:, h] = score / score.sum(axis=1, keepdims=True) @ v[:, g]
        return self.linear(out.reshape(n, heads * d), prefix + "o_proj")

    def ffn(self, x, prefix):
        activate = gelu_tanh if self.gemma else silu
        return self.linear(activate(self.linear(x, prefix + "gate_proj")) * self.linear(x, prefix + "up_proj"), prefix + "down_proj")

    def block(self, x, layer, positions):
        p = f"model.layers.{layer}."
        network = "feed_forward." if self.llama4 else "mlp."
        if not self.gemma:
            x = x + self.attention(self.norm(x, p + "input_layernorm"), p + "self_attn.", layer, positions)
            return x + self.ffn(self.norm(x, p + "post_attention_layernorm"), p + network)
        added = self.attention(self.norm(x, p + "input_layernorm"), p + "self_attn.", layer, positions)
        x = x + self.norm(added, p + "post_attention_layernorm")
        added = self.ffn(self.norm(x, p + "pre_feedforward_layernorm"), p + network)
        return x + self.norm(added, p + "post_feedforward_layernorm")

    def head(self):
        c = self.config
        shared = c.get("share_embedding", True) if self.kind == "mobilellm" else c.get("tie_word_embeddings", self.gemma)
        embedding = self.weights["model.embed_tokens.weight"]
        return embedding if shared else self.weights.get("lm_head.weight", embedding)

    def forward(self, ids):
        """Logits [tokens, vocabulary]."""
        positions = np.arange(len(ids), dtype=np.float64)
        x = self.weights["model.embed_tokens.weight"][ids]
        if self.gemma:
            x = x * np.sqrt(self.config["hidden_size"])
        for layer in range(self.config["num_hidden_layers"]):
            # MobileLLM-LS: the same block once more on its own output, before the next.
            for _ in range(2 if self.config.get("layer_sharing") else 1):
                x = self.block(x, layer, positions)
        return self.norm(x, "model.norm") @ self.head().T
