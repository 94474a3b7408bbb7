"""Ling / Ring 2.5 and 2.6 (BailingMoeV2_5ForCausalLM) token by token in double precision.

Written from the description of the architecture and the vendor's modelling code, not from the C++
sources: linear attention as its plain recurrence, latent attention over plainly expanded heads.
Mode "f64" rounds nothing; mode "bf16" rounds to bfloat16 where an engine with bfloat16 activations
does (docs/numerics.md) and then uses the absorbed form of latent attention, which rounds more.
"""

import math

import numpy as np

from parts import Base, Rotary, exact, mscale, no_tap, reader, rms, route_in_groups, sigmoid, softmax

LATENT_EPS = 1e-6  # of the norms inside latent attention, whatever rms_norm_eps says


class Config:
    """config.json with its defaults. A key that is null counts as absent, apart from head_dim."""

    def __init__(self, raw):
        get = reader(raw)
        assert raw["architectures"] == ["BailingMoeV2_5ForCausalLM"]
        assert get("hidden_act", "silu") == "silu" and get("full_attention_type", "mla") == "mla"
        self.vocab = get("vocab_size", 157184)
        self.hidden = get("hidden_size", 2048)
        self.layers = get("num_hidden_layers", 20)
        self.heads = get("num_attention_heads", 16)
        if "head_dim" in raw and raw["head_dim"] is None:
            self.dim = self.hidden // self.heads
        else:
            self.dim = get("head_dim", 128)
        self.eps = get("rms_norm_eps", 1e-6)
        self.tied = get("tie_word_embeddings", False)
        self.group = get("layer_group_size")
        self.norm_groups = get("group_norm_size")
        self.decay_offset = get("linear_decay_layer_offset", 1)
        self.qk_norm = get("use_qk_norm", True)
        self.silu = get("use_linear_silu", get("linear_silu", False))
        self.linear_rope = get("linear_rope", True)
        self.linear_rotary = get("rotary_dim", int(self.dim * get("partial_rotary_factor", 0.5)))
        self.theta = float(get("rope_theta", 600000.0))
        self.scaling = get("rope_scaling")
        self.max_position = get("max_position_embeddings", 32768)
        self.interleave = get("rope_interleave", True)
        self.q_lora = get("q_lora_rank")
        self.kv_lora = get("kv_lora_rank", 512)
        self.rope = get("qk_rope_head_dim", 64)
        self.nope = get("qk_nope_head_dim", 128)
        self.value = get("v_head_dim", 128)
        self.experts = get("num_experts", 256)
        self.top_k = get("num_experts_per_tok", 8)
        self.n_group = get("n_group", 8)
        self.topk_group = get("topk_group", 4)
        self.first_dense = get("first_k_dense_replace", 1)
        self.score = get("score_function", "sigmoid")
        self.scaling_factor = get("routed_scaling_factor", 1.0)
        self.shared = get("num_shared_experts", 1)

    def is_full(self, layer):
        return (layer + 1) % self.group == 0 or layer >= self.layers // self.group * self.group

    def is_dense(self, layer):
        return layer < self.first_dense or self.experts == 1


def slopes(n):
    if n & (n - 1) == 0:
        return [2.0 ** (-8.0 * (h + 1) / n) for h in range(n)]
    p = 2 ** int(math.floor(math.log2(n)))
    return slopes(p) + slopes(2 * p)[0::2][:n - p]


