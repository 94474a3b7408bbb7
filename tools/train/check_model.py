"""Compares model.py with golden outputs of a checkpoint: check_model.py CHECKPOINT_FOLDER [--mode f64]

The folder holds a checkpoint and golden/golden.json and golden/golden.safetensors. Prints the worst
relative 2-norm error of the logits and of every debug tensor, and fails above the limit.
"""
import argparse
import json
import pathlib
import sys

import torch
from safetensors.torch import load_file

from model import Model

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--golden", type=pathlib.Path, help="default: FOLDER/golden")
parser.add_argument("--mode", default="f64", help="the golden mode to compare with")
parser.add_argument("--dtype", default="float64", choices=["float32", "float64"])
parser.add_argument("--limit", type=float, default=1e-4)
args = parser.parse_args()

golden_folder = args.golden or args.folder / "golden"
golden = json.loads((golden_folder / "golden.json").read_text())
tensors = load_file(golden_folder / "golden.safetensors")
model = Model.load(args.folder, getattr(torch, args.dtype), rounding=args.mode == "bf16")


def relative(actual, expected):
    expected = expected.double()
    return ((actual.double() - expected).norm(dim=-1) / expected.norm(dim=-1)).max().item()


errors = {}
for j, prompt in enumerate(golden["prompts"]):
    rows = model(prompt["ids"])[prompt["logit_positions"]]
    errors[f"prompt{j}/logits ({len(prompt['ids'])} tokens)"] = relative(
        rows, tensors[f"{args.mode}/prompt{j}/logits"])
if "debug_prompt" in golden:
    debug = {}
    debug["logits"] = model(golden["debug_prompt"], debug)
    for name, value in debug.items():
        expected = tensors.get(f"{args.mode}/debug/{name}")
        if expected is None:
            continue
        if name.endswith("router_ids"):
            value, expected = value.sort(-1).values, expected.sort(-1).values
        if name.endswith("router_weights"):
            value, expected = value.sort(-1).values, expected.sort(-1).values
        errors["debug/" + name] = relative(value, expected)
for name, error in errors.items():
    print(f"{error:10.2e}  {name}")
worst = max(errors.values())
print(f"worst {worst:.2e}, limit {args.limit:.0e}")
sys.exit(worst > args.limit)
