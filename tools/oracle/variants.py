"""The table of random checkpoints that between them turn every switch of config.json."""

import zlib

import variants_fp8
import variants_grouped
import variants_hybrid

HYBRID, GROUPED, FP8 = variants_hybrid.VARIANTS, variants_grouped.VARIANTS, variants_fp8.VARIANTS
NAMES = [*HYBRID, *GROUPED, *FP8]


def about(name):
    return {**HYBRID, **GROUPED, **FP8}[name][0]


def storage(name):
    return {**HYBRID, **GROUPED, **FP8}[name][-1]


def seed_of(name):
    return list(HYBRID).index(name) if name in HYBRID else zlib.crc32(name.encode())


def tensors_of(name, seed):
    """-> (config.json, name -> (values as stored, dtype))"""
    if name in HYBRID:
        return variants_hybrid.tensors_of(*HYBRID[name][1:], seed)
    if name in GROUPED:
        return variants_grouped.tensors_of(*GROUPED[name][1:], seed)
    return variants_fp8.tensors_of(*FP8[name][1:], seed)
