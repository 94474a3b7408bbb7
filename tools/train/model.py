"""The Ling 2.5/2.6 hybrid (BailingMoeV2_5ForCausalLM) in plain torch: slow, exact and short.

This file is the definition that golden.py and evaluate.py compute with. It rounds nothing below the
dtype it is given (float32 or float64), keeps no cache and runs the recurrence of the linear layers
token by token, so that it can be compared with the published formulas by eye. The trainer has its own
fast form of the same mathematics (fast_model.py) and a test that both agree.

    model = Model.load("models/sluice-tiny", dtype=torch.float32)
    logits = model([17, 4, 99])            # [tokens, vocab]

With rounding=True values are rounded to bfloat16 where an engine in that type rounds them (projections,
norms, residual additions, activations, attention outputs, rope tables; not the recurrence, the router,
softmax or sums), to tell how far rounding alone moves the results.
"""
import json
import math
import pathlib

import torch
from safetensors.torch import load_file


def linear_decay(config, layer):
    """Logarithm of the per-token decay of each head of one linear layer, [heads], float64."""
    heads = config["num_attention_heads"]

    def base(n):
        return [2.0 ** (-8.0 * (h + 1) / n) for h in range(n)]

    power = 2 ** int(math.log2(heads))
    slopes = base(power) if power == heads else base(power) + base(2 * power)[0::2][: heads - power]
    offset = config.get("linear_decay_layer_offset", 1)
    depth = 1 - (layer - offset) / (config["num_hidden_layers"] - 1) + 1e-5
    return -torch.tensor(slopes, dtype=torch.float64) * depth


def is_linear(config, layer):
    """Every layer_group_size-th layer is full attention, and so is an incomplete last group."""
    group, layers = config["layer_group_size"], config["num_hidden_layers"]
    return (layer + 1) % group != 0 and layer < layers // group * group


