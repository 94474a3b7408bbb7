"""Writes checkpoints of the table in variants.py with golden outputs: make_golden.py OUT [NAME ...].

Format: tests/golden/README.md. Prompts are grown token by token so that everything discrete is
decided: no expert, group or greedy choice is closer than twice the difference that bfloat16
rounding makes there, and both modes choose alike.
"""

import json
import os
import sys

import numpy as np

import fp8
import safetensors_io
import variants
from families import model_of

LENGTHS = (1, 65, 150)
GREEDY = 16
DEBUG = 10
MODES = ("f64", "bf16")


def margin(choice, top_k, topk_group):
    """Distance of the expert and the group choice from the next candidate."""
    out = np.inf
    if "groups" in choice and topk_group < len(choice["groups"]):
        best = np.sort(choice["groups"])[::-1]
        out = best[topk_group - 1] - best[topk_group]
    best = np.sort(choice["select"])[::-1]
    if top_k < len(best) and np.isfinite(best[top_k]):
        out = min(out, best[top_k - 1] - best[top_k])
    return out


class Pair:
    """Both modes of a checkpoint side by side. A cautious one takes no token's routing noise for less
    than what it is at four of five others: another engine rounds elsewhere."""

    def __init__(self, raw, tensors, cautious=False):
        self.cautious, self.noise_of = cautious, {}
        self.models = [model_of(raw, tensors, mode) for mode in MODES]
        self.c = self.models[0].c

    def start(self):
        return [model.start() for model in self.models]

    def step(self, states, token, position):
        """-> (logits of both modes, states, smallest margin, whether the routing is decided)."""
        logits, out, choices = [], [], []
        for model, state in zip(self.models, states):
            chosen = []
            row, state = model.step(state, token, position, choices=chosen)
            logits.append(row)
            out.append(state)
            choices.append(chosen)
        smallest, decided = np.inf, True
        for layer, (exact, rounded) in enumerate(zip(*choices)):
            noise = np.abs(exact["experts"] - rounded["experts"]).max()
            if "groups" in exact:
                noise = max(noise, np.abs(exact["groups"] - rounded["groups"]).max())
            if self.cautious:
                others = self.noise_of.setdefault(layer, [])
                others.append(noise)
                noise = max(noise, np.quantile(others, 0.8))
            gap = margin(exact, self.c.top_k, self.c.topk_group)
            decided = decided and gap > 2 * noise and set(exact["ids"]) == set(rounded["ids"]) and \
                set(exact.get("kept", ())) == set(rounded.get("kept", ()))
            smallest = min(smallest, gap)
        return logits, out, smallest, decided

    def greedy(self, logits, states, length):
        """The greedy continuation of both modes, or None if a step is not decided."""
        rows, tokens, smallest = [], [], np.inf
        for i in range(GREEDY):
            best = np.sort(logits[0])[::-1]
            noise = np.abs(logits[0] - logits[1]).max()
            if best[0] - best[1] < 2 * noise or np.argmax(logits[0]) != np.argmax(logits[1]):
                return None
            rows.append(logits)
            tokens.append(int(np.argmax(logits[0])))
            logits, states, gap, decided = self.step(states, tokens[-1], length + i)
            if not decided:
                return None
            smallest = min(smallest, gap)
        return tokens, rows, smallest


def grow(pair, rng, length):
    """A decided prompt of `length` tokens with its rows and greedy continuation, or None."""
    states, ids, rows, smallest = pair.start(), [], [], np.inf
    for position in range(length):
        candidates = rng.permutation(pair.c.vocab)
        for token in candidates:
            logits, after, gap, decided = pair.step(states, int(token), position)
            if not decided:
                continue
            if position == length - 1:
                greedy = pair.greedy(logits, after, length)
                if greedy is None:
                    continue
                return (ids + [int(token)], rows + [logits], greedy[0], greedy[1],
                        min(smallest, gap, greedy[2]))
            ids.append(int(token))
            rows.append(logits)
            states, smallest = after, min(smallest, gap)
            break
        else:
            return None
    return None