class Model(Base):
    """One checkpoint in one mode. step() is pure: states can be kept and continued differently."""

    def __init__(self, raw_config, tensors, mode):
        super().__init__(tensors, mode)
        c = self.c = Config(raw_config)
        self.absorbed = mode == "bf16"
        self.full_rope = Rotary(c.rope, float(int(c.theta)), c.scaling, c.max_position)
        if c.linear_rope:
            self.part_rope = Rotary(c.linear_rotary, c.theta, c.scaling, c.max_position)
        self.scale = (c.nope + c.rope) ** -0.5
        if c.scaling and c.scaling.get("mscale_all_dim"):
            self.scale *= mscale(c.scaling["factor"], c.scaling["mscale_all_dim"]) ** 2
        self.decay = []
        for layer in range(c.layers):
            depth = (layer - c.decay_offset) / (c.layers - 1) if c.layers > 1 else 0.0
            gamma = -np.array(slopes(c.heads)) * (1 - depth + 1e-5)
            self.decay.append(np.exp(gamma)[:, None, None])

    def start(self):
        c = self.c
        return [(np.zeros((0, c.kv_lora)), np.zeros((0, c.rope))) if c.is_full(i)
                else np.zeros((c.heads, c.dim, c.dim)) for i in range(c.layers)]

    def linear_attention(self, x, p, state, layer, position, tap):
        c, w, width = self.c, self.w, self.c.heads * self.c.dim
        qkv = self.linear(x, p + "query_key_value")
        if c.silu:
            qkv = qkv * sigmoid(qkv)
        q, k, v = (part.reshape(c.heads, c.dim) for part in np.split(qkv, 3))
        if c.qk_norm:
            q = rms(q, w[p + "query_layernorm.weight"], c.eps, exact)
            k = rms(k, w[p + "key_layernorm.weight"], c.eps, exact)
        if c.linear_rope:
            q = self.part_rope.rotate(q, position, self.rnd, exact, False)
            k = self.part_rope.rotate(k, position, self.rnd, exact, False)
        state = self.decay[layer] * state + k[:, :, None] * v[:, None, :]
        o = (np.einsum("hk,hkv->hv", q, state) * c.dim ** -0.5).reshape(width)
        tap("gla_out", o)
        tap("state", state)
        o = self.rnd(o).reshape(c.norm_groups, -1)
        o = rms(o, w[p + "g_norm.weight"].reshape(c.norm_groups, -1), c.eps, self.rnd).reshape(width)
        gate = self.rnd(sigmoid(self.linear(x, p + "g_proj")))
        return self.linear(self.rnd(o * gate), p + "dense"), state

    def latent_attention(self, x, p, state, position, tap):
        c, w, rnd = self.c, self.w, self.rnd
        if c.q_lora is None:
            q = self.linear(x, p + "q_proj")
        else:
            latent = rms(self.linear(x, p + "q_a_proj"), w[p + "q_a_layernorm.weight"], LATENT_EPS, rnd)
            q = self.linear(latent, p + "q_b_proj")
        q = q.reshape(c.heads, c.nope + c.rope)
        kv = self.linear(x, p + "kv_a_proj_with_mqa")
        latent = rms(kv[:c.kv_lora], w[p + "kv_a_layernorm.weight"], LATENT_EPS, rnd)
        q_nope = q[:, :c.nope]
        q_rope = self.full_rope.rotate(q[:, c.nope:], position, rnd, rnd, c.interleave)
        k_rope = self.full_rope.rotate(kv[c.kv_lora:], position, rnd, rnd, c.interleave)
        tap("latent", latent)
        tap("k_rope", k_rope)
        latents = np.vstack([state[0], latent])
        keys = np.vstack([state[1], k_rope])
        # Held as bfloat16 for the absorbed form, fp8 in the file or not.
        expand = rnd(w[p + "kv_b_proj.weight"]).reshape(c.heads, c.nope + c.value, c.kv_lora)
        up_k, up_v = expand[:, :c.nope], expand[:, c.nope:]
        if self.absorbed:
            query = rnd(np.einsum("hn,hnr->hr", q_nope, up_k))
            scores = query @ latents.T
        else:
            scores = np.einsum("hn,hnr,tr->ht", q_nope, up_k, latents, optimize=True)
        scores = softmax(self.scale * (scores + q_rope @ keys.T))
        if self.absorbed:
            out = rnd(np.einsum("hvr,hr->hv", up_v, rnd(scores @ latents)))
        else:
            out = np.einsum("ht,tr,hvr->hv", scores, latents, up_v, optimize=True)
        dense = "dense" if p + "dense.weight" in w else "o_proj"
        return self.linear(out.reshape(-1), p + dense), (latents, keys)

    def route(self, x, p, tap, choices):
        c, w = self.c, self.w
        logits = w[p + "gate.weight"] @ x
        scores = softmax(logits) if c.score == "softmax" else sigmoid(logits)
        bias = w.get(p + "gate.expert_bias", w.get(p + "gate.e_score_correction_bias"))
        ids, weights, choice = route_in_groups(scores, bias, c.n_group, c.topk_group, c.top_k)
        choices.append(choice)
        weights = weights / weights.sum() * c.scaling_factor
        tap("router_ids", ids)
        tap("router_weights", weights)
        tap("router_scores", scores)
        return ids, weights

    def ffn(self, x, layer, p, tap, choices):
        c = self.c
        if c.is_dense(layer):
            return self.swiglu(x, p)
        ids, weights = self.route(x, p, tap, choices)
        routed = self.rnd(sum(weight * self.swiglu(x, f"{p}experts.{e}.")
                              for e, weight in zip(ids, weights)))
        if c.shared == 0:
            return routed
        return self.rnd(routed + self.swiglu(x, p + "shared_experts."))

    def step(self, state, token, position, tap=no_tap, choices=None):
        """-> (logits [vocab], next state). choices collects every router decision."""
        c, w, rnd = self.c, self.w, self.rnd
        choices = [] if choices is None else choices
        h = w["model.word_embeddings.weight"][token]
        tap("embed", h)
        out = []
        for i in range(c.layers):
            p = f"model.layers.{i}."

            def here(name, value, i=i):
                tap(f"layer{i}.{name}", value)

            x = rms(h, w[p + "input_layernorm.weight"], c.eps, rnd)
            if c.is_full(i):
                delta, new = self.latent_attention(x, p + "attention.", state[i], position, here)
            else:
                delta, new = self.linear_attention(x, p + "attention.", state[i], i, position, here)
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
        head = w["model.word_embeddings.weight" if c.tied else "lm_head.weight"]
        return head @ h, out
