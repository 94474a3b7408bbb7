"""Ling 2.5: a variant is a dict of config.json keys over BASE, and how its tensors are stored."""

from bailing_hybrid import Config
from maker import ABSENT, Maker, ling_experts, merged, next_token_layer

BASE = {
    "architectures": ["BailingMoeV2_5ForCausalLM"], "model_type": "bailing_hybrid",
    "hidden_act": "silu", "torch_dtype": "bfloat16", "max_position_embeddings": 4096,
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8,
    "rms_norm_eps": 1e-6, "layer_group_size": 2, "group_norm_size": 2, "rope_theta": 600.0,
    "partial_rotary_factor": 0.5, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8, "v_head_dim": 8, "num_experts": 8, "num_experts_per_tok": 2,
    "n_group": 4, "topk_group": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 1,
    "num_shared_experts": 1, "moe_router_enable_expert_bias": True, "routed_scaling_factor": 2.5,
    "score_function": "sigmoid", "pad_token_id": 0, "eos_token_id": 1,
}

# name: (about, config keys, storage). Storage keys: dtype (of matrices), norm_dtype, gate_dtype,
# expert_bias (name or None), mla_dense (name), biases, shards, extras (tensors to be ignored).
VARIANTS = {
    "tail_heads12": (
        "12 heads, layer 2 (beside 1) full by the tail rule, no groups, bias though not announced",
        {"num_hidden_layers": 3, "num_attention_heads": 12, "num_key_value_heads": 12, "head_dim": 6,
         "rotary_dim": 4, "partial_rotary_factor": 1.0, "group_norm_size": 12, "q_lora_rank": None,
         "qk_nope_head_dim": 6, "v_head_dim": 6, "n_group": 0, "topk_group": 0,
         "moe_intermediate_size": 8, "moe_shared_expert_intermediate_size": 12,
         "num_shared_experts": 2, "first_k_dense_replace": 2,
         "moe_router_enable_expert_bias": False, "linear_rope": True,
         "layers_block_type": ["linear_attention", "attention", "full_attention"]},
        {}),
    "odd_widths_heads3": (
        "3 heads, widths that are no multiples of 16 or 32, fp32 gate, two shards with an index",
        {"num_hidden_layers": 2, "hidden_size": 72, "num_attention_heads": 3,
         "num_key_value_heads": 3, "head_dim": 24, "group_norm_size": 1, "v_head_dim": 40,
         "kv_lora_rank": 48, "q_lora_rank": 20, "qk_rope_head_dim": 10, "qk_nope_head_dim": 14,
         "num_experts": 6, "n_group": 3, "topk_group": 2, "num_experts_per_tok": 3,
         "moe_intermediate_size": 40,
         "intermediate_size": 56, "rope_theta": 35.5, "rms_norm_eps": 1e-5, "vocab_size": 77,
         "num_nextn_predict_layers": 1},
        {"gate_dtype": "F32", "norm_dtype": "F32", "shards": 2}),
    "all_full_yarn": (
        "G = 1: no linear layer; YaRN with both mscales, half-split rope, tied embeddings, o_proj",
        {"num_hidden_layers": 3, "layer_group_size": 1, "rope_interleave": False,
         "qk_rope_head_dim": 16, "rope_theta": 20.0, "tie_word_embeddings": True,
         "num_shared_experts": 0,
         "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 1.3,
                          "original_max_position_embeddings": 48, "beta_fast": 3,
                          "beta_slow": 1.5}},
        {"expert_bias": "e_score_correction_bias", "mla_dense": "o_proj"}),
    "group_over_layers": (
        "G > N: the incomplete group is full; one expert, so dense everywhere; latent biases",
        {"num_hidden_layers": 3, "layer_group_size": 5, "num_experts": 1, "use_qkv_bias": True,
         "num_experts_per_tok": ABSENT, "n_group": ABSENT, "topk_group": ABSENT,
         "first_k_dense_replace": 0, "moe_router_enable_expert_bias": ABSENT, "use_qk_norm": True},
        {"biases": True}),
    "yarn_linear": (
        "YaRN without mscale_all_dim on linear layers too, all of the head rotated, head_dim null, "
        "decay offset 0, groups without bias (maximum), softmax scores",
        {"head_dim": None, "group_norm_size": 4, "partial_rotary_factor": 1.0,
         "linear_decay_layer_offset": 0, "score_function": "softmax", "routed_scaling_factor": 1.5,
         "first_k_dense_replace": 3, "num_experts": 6, "n_group": 2, "topk_group": 1,
         "moe_router_enable_expert_bias": False, "q_lora_rank": None,
         "rope_scaling": {"type": "yarn", "factor": 8.0,
                          "original_max_position_embeddings": 32},
         "rope_theta": 100.0},
        {"expert_bias": None}),
    "silu_biases": (
        "use_linear_silu over linear_silu, no q/k norm, every bias, softmax scores with expert bias",
        {"linear_silu": False, "use_linear_silu": True, "use_qk_norm": False, "use_qkv_bias": True,
         "use_bias": True, "score_function": "softmax", "head_dim": 10, "rotary_dim": 6,
         "num_attention_heads": 3, "num_key_value_heads": 3, "group_norm_size": 3,
         "first_k_dense_replace": 2, "num_experts": 6, "n_group": 2, "topk_group": 1,
         "routed_scaling_factor": ABSENT},
        {"biases": True, "gate_dtype": "F32"}),
    "no_linear_rope_f16": (
        "linear layers without rope, linear_silu, F16 file, experts in every layer, no groups and "
        "no bias",
        {"linear_rope": False, "linear_silu": True, "first_k_dense_replace": 0,
         "num_hidden_layers": 3, "layer_group_size": 3, "n_group": 0, "topk_group": 0,
         "moe_router_enable_expert_bias": ABSENT, "num_experts": 5, "q_lora_rank": ABSENT,
         "partial_rotary_factor": ABSENT, "norm_topk_prob": False, "routed_scaling_factor": 1.0,
         "use_linear_silu": None},
        {"dtype": "F16", "norm_dtype": "F16", "gate_dtype": "F16", "expert_bias": None}),
    "f32_extras": (
        "F32 file with next-token layers, slopes and rope tables to ignore, large eps, use_bias "
        "alone, groups without bias on sigmoid scores",
        {"rms_norm_eps": 1e-2, "use_bias": True, "num_nextn_predict_layers": 1,
         "num_hidden_layers": 3, "layer_group_size": 3, "num_experts_per_tok": 3,
         "moe_router_enable_expert_bias": False, "rope_scaling": {"rope_type": "default"},
         "score_function": ABSENT, "rope_theta": 1000, "tie_word_embeddings": True,
         "num_key_value_heads": 2, "moe_shared_expert_intermediate_size": None},
        {"dtype": "F32", "norm_dtype": "F32", "gate_dtype": "F32", "expert_bias": None,
         "biases": True, "extras": True}),
}


