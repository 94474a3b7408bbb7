"""Compares fast_model.py with model.py on packed rows of several conversations, then on a long one.

The rounding to bfloat16 is switched off here, so that both must agree to float32 accuracy; with it,
close routing decisions fall differently and single rows differ by tens of percent.
"""
import json
import pathlib
import sys

import torch

from export import published
from fast_model import FastModel, parameters_from
from model import Model

torch.Tensor.bfloat16 = lambda self: self
config = json.loads((pathlib.Path(__file__).parent / "config.json").read_text())
p = parameters_from(config, 3)
p = {n: t * 3 if n.endswith(("out", "down")) else t for n, t in p.items()}
g = torch.Generator().manual_seed(4)
bias = {i: 0.05 * torch.randn(config["num_experts"], generator=g) for i in range(config["num_hidden_layers"])}
exact = Model(config, {n: t.float() for n, t in published(config, p, bias, torch.float32).items()})
fast = FastModel(config)
worst = 0.0
for lengths in ([40, 100, 64, 52], [256], [1, 255], [130, 62, 64], [900, 124]):
    total = sum(lengths)
    ids = torch.randint(0, config["vocab_size"], (1, total), generator=g)
    document = torch.cat([torch.full((n,), d) for d, n in enumerate(lengths)])[None]
    position = torch.cat([torch.arange(n) for n in lengths])[None]
    with torch.no_grad():
        hidden, _ = fast.hidden(p, bias, ids, fast.prepare(document, position))
        actual = hidden @ p["head"].T
    at = 0
    for n in lengths:
        expected = exact(ids[0, at : at + n])
        error = ((actual[at : at + n] - expected).norm(dim=-1) / expected.norm(dim=-1))
        print(f"{lengths} {n:4d} tokens: relative error median {error.median():.1e} worst {error.max():.1e}")
        worst = max(worst, error.max().item())
        at += n
sys.exit(worst > 1e-3)