def top8(rows):
    ids = np.argsort(-rows, axis=1, kind="stable")[:, :8]
    return ids, np.take_along_axis(rows, ids, 1)


def log_sum(rows):
    high = rows.max(1, keepdims=True)
    return high[:, 0] + np.log(np.exp(rows - high).sum(1))


def debug_tensors(pair, ids, out):
    for mode, model in zip(MODES, pair.models):
        state, taps = model.start(), {}
        for position, token in enumerate(ids):
            row, state = model.step(state, token, position,
                                    lambda name, value: taps.setdefault(name, []).append(value))
            taps.setdefault("logits", []).append(row)
        for name, values in taps.items():
            short = name.split(".")[-1]
            if mode == "bf16" and short not in ("attn_out", "ffn_out", "residual", "logits"):
                continue
            values = values[-1] if short == "state" else np.array(values)
            out[f"{mode}/debug/{name}"] = (values, "I32" if short == "router_ids" else "F32")


def wide_enough(greedy_rows, rows, floor):
    """Whether every greedy gap is `floor` times what rounding does to a logit almost anywhere."""
    noise = np.abs(rows[:, 0] - rows[:, 1]).max(1)
    best = np.sort(greedy_rows[:, 0], axis=1)
    return (best[:, -1] - best[:, -2]).min() >= floor * np.quantile(noise, 0.95)


def golden(name, about, pair, rng, floor=0.0):
    out, prompts, in_mode = {}, [], {mode: [] for mode in MODES}
    l2, relative, absolute, gaps, routing, all_logits = [], [], [], [], [], []
    for j, length in enumerate(LENGTHS):
        found = None
        for _ in range(20 if length > 1 or floor else 1):  # one token: every one has been tried
            found = grow(pair, rng, length)
            if found and wide_enough(np.array(found[3]), np.array(found[1]), floor):
                break
            found = None
        if not found:
            return None
        ids, rows, tokens, greedy_rows, smallest = found
        rows, greedy_rows = np.array(rows), np.array(greedy_rows)  # [T, modes, V]
        at = sorted({p for p in (0, 31, 32, 63, 64, 100, 128, length - 1) if p < length})
        prompts.append({"ids": ids, "logit_positions": at})
        routing.append(smallest)
        all_logits.append(rows[:, 0])
        for m, mode in enumerate(MODES):
            best = np.sort(greedy_rows[:, m], axis=1)
            gap = best[:, -1] - best[:, -2]
            in_mode[mode].append({"greedy": tokens, "greedy_gap": [round(float(g), 6) for g in gap]})
            out[f"{mode}/prompt{j}/logits"] = (rows[at, m], "F32")
            out[f"{mode}/prompt{j}/logsumexp"] = (log_sum(rows[:, m]), "F32")
            out[f"{mode}/prompt{j}/greedy_logsumexp"] = (log_sum(greedy_rows[:, m]), "F32")
            top_ids, top_logits = top8(greedy_rows[:, m])
            out[f"{mode}/prompt{j}/greedy_top8_ids"] = (top_ids, "I32")
            out[f"{mode}/prompt{j}/greedy_top8_logits"] = (top_logits, "F32")
            if m == 0:
                gaps.append(gap.min())
        top_ids, top_logits = top8(rows[:, 0])
        out[f"f64/prompt{j}/top8_ids"] = (top_ids, "I32")
        out[f"f64/prompt{j}/top8_logits"] = (top_logits, "F32")
        difference = rows[:, 1] - rows[:, 0]
        out[f"noise/prompt{j}"] = (np.abs(difference).max(1), "F32")
        l2 += list(np.linalg.norm(difference, axis=1) / np.linalg.norm(rows[:, 0], axis=1))
        relative += list(np.abs(difference).max(1) / np.abs(rows[:, 0]).max(1))
        absolute += list(np.abs(difference).max(1))
    debug = prompts[-1]["ids"][:DEBUG]
    debug_tensors(pair, debug, out)
    logits = np.concatenate(all_logits)
    statistics = {
        "logit_std": logits.std(), "logit_absmax": np.abs(logits).max(),
        "bf16_vs_f64_max_abs": max(absolute), "bf16_vs_f64_rel_max": max(relative),
        "bf16_vs_f64_rel_l2": max(l2), "bf16_vs_f64_rel_l2_median": float(np.median(l2)),
        "min_greedy_gap_f64": min(gaps),
        "min_routing_gap_f64": min(routing) if np.isfinite(min(routing)) else None}
    rounded = {k: v if v is None else float(f"{v:.5g}") for k, v in statistics.items()}
    info = {"name": name, "about": about, "prompts": prompts,
            "debug_prompt": debug, "modes": {mode: {"prompts": in_mode[mode]} for mode in MODES},
            "statistics": {**rounded, "greedy_agrees": True, "routing_differences_between_modes": 0}}
    return info, out


