// Keys of config.json and names of tensors that Qwen3 and Qwen3-MoE share.
#pragma once

#include <string>

#include "models/blocks/grouped_attention.h"
#include "models/config_fields.h"

namespace sluice {

/// What every family reads, and refusals of what these two have and no release uses.
void ReadQwen3(FieldReader& read, Arithmetic arithmetic, std::string model_type,
               DecoderConfig& config);

/// Attention of every layer: normed heads, rope over the whole head.
GroupedAttentionConfig ReadQwen3Attention(FieldReader& read, const DecoderConfig& config);

extern const GroupedAttentionNames kQwen3AttentionNames;

}  // namespace sluice
