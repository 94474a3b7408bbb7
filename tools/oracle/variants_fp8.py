"""Checkpoints with fp8 weights: a random checkpoint of a family, quantised."""

import re

import numpy as np

import fp8
import variants_grouped
import variants_hybrid
from safetensors_io import round_bf16

COMPRESSED = {
    "quant_method": "compressed-tensors", "format": "float-quantized",
    "quantization_status": "compressed",
    "config_groups": {"group_0": {
        "targets": ["Linear"],
        "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True,
                    "dynamic": False, "observer": "minmax"},
        "input_activations": {"num_bits": 8, "type": "float", "strategy": "token",
                              "symmetric": True, "dynamic": True},
        "output_activations": None}}}

BLOCKS = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
          "weight_block_size": [fp8.BLOCK, fp8.BLOCK]}

# The forms in which a channel's scale occurs, taken in turn.
CHANNEL_FORMS = [("F32", True), ("BF16", True), ("F32", False), ("BF16", False)]

# name: (about, base, config keys, storage). Storage: as in the family's table, and ignore (module
# names, or "re:" and an expression), ignore_key, config_key, coarse (modules whose codes are mostly
# subnormal), powers_of_two (modules with such scales: of kv_b_proj, since engines hold it as bfloat16 and
# float32 is to be compared sharply all the same).
VARIANTS = {
    "fp8_channel_hybrid": (
        "Ling 2.5: scales of a channel as [out, 1] and [out], fp32 and bf16, unquantised modules by "
        "name and by expression, odd widths, a next-token layer in bf16, subnormal codes",
        variants_hybrid.BASE,
        {"hidden_size": 72, "num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 24,
         "group_norm_size": 3, "v_head_dim": 20, "kv_lora_rank": 48, "q_lora_rank": 20,
         "qk_rope_head_dim": 10, "qk_nope_head_dim": 14, "moe_intermediate_size": 24,
         "num_hidden_layers": 3, "layer_group_size": 3, "first_k_dense_replace": 1,
         "num_nextn_predict_layers": 1, "num_experts": 6, "n_group": 2, "topk_group": 1},
        {"ignore": ["lm_head", "re:.*\\.mlp\\.gate$", "model.layers.1.attention.dense",
                    "re:model\\.layers\\.2\\.mlp\\.shared_experts\\..*", "re:model\\.layers\\.3\\..*"],
         "coarse": "g_proj|1.*experts.*up_proj|q_b_proj", "next_layer": True, "gate_dtype": "F32",
         "gap_floor": 1.1, "cautious": True, "powers_of_two": "kv_b_proj"}),
    "fp8_channel_qwen3moe": (
        "Qwen3-MoE: a scale vector each for q, k and v, compression_config, biases",
        variants_grouped.QWEN_MOE,
        {"attention_bias": True, "num_attention_heads": 6, "head_dim": 10, "mlp_only_layers": [0],
         "moe_intermediate_size": 20},
        {"biases": True, "ignore": ["lm_head", "re:.*mlp\\.gate$"], "coarse": "k_proj|down_proj",
         "config_key": "compression_config"}),
    "fp8_block_ling20": (
        "Ling 2.0: blocks of 128 x 128 with incomplete ones at every edge, scales that are powers of "
        "two, modules_to_not_convert",
        variants_grouped.LING,
        {"hidden_size": 160, "num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 24,
         "intermediate_size": 200, "moe_intermediate_size": 136, "num_experts": 4, "n_group": 2,
         "topk_group": 1, "use_bias": True, "use_qkv_bias": True},
        {"biases": True, "ignore": ["lm_head", "model.layers.1.mlp.gate", "model.layers.0.attention.dense"],
         "ignore_key": "modules_to_not_convert", "coarse": "1.attention.query_key_value",
         "powers_of_two": "experts.*(gate|up)_proj|attention.dense"}),
    "fp8_block_qwen3moe": (
        "Qwen3-MoE: blocks of 128 x 128; q, k and v begin and end inside blocks",
        variants_grouped.QWEN_MOE,
        {"hidden_size": 144, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 48,
         "intermediate_size": 200, "moe_intermediate_size": 136, "mlp_only_layers": [0],
         "num_experts": 4},
        {"ignore": ["lm_head", "model.layers.1.mlp.gate"], "ignore_key": "ignored_layers",
         "coarse": "v_proj"}),
}


def ignored(module, entries):
    return any(re.match(entry[3:], module) if entry.startswith("re:") else module == entry
               for entry in entries)


def config_of(storage):
    """-> (key of config.json, value)"""
    if "ignore_key" in storage:
        return "quantization_config", {**BLOCKS, storage["ignore_key"]: storage["ignore"]}
    return storage.get("config_key", "quantization_config"), \
        {**COMPRESSED, "ignore": storage["ignore"]}


def quantised(values, rng, blocks, scale_dtype, coarse, power_of_two):
    """-> (values of codes, scale [out] or [out / 128, in / 128])"""
    tiles = tuple(-(-n // fp8.BLOCK) for n in values.shape) if blocks else (len(values), 1)

    def spread(of_tiles):
        return fp8.expand(of_tiles, values.shape) if blocks else of_tiles

    values = values * spread(2.0 ** rng.uniform(-1, 1, tiles))  # scales that differ from tile to tile
    if blocks:
        largest = np.array([[np.abs(values[r * 128:(r + 1) * 128, c * 128:(c + 1) * 128]).max()
                             for c in range(tiles[1])] for r in range(tiles[0])])
    else:
        largest = np.abs(values).max(1, keepdims=True)
    scale = np.maximum(largest, 1e-4) / 448 * (4096 if coarse else 1)
    if power_of_two:
        scale = 2.0 ** np.ceil(np.log2(scale))
    scale = round_bf16(scale) if scale_dtype == "BF16" else np.float64(np.float32(scale))
    return fp8.decode(fp8.encode(values / spread(scale))), scale if blocks else scale[:, 0]


def quantise(stored, storage, seed):
    rng, out, forms = np.random.default_rng([*seed, 8]), {}, 0
    blocks = "ignore_key" in storage
    for name, (values, dtype) in stored.items():
        module = name.removesuffix(".weight")
        if values.ndim != 2 or "embed" in name or ignored(module, storage["ignore"]):
            out[name] = (values, dtype)
            continue

        def said(key):
            return bool(re.search(storage.get(key, "$^"), module))

        scale_dtype, column = CHANNEL_FORMS[forms % 4] if not blocks else ("F32", False)
        forms += 1
        codes, scale = quantised(values, rng, blocks, scale_dtype, said("coarse"),
                                 said("powers_of_two"))
        out[name] = (codes, "F8_E4M3")
        out[name + ("_scale_inv" if blocks else "_scale")] = \
            (scale[:, None] if column else scale, scale_dtype)
    return out


def tensors_of(base, keys, storage, seed):
    """-> (config.json, name -> (values as stored, dtype))"""
    if base is variants_hybrid.BASE:
        raw, stored = variants_hybrid.tensors_of(keys, storage, seed)
    else:
        raw, stored = variants_grouped.tensors_of(base, keys, storage, seed)
    key, value = config_of(storage)
    return {**raw, key: value}, quantise(stored, storage, seed)
