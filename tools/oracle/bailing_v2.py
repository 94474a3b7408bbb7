"""Ling / Ring 2.0 (BailingMoeV2ForCausalLM), written from the description of the architecture."""

import numpy as np

from grouped import PreNormDecoder, tap_route
from parts import Rotary, reader, route_in_groups, sigmoid, softmax


class Config:
    """config.json with its defaults."""

    softmax_cap = temperature_length = 0

    def __init__(self, raw):
        get = reader(raw)
        assert raw["architectures"] == ["BailingMoeV2ForCausalLM"]
        assert get("hidden_act", "silu") == "silu"
        self.vocab = raw["vocab_size"]
        self.hidden = raw["hidden_size"]
        self.layers = raw["num_hidden_layers"]
        self.heads = raw["num_attention_heads"]
        self.kv_heads = raw["num_key_value_heads"]
        self.dim = get("head_dim", self.hidden // self.heads)
        self.eps = get("rms_norm_eps", 1e-6)
        self.tied = get("tie_word_embeddings", False)
        self.qk_norm = get("use_qk_norm", True)
        # The factor comes before rotary_dim here: the other way round than in Ling 2.5.
        factor = get("partial_rotary_factor")
        self.rotary = get("rotary_dim", self.dim) if factor is None else int(self.dim * factor)
        self.theta = float(get("rope_theta", 600000.0))
        self.scaling = get("rope_scaling")
        self.max_position = get("max_position_embeddings", 32768)
        self.experts = raw["num_experts"]
        self.top_k = get("num_experts_per_tok", 8)
        self.n_group = get("n_group", 0)
        self.topk_group = get("topk_group", 0)
        self.first_dense = get("first_k_dense_replace", 0)
        self.score = get("score_function", "sigmoid")
        self.renormalise = get("norm_topk_prob", True)
        self.scaling_factor = get("routed_scaling_factor", 1.0)
        self.shared = get("num_shared_experts", 0)

    def is_dense(self, layer):
        return layer < self.first_dense or self.experts == 1


class Model(PreNormDecoder):
    embedding = "model.word_embeddings.weight"
    attention_prefix = "attention."
    output = "dense"

    def __init__(self, raw_config, tensors, mode):
        super().__init__(tensors, mode)
        c = self.c = Config(raw_config)
        self.rope = Rotary(c.rotary, c.theta, c.scaling, c.max_position)
        if c.qk_norm:
            self.q_norm, self.k_norm = "query_layernorm.weight", "key_layernorm.weight"

    def project(self, x, p):
        c = self.c
        parts = np.split(self.linear(x, p + "query_key_value").reshape(-1, c.dim),
                         [c.heads, c.heads + c.kv_heads])
        return parts

    def route(self, x, p, tap, choices):
        c, w = self.c, self.w
        logits = w[p + "gate.weight"] @ x
        scores = softmax(logits) if c.score == "softmax" else sigmoid(logits)
        bias = w.get(p + "gate.expert_bias", w.get(p + "gate.e_score_correction_bias"))
        ids, weights, choice = route_in_groups(scores, bias, c.n_group, c.topk_group, c.top_k)
        choices.append(choice)
        if c.renormalise:
            weights = weights / weights.sum()
        weights = weights * c.scaling_factor
        tap_route(tap, ids, weights, scores)
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
