"""Shows that every switch of the golden checkpoints matters: check_switches.py GOLDEN_ROOT [NAME ...].

Recomputes a prompt in f64 with one thing read wrongly (wrong_readings.py), and prints how far the
logits move. A thing whose logits stay would not be tested by its golden folder. Exit code 1 if one
does.
"""

import contextlib
import json
import os
import sys

import numpy as np

import bailing_hybrid
from checkpoint import load
from families import model_of
from safetensors_io import round_bf16
from wrong_readings import WRONG

STILL = 5e-5  # golden_test accepts 1e-5 in float32


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


def main(root, names):
    still = 0
    for name in names or [name for name in WRONG if os.path.isdir(f"{root}/{name}")]:
        config, tensors = load(f"{root}/{name}")
        with open(f"{root}/{name}/golden/golden.json") as f:
            ids = json.load(f)["prompts"][1]["ids"]
        right = logits(config, tensors, ids)
        for what, keys, dropped, *code in WRONG[name]:
            with code[0] if code else contextlib.nullcontext():
                config, tensors = load(f"{root}/{name}")
                wrong = logits(changed(config, keys), altered(tensors, dropped), ids)
            moved = np.mean(np.linalg.norm(wrong - right, axis=1) / np.linalg.norm(right, axis=1))
            print(f"{name:22} {moved:8.1e}  {what}")
            still += not moved >= STILL
    return 1 if still else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
