"""What an engine could read wrongly in each golden checkpoint."""

import math
from unittest import mock

import numpy as np

import checkpoint
import fp8
import grok
import grouped
import parts
from safetensors_io import round_bf16


def gelu_erf(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def softmax_of_the_best(count):
    """Weights that come to 1 over the chosen experts."""
    def wrong(x):
        chosen = np.where(x >= np.sort(x)[-count], parts.softmax(x), 0)
        return chosen / chosen.sum()
    return mock.patch.object(grok, "softmax", wrong)


def temperature_before_cap(self, scores, position):
    length = self.c.temperature_length
    factor = math.log2(position) / math.log2(length) if 0 < length < position else 1
    return parts.soft_cap(scores * factor, self.c.softmax_cap)


right_shape = grouped.GroupedQuery.shaped


def positions_from_one(self, scores, position):
    return right_shape(self, scores, position + 1)


right_join = checkpoint.join


def join_outputs_backwards(name, found):
    return right_join(name, found if name.endswith("w2.weight") else found[::-1])


def edges_like_their_neighbours(scale, shape):
    rows, columns = (np.minimum(np.arange(n) // fp8.BLOCK, max(n // fp8.BLOCK - 1, 0))
                     for n in shape)
    return scale[rows][:, columns]


right_dequantised = fp8.dequantised


def rescaled(change):
    """change(name, scale) -> the scale an engine would use instead."""
    def wrong(tensors):
        return right_dequantised({
            name: (change(name, values), dtype) if "_scale" in name else (values, dtype)
            for name, (values, dtype) in tensors.items()})
    return mock.patch.object(checkpoint.fp8, "dequantised", wrong)


def rescaled_if(part, change):
    return rescaled(lambda name, scale: change(scale) if part in name else scale)


def codes(change):
    return mock.patch.object(fp8, "CODES", change(fp8.CODES))


def without_subnormals(values):
    return np.where(np.abs(values) < 2.0 ** -6, 0, values)


# checkpoint: [(what an engine would do wrong, config keys changed, tensors dropped (None), rounded to
# bfloat16 or, beside each router, added as zeros; and code exchanged, if any)]
WRONG = {
    "tail_heads12": [
        ("rotary_dim ignored", {"rotary_dim": None}, {}),
        ("group norm over the whole row", {"group_norm_size": 1}, {}),
        ("bias dropped because it is not announced", {}, {"gate.expert_bias": None})],
    "odd_widths_heads3": [
        ("rope_theta of MLA not truncated, of linear attention truncated", {"rope_theta": 35.0}, {}),
        ("gate rounded to bfloat16", {}, {"gate.weight": "rounded"}),
        ("group limit ignored", {"n_group": 0, "topk_group": 0}, {})],
    "all_full_yarn": [
        ("interleaved rope", {"rope_interleave": True}, {}),
        ("no YaRN", {"rope_scaling": None}, {}),
        ("mscale of YaRN ignored", {"rope_scaling.mscale": 1.0}, {}),
        ("mscale_all_dim of YaRN ignored", {"rope_scaling.mscale_all_dim": 0.0}, {}),
        ("beta_fast ignored", {"rope_scaling.beta_fast": 32}, {}),
        ("beta_slow ignored", {"rope_scaling.beta_slow": 1}, {}),
        ("e_score_correction_bias ignored", {}, {"gate.e_score_correction_bias": None})],
    "group_over_layers": [
        ("latent query bias ignored", {}, {"q_a_proj.bias": None}),
        ("latent key bias ignored", {}, {"kv_a_proj_with_mqa.bias": None}),
        ("output bias ignored", {}, {"dense.bias": None})],
    "yarn_linear": [
        ("no YaRN", {"rope_scaling": None}, {}),
        ("half of the head rotated", {"partial_rotary_factor": 0.5}, {}),
        ("decay counts layers from one", {"linear_decay_layer_offset": 1}, {}),
        ("sigmoid scores", {"score_function": "sigmoid"}, {}),
        ("group limit ignored", {"n_group": 0, "topk_group": 0}, {}),
        ("scaling factor ignored", {"routed_scaling_factor": 1.0}, {})],
    "silu_biases": [
        ("use_linear_silu ignored", {"use_linear_silu": None}, {}),
        ("q/k/v bias ignored", {}, {"query_key_value.bias": None}),
        ("sigmoid scores", {"score_function": "sigmoid"}, {}),
        ("rotary_dim ignored", {"rotary_dim": 4}, {})],
    "no_linear_rope_f16": [
        ("rope in linear layers", {"linear_rope": True}, {}),
        ("linear_silu ignored", {"linear_silu": False}, {})],
    "f32_extras": [
        ("another eps", {"rms_norm_eps": 1e-6}, {}),
        ("dense bias ignored", {}, {"dense.bias": None}),
        ("lm_head of the file used", {"tie_word_embeddings": False}, {}),
        ("rms_norm_eps in the latent norms", {"LATENT_EPS": 1e-2}, {}),
        ("group score: sum of two", {}, {"gate.expert_bias": "zeros"}),
        ("group limit ignored", {"n_group": 0, "topk_group": 0}, {})],
    "ling20_odd_widths": [
        ("rotary_dim over partial_rotary_factor", {"partial_rotary_factor": None}, {}),
        ("whole head rotated", {"partial_rotary_factor": 1.0}, {}),
        ("gate rounded to bfloat16", {}, {"gate.weight": "rounded"}),
        ("group limit ignored", {"n_group": 0, "topk_group": 0}, {}),
        ("e_score_correction_bias ignored", {}, {"gate.e_score_correction_bias": None}),
        ("weights not renormalised", {"norm_topk_prob": False}, {}),
        ("another eps", {"rms_norm_eps": 1e-6}, {}),
        ("rope_theta truncated", {"rope_theta": 35}, {})],
    "ling20_biases": [
        ("q/k/v bias ignored", {}, {"query_key_value.bias": None}),
        ("output bias ignored", {}, {"dense.bias": None}),
        ("rotary_dim ignored", {"rotary_dim": None}, {}),
        ("half of the head rotated", {"rotary_dim": 4}, {}),
        ("weights renormalised", {"norm_topk_prob": True}, {}),
        ("sigmoid scores", {"score_function": "sigmoid"}, {}),
        ("scaling factor ignored", {"routed_scaling_factor": 1.0}, {})],
    "ling20_yarn": [
        ("no YaRN", {"rope_scaling": None}, {}),
        ("mscale of YaRN ignored", {"rope_scaling.mscale": 1.0}, {}),
        ("mscale_all_dim of YaRN ignored", {"rope_scaling.mscale_all_dim": 0.0}, {}),
        ("beta_fast ignored", {"rope_scaling.beta_fast": 32}, {}),
        ("beta_slow ignored", {"rope_scaling.beta_slow": 1}, {}),
        ("half of the head rotated", {"partial_rotary_factor": 0.5}, {}),
        ("weights renormalised", {"norm_topk_prob": True}, {}),
        ("group score: sum of two", {}, {"gate.expert_bias": "zeros"}),
        ("group limit ignored", {"n_group": 0, "topk_group": 0}, {})],
    "qwen3moe_sparse_step": [
        ("query bias ignored", {}, {"q_proj.bias": None}),
        ("key bias ignored", {}, {"k_proj.bias": None}),
        ("value bias ignored", {}, {"v_proj.bias": None}),
        ("output bias ignored", {}, {"o_proj.bias": None}),
        ("weights not renormalised", {"norm_topk_prob": False}, {})],
    "qwen3moe_defaults": [
        ("weights renormalised", {"norm_topk_prob": True}, {}),
        ("another eps", {"rms_norm_eps": 1e-6}, {}),
        ("another rope_theta", {"rope_theta": 10000.0}, {})],
    "qwen3_odd_widths": [
        ("no YaRN", {"rope_scaling": None}, {}),
        ("magnitude of YaRN ignored", {"rope_scaling.mscale": 0.0}, {}),
        ("context of YaRN ignored", {"rope_scaling.original_max_position_embeddings": 4096}, {}),
        ("biases ignored", {}, {"proj.bias": None}),
        ("another eps", {"rms_norm_eps": 1e-6}, {})],
    "grok_two_pieces": [
        ("scores not capped", {"attn_logit_softcapping": 0}, {}),
        ("router capped at the default", {"router_logit_softcapping": None}, {}),
        ("logits not capped", {"final_logit_softcapping": 0}, {}),
        ("no temperature", {"attn_temperature_len": -1}, {}),
        ("temperature before the cap", {}, {},
         mock.patch.object(grouped.GroupedQuery, "shaped", temperature_before_cap)),
        ("temperature of positions from one", {}, {},
         mock.patch.object(grouped.GroupedQuery, "shaped", positions_from_one)),
        ("no dense FFN beside the experts", {"residual_moe": False}, {}),
        ("embedding multiplier ignored", {"embedding_multiplier_scale": 1.0}, {}),
        ("embedding multiplier rounded", {"embedding_multiplier_scale": 3.296875}, {}),
        ("output multiplier ignored", {"output_multiplier_scale": 1.0}, {}),
        ("output multiplier rounded", {"output_multiplier_scale": 0.69921875}, {}),
        ("weights renormalised", {}, {}, softmax_of_the_best(3)),
        ("the other GELU", {}, {}, mock.patch.object(grok, "gelu_tanh", gelu_erf)),
        ("SiLU", {}, {}, mock.patch.object(grok, "gelu_tanh", parts.silu)),
        ("pieces in the wrong order", {}, {},
         mock.patch.object(checkpoint, "join", join_outputs_backwards))],
    "grok_four_pieces": [
        ("whole head rotated", {"rope_rotate_half_dims": False}, {}),
        ("scores capped at the default", {"attn_logit_softcapping": None}, {}),
        ("router not capped", {"router_logit_softcapping": 0}, {}),
        ("logits capped", {"final_logit_softcapping": 50}, {}),
        ("a temperature", {"attn_temperature_len": 32}, {}),
        ("another eps", {"rms_norm_eps": 1e-5}, {}),
        ("pieces in the wrong order", {}, {},
         mock.patch.object(checkpoint, "join", join_outputs_backwards))],
    "grok_whole": [
        ("no temperature", {"attn_temperature_len": -1}, {}),
        ("scores not capped", {"attn_logit_softcapping": 0}, {}),
        ("router not capped", {"router_logit_softcapping": 0}, {})],
    "fp8_channel_hybrid": [
        ("subnormal codes as zero", {}, {}, codes(without_subnormals)),
        ("scales rounded to bfloat16", {}, {}, rescaled(lambda name, scale: round_bf16(scale))),
        ("scales of q for k", {}, {}, rescaled_if(
            "query_key_value", lambda scale: np.concatenate([scale[:72], scale[:72], scale[144:]]))),
        ("one scale for the matrix", {}, {},
         rescaled(lambda name, scale: np.full_like(scale, scale.mean()))),
        ("scales of bf16 not read as such", {}, {}, rescaled(
            lambda name, scale: scale if scale.ndim == 2 else scale * (1 + 2.0 ** -8)))],
    "fp8_channel_qwen3moe": [
        ("subnormal codes as zero", {}, {}, codes(without_subnormals)),
        ("scales of q for k", {}, {}, rescaled_if("k_proj", lambda scale: scale[::-1])),
        ("biases scaled", {}, {"proj.bias": None})],
    "fp8_block_ling20": [
        ("subnormal codes as zero", {}, {}, codes(without_subnormals)),
        ("blocks transposed", {}, {}, rescaled(
            lambda name, scale: scale.T if scale.shape[0] == scale.shape[1] else scale)),
        ("incomplete blocks like their neighbours", {}, {},
         mock.patch.object(fp8, "expand", edges_like_their_neighbours))],
    "fp8_block_qwen3moe": [
        ("scales rounded to bfloat16", {}, {}, rescaled(lambda name, scale: round_bf16(scale))),
        ("incomplete blocks like their neighbours", {}, {},
         mock.patch.object(fp8, "expand", edges_like_their_neighbours))],
}
