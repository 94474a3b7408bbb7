#include "cli/bench/cuda_contenders.h"

#include <algorithm>
#include <charconv>

namespace sluice {
namespace {

using moe_sm90::Element;
using moe_sm90::FusedOptions;

Result<bool> IsPlain(const std::string& backend) {
  if (backend == "epmoe") return true;
  if (backend == "auto" || backend == "fused_v2") return false;
  return ParamError(Code::kInvalidArgument, "moe-backend",
                    "--moe-backend has {}, on the GPU there are auto, epmoe, fused_v2",
                    Quoted(backend));
}

Result<bool> WithShared(const std::string& experts) {
  if (experts == "all") return true;
  if (experts == "routed") return false;
  return ParamError(Code::kInvalidArgument, "experts", "--experts has {}, allowed are all, routed",
                    Quoted(experts));
}

// What a combination of parts, ranks and back end is lacking; "" if it exists.
std::string Missing(const CudaContender& c, const std::string& parts, const MoeShape& shape) {
  if (c.plain && parts != "none") return "epmoe has no parts to do without";
  if (c.plain && c.ranks > 1) return "epmoe has one rank";
  if (!c.options.shared_inside && (shape.shared == 0 || !c.shared))
    return "ablate has shared, and the layer has no shared expert";
  if (!c.options.shared_inside && c.ranks > 1) return "ablate has shared, which needs one rank";
  if (shape.experts % c.ranks != 0)
    return fmt::format("{} ranks do not divide {} experts", c.ranks, shape.experts);
  return {};
}

// "lag:400" and the like into the option of that name; false: something else.
bool ReadSetting(std::string_view part, FusedOptions& options) {
  const struct {
    std::string_view name;
    int* value;
  } settings[] = {
      {"lag:", &options.lag_tasks}, {"ring:", &options.ring_units}, {"ctas:", &options.ctas}};
  for (const auto& [name, value] : settings) {
    if (!part.starts_with(name)) continue;
    const char* const end = part.data() + part.size();
    const auto [at, error] = std::from_chars(part.data() + name.size(), end, *value);
    return error == std::errc() && at == end && *value > 0;
  }
  return false;
}

}  // namespace

Result<FusedOptions> ReadCudaAblation(const std::string& text) {
  FusedOptions options;
  if (text == "none") return options;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('+', begin), text.size());
    const std::string_view part = std::string_view(text).substr(begin, end - begin);
    if (part == "shared")
      options.shared_inside = false;
    else if (part == "prefetch")
      options.prefetch = false;
    else if (part == "residency")
      options.residency = false;
    else if (part == "overlap")
      options.overlap = false;
    else if (part == "instrumented")
      options.instrumented = true;
    else if (!ReadSetting(part, options))
      return ParamError(Code::kInvalidArgument, "ablate",
                        "--ablate has {}, allowed on the GPU are none, or shared, prefetch, "
                        "residency, overlap, instrumented, lag:N, ring:N, ctas:N, joined by +",
                        Quoted(part));
    begin = end + 1;
  }
  return options;
}

Status CheckCudaOptions(const BenchMoeOptions& o) {
  const struct {
    const char* flag;
    bool given;
  } of_the_cpu[] = {{"tune", o.tune},
                    {"tune-file", !o.tune_path.empty()},
                    {"threads", o.threads != 0},
                    {"cpu-isa", o.cpu_isa != "auto"},
                    {"activation-quantization", o.activations != std::vector<std::string>{"auto"}}};
  for (const auto& [flag, given] : of_the_cpu)
    if (given)
      return ParamError(Code::kInvalidArgument, flag, "--{} has no meaning with --device cuda",
                        flag);
  constexpr int64_t kTokensMax = 1 << 17;  // of moe_sm90::CheckShape
  for (const int64_t tokens : o.tokens)
    if (tokens < 1 || tokens > kTokensMax)
      return ParamError(Code::kInvalidArgument, "tokens",
                        "--tokens has {}, allowed on the GPU are 1 to {}", tokens, kTokensMax);
  return ReadCudaFormats(o).status();
}

Result<std::vector<Element>> ReadCudaFormats(const BenchMoeOptions& options) {
  std::vector<Element> out;
  for (const std::string& format : options.formats) {
    if (format != "bf16" && format != "fp8")
      return ParamError(Code::kUnsupported, "format",
                        "--format has {}, on the GPU there are bf16, fp8 (a scale an output)",
                        Quoted(format));
    const Element element = format == "fp8" ? Element::kFp8 : Element::kBf16;
    if (std::ranges::find(out, element) == out.end()) out.push_back(element);
  }
  return out;
}

Result<std::vector<CudaContender>> ReadCudaContenders(const BenchMoeOptions& options,
                                                      const MoeShape& shape) {
  std::vector<CudaContender> out;
  std::string refused;
  for (const std::string& routing : options.routings)
    for (const std::string& experts : options.experts)
      for (const int ranks : options.ranks)
        for (const std::string& parts : options.ablate)
          for (const std::string& backend : options.backends) {
            CudaContender c{.ranks = ranks};
            TRY(c.routing, ParseRouting(routing));
            TRY(c.shared, WithShared(experts));
            TRY(c.options, ReadCudaAblation(parts));
            TRY(c.plain, IsPlain(backend));
            if (const std::string missing = Missing(c, parts, shape); !missing.empty()) {
              refused = missing;
              continue;
            }
            if (!c.shared && shape.shared == 0 && options.experts.size() > 1) continue;  // the same
            c.name = backend + (parts == "none" ? "" : "-" + parts);
            if (options.ranks.size() > 1)
              c.name += fmt::format(" {} rank{}", ranks, ranks > 1 ? "s" : "");
            if (options.experts.size() > 1) c.name += " " + experts;
            if (options.routings.size() > 1) c.name += " " + routing;
            out.push_back(std::move(c));
          }
  if (out.empty())
    return ParamError(Code::kInvalidArgument, "ablate", "nothing to measure: {}", refused);
  if (options.router)
    out.push_back({.name = "router", .router = true, .routing = out.front().routing});
  return out;
}

}  // namespace sluice
