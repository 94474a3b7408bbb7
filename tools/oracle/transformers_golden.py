"""Qwen3 and Qwen3-MoE as `transformers` computes them (transformers_requirements.txt).

    transformers_golden.py make OUT [NAME ...]       checkpoints saved by transformers, with goldens
    transformers_golden.py check DIR ...             the logits of golden folders, recomputed
    transformers_golden.py random COUNT SEED         NumPy against transformers on random configurations

The goldens' f64 tensors come from transformers with float64 weights; its norms, softmax, router and
rope tables stay float32 even so, which leaves about 1e-6. Prompts and the rounding noise (mode bf16)
are the NumPy implementation's, as for the other goldens.
"""

import json
import os
import random
import sys
import tempfile

import numpy as np
import torch
import transformers

import make_golden
import variants_grouped
from checkpoint import load
from families import model_of

QWEN, QWEN_MOE = variants_grouped.QWEN, variants_grouped.QWEN_MOE
WIDE = {"hidden_size": 160, "intermediate_size": 272, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 128, "vocab_size": 320, "rope_theta": 1e6,
        "max_position_embeddings": 40960}

# name: (about, base, config keys, storage)
VARIANTS = {
    "qwen3_transformers": (
        "Qwen3 saved by transformers, its logits from there: tied embeddings, YaRN", QWEN,
        {"tie_word_embeddings": True, "num_hidden_layers": 3, "rope_theta": 10000.0,
         "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                          "original_max_position_embeddings": 64}}, {}),
    "qwen3_wide_transformers": (
        "Qwen3 with heads of 128, saved by transformers, its logits from there", QWEN,
        {**WIDE, "num_hidden_layers": 2}, {}),
    "qwen3moe_transformers": (
        "Qwen3-MoE saved by transformers, its logits from there: a dense layer, biases", QWEN_MOE,
        {"mlp_only_layers": [1], "num_hidden_layers": 3, "attention_bias": True,
         "norm_topk_prob": False, "head_dim": 12}, {"biases": True}),
    "qwen3moe_wide_transformers": (
        "Qwen3-MoE with heads of 128, twelve experts, four chosen, saved by transformers, its "
        "logits from there", QWEN_MOE,
        {**WIDE, "num_hidden_layers": 2, "num_experts": 12, "num_experts_per_tok": 4,
         "moe_intermediate_size": 48}, {}),
}


transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def load_transformers(directory, dtype=torch.float64):
    return transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=dtype, attn_implementation="eager", experts_implementation="eager").eval()


@torch.no_grad()
def rows_of(model, ids):
    """Logits at every position [T, vocab]."""
    return model(torch.tensor([ids])).logits[0].double().numpy()


@torch.no_grad()
def greedy_rows(model, ids, count):
    """The rows that the next `count` tokens come from."""
    rows, answer = [], model(torch.tensor([ids]), use_cache=True)
    for _ in range(count):
        rows.append(answer.logits[0, -1].double().numpy())
        token = torch.tensor([[int(rows[-1].argmax())]])
        answer = model(token, past_key_values=answer.past_key_values, use_cache=True)
    return np.array(rows)


@torch.no_grad()
def inside(model, ids):
    """The debug tensors of golden.safetensors but the router's scores, which stay NumPy's."""
    found, hooks = {}, []

    def keep(name, module):
        def hook(module, args, output):
            output = output[0] if isinstance(output, tuple) else output
            found[name] = output.reshape(len(ids), -1).double().numpy()
        hooks.append(module.register_forward_hook(hook))

    keep("embed", model.model.embed_tokens)
    keep("final_norm", model.model.norm)
    keep("logits", model.lm_head)
    for i, layer in enumerate(model.model.layers):
        keep(f"layer{i}.attn_out", layer.self_attn)
        keep(f"layer{i}.ffn_out", layer.mlp)
        keep(f"layer{i}.residual", layer)
    model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return found


def relative(actual, expected):
    return float(np.max(np.linalg.norm(actual - expected, axis=-1) /
                        np.linalg.norm(expected, axis=-1)))


def exchange(model, info, out):
    """Puts the values of transformers into a golden; -> its largest distance from NumPy's."""
    worst = 0.0

    def put(name, values):
        nonlocal worst
        worst = max(worst, relative(values, out[name][0]))
        out[name] = (values, "F32")

    for j, prompt in enumerate(info["prompts"]):
        rows = rows_of(model, prompt["ids"])
        put(f"f64/prompt{j}/logits", rows[prompt["logit_positions"]])
        out[f"f64/prompt{j}/logsumexp"] = (make_golden.log_sum(rows), "F32")
        ids, best = make_golden.top8(rows)
        out[f"f64/prompt{j}/top8_ids"], out[f"f64/prompt{j}/top8_logits"] = (ids, "I32"), (best, "F32")
        wanted = info["modes"]["f64"]["prompts"][j]["greedy"]
        rows = greedy_rows(model, prompt["ids"], len(wanted))
        assert list(rows.argmax(1)) == wanted, f"prompt {j}: other greedy tokens"
        ids, best = make_golden.top8(rows)
        out[f"f64/prompt{j}/greedy_top8_ids"] = (ids, "I32")
        out[f"f64/prompt{j}/greedy_top8_logits"] = (best, "F32")
        out[f"f64/prompt{j}/greedy_logsumexp"] = (make_golden.log_sum(rows), "F32")
    for name, values in inside(model, info["debug_prompt"]).items():
        put(f"f64/debug/{name}", values)
    return worst


def make(directory, name):
    about, base, keys, storage = VARIANTS[name]
    for attempt in range(40):
        seed = [2026, list(VARIANTS).index(name), attempt]
        raw, stored = variants_grouped.tensors_of(base, keys, storage, seed)
        pair = make_golden.Pair(raw, {key: values for key, (values, _) in stored.items()})
        found = make_golden.golden(name, about, pair, np.random.default_rng(seed))
        if found:
            break
    else:
        raise SystemExit(f"{name}: no decided prompts with any seed")
    info, out = found
    with tempfile.TemporaryDirectory() as drawn:
        make_golden.write_checkpoint(drawn, raw, stored, {})
        load_transformers(drawn, torch.bfloat16).save_pretrained(directory)
    os.remove(directory + "/generation_config.json")
    _, saved = load(directory)
    assert saved.keys() == stored.keys(), saved.keys() ^ stored.keys()
    assert all((saved[key] == values).all() for key, (values, _) in stored.items())
    worst = exchange(load_transformers(directory), info, out)
    rounded = rows_of(load_transformers(directory, torch.bfloat16), info["prompts"][-1]["ids"])
    exact = rows_of(load_transformers(directory), info["prompts"][-1]["ids"])
    noise = np.linalg.norm(rounded - exact, axis=1) / np.linalg.norm(exact, axis=1)
    info["transformers"] = {"version": transformers.__version__, "numpy_rel_l2": float(f"{worst:.2g}"),
                            "own_bf16_rel_l2_median": float(f"{np.median(noise):.2g}")}
    make_golden.write_golden(directory, info, out)
    print(name, info["transformers"], info["statistics"])


def check(directory):
    with open(directory + "/golden/golden.json") as f:
        info = json.load(f)
    tensors = make_golden.safetensors_io.read(directory + "/golden/golden.safetensors")
    model = load_transformers(directory)
    worst = max(relative(rows_of(model, prompt["ids"])[prompt["logit_positions"]],
                         tensors[f"f64/prompt{j}/logits"]) for j, prompt in enumerate(info["prompts"]))
    greedy = all(list(greedy_rows(model, prompt["ids"], len(expected["greedy"])).argmax(1)) ==
                 expected["greedy"]
                 for prompt, expected in zip(info["prompts"], info["modes"]["f64"]["prompts"]))
    print(f"{directory}: {worst:.1e}, greedy tokens {'equal' if greedy else 'differ'}")
    return worst < 1e-5 and greedy


def random_config(rng):
    """A base, config keys and storage; up to a mid-size model."""
    kv_heads = rng.choice([1, 2, 3, 4])
    layers = rng.randint(1, 5)
    keys = {"hidden_size": rng.randrange(16, 260, 2), "intermediate_size": rng.randrange(16, 400),
            "num_hidden_layers": layers, "num_key_value_heads": kv_heads,
            "num_attention_heads": kv_heads * rng.choice([1, 2, 3, 7]),
            "head_dim": 2 * rng.randint(3, 64), "vocab_size": rng.randrange(32, 500),
            "rms_norm_eps": rng.choice([1e-6, 1e-5, 1e-2]), "rope_theta": rng.choice([1e4, 1e6, 77.5]),
            "attention_bias": rng.random() < 0.4, "tie_word_embeddings": rng.random() < 0.4}
    if rng.random() < 0.4:
        keys["rope_scaling"] = {"rope_type": "yarn", "factor": rng.choice([2.0, 4.0, 6.5]),
                                "original_max_position_embeddings": rng.choice([32, 64, 4096])}
    if rng.random() < 0.2:
        keys["rope_scaling"] = {**keys.get("rope_scaling", {
            "rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 40}),
            "mscale": 0.7, "mscale_all_dim": 1.3, "beta_fast": 16, "beta_slow": 2}
    if rng.random() < 0.5:
        return QWEN, keys, {"biases": keys["attention_bias"]}
    experts = rng.randint(2, 16)
    keys.update({"num_experts": experts, "num_experts_per_tok": rng.randint(1, min(experts, 8)),
                 "moe_intermediate_size": rng.randrange(4, 80), "norm_topk_prob": rng.random() < 0.5,
                 "decoder_sparse_step": rng.choice([1, 1, 2, 3]),
                 "mlp_only_layers": [i for i in range(layers) if rng.random() < 0.2]})
    return QWEN_MOE, keys, {"biases": keys["attention_bias"]}


def compare_random(count, seed):
    rng, worst_of_all = random.Random(seed), 0.0
    for number in range(count):
        base, keys, storage = random_config(rng)
        raw, stored = variants_grouped.tensors_of(base, keys, storage, [seed, number])
        ids = [rng.randrange(raw["vocab_size"]) for _ in range(rng.choice([1, 9, 70, 140]))]
        with tempfile.TemporaryDirectory() as drawn:
            make_golden.write_checkpoint(drawn, raw, stored, {})
            expected = rows_of(load_transformers(drawn), ids)
            model = model_of(*load(drawn), "f64")
        state, rows = model.start(), []
        for position, token in enumerate(ids):
            row, state = model.step(state, token, position)
            rows.append(row)
        worst = relative(np.array(rows), expected)
        worst_of_all = max(worst_of_all, worst)
        print(f"{number:3} {worst:.1e} {base['model_type']} {json.dumps(keys)}")
    print(f"seed {seed}: {count} configurations, largest distance {worst_of_all:.1e}")
    return worst_of_all < 1e-5


def main(what, *rest):
    if what == "make":
        for name in rest[1:] or VARIANTS:
            make(f"{rest[0]}/{name}", name)
        return 0
    if what == "check":
        return not all([check(directory) for directory in rest])
    return not compare_random(int(rest[0]), int(rest[1]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
