"""Draws the tensors of random checkpoints."""

import numpy as np

from safetensors_io import round_bf16

ABSENT = object()  # a config key left out of the file


def merged(base, keys):
    return {key: value for key, value in {**base, **keys}.items() if value is not ABSENT}


class Maker:
    """Collects name -> (values, dtype). Matrices are bfloat16 values in every file format: engines
    keep them so. storage: dtype (of matrices), norm_dtype, gate_dtype."""

    def __init__(self, seed, storage):
        self.rng, self.out = np.random.default_rng(seed), {}
        self.dtype = storage.get("dtype", "BF16")
        self.norm_dtype = storage.get("norm_dtype", "BF16")
        self.gate_dtype = storage.get("gate_dtype", "BF16")

    def put(self, name, values, dtype):
        if dtype == "BF16":
            values = round_bf16(values)
        elif dtype == "F16":  # bfloat16 values that are normal half-precision numbers as well
            values = round_bf16(np.where(np.abs(values) < 2.0 ** -12, 0.0, values))
        else:
            values = np.float64(np.float32(values))
        self.out[name] = (values, dtype)

    def matrix(self, name, outputs, inputs, gain=1.0):
        self.put(name, round_bf16(self.rng.normal(0, gain / np.sqrt(inputs), (outputs, inputs))),
                 self.dtype)

    def embedding(self, name, vocab, hidden):
        self.put(name, round_bf16(self.rng.normal(0, 1, (vocab, hidden))), self.dtype)

    def gate(self, name, experts, hidden):
        self.put(name, self.rng.normal(0, 2 / np.sqrt(hidden), (experts, hidden)), self.gate_dtype)

    def norm(self, name, size):
        self.put(name, 1 + 0.3 * self.rng.normal(0, 1, size), self.norm_dtype)

    def bias(self, name, size):
        self.put(name, 0.4 * self.rng.normal(0, 1, size), self.norm_dtype)

    def gated(self, hidden, width, gate, up, down):
        self.matrix(gate + ".weight", width, hidden, 1.5)
        self.matrix(up + ".weight", width, hidden)
        self.matrix(down + ".weight", hidden, width, 1.5)

    def swiglu(self, prefix, hidden, width):
        self.gated(hidden, width, prefix + "gate_proj", prefix + "up_proj", prefix + "down_proj")


def ling_experts(m, p, c, raw, storage):
    """The FFN of a layer with experts of Ling 2.0 and 2.5."""
    routed = raw.get("moe_intermediate_size", 512)
    m.gate(p + "gate.weight", c.experts, c.hidden)
    bias = storage.get("expert_bias", "expert_bias")
    if bias:
        spread = 0.3 if c.score == "sigmoid" else 0.15
        m.put(p + "gate." + bias, m.rng.normal(0, spread, c.experts), "F32")
    for e in range(c.experts):
        m.swiglu(f"{p}experts.{e}.", c.hidden, routed)
    shared = (raw.get("moe_shared_expert_intermediate_size") or routed) * c.shared
    if shared:
        m.swiglu(p + "shared_experts.", c.hidden, shared)


def next_token_layer(m, p, hidden):
    """Some tensors of a layer that drafts tokens; plain decoding leaves them aside."""
    m.norm(p + "enorm.weight", hidden)
    m.norm(p + "hnorm.weight", hidden)
    m.matrix(p + "eh_proj.weight", hidden, 2 * hidden)
    m.norm(p + "input_layernorm.weight", hidden)
    m.norm(p + "final_layernorm.weight", hidden)
