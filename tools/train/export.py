"""Writes a trained run as a Hugging Face checkpoint: export.py RUN_FOLDER OUTPUT_FOLDER [--raw]

Matrices and norms are rounded to bfloat16; router gates and expert biases stay float32. The averaged
weights are exported unless --raw asks for the last step's.
"""
import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file

from fast_model import parameters_from
from model import is_linear


def published(config, p, bias, dtype=torch.bfloat16):
    """The parameters of fast_model.py under the names and shapes of the published checkpoints."""
    out = {"model.word_embeddings.weight": p["embed"], "lm_head.weight": p["head"], "model.norm.weight": p["norm"]}
    for i in range(config["num_hidden_layers"]):
        name, w = f"model.layers.{i}.", lambda n: p[f"{i}.{n}"]
        a = name + "attention."
        out[name + "input_layernorm.weight"] = w("norm_in")
        out[name + "post_attention_layernorm.weight"] = w("norm_post")
        out[a + "dense.weight"] = w("out")
        if is_linear(config, i):
            out |= {a + "query_key_value.weight": torch.cat([w("q"), w("k"), w("v")]),
                    a + "query_layernorm.weight": w("q_norm"), a + "key_layernorm.weight": w("k_norm"),
                    a + "g_proj.weight": w("g"), a + "g_norm.weight": w("g_norm")}
        else:
            heads = config["num_attention_heads"]
            k_b, v_b = w("k_b").unflatten(0, (heads, -1)), w("v_b").unflatten(0, (heads, -1))
            out |= {a + "q_a_proj.weight": w("q_a"), a + "q_a_layernorm.weight": w("q_a_norm"),
                    a + "q_b_proj.weight": w("q_b"), a + "kv_a_proj_with_mqa.weight": w("kv_a"),
                    a + "kv_a_layernorm.weight": w("kv_a_norm"),
                    a + "kv_b_proj.weight": torch.cat([k_b, v_b], 1).flatten(0, 1)}
        m = name + "mlp."
        if i < config["first_k_dense_replace"]:
            out |= {f"{m}{k}_proj.weight": w(k) for k in ("gate", "up", "down")}
            continue
        out[m + "gate.weight"], out[m + "gate.expert_bias"] = w("router"), bias[i]
        for e in range(config["num_experts"]):
            out |= {f"{m}experts.{e}.{k}_proj.weight": w(k)[e] for k in ("gate", "up", "down")}
        out |= {f"{m}shared_experts.{k}_proj.weight": w(k)[-1] for k in ("gate", "up", "down")}
    exact = ("mlp.gate.weight", "mlp.gate.expert_bias")
    exact_type = torch.float32 if dtype.is_floating_point else dtype
    return {n: t.detach().to(exact_type if n.endswith(exact) else dtype).contiguous() for n, t in out.items()}


def parameters_of(config, weights):
    """The inverse of published(), in float32: (parameters, bias)."""
    from_file = {n: t.float() for n, t in weights.items()}
    p = parameters_from(config, 0)
    bias = torch.zeros(config["num_hidden_layers"], config["num_experts"])
    # Each published tensor is a rearrangement of parameters: number all entries, and read them back.
    count, numbered = 0, {}
    for n, t in p.items():
        numbered[n] = torch.arange(count, count + t.numel()).view(t.shape)
        count += t.numel()
    flat = torch.empty(count)
    for n, index in published(config, numbered, bias - 1, torch.int64).items():
        if n.endswith("expert_bias"):
            bias[int(n.split(".")[2])] = from_file[n]
        else:
            flat[index.long()] = from_file[n]
    return {n: flat[index] for n, index in numbered.items()}, bias


def write(config, p, bias, folder):
    folder.mkdir(parents=True, exist_ok=True)
    save_file(published(config, p, bias), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps({
        "bos_token_id": config["bos_token_id"], "eos_token_id": [config["pad_token_id"], config["eos_token_id"]],
        "pad_token_id": config["pad_token_id"], "do_sample": False, "max_new_tokens": 256}, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=pathlib.Path, help="a run of train.py, or a config.json for random weights")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--raw", action="store_true")
    args = parser.parse_args()
    if args.run.suffix == ".json":
        config = json.loads(args.run.read_text())
        p = parameters_from(config, 1)
        bias = 0.01 * torch.randn(config["num_hidden_layers"], config["num_experts"])
    else:
        saved = torch.load(args.run / "checkpoint.pt")
        config, p, bias = saved["config"], saved["p" if args.raw else "average"], saved["bias"]
        print("step", saved["step"])
    write(config, p, bias, args.folder)


if __name__ == "__main__":
    main()
