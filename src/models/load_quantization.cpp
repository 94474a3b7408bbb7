#include "models/load_quantization.h"

namespace sluice {

Result<WeightLayout> LayoutOf(const QuantizationOptions& options) {
  if (options.format == "none") return WeightLayout();
  if (options.format == "fp8") return WeightLayout{WeightFormat::kFp8E4M3};
  if (options.format == "int8") return WeightLayout{WeightFormat::kInt8};
  if (options.format != "int4")
    return ParamError(Code::kInvalidArgument, "quantization",
                      "quantization is {}, allowed are none, fp8, int8, int4",
                      Quoted(options.format));
  const int64_t group = options.group_size;
  if (group != 32 && group != 64 && group != 128)
    return ParamError(Code::kInvalidArgument, "quantization-group-size",
                      "quantization-group-size is {}, allowed are 32, 64, 128", group);
  return WeightLayout{WeightFormat::kInt4, group, options.zero_points};
}

Status AlreadyQuantized(const QuantizationOptions& options, std::string_view found) {
  return ParamError(Code::kInvalidArgument, "quantization",
                    "quantization is {}, but {}: weights that are quantised already are loaded as "
                    "they are, with quantization none",
                    Quoted(options.format), found);
}

}  // namespace sluice
