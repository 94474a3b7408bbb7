"""Shows that every switch of the golden checkpoints matters: check_switches.py GOLDEN_ROOT.

Recomputes a prompt in f64 with one key of config.json set otherwise, and prints how far the logits
move. A key whose logits stay would not be tested by its golden folder. Exit code 1 if one does.
"""

import json
import sys

import numpy as np

import bailing_hybrid
from checkpoint import load
from families import model_of
from safetensors_io import round_bf16

# checkpoint: [(what an engine would do wrong, config keys changed, tensors dropped (None), rounded to
# bfloat16 or, beside each router, added as zeros)]
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
}


def logits(config, tensors, ids):
    bailing_hybrid.LATENT_EPS = config.get("LATENT_EPS", 1e-6)
    model = model_of(config, tensors, "f64")
    state, rows = model.start(), []
    for position, token in enumerate(ids):
        row, state = model.step(state, token, position)
        rows.append(row)
    return np.array(rows)


def changed(config, keys):
    out = json.loads(json.dumps(config))
    for key, value in keys.items():
        at = out
        *path, last = key.split(".")
        for part in path:
            at = at[part]
        at[last] = value
    return out


def altered(tensors, names):
    out = dict(tensors)
    for suffix, how in names.items():
        for key in tensors:
            if how == "zeros" and key.endswith("gate.weight"):
                out[key.replace("gate.weight", suffix)] = np.zeros(len(tensors[key]))
            elif key.endswith(suffix) and how == "rounded":
                out[key] = round_bf16(tensors[key])
            elif key.endswith(suffix):
                del out[key]
    return out


def main(root):
    still = 0
    for name, cases in WRONG.items():
        config, tensors = load(f"{root}/{name}")
        with open(f"{root}/{name}/golden/golden.json") as f:
            ids = json.load(f)["prompts"][1]["ids"]
        right = logits(config, tensors, ids)
        for what, keys, names in cases:
            wrong = logits(changed(config, keys), altered(tensors, names), ids)
            moved = np.mean(np.linalg.norm(wrong - right, axis=1) / np.linalg.norm(right, axis=1))
            print(f"{name:20} {moved:8.1e}  {what}")
            still += moved < 1e-4
    return 1 if still else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