def rms_norm(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def rope_tables(positions, rotary_dim, base, dtype):
    """cos and sin, [tokens, rotary_dim / 2]; phases in float64 and never rounded."""
    inverse = base ** (-torch.arange(0, rotary_dim, 2, dtype=torch.float64) / rotary_dim)
    phase = positions.double()[:, None] * inverse
    return phase.cos().to(dtype), phase.sin().to(dtype)


def rope_half_split(x, cos, sin):
    """Rotates the pairs (i, i + R/2) of the first R entries; x is [..., tokens, heads, head_dim]."""
    half = cos.shape[-1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    c, s = cos[:, None, :], sin[:, None, :]
    return torch.cat([a * c - b * s, b * c + a * s, rest], -1)


def rope_interleaved(x, cos, sin):
    """Rotates the pairs (2i, 2i + 1) in place; x is [..., tokens, heads, rotary_dim]."""
    a, b = x[..., 0::2], x[..., 1::2]
    c, s = cos[:, None, :], sin[:, None, :]
    return torch.stack([a * c - b * s, b * c + a * s], -1).flatten(-2)


def route(scores, bias, config):
    """Group-limited choice of experts. scores [tokens, experts] after the sigmoid -> ids, weights."""
    experts, groups = config["num_experts"], config["n_group"]
    choice = scores + bias
    grouped = choice.view(-1, groups, experts // groups)
    group_score = grouped.topk(2, -1).values.sum(-1)
    kept = torch.zeros_like(group_score, dtype=torch.bool)
    kept.scatter_(1, group_score.topk(config["topk_group"], -1).indices, True)
    choice = grouped.masked_fill(~kept[:, :, None], -math.inf).flatten(1)
    ids = choice.topk(config["num_experts_per_tok"], -1).indices
    weights = scores.gather(1, ids)
    return ids, weights / weights.sum(-1, keepdim=True) * config["routed_scaling_factor"]


class Model:
    def __init__(self, config, weights, rounding=False):
        self.config, self.weights, self.rounding = config, weights, rounding
        self.dtype = weights["model.norm.weight"].dtype

    def round(self, x):
        return x.bfloat16().to(self.dtype) if self.rounding else x

    def linear(self, x, name):
        return self.round(x @ self.weights[name + ".weight"].T)

    def norm(self, x, name, eps):
        return self.round(rms_norm(x, self.weights[name + ".weight"], eps))

    def rope(self, tokens, rotary_dim):
        cos, sin = rope_tables(torch.arange(tokens), rotary_dim, self.config["rope_theta"], self.dtype)
        return self.round(cos), self.round(sin)

    @staticmethod
    def load(folder, dtype=torch.float32, rounding=False):
        folder = pathlib.Path(folder)
        config = json.loads((folder / "config.json").read_text())
        weights = {}
        for file in sorted(folder.glob("*.safetensors")):
            weights.update({k: v.to(dtype) for k, v in load_file(file).items()})
        return Model(config, weights, rounding)

    def __call__(self, ids, debug=None):
        """Logits of every position, [tokens, vocab]; `debug`, a dict, collects intermediate tensors."""
        with torch.no_grad():
            return self.forward(torch.as_tensor(ids), debug if debug is not None else {})

    def forward(self, ids, debug):
        c, eps = self.config, self.config["rms_norm_eps"]
        x = self.weights["model.word_embeddings.weight"][ids]
        debug["embed"] = x
        for layer in range(c["num_hidden_layers"]):
            p = f"model.layers.{layer}."
            mix = self.linear_attention if is_linear(c, layer) else self.latent_attention
            out = mix(layer, p + "attention.", self.norm(x, p + "input_layernorm", eps), debug)
            x = self.round(x + out)
            ffn = self.ffn(layer, p + "mlp.", self.norm(x, p + "post_attention_layernorm", eps), debug)
            x = self.round(x + ffn)
            debug.update({f"layer{layer}.attn_out": out, f"layer{layer}.ffn_out": ffn,
                          f"layer{layer}.residual": x})
        x = self.norm(x, "model.norm", eps)
        debug["final_norm"] = x
        head = "model.word_embeddings" if c["tie_word_embeddings"] else "lm_head"
        return x @ self.weights[head + ".weight"].T

    def linear_attention(self, layer, p, x, debug):
        c, w = self.config, self.weights
        tokens, heads, dim = len(x), c["num_attention_heads"], c["head_dim"]
        eps = c["rms_norm_eps"]
        q, k, v = self.linear(x, p + "query_key_value").view(tokens, 3, heads, dim).unbind(1)
        q = rms_norm(q, w[p + "query_layernorm.weight"], eps)
        k = rms_norm(k, w[p + "key_layernorm.weight"], eps)
        cos, sin = self.rope(tokens, int(dim * c["partial_rotary_factor"]))
        q, k = rope_half_split(q, cos, sin), rope_half_split(k, cos, sin)
        decay = linear_decay(c, layer).exp().to(self.dtype)[:, None, None]
        state = torch.zeros(heads, dim, dim, dtype=self.dtype)
        rows = []
        for t in range(tokens):
            state = decay * state + k[t, :, :, None] * v[t, :, None, :]
            rows.append((q[t, :, None, :] @ state)[:, 0] * dim**-0.5)
        o = torch.stack(rows).reshape(tokens, heads * dim)
        debug.update({f"layer{layer}.gla_out": o, f"layer{layer}.state": state})
        groups = c["group_norm_size"]
        o = rms_norm(self.round(o).view(tokens, groups, -1), w[p + "g_norm.weight"].view(groups, -1), eps)
        gate = self.round(torch.sigmoid(self.linear(x, p + "g_proj")))
        return self.linear(self.round(self.round(o.reshape(tokens, -1)) * gate), p + "dense")

    def latent_attention(self, layer, p, x, debug):
        c = self.config
        tokens, heads, rank = len(x), c["num_attention_heads"], c["kv_lora_rank"]
        nope, rope, vdim = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
        if c["q_lora_rank"]:
            q = self.linear(self.norm(self.linear(x, p + "q_a_proj"), p + "q_a_layernorm", 1e-6), p + "q_b_proj")
        else:
            q = self.linear(x, p + "q_proj")
        q_nope, q_rope = q.view(tokens, heads, nope + rope).split([nope, rope], -1)
        latent, k_rope = self.linear(x, p + "kv_a_proj_with_mqa").split([rank, rope], -1)
        latent = self.norm(latent, p + "kv_a_layernorm", 1e-6)
        cos, sin = self.rope(tokens, rope)
        q_rope = self.round(rope_interleaved(q_rope, cos, sin))
        k_rope = self.round(rope_interleaved(k_rope[:, None, :], cos, sin)[:, 0])
        debug.update({f"layer{layer}.latent": latent, f"layer{layer}.k_rope": k_rope})
        kv = self.linear(latent, p + "kv_b_proj").view(tokens, heads, nope + vdim)
        k_nope, v = kv.split([nope, vdim], -1)
        scores = torch.einsum("ihd,jhd->hij", q_nope, k_nope)
        scores = scores + torch.einsum("ihd,jd->hij", q_rope, k_rope)
        scores = scores * (nope + rope) ** -0.5
        future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        attention = scores.masked_fill(future, -math.inf).softmax(-1)
        o = torch.einsum("hij,jhd->ihd", attention, v).reshape(tokens, heads * vdim)
        return self.linear(self.round(o), p + "dense")

    def ffn(self, layer, p, x, debug):
        c, w = self.config, self.weights

        def expert(prefix, rows):
            gate = self.round(torch.nn.functional.silu(self.linear(rows, prefix + "gate_proj")))
            return self.linear(self.round(gate * self.linear(rows, prefix + "up_proj")), prefix + "down_proj")

        if layer < c["first_k_dense_replace"]:
            return expert(p, x)
        scores = torch.sigmoid(x @ w[p + "gate.weight"].T)
        ids, weights = route(scores, w[p + "gate.expert_bias"], c)
        debug.update({f"layer{layer}.router_ids": ids, f"layer{layer}.router_weights": weights,
                      f"layer{layer}.router_scores": scores})
        routed = torch.zeros_like(x)
        for e in range(c["num_experts"]):
            token, slot = (ids == e).nonzero(as_tuple=True)
            if len(token):
                y = expert(f"{p}experts.{e}.", x[token]) * weights[token, slot, None]
                routed.index_add_(0, token, y)
        return self.round(self.round(routed) + expert(p + "shared_experts.", x))
