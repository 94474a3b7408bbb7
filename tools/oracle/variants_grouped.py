"""Ling 2.0, Qwen3 and Grok-2: a variant is a dict of config.json keys over its family's base, and how
its tensors are stored."""

import bailing_v2
import grok
import qwen3
from maker import ABSENT, Maker, ling_experts, merged, next_token_layer

COMMON = {"torch_dtype": "bfloat16", "max_position_embeddings": 4096, "vocab_size": 64,
          "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4,
          "num_key_value_heads": 2, "head_dim": 8, "rms_norm_eps": 1e-6, "rope_theta": 600.0,
          "tie_word_embeddings": False, "pad_token_id": 0, "eos_token_id": 1}

LING = {**COMMON, "architectures": ["BailingMoeV2ForCausalLM"], "model_type": "bailing_moe",
        "hidden_act": "silu", "num_hidden_layers": 2, "use_qk_norm": True, "use_bias": False,
        "use_qkv_bias": False, "partial_rotary_factor": 0.5, "rope_scaling": None,
        "num_experts": 8, "num_experts_per_tok": 2, "n_group": 4, "topk_group": 2,
        "moe_intermediate_size": 16, "first_k_dense_replace": 1, "num_shared_experts": 1,
        "moe_router_enable_expert_bias": True, "norm_topk_prob": True, "score_function": "sigmoid",
        "routed_scaling_factor": 2.5, "router_dtype": "fp32", "num_nextn_predict_layers": 0}

QWEN = {**COMMON, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3",
        "hidden_act": "silu", "num_hidden_layers": 2, "attention_bias": False,
        "attention_dropout": 0.0, "rope_scaling": None, "use_sliding_window": False,
        "sliding_window": None, "max_window_layers": 48, "bos_token_id": 0}

QWEN_MOE = {**QWEN, "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe",
            "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
            "norm_topk_prob": True, "mlp_only_layers": [], "decoder_sparse_step": 1,
            "router_aux_loss_coef": 0.001, "output_router_logits": False}

GROK = {**COMMON, "architectures": ["Grok1ForCausalLM"], "model_type": "git",
        "num_hidden_layers": 2, "rms_norm_eps": 1e-5, "rope_type": "original",
        "moe_intermediate_size": 16, "num_local_experts": 6, "num_experts_per_tok": 2,
        "residual_moe": True, "embedding_multiplier_scale": 5.656854249492381,
        "output_multiplier_scale": 0.5, "attn_logit_softcapping": 6.0,
        "router_logit_softcapping": 3.0, "final_logit_softcapping": 8.0,
        "attn_temperature_len": 8, "original_max_position_embeddings": 64, "scaling_factor": 16.0,
        "extrapolation_factor": 1.0, "attn_factor": 1.0, "beta_fast": 8, "beta_slow": 1,
        "sliding_window_size": -1, "global_attn_every_n": 1}

