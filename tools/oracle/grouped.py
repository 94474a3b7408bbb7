"""Grouped-query attention over a growing cache, and the pre-norm decoder around it.

Ling 2.0 and Qwen3 are this with names of their own; Grok-2 has the attention only.
"""

import math

import numpy as np

from parts import Base, no_tap, rms, soft_cap, softmax


class GroupedQuery(Base):
    """One checkpoint in one mode. A family sets c (heads, kv_heads, dim, layers, eps, softmax_cap,
    temperature_length) and rope, and says where q, k, v and the output projection are."""

    q_norm = k_norm = None  # tensor names after the attention's prefix
    output = None

    def start(self):
        empty = np.zeros((0, self.c.kv_heads, self.c.dim))
        return [(empty, empty)] * self.c.layers

    def project(self, x, p):
        """-> q [heads, dim], k and v [kv_heads, dim]."""
        raise NotImplementedError

    def shaped(self, scores, position):
        """The cap comes before the temperature."""
        c = self.c
        scores = soft_cap(scores, c.softmax_cap)
        if 0 < c.temperature_length < position:
            scores = scores * (math.log2(position) / math.log2(c.temperature_length))
        return scores

    def attention(self, x, p, state, position):
        c = self.c
        q, k, v = self.project(x, p)
        if self.q_norm:
            q = rms(q, self.w[p + self.q_norm], c.eps, self.rnd)
            k = rms(k, self.w[p + self.k_norm], c.eps, self.rnd)
        q = self.rope.rotate(q, position, self.rnd, self.rnd)
        k = self.rope.rotate(k, position, self.rnd, self.rnd)
        keys, values = np.concatenate([state[0], k[None]]), np.concatenate([state[1], v[None]])
        q = q.reshape(c.kv_heads, c.heads // c.kv_heads, c.dim)  # head h reads h // (heads / kv)
        scores = np.einsum("gqd,tgd->gqt", q, keys) * c.dim ** -0.5
        weights = softmax(self.shaped(scores, position))
        out = self.rnd(np.einsum("gqt,tgd->gqd", weights, values))
        return self.linear(out.reshape(-1), p + self.output), (keys, values)


class PreNormDecoder(GroupedQuery):
    """h += attention(norm(h)); h += ffn(norm(h)) in every layer. The family adds ffn()."""

    embedding = attention_prefix = None

    def step(self, state, token, position, tap=no_tap, choices=None):
        """-> (logits [vocab], next state). choices collects every router decision."""
        c, w, rnd = self.c, self.w, self.rnd
        choices = [] if choices is None else choices
        h = w[self.embedding][token]
        tap("embed", h)
        out = []
        for i in range(c.layers):
            p = f"model.layers.{i}."

            def here(name, value, i=i):
                tap(f"layer{i}.{name}", value)

            x = rms(h, w[p + "input_layernorm.weight"], c.eps, rnd)
            delta, new = self.attention(x, p + self.attention_prefix, state[i], position)
            out.append(new)
            here("attn_out", delta)
            h = rnd(h + delta)
            x = rms(h, w[p + "post_attention_layernorm.weight"], c.eps, rnd)
            delta = self.ffn(x, i, p + "mlp.", here, choices)
            here("ffn_out", delta)
            h = rnd(h + delta)
            here("residual", h)
        h = rms(h, w["model.norm.weight"], c.eps, rnd)
        tap("final_norm", h)
        return w[self.embedding if c.tied else "lm_head.weight"] @ h, out


def tap_route(tap, ids, weights, scores):
    tap("router_ids", ids)
    tap("router_weights", weights)
    tap("router_scores", scores)
