"""Fp8 checkpoints: the code e4m3 (fn: no infinities, 448 at most), and scales per output channel or
per block of 128 x 128."""

import numpy as np

BLOCK = 128

# Value of each code: sign, 4 bits of exponent with bias 7, 3 of mantissa; exponent 0 is subnormal and
# only 0x7f and 0xff are no number.
CODES = np.array([
    (-1.0 if code & 0x80 else 1.0) * (np.nan if code & 0x7F == 0x7F else
                                      (code & 7) * 2.0 ** -9 if code & 0x78 == 0 else
                                      (8 + (code & 7)) * 2.0 ** ((code >> 3 & 15) - 10))
    for code in range(256)])
POSITIVE = CODES[:0x7F]


def decode(codes):
    return CODES[codes]


def encode(x):
    """The nearest code, ties to even; beyond 448 the largest."""
    magnitude = np.minimum(np.abs(x), 448.0)
    above = np.searchsorted(POSITIVE, magnitude).clip(1, 126)
    low, high = POSITIVE[above - 1], POSITIVE[above]
    up = (magnitude - low > high - magnitude) | \
        ((magnitude - low == high - magnitude) & (above % 2 == 0))
    return (np.where(up, above, above - 1) | np.where(np.signbit(x), 0x80, 0)).astype(np.uint8)


def expand(scale, shape):
    """Scales of blocks as one for each entry of a matrix."""
    rows, columns = (np.arange(n) // BLOCK for n in shape)
    return scale[rows][:, columns]


def dequantised(tensors):
    """tensors: name -> (values, dtype). Replaces codes and scales by the products, as name -> values.

    A matrix is quantised if it is stored as codes and has a scale; the scale of a channel is [out],
    [out, 1] or one for all, `weight_scale_inv` (which multiplies, too) that of blocks.
    """
    out = {}
    for name, (values, dtype) in tensors.items():
        if name.endswith((".weight_scale", ".weight_scale_inv")):
            continue
        if dtype == "F8_E4M3":
            if name + "_scale_inv" in tensors:
                scale = expand(tensors[name + "_scale_inv"][0], values.shape)
            else:
                scale = tensors[name + "_scale"][0].reshape(-1, 1)
            values = values * scale
        out[name] = values
    return out