# name: (about, base, config keys, storage). Storage keys: those of Maker, and expert_bias (name or
# None), biases, shards, extras (tensors to be ignored), pieces (files an expert matrix is
# cut into), gap_floor and cautious (of make_golden.py).
VARIANTS = {
    "ling20_odd_widths": (
        "Ling 2.0: three query heads a kv head, odd widths, rotary_dim beside partial_rotary_factor, "
        "fp32 gate and norms, three shards, a next-token layer to ignore",
        LING,
        {"hidden_size": 72, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 20,
         "partial_rotary_factor": 0.6, "rotary_dim": 4, "rope_theta": 35.5, "vocab_size": 77,
         "num_experts": 6, "n_group": 3, "topk_group": 2, "num_experts_per_tok": 3,
         "intermediate_size": 56, "moe_intermediate_size": 20, "num_shared_experts": 2,
         "moe_shared_expert_intermediate_size": 24, "rms_norm_eps": 1e-2,
         "num_nextn_predict_layers": 1},
        {"gate_dtype": "F32", "norm_dtype": "F32", "shards": 3, "extras": True,
         "expert_bias": "e_score_correction_bias"}),
    "ling20_biases": (
        "Ling 2.0: no q/k norm, every bias, rotary_dim alone, weights not renormalised, softmax "
        "scores, neither groups nor expert bias nor shared experts, one kv head, tied embeddings",
        LING,
        {"use_qk_norm": False, "use_bias": True, "use_qkv_bias": True, "norm_topk_prob": False,
         "num_key_value_heads": 1, "head_dim": 12, "partial_rotary_factor": ABSENT,
         "rotary_dim": 6, "n_group": 0, "topk_group": 0, "num_experts": 5,
         "score_function": "softmax", "num_shared_experts": 0, "first_k_dense_replace": 0,
         "moe_router_enable_expert_bias": False, "tie_word_embeddings": True,
         "routed_scaling_factor": 1.7},
        {"biases": True, "expert_bias": None}),
    "ling20_yarn": (
        "Ling 2.0: YaRN with every parameter over the whole head, as many kv heads as heads, groups "
        "without bias (maximum), weights not renormalised, F16 file",
        LING,
        {"num_hidden_layers": 3, "num_attention_heads": 3, "num_key_value_heads": 3,
         "head_dim": 16, "partial_rotary_factor": ABSENT, "rope_theta": 20.0,
         "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "mscale": 0.7,
                          "mscale_all_dim": 1.3, "original_max_position_embeddings": 48,
                          "beta_fast": 3, "beta_slow": 1.5},
         "num_experts": 6, "n_group": 2, "topk_group": 1, "norm_topk_prob": False,
         "moe_router_enable_expert_bias": False, "routed_scaling_factor": 1.3,
         "moe_shared_expert_intermediate_size": None},
        {"dtype": "F16", "norm_dtype": "F16", "gate_dtype": "F16", "expert_bias": None}),
    "qwen3moe_sparse_step": (
        "Qwen3-MoE: experts in every second layer but one, biases, heads wider than the hidden size",
        QWEN_MOE,
        {"num_hidden_layers": 4, "decoder_sparse_step": 2, "mlp_only_layers": [3],
         "attention_bias": True, "num_attention_heads": 6, "head_dim": 10,
         "num_experts_per_tok": 3},
        {"biases": True}),
    "qwen3moe_defaults": (
        "Qwen3-MoE: head_dim, norm_topk_prob, decoder_sparse_step and mlp_only_layers left out, tied "
        "embeddings, large eps, two shards",
        QWEN_MOE,
        {"hidden_size": 40, "num_attention_heads": 5, "num_key_value_heads": 1,
         "head_dim": ABSENT, "norm_topk_prob": ABSENT, "decoder_sparse_step": ABSENT,
         "mlp_only_layers": ABSENT, "tie_word_embeddings": True, "rms_norm_eps": 1e-2,
         "num_experts": 5},
        {"shards": 2}),
    "qwen3_odd_widths": (
        "Qwen3: three heads, odd widths, biases, YaRN, F32 file",
        QWEN,
        {"hidden_size": 52, "num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 18,
         "intermediate_size": 44, "vocab_size": 77, "attention_bias": True, "rope_theta": 100,
         "rms_norm_eps": 1e-3,
         "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                          "original_max_position_embeddings": 32}},
        {"biases": True, "dtype": "F32", "norm_dtype": "F32"}),
    "grok_two_pieces": (
        "Grok-2: two pieces an expert matrix, odd widths, temperature from position 12, "
        "attn_logit_softcapping left out (30), no router cap, multipliers that bfloat16 lacks",
        GROK,
        {"hidden_size": 36, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10,
         "intermediate_size": 44, "moe_intermediate_size": 28, "num_local_experts": 5,
         "num_experts_per_tok": 3, "vocab_size": 77, "embedding_multiplier_scale": 3.3,
         "output_multiplier_scale": 0.7, "final_logit_softcapping": 5,
         "attn_logit_softcapping": ABSENT, "router_logit_softcapping": 0,
         "attn_temperature_len": 12},
        {"pieces": 2, "attention_gain": 2.5, "head_gain": 3, "gap_floor": 1.2}),
    "grok_four_pieces": (
        "Grok-2: four pieces, experts alone, half of the head rotated, neither caps of scores and "
        "logits nor temperature, router cap left out (30)",
        GROK,
        {"residual_moe": False, "rope_rotate_half_dims": True, "attn_logit_softcapping": 0,
         "router_logit_softcapping": ABSENT, "final_logit_softcapping": 0, "rope_theta": 50,
         "attn_temperature_len": ABSENT, "rms_norm_eps": 1e-2},
        {"pieces": 4, "gate_gain": 8}),
    "grok_whole": (
        "Grok-2: one file with whole experts, as many kv heads as heads, temperature from position 3",
        GROK,
        {"num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 16,
         "attn_temperature_len": 3, "router_logit_softcapping": 1.5,
         "attn_logit_softcapping": 2.5},
        {"attention_gain": 2}),
}


