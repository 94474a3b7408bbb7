"""Golden outputs of the exported checkpoint: golden.py MODEL_FOLDER OUTPUT_FOLDER

golden.json and golden.safetensors in the form of the other golden folders: mode f64 is model.py in
float64 (nothing rounded but the stored weights), mode bf16 the same with activations rounded to
bfloat16. Prompts are conversations of the held-out sets, cut or joined to chosen lengths; where a
length leaves a choice, the prompt with the longest decided continuation is taken. Logit rows are those of
the last position and of three that rounding moves little; on others a routing decision is so close that
it falls differently in bfloat16, and the row says nothing about an engine.
"""
import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

import chat
from make_eval import expand
from model import Model

LENGTHS = {1: 3, 2: 3, 63: 3, 64: 3, 65: 3, 200: 2, 500: 1}  # tokens: candidates tried
GREEDY = 32
GAP = 1.0  # a greedy step narrower than this ends the continuation; so does the end of the turn


def conversations(folder, tokenizer):
    """Token ids of held-out conversations, endlessly, each with its generation prompt."""
    filler = json.loads((folder / "eval/filler.json").read_text())
    lines = []
    for name in ("arithmetic", "lists", "tool", "about", "think", "recall-1024"):
        rows = [json.loads(line) for line in (folder / f"eval/{name}.jsonl").read_text().splitlines()]
        lines.append(rows)
    for number in range(10**6):
        row = lines[number % len(lines)][number // len(lines) % 200]
        messages = row["messages"]
        if "context" in row:
            row["context"]["count"] = min(row["context"]["count"], 40)
            messages = [{"role": m["role"], "content": m["content"].replace(
                "{context}", expand(row["context"], filler))} for m in messages]
        text = chat.render(messages, row.get("tools"), "chat_template_kwargs" in row)
        yield tokenizer.encode(text).ids


def greedy(model, ids, count, narrowest=0.0):
    """Greedy continuation up to the first step narrower than `narrowest`: ids, gaps, logit rows."""
    ids, out, gaps, rows = list(ids), [], [], []
    while len(out) < count:
        row = model(ids)[-1]
        best = row.topk(2)
        gap = float(best.values[0] - best.values[1])
        if gap < narrowest:
            break  # rounding could turn it
        ids.append(int(best.indices[0]))
        out.append(ids[-1])
        gaps.append(gap)
        rows.append(row)
        if out[-1] == model.config["eos_token_id"]:
            break  # what follows was never trained
    return out, gaps, torch.stack(rows) if rows else torch.empty(0)


def prompts(model, tokenizer, folder):
    """[(ids, greedy ids, gaps, rows)], one for each length."""
    source, out = conversations(folder, tokenizer), []
    for length, candidates in LENGTHS.items():
        tried = []
        for _ in range(candidates):
            ids = []
            while len(ids) < length:  # the last conversation is whole: its answer follows the prompt
                ids = ids + next(source)
            tried.append((ids[-length:], *greedy(model, ids[-length:], GREEDY, GAP)))
        out.append(max(tried, key=lambda t: len(t[1])))
        tokens = out[-1][1]
        print(f"{length} tokens: {len(tokens)} greedy steps decided: {tokenizer.decode(tokens)!r}", flush=True)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    models = {"f64": Model.load(args.model, torch.float64),
              "bf16": Model.load(args.model, torch.float64, rounding=True)}
    chosen = prompts(models["f64"], tokenizer, args.model)
    golden = {"name": args.model.name, "about": "the trained model in the box", "prompts": [], "modes": {}}
    for ids, *_ in chosen:
        exact, rounded = models["f64"](ids), models["bf16"](ids)
        error = (rounded - exact).norm(dim=-1) / exact.norm(dim=-1)
        quiet = [t for t in range(len(ids) - 1) if error[t] <= error.median()]
        positions = {len(ids) - 1} | {quiet[len(quiet) * i // 3] for i in range(3) if quiet}
        golden["prompts"].append({"ids": ids, "logit_positions": sorted(positions)})
    golden["debug_prompt"] = chosen[-1][0][:10]
    tensors, logits, debug = {}, {}, {}
    for mode, model in models.items():
        golden["modes"][mode] = {"prompts": []}
        logits[mode], debug[mode] = [], []
        for j, (ids, tokens, gaps, rows) in enumerate(chosen):
            inside = {}
            full = model(ids, inside)
            logits[mode].append(full)
            debug[mode].append(inside)
            if mode == "bf16":
                tokens, gaps, rows = greedy(model, ids, len(tokens))
            golden["modes"][mode]["prompts"].append(
                {"greedy": tokens, "greedy_gap": [round(float(g), 6) for g in gaps]})
            name = f"{mode}/prompt{j}/"
            tensors[name + "logits"] = full[golden["prompts"][j]["logit_positions"]]
            top = full.topk(8)
            tensors |= {name + "top8_ids": top.indices, name + "top8_logits": top.values,
                        name + "logsumexp": full.logsumexp(-1)}
            if len(tokens):
                top = rows.topk(8)
                tensors |= {name + "greedy_top8_ids": top.indices, name + "greedy_top8_logits": top.values,
                            name + "greedy_logsumexp": rows.logsumexp(-1)}
        inside = {}
        inside["logits"] = model(golden["debug_prompt"], inside)
        if mode == "f64":
            tensors |= {f"{mode}/debug/{n}": t for n, t in inside.items()}
    errors, rows, flips, routed = [], [], 0, 0
    for j, (exact, rounded) in enumerate(zip(logits["f64"], logits["bf16"])):
        tensors[f"noise/prompt{j}"] = (rounded - exact).abs().amax(-1)
        errors.append((rounded - exact).norm(dim=-1) / exact.norm(dim=-1))
        rows.append(errors[-1][golden["prompts"][j]["logit_positions"]])
        for name, ids in debug["f64"][j].items():
            if name.endswith("router_ids"):
                routed += len(ids)
                other = debug["bf16"][j][name]
                flips += int((ids.sort(-1).values != other.sort(-1).values).any(-1).sum())
    every, rows = torch.cat(errors), torch.cat(rows)
    gaps = torch.tensor([gap for prompt in chosen for gap in prompt[2]])
    everything = torch.cat(logits["f64"])
    golden["statistics"] = {
        "logit_std": everything.std().item(), "logit_absmax": everything.abs().max().item(),
        "bf16_vs_f64_max_abs": max(tensors[f"noise/prompt{j}"].max().item() for j in range(len(chosen))),
        "bf16_vs_f64_rel_l2": rows.max().item(), "bf16_vs_f64_rel_l2_median": rows.median().item(),
        "bf16_vs_f64_rel_l2_of_all_positions": every.max().item(),
        "greedy_agrees": all(a["greedy"] == b["greedy"] for a, b in zip(
            golden["modes"]["f64"]["prompts"], golden["modes"]["bf16"]["prompts"])),
        "min_greedy_gap_f64": gaps.min().item(), "routed_tokens": routed,
        "routing_differences_between_modes": flips}
    print(json.dumps(golden["statistics"], indent=1))
    (args.out / "golden.json").write_text(json.dumps(golden) + "\n")
    save_file({n: (t.float() if t.is_floating_point() else t.int()).contiguous() for n, t in tensors.items()},
              args.out / "golden.safetensors")


if __name__ == "__main__":
    main()
