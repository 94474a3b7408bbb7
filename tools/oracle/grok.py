"""Grok-2 (Grok1ForCausalLM), written from the description of the architecture.

Norms before and after each block, soft caps on scores, router and logits, a dense FFN beside the
experts, and scores that grow with the position of the query.
"""

import math

import numpy as np

from grouped import GroupedQuery, tap_route
from parts import Rotary, gelu_tanh, no_tap, reader, rms, soft_cap, softmax


class Config:
    """config.json with its defaults."""

    topk_group = 0

    def __init__(self, raw):
        get = reader(raw)
        assert raw["architectures"] == ["Grok1ForCausalLM"]
        assert get("rope_type", "original") == "original" and get("sliding_window_size", -1) <= 0
        self.vocab = raw["vocab_size"]
        self.hidden = raw["hidden_size"]
        self.layers = raw["num_hidden_layers"]
        self.heads = raw["num_attention_heads"]
        self.kv_heads = raw["num_key_value_heads"]
        self.dim = get("head_dim", self.hidden // self.heads)
        self.eps = get("rms_norm_eps", 1e-5)
        self.rotary = self.dim // 2 if get("rope_rotate_half_dims", False) else self.dim
        self.theta = float(raw["rope_theta"])
        self.softmax_cap = get("attn_logit_softcapping", 30.0)
        self.router_cap = get("router_logit_softcapping", 30.0)
        self.logit_cap = get("final_logit_softcapping", 0)
        self.temperature_length = get("attn_temperature_len", -1)
        self.embedding_multiplier = get("embedding_multiplier_scale", 1.0)
        self.output_multiplier = get("output_multiplier_scale", 1.0)
        self.experts = raw["num_local_experts"]
        self.top_k = get("num_experts_per_tok", 2)
        self.residual_moe = get("residual_moe", False)


class Model(GroupedQuery):
    output = "o_proj"

    def __init__(self, raw_config, tensors, mode):
        super().__init__(tensors, mode)
        c = self.c = Config(raw_config)
        self.rope = Rotary(c.rotary, c.theta)

    def project(self, x, p):
        return (self.linear(x, p + name).reshape(-1, self.c.dim)
                for name in ("q_proj", "k_proj", "v_proj"))

    def experts(self, x, p, tap, choices):
        c = self.c
        logits = soft_cap(self.w[p + "gate.weight"] @ x, c.router_cap)
        scores = softmax(logits)  # over all experts; the chosen ones are not brought back to 1
        ids = np.argsort(-logits, kind="stable")[:c.top_k]
        choices.append({"experts": logits, "select": logits, "ids": ids})
        tap_route(tap, ids, scores[ids], scores)
        out = 0
        for e in ids:
            e_prefix = f"{p}experts.{e}."
            out = out + scores[e] * self.gated(x, e_prefix + "w1", e_prefix + "w3",
                                               e_prefix + "w2", gelu_tanh)
        return self.rnd(out)

    def ffn(self, x, p, tap, choices):
        routed = self.experts(x, p + "block_sparse_moe.", tap, choices)
        if not self.c.residual_moe:
            return routed
        p += "mlp."
        dense = self.gated(x, p + "gate_proj", p + "up_proj", p + "down_proj", gelu_tanh)
        return self.rnd(self.rnd(dense + routed) / self.rnd(math.sqrt(2.0)))

    def step(self, state, token, position, tap=no_tap, choices=None):
        """-> (logits [vocab], next state). choices collects every router decision."""
        c, w, rnd = self.c, self.w, self.rnd
        choices = [] if choices is None else choices
        h = rnd(w["model.embed_tokens.weight"][token] * rnd(c.embedding_multiplier))
        tap("embed", h)
        unrounded = h  # a norm reads the sum before it is rounded for the residual stream
        out = []
        for i in range(c.layers):
            p = f"model.layers.{i}."

            def here(name, value, i=i):
                tap(f"layer{i}.{name}", value)

            x = rms(unrounded, w[p + "pre_attn_norm.weight"], c.eps, rnd)
            delta, new = self.attention(x, p + "self_attn.", state[i], position)
            out.append(new)
            here("attn_out", delta)
            unrounded = h + rms(delta, w[p + "post_attn_norm.weight"], c.eps, rnd)
            h = rnd(unrounded)
            x = rms(unrounded, w[p + "pre_moe_norm.weight"], c.eps, rnd)
            delta = self.ffn(x, p, here, choices)
            here("ffn_out", delta)
            unrounded = h + rms(delta, w[p + "post_moe_norm.weight"], c.eps, rnd)
            h = rnd(unrounded)
            here("residual", h)
        y = rms(unrounded, w["model.norm.weight"], c.eps, rnd)
        tap("final_norm", y)
        head = rnd(w["lm_head.weight"] * c.output_multiplier)
        return soft_cap(head @ y, c.logit_cap), out
