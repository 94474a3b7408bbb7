"""Recomputes the logits and debug tensors of golden folders: check_golden.py CHECKPOINT_DIR ...

Prints the largest relative difference of each mode. Golden tensors are stored in fp32, so about
1e-7 is agreement; those from transformers, which computes parts in fp32, agree to about 1e-6.
"""

import json
import sys

import numpy as np

import safetensors_io
from checkpoint import load
from families import model_of


def check(directory):
    config, tensors = load(directory)
    with open(directory + "/golden/golden.json") as f:
        golden = json.load(f)
    expected = safetensors_io.read(directory + "/golden/golden.safetensors")
    worst_of_all = 0.0
    limit = 1e-5 if "transformers" in golden else 1e-6
    for mode in ("f64", "bf16"):
        model = model_of(config, tensors, mode)
        worst = {}

        def compare(kind, actual, name):
            if name not in expected:
                return
            want = expected[name]
            error = np.linalg.norm(actual - want) / max(np.linalg.norm(want), 1e-30)
            worst[kind] = max(worst.get(kind, 0.0), float(error))

        for j, prompt in enumerate(golden["prompts"]):
            state, rows = model.start(), []
            for position, token in enumerate(prompt["ids"]):
                logits, state = model.step(state, token, position)
                rows.append(logits)
            compare("logits", np.array(rows)[prompt["logit_positions"]], f"{mode}/prompt{j}/logits")
            greedy = []
            for position in range(len(prompt["ids"]), len(prompt["ids"]) + len(
                    golden["modes"][mode]["prompts"][j]["greedy"])):
                greedy.append(int(np.argmax(logits)))
                logits, state = model.step(state, greedy[-1], position)
            if greedy != golden["modes"][mode]["prompts"][j]["greedy"]:
                worst["greedy tokens"] = 1.0
        state, taps = model.start(), {}
        for position, token in enumerate(golden["debug_prompt"]):
            logits, state = model.step(state, token, position,
                                       lambda name, value: taps.setdefault(name, []).append(value))
            taps.setdefault("logits", []).append(logits)
        for name, values in taps.items():
            last = values[-1] if name.endswith(".state") else np.array(values)
            compare("debug", last, f"{mode}/debug/{name}")
        print(directory, mode, {kind: f"{error:.1e}" for kind, error in worst.items()})
        worst_of_all = max([worst_of_all, *worst.values()])
    return worst_of_all <= limit


if __name__ == "__main__":
    sys.exit(not all([check(directory) for directory in sys.argv[1:]]))