def latent_attention(m, p, c, storage, biased):
    dense = p + storage.get("mla_dense", "dense")
    width = c.heads * (c.nope + c.rope)
    if c.q_lora is None:
        m.matrix(p + "q_proj.weight", width, c.hidden, 2)
    else:
        m.matrix(p + "q_a_proj.weight", c.q_lora, c.hidden)
        m.norm(p + "q_a_layernorm.weight", c.q_lora)
        m.matrix(p + "q_b_proj.weight", width, c.q_lora, 2)
    m.matrix(p + "kv_a_proj_with_mqa.weight", c.kv_lora + c.rope, c.hidden)
    m.norm(p + "kv_a_layernorm.weight", c.kv_lora)
    m.matrix(p + "kv_b_proj.weight", c.heads * (c.nope + c.value), c.kv_lora)
    m.matrix(dense + ".weight", c.hidden, c.heads * c.value, 1.5)
    if biased:
        if c.q_lora is not None:
            m.bias(p + "q_a_proj.bias", c.q_lora)
        m.bias(p + "kv_a_proj_with_mqa.bias", c.kv_lora + c.rope)
        m.bias(dense + ".bias", c.hidden)


def linear_attention(m, p, c, raw, biases):
    width = c.heads * c.dim
    m.matrix(p + "query_key_value.weight", 3 * width, c.hidden)
    m.matrix(p + "g_proj.weight", width, c.hidden)
    m.norm(p + "g_norm.weight", width)
    m.matrix(p + "dense.weight", c.hidden, width, 2)
    if c.qk_norm:
        m.norm(p + "query_layernorm.weight", c.dim)
        m.norm(p + "key_layernorm.weight", c.dim)
    if biases and raw.get("use_qkv_bias"):
        m.bias(p + "query_key_value.bias", 3 * width)
    if biases and raw.get("use_bias"):
        m.bias(p + "dense.bias", c.hidden)


def tensors_of(keys, storage, seed):
    """-> (config.json, name -> (values, dtype))"""
    raw = merged(BASE, keys)
    c, biases = Config(raw), storage.get("biases", False)
    m = Maker(seed, storage)
    m.embedding("model.word_embeddings.weight", c.vocab, c.hidden)
    for i in range(c.layers):
        p = f"model.layers.{i}."
        m.norm(p + "input_layernorm.weight", c.hidden)
        m.norm(p + "post_attention_layernorm.weight", c.hidden)
        if c.is_full(i):
            latent_attention(m, p + "attention.", c, storage, biases and raw.get("use_qkv_bias"))
        else:
            linear_attention(m, p + "attention.", c, raw, biases)
        if c.is_dense(i):
            m.swiglu(p + "mlp.", c.hidden, raw.get("intermediate_size", 5120))
        else:
            ling_experts(m, p + "mlp.", c, raw, storage)
    m.norm("model.norm.weight", c.hidden)
    if not c.tied:
        m.matrix("lm_head.weight", c.vocab, c.hidden, 3)
    if storage.get("next_layer"):
        p = f"model.layers.{c.layers}."
        next_token_layer(m, p, c.hidden)
        latent_attention(m, p + "attention.", c, storage, False)
        ling_experts(m, p + "mlp.", c, raw, storage)
    if storage.get("extras"):
        p = f"model.layers.{c.layers}."
        m.norm(p + "enorm.weight", c.hidden)
        m.matrix(p + "eh_proj.weight", c.hidden, 2 * c.hidden)
        m.norm("model.layers.0.attention.slope", c.heads)
        m.norm("model.layers.2.attention.rotary_emb.inv_freq", c.rope // 2)
        m.matrix("lm_head.weight", c.vocab, c.hidden)  # tied: of no effect
    return raw, m.out