def ling_layer(m, p, c, raw, storage, dense):
    width, both = c.heads * c.dim, (c.heads + 2 * c.kv_heads) * c.dim
    m.norm(p + "input_layernorm.weight", c.hidden)
    m.norm(p + "post_attention_layernorm.weight", c.hidden)
    m.matrix(p + "attention.query_key_value.weight", both, c.hidden, 1 if c.qk_norm else 1.5)
    m.matrix(p + "attention.dense.weight", c.hidden, width, 2)
    if c.qk_norm:
        m.norm(p + "attention.query_layernorm.weight", c.dim)
        m.norm(p + "attention.key_layernorm.weight", c.dim)
    if storage.get("biases"):
        m.bias(p + "attention.query_key_value.bias", both)
        m.bias(p + "attention.dense.bias", c.hidden)
    if dense:
        m.swiglu(p + "mlp.", c.hidden, raw["intermediate_size"])
    else:
        ling_experts(m, p + "mlp.", c, raw, storage)


def ling(m, raw, storage):
    c = bailing_v2.Config(raw)
    m.embedding("model.word_embeddings.weight", c.vocab, c.hidden)
    for i in range(c.layers):
        ling_layer(m, f"model.layers.{i}.", c, raw, storage, c.is_dense(i))
    m.norm("model.norm.weight", c.hidden)
    if not c.tied:
        m.matrix("lm_head.weight", c.vocab, c.hidden, 3)
    if storage.get("extras"):
        p = f"model.layers.{c.layers}."
        ling_layer(m, p, c, raw, storage, dense=True)
        next_token_layer(m, p, c.hidden)


def separate_attention(m, p, c, gain, biases=False):
    width, narrow = c.heads * c.dim, c.kv_heads * c.dim
    for name, outputs, inputs, by in (("q_proj", width, c.hidden, gain),
                                      ("k_proj", narrow, c.hidden, gain),
                                      ("v_proj", narrow, c.hidden, 1), ("o_proj", c.hidden, width, 2)):
        m.matrix(f"{p}{name}.weight", outputs, inputs, by)
        if biases:
            m.bias(f"{p}{name}.bias", outputs)


def qwen(m, raw, storage):
    c = qwen3.Config(raw)
    m.embedding("model.embed_tokens.weight", c.vocab, c.hidden)
    for i in range(c.layers):
        p = f"model.layers.{i}."
        m.norm(p + "input_layernorm.weight", c.hidden)
        m.norm(p + "post_attention_layernorm.weight", c.hidden)
        separate_attention(m, p + "self_attn.", c, 1, storage.get("biases"))
        m.norm(p + "self_attn.q_norm.weight", c.dim)
        m.norm(p + "self_attn.k_norm.weight", c.dim)
        p += "mlp."
        if c.is_dense(i):
            m.swiglu(p, c.hidden, raw["intermediate_size"])
            continue
        m.gate(p + "gate.weight", c.experts, c.hidden)
        for e in range(c.experts):
            m.swiglu(f"{p}experts.{e}.", c.hidden, raw["moe_intermediate_size"])
    m.norm("model.norm.weight", c.hidden)
    if not c.tied:
        m.matrix("lm_head.weight", c.vocab, c.hidden, 3)


def grok_layer(m, p, c, raw, storage):
    for norm in ("pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm"):
        m.norm(f"{p}{norm}.weight", c.hidden)
    separate_attention(m, p + "self_attn.", c, storage.get("attention_gain", 1.5))
    if c.residual_moe:
        m.swiglu(p + "mlp.", c.hidden, raw["intermediate_size"])
    p += "block_sparse_moe."
    m.matrix(p + "gate.weight", c.experts, c.hidden, storage.get("gate_gain", 2))
    for e in range(c.experts):
        e_prefix = f"{p}experts.{e}."
        m.gated(c.hidden, raw["moe_intermediate_size"], e_prefix + "w1", e_prefix + "w3",
                e_prefix + "w2")


def grok2(m, raw, storage):
    c = grok.Config(raw)
    m.embedding("model.embed_tokens.weight", c.vocab, c.hidden)
    for i in range(c.layers):
        grok_layer(m, f"model.layers.{i}.", c, raw, storage)
    m.norm("model.norm.weight", c.hidden)
    m.matrix("lm_head.weight", c.vocab, c.hidden, storage.get("head_gain", 6))


FAMILIES = {"BailingMoeV2ForCausalLM": ling, "Qwen3ForCausalLM": qwen,
            "Qwen3MoeForCausalLM": qwen, "Grok1ForCausalLM": grok2}


def tensors_of(base, keys, storage, seed):
    """-> (config.json, name -> (values, dtype))"""
    raw = merged(base, keys)
    m = Maker(seed, storage)
    FAMILIES[raw["architectures"][0]](m, raw, storage)
    return raw, m.out
