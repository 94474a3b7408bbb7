"""Random configurations of every family, with goldens: random_golden.py OUT COUNT SEED [NUMBER].

A soak for golden_test, beside the fixed folders; nothing of it is kept. Prompts are shorter than there.
NUMBER draws that one configuration alone. A golden may take some seconds.

    python random_golden.py /tmp/soak 50 1
    for dir in /tmp/soak/*; do build/ci/tests/golden_test --checkpoint=$dir || echo $dir; done
"""

import random
import sys

import numpy as np

import fp8
import make_golden
import variants_fp8
import variants_grouped
import variants_hybrid
from maker import ABSENT

make_golden.LENGTHS, make_golden.GREEDY = (1, 9, 70), 5


def yarn(rng):
    out = {"rope_type": "yarn", "factor": rng.choice([2.0, 4.0, 6.5]),
           "original_max_position_embeddings": rng.choice([16, 48, 4096])}
    if rng.random() < 0.3:
        out.update({"mscale": 0.7, "mscale_all_dim": 1.3})
    if rng.random() < 0.3:
        out.update({"beta_fast": 8, "beta_slow": 2})
    return out


def common(rng):
    hidden = rng.choice([rng.randrange(16, 80), rng.randrange(16, 80, 2), rng.randrange(120, 280, 4)])
    return {"hidden_size": hidden, "intermediate_size": rng.randrange(16, 150),
            "vocab_size": rng.randrange(40, 150), "num_hidden_layers": rng.randint(1, 4),
            "rms_norm_eps": rng.choice([1e-6, 1e-5, 1e-2]),
            "rope_theta": rng.choice([1e4, 6e6, 77.5])}


def grouped(rng):
    kv_heads = rng.randint(1, 4)
    return {"num_key_value_heads": kv_heads,
            "num_attention_heads": kv_heads * rng.choice([1, 1, 2, 3, 5]),
            "head_dim": 2 * rng.choice([rng.randint(2, 12), rng.randint(8, 40)])}


