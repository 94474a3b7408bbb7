"""Which implementation computes a checkpoint."""

import bailing_hybrid
import bailing_v2
import grok
import qwen3

FAMILIES = {
    "BailingMoeV2_5ForCausalLM": bailing_hybrid,
    "BailingMoeV2ForCausalLM": bailing_v2,
    "Qwen3MoeForCausalLM": qwen3,
    "Qwen3ForCausalLM": qwen3,
    "Grok1ForCausalLM": grok,
}


def family_of(config):
    return FAMILIES[config["architectures"][0]]


def model_of(config, tensors, mode):
    return family_of(config).Model(config, tensors, mode)