def write_sharded(directory, stored, shards):
    names = list(stored)
    files = [f"model-{s + 1:05}-of-{shards:05}.safetensors" for s in range(shards)]
    place = {name: files[i * shards // len(names)] for i, name in enumerate(names)}
    for file in files:
        safetensors_io.write(f"{directory}/{file}", {n: stored[n] for n in names if place[n] == file})
    size = sum(len(safetensors_io.encode(*stored[n])) for n in names)
    with open(directory + "/model.safetensors.index.json", "w") as f:
        f.write(json.dumps({"metadata": {"total_size": size}, "weight_map": place}, indent=1) + "\n")


# The numbered files of Grok-2: a kind of tensor in each; without an index.
GROK_FILES = ["embed_tokens", "lm_head", "model.norm", "mlp.gate_proj", "mlp.down_proj",
              "mlp.up_proj", "w1", "w2", "w3", "k_proj", "o_proj", "q_proj", "v_proj",
              "pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm",
              "block_sparse_moe.gate"]


def write_pieces(directory, stored, pieces):
    """Experts cut into `pieces` files in which a tensor has the same name."""
    for number, kind in enumerate(GROK_FILES):
        tensors = {n: t for n, t in stored.items() if n.endswith(kind + ".weight")}
        if not tensors:
            continue
        stem = f"{directory}/pytorch_model-{number:05}-TP-"
        if kind not in ("w1", "w2", "w3"):
            safetensors_io.write(stem + "common.safetensors", tensors)
            continue
        for i in range(pieces):
            cut = {n: (np.split(values, pieces, -1 if kind == "w2" else 0)[i], dtype)
                   for n, (values, dtype) in tensors.items()}
            safetensors_io.write(f"{stem}{i:03}.safetensors", cut)


def write_checkpoint(directory, raw, stored, storage):
    os.makedirs(directory, exist_ok=True)
    with open(directory + "/config.json", "w") as f:
        f.write(json.dumps(raw, indent=1) + "\n")
    if "pieces" in storage:
        write_pieces(directory, stored, storage["pieces"])
    elif "shards" in storage:
        write_sharded(directory, stored, storage["shards"])
    else:
        safetensors_io.write(directory + "/model.safetensors", stored)


def write_golden(directory, info, out):
    os.makedirs(directory + "/golden", exist_ok=True)
    safetensors_io.write(directory + "/golden/golden.safetensors", out)
    with open(directory + "/golden/golden.json", "w") as f:
        f.write(json.dumps(info) + "\n")


def make(directory, name):
    number, storage = variants.seed_of(name), variants.storage(name)
    for attempt in range(40):  # another seed where no prompt is decided
        raw, stored = variants.tensors_of(name, [number, attempt])
        pair = Pair(raw, fp8.dequantised(stored), storage.get("cautious", False))
        found = golden(name, variants.about(name), pair, np.random.default_rng([number, attempt, 1]),
                       storage.get("gap_floor", 0.0))
        if found:
            break
    else:
        raise SystemExit(f"{name}: no decided prompts with any seed")
    info, out = found
    write_checkpoint(directory, raw, stored, storage)
    write_golden(directory, info, out)
    print(name, "attempt", attempt, info["statistics"])


if __name__ == "__main__":
    for wanted in sys.argv[2:] or variants.NAMES:
        make(f"{sys.argv[1]}/{wanted}", wanted)