def rotary(rng, dim):
    """partial_rotary_factor and rotary_dim, each of them or none, of even widths."""
    keys = {"partial_rotary_factor": ABSENT, "rotary_dim": ABSENT}
    if rng.random() < 0.6:
        keys["partial_rotary_factor"] = rng.choice([2 * i / dim for i in range(1, dim // 2 + 1)
                                                    if int(dim * (2 * i / dim)) % 2 == 0])
    if rng.random() < 0.5:
        keys["rotary_dim"] = 2 * rng.randint(1, dim // 2)
    return keys


def ling_experts(rng, layers):
    """Router keys, and what the file has of the router's bias."""
    each, groups = rng.randint(2, 4), rng.randint(2, 4)
    kept = rng.randint(1, groups)
    biased = rng.random() < 0.6
    keys = {"num_experts": each * groups, "n_group": groups, "topk_group": kept,
            "num_experts_per_tok": rng.randint(1, min(each * kept, 5)),
            "moe_intermediate_size": rng.randrange(4, 50), "num_shared_experts": rng.randint(0, 2),
            "first_k_dense_replace": rng.randint(0, layers), "norm_topk_prob": rng.random() < 0.5,
            "score_function": rng.choice(["sigmoid", "sigmoid", "softmax"]),
            "routed_scaling_factor": rng.choice([1.0, 2.5, 0.7]),
            "moe_router_enable_expert_bias": biased}
    if rng.random() < 0.3:
        keys.update({"n_group": 0, "topk_group": 0})
    if rng.random() < 0.3:
        keys["moe_shared_expert_intermediate_size"] = rng.randrange(4, 50)
    name = rng.choice(["expert_bias", "e_score_correction_bias"]) if biased else None
    return keys, {"expert_bias": name}


def ling20(rng):
    keys = {**common(rng), **grouped(rng)}
    experts, storage = ling_experts(rng, keys["num_hidden_layers"])
    keys.update({**experts, **rotary(rng, keys["head_dim"]), "use_qk_norm": rng.random() < 0.7,
                 "tie_word_embeddings": rng.random() < 0.3,
                 "num_nextn_predict_layers": rng.randint(0, 1)})
    keys["use_bias"] = keys["use_qkv_bias"] = rng.random() < 0.3
    if rng.random() < 0.25:
        keys["rope_scaling"] = yarn(rng)
    return variants_grouped.LING, keys, {**storage, "biases": keys["use_bias"],
                                         "extras": keys["num_nextn_predict_layers"] > 0}


def ling25(rng):
    heads, dim = rng.choice([1, 2, 3, 4, 6]), 2 * rng.randint(2, 20)
    keys = {**common(rng), "num_attention_heads": heads, "num_key_value_heads": heads,
            "head_dim": dim}
    experts, storage = ling_experts(rng, keys["num_hidden_layers"])
    rotated = rotary(rng, dim)
    if rotated["partial_rotary_factor"] is rotated["rotary_dim"] is ABSENT:
        rotated["rotary_dim"] = dim  # the default, half of the head, may be odd
    keys.update({**experts, **rotated, "layer_group_size": rng.randint(1, 5),
                 "group_norm_size": rng.choice([g for g in range(1, heads + 1) if heads % g == 0]),
                 "q_lora_rank": rng.choice([None, rng.randrange(8, 70)]),
                 "kv_lora_rank": rng.randrange(8, 70), "qk_rope_head_dim": 2 * rng.randint(1, 12),
                 "qk_nope_head_dim": rng.randrange(2, 40), "v_head_dim": rng.randrange(4, 40),
                 "rope_interleave": rng.random() < 0.6, "linear_rope": rng.random() < 0.8,
                 "use_linear_silu": rng.random() < 0.3, "use_qk_norm": rng.random() < 0.7,
                 "linear_decay_layer_offset": rng.randint(0, 1),
                 "tie_word_embeddings": rng.random() < 0.3})
    keys["use_bias"] = keys["use_qkv_bias"] = rng.random() < 0.3
    if rng.random() < 0.25:
        keys["rope_scaling"] = yarn(rng)
    return variants_hybrid.BASE, keys, {**storage, "biases": keys["use_bias"]}


def qwen3(rng):
    keys = {**common(rng), **grouped(rng), "tie_word_embeddings": rng.random() < 0.3,
            "attention_bias": rng.random() < 0.3}
    if rng.random() < 0.25:
        keys["rope_scaling"] = yarn(rng)
    storage = {"biases": keys["attention_bias"]}
    if rng.random() < 0.3:
        return variants_grouped.QWEN, keys, storage
    experts, layers = rng.randint(2, 9), keys["num_hidden_layers"]
    keys.update({"num_experts": experts, "num_experts_per_tok": rng.randint(1, min(experts, 5)),
                 "moe_intermediate_size": rng.randrange(4, 80), "norm_topk_prob": rng.random() < 0.5,
                 "decoder_sparse_step": rng.choice([1, 1, 2]),
                 "mlp_only_layers": [i for i in range(layers) if rng.random() < 0.2]})
    return variants_grouped.QWEN_MOE, keys, storage


def grok2(rng):
    pieces = rng.choice([None, 1, 2, 3, 8])
    experts = rng.randint(2, 8)
    keys = {**common(rng), **grouped(rng), "num_local_experts": experts,
            "num_experts_per_tok": rng.randint(1, min(experts, 3)),
            "moe_intermediate_size": (pieces or 1) * rng.randrange(3, 20),
            "residual_moe": rng.random() < 0.6, "attn_logit_softcapping": rng.choice([0, 5.0, 30.0]),
            "router_logit_softcapping": rng.choice([0, 2.0, 30.0]),
            "final_logit_softcapping": rng.choice([0, 20.0, 50.0]),
            "attn_temperature_len": rng.choice([-1, 5, 30]),
            "embedding_multiplier_scale": rng.choice([1.0, 3.3, 11.3137]),
            "output_multiplier_scale": rng.choice([1.0, 0.5, 0.7]),
            "rope_rotate_half_dims": False}
    if keys["head_dim"] % 4 == 0:
        keys["rope_rotate_half_dims"] = rng.random() < 0.4
    return variants_grouped.GROK, keys, {"pieces": pieces} if pieces else {}


def quantisation(rng, layers):
    """Storage keys of variants_fp8."""
    gates = [f"model.layers.{i}.{m}" for i in range(layers)
             for m in ("mlp.gate", "block_sparse_moe.gate")]
    later = [f"re:model\\.layers\\.{layers}\\..*"]
    storage = {"ignore": ["lm_head", *gates, *later], "powers_of_two": "kv_b_proj"}
    if rng.random() < 0.3:
        storage["ignore"].append("re:.*(attention.dense|o_proj)$")
    if rng.random() < 0.5:
        storage["ignore_key"] = "modules_to_not_convert"
    if rng.random() < 0.5:
        storage["coarse"] = rng.choice(["up_proj", "query_key_value|q_proj", "down_proj"])
    return storage


FAMILIES = {"ling25": ling25, "ling20": ling20, "qwen3": qwen3, "grok2": grok2}


def draw(family, rng):
    base, keys, storage = FAMILIES[family](rng)
    fp8_keys = {}
    if family != "grok2" and rng.random() < 0.35:
        fp8_keys = quantisation(rng, keys["num_hidden_layers"])
    else:
        dtype = rng.choice(["BF16", "BF16", "F16", "F32"])
        storage.update({"dtype": dtype, "norm_dtype": rng.choice([dtype, "F32"]),
                        "gate_dtype": rng.choice([dtype, "F32"])})
    if rng.random() < 0.3 and "pieces" not in storage:
        storage["shards"] = rng.randint(2, 5)
    return base, keys, storage, fp8_keys


def tensors_of(base, keys, storage, fp8_keys, seed):
    if fp8_keys:
        return variants_fp8.tensors_of(base, keys, {**storage, **fp8_keys}, seed)
    if base is variants_hybrid.BASE:
        return variants_hybrid.tensors_of(keys, storage, seed)
    return variants_grouped.tensors_of(base, keys, storage, seed)


def main(out, count, seed, only=None):
    for number in range(count) if only is None else [only]:
        family = list(FAMILIES)[number % len(FAMILIES)]
        rng = random.Random(f"{seed} {number}")
        drawn = draw(family, rng)
        for attempt in range(6):
            raw, stored = tensors_of(*drawn, [seed, number, attempt])
            pair = make_golden.Pair(raw, fp8.dequantised(stored), cautious=True)
            found = make_golden.golden(f"{family}_{number}", "random", pair,
                                       np.random.default_rng([seed, number, attempt]), 1.2)
            if found:
                directory = f"{out}/{family}_{number}" + ("_fp8" if drawn[3] else "")
                make_golden.write_checkpoint(directory, raw, stored, drawn[2])
                make_golden.write_golden(directory, *found)
                break
        print(number, family, "written" if found else "undecided", drawn[1:], flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
