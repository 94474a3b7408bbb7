"""Qwen3 and Qwen3-MoE (Qwen3ForCausalLM, Qwen3MoeForCausalLM), written from the description of the
architecture. Against `transformers`: transformers_golden.py."""

import numpy as np

from grouped import PreNormDecoder, tap_route
from parts import Rotary, reader, softmax


class Config:
    """config.json with its defaults."""

    softmax_cap = temperature_length = topk_group = 0

    def __init__(self, raw):
        get = reader(raw)
        (architecture,) = raw["architectures"]
        assert architecture in ("Qwen3ForCausalLM", "Qwen3MoeForCausalLM")
        assert get("hidden_act", "silu") == "silu" and not get("use_sliding_window", False)
        self.vocab = raw["vocab_size"]
        self.hidden = raw["hidden_size"]
        self.layers = raw["num_hidden_layers"]
        self.heads = raw["num_attention_heads"]
        self.kv_heads = raw["num_key_value_heads"]
        self.dim = get("head_dim", self.hidden // self.heads)
        self.eps = get("rms_norm_eps", 1e-6)
        self.tied = get("tie_word_embeddings", False)
        # transformers 5 writes both into rope_parameters, and num_experts under another name.
        rope = get("rope_parameters", {})
        self.theta = float(rope.get("rope_theta", get("rope_theta", 1e6)))
        self.scaling = rope or get("rope_scaling")
        self.max_position = get("max_position_embeddings", 32768)
        self.bias = get("attention_bias", False)
        self.sparse = architecture == "Qwen3MoeForCausalLM"
        self.experts = get("num_experts", get("num_local_experts", 128))
        self.top_k = get("num_experts_per_tok", 8)
        self.renormalise = get("norm_topk_prob", False)
        self.only_dense = get("mlp_only_layers", [])
        self.sparse_step = get("decoder_sparse_step", 1)

    def is_dense(self, layer):
        return not self.sparse or layer in self.only_dense or (layer + 1) % self.sparse_step != 0


class Model(PreNormDecoder):
    embedding = "model.embed_tokens.weight"
    attention_prefix = "self_attn."
    output = "o_proj"
    q_norm, k_norm = "q_norm.weight", "k_norm.weight"

    def __init__(self, raw_config, tensors, mode):
        super().__init__(tensors, mode)
        c = self.c = Config(raw_config)
        self.rope = Rotary(c.dim, c.theta, c.scaling, c.max_position)

    def project(self, x, p):
        return (self.linear(x, p + name).reshape(-1, self.c.dim)
                for name in ("q_proj", "k_proj", "v_proj"))

    def ffn(self, x, layer, p, tap, choices):
        c = self.c
        if c.is_dense(layer):
            return self.swiglu(x, p)
        logits = self.w[p + "gate.weight"] @ x
        scores = softmax(logits)
        ids = np.argsort(-scores, kind="stable")[:c.top_k]
        choices.append({"experts": logits, "select": logits, "ids": ids})
        weights = scores[ids] / scores[ids].sum() if c.renormalise else scores[ids]
        tap_route(tap, ids, weights, scores)
        return self.rnd(sum(weight * self.swiglu(x, f"{p}experts.{e}.")
                            for e, weight in zip(ids, weights)))
