"""What the families share: rounding modes, norms, rope, softmax, routing and the gated FFN.

Mode "f64" rounds nothing; mode "bf16" rounds to bfloat16 where an engine with bfloat16 activations
does (docs/numerics.md).
"""

import math

import numpy as np

from safetensors_io import round_bf16


def exact(x):
    return x


MODES = {"f64": exact, "bf16": round_bf16}


def no_tap(name, value):
    """The tap of a step nobody looks into."""


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def gelu_tanh(x):
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x ** 3)))


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def soft_cap(x, cap):
    """cap 0: none."""
    return cap * np.tanh(x / cap) if cap else x


def rms(x, weight, eps, rnd):
    return rnd(x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps) * weight)


def reader(raw):
    """get(key, otherwise) for a config.json in which a key that is null counts as absent."""
    return lambda key, otherwise=None: otherwise if raw.get(key) is None else raw[key]


def mscale(factor, m):
    return 1.0 if factor <= 1 else 0.1 * m * math.log(factor) + 1.0


class Rotary:
    """cos and sin of one rope instance; YaRN changes frequencies and magnitude."""

    def __init__(self, width, base, scaling=None, max_position=0):
        self.width = width
        i = np.arange(width // 2)
        self.inv_freq = base ** (-2.0 * i / width)
        self.magnitude = 1.0
        kind = scaling.get("rope_type", scaling.get("type", "default")) if scaling else "default"
        if kind == "default":
            return
        assert kind == "yarn"
        factor = scaling["factor"]
        original = scaling.get("original_max_position_embeddings", max_position)

        def dim(rotations):
            return width * math.log(original / (2 * math.pi * rotations)) / (2 * math.log(base))

        low = max(math.floor(dim(scaling.get("beta_fast", 32))), 0)
        high = min(math.ceil(dim(scaling.get("beta_slow", 1))), width - 1)
        mask = 1 - np.clip((i - low) / max(high - low, 0.001), 0, 1)
        self.inv_freq = self.inv_freq / factor * (1 - mask) + self.inv_freq * mask
        self.magnitude = mscale(factor, scaling.get("mscale", 1.0)) / \
            mscale(factor, scaling.get("mscale_all_dim", 0.0))

    def rotate(self, x, position, rnd_table, rnd, interleaved=False):
        """The first `width` entries of the last axis of x."""
        if rnd_table is exact:
            phase = position * self.inv_freq
        else:
            phase = np.float64(np.float32(position) * self.inv_freq.astype(np.float32))
        c = rnd_table(np.cos(phase) * self.magnitude)
        s = rnd_table(np.sin(phase) * self.magnitude)
        y, half = x.copy(), self.width // 2
        # The products are rounded too: the reference multiplies and adds in the type of x.
        first = slice(0, self.width, 2) if interleaved else slice(0, half)
        second = slice(1, self.width, 2) if interleaved else slice(half, self.width)
        y[..., first] = rnd(rnd(x[..., first] * c) - rnd(x[..., second] * s))
        y[..., second] = rnd(rnd(x[..., second] * c) + rnd(x[..., first] * s))
        return y


def route_in_groups(scores, bias, n_group, topk_group, top_k):
    """Ling's choice of experts -> (ids, their weights before any scaling, choice).

    With a bias a group counts as the sum of its two best and the others drop out; without one it
    counts as its best, and the experts of other groups keep the score 0.
    """
    select = scores if bias is None else scores + bias
    weights = scores
    choice = {"experts": select}
    if n_group > 0 or topk_group > 0:
        grouped = select.reshape(n_group, -1)
        best = np.sort(grouped, 1)[:, ::-1]
        group_score = best[:, 0] if bias is None else best[:, :2].sum(1)
        kept = np.argsort(-group_score, kind="stable")[:topk_group]
        mask = np.isin(np.arange(n_group), kept)[:, None]
        select = np.where(mask, grouped, 0.0 if bias is None else -np.inf).reshape(-1)
        if bias is None:
            weights = select
        choice["groups"], choice["kept"] = group_score, kept
    ids = np.argsort(-select, kind="stable")[:top_k]
    choice["select"], choice["ids"] = select, ids
    return ids, weights[ids], choice


class Base:
    """Products with the tensors of a checkpoint, rounded as the mode says."""

    def __init__(self, tensors, mode):
        self.w = tensors
        self.mode = mode
        self.rnd = MODES[mode]

    def linear(self, x, name):
        y = self.w[name + ".weight"] @ x
        if name + ".bias" in self.w:
            y = y + self.w[name + ".bias"]
        return self.rnd(y)

    def gated(self, x, gate, up, down, activation=silu):
        gate, up = self.linear(x, gate), self.linear(x, up)
        return self.linear(self.rnd(self.rnd(activation(gate)) * up), down)

    def swiglu(self, x, prefix):
        return self.gated(x, prefix + "gate_proj", prefix + "up_proj", prefix + "down_proj")
