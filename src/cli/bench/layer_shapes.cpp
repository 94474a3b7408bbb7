#include "cli/bench/layer_shapes.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "checkpoint/json_config.h"
#include "checkpoint/model_path.h"

namespace sluice {
namespace {

constexpr int64_t kWidthMax = 1 << 20, kExpertsMax = 1 << 16, kHeadsMax = 1 << 12;

// The whole of `text` as a number in [1, max]; 0 if it is not one.
int64_t Number(std::string_view text, int64_t max) {
  int64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && at == end && value >= 1 && value <= max ? value : 0;
}

// The index that `point` in [0, total of the weights) falls on.
int32_t Pick(const std::vector<double>& weights, double point) {
  size_t e = 0;
  while (e + 1 < weights.size() && point >= weights[e]) point -= weights[e++];
  return static_cast<int32_t>(e);
}

bool IsInNumbers(std::string_view text) {
  return text.find('x') != text.npos && text.find_first_not_of("0123456789x") == text.npos;
}

// Nothing if `text` is no shape in numbers.
std::optional<MoeShape> ShapeInNumbers(std::string_view text) {
  MoeShape shape{.name = std::string(text)};
  int64_t* const fields[] = {&shape.hidden, &shape.intermediate, &shape.experts, &shape.top_k,
                             &shape.shared};
  size_t field = 0;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('x', begin), text.size());
    if (field == std::size(fields)) return std::nullopt;
    const int64_t max = field == 2 || field == 3 ? kExpertsMax : kWidthMax;
    *fields[field] = Number(text.substr(begin, end - begin), max);
    if (*fields[field++] == 0) return std::nullopt;
    begin = end + 1;
  }
  if (field < 4 || shape.top_k > shape.experts) return std::nullopt;
  return shape;
}

}  // namespace

Result<MoeShape> ReadMoeShape(std::string_view geometry) {
  if (IsInNumbers(geometry)) {
    if (auto shape = ShapeInNumbers(geometry)) return *std::move(shape);
    return ParamError(Code::kInvalidArgument, "geometry",
                      "--geometry has {}, which is not HIDDENxINTERMEDIATExEXPERTSxTOP_K[xSHARED] "
                      "with widths from 1 to {}, experts from 1 to {} and at most as many a row",
                      Quoted(geometry), kWidthMax, kExpertsMax);
  }
  TRY(const ModelPath model, ResolveModelPath(geometry));
  TRY(const JsonObject config, JsonObject::Read(model.config_path));
  FieldReader read(config);
  MoeShape shape{.name = model.name};
  // Grok's words; its dense layer runs beside the experts as a shared one does.
  const bool grok = read.Has("num_local_experts");
  const char* const experts = grok ? "num_local_experts" : "num_experts";
  if (!read.Has(experts))
    return Error(Code::kUnsupported, "{}: no experts (num_experts is missing)", config.source());
  shape.hidden = read.Int("hidden_size", 1, kWidthMax);
  shape.intermediate = read.Int("moe_intermediate_size", 1, kWidthMax);
  shape.experts = read.Int(experts, 1, kExpertsMax);
  shape.top_k = read.Int("num_experts_per_tok", 1, kExpertsMax);
  const int64_t shared = read.Int("num_shared_experts", 0, 64, 0);
  shape.shared = shared * read.Int("moe_shared_expert_intermediate_size", 1, kWidthMax,
                                   std::max<int64_t>(shape.intermediate, 1));
  if (grok && read.Bool("residual_moe", false))
    shape.shared = read.Int("intermediate_size", 1, kWidthMax);
  if (grok) shape.activation = Activation::kGeluTanh;
  shape.n_group = static_cast<int>(read.Int("n_group", 0, shape.experts, 0));
  shape.topk_group = static_cast<int>(read.Int("topk_group", 0, shape.n_group, 0));
  RETURN_IF_ERROR(read.status());
  if (shape.top_k > shape.experts)
    return config.Contradiction("num_experts_per_tok", "allowed are at most all experts");
  if (shape.n_group > 0 && (shape.experts % shape.n_group != 0 ||
                            shape.experts / shape.n_group * shape.topk_group < shape.top_k))
    return config.Contradiction("n_group",
                                "groups must be of equal size and offer all experts of "
                                "a token");
  return shape;
}

Result<MoeShape> ShareOf(const MoeShape& shape, std::string_view share) {
  const int64_t devices =
      share.starts_with("1/") ? Number(share.substr(2), kExpertsMax) : int64_t{0};
  if (devices == 0)
    return ParamError(Code::kInvalidArgument, "ep-share",
                      "--ep-share is {}, allowed are 1/1, 1/2, ...", Quoted(share));
  if (shape.experts % devices != 0)
    return ParamError(Code::kInvalidArgument, "ep-share",
                      "--ep-share is {}, but {} has {} experts, which it does not divide", share,
                      shape.name, shape.experts);
  MoeShape out = shape;
  out.experts /= devices;
  out.top_k = std::max<int64_t>(shape.top_k / devices, 1);
  return out;
}

Result<std::vector<LinearShape>> ReadLinearShapes(std::string_view geometry) {
  TRY(const ModelPath model, ResolveModelPath(geometry));
  TRY(const JsonObject config, JsonObject::Read(model.config_path));
  FieldReader read(config);
  const int64_t hidden = read.Int("hidden_size", 1, kWidthMax);
  const int64_t intermediate = read.Int("intermediate_size", 1, kWidthMax);
  const int64_t vocabulary = read.Int("vocab_size", 1, kWidthMax);
  const int64_t heads = read.Int("num_attention_heads", 1, kHeadsMax);
  const int64_t kv_heads =
      read.Int("num_key_value_heads", 1, kHeadsMax, std::max<int64_t>(heads, 1));
  const int64_t head_dim = read.Int("head_dim", 1, kHeadsMax,
                                    std::max<int64_t>(hidden / std::max<int64_t>(heads, 1), 1));
  RETURN_IF_ERROR(read.status());
  // Beside latent attention, linear attention, whose gate is as wide as its queries.
  const bool linear = read.Has("kv_lora_rank");
  const LinearShape first = linear
                                ? LinearShape{"q|k|v|gate", 4 * heads * head_dim, hidden}
                                : LinearShape{"q|k|v", (heads + 2 * kv_heads) * head_dim, hidden};
  return std::vector<LinearShape>{first,
                                  {"attention out", hidden, heads * head_dim},
                                  {"dense gate|up", 2 * intermediate, hidden},
                                  {"dense down", hidden, intermediate},
                                  {"lm_head", vocabulary, hidden}};
}

Result<LinearShape> ParseLinearShape(std::string_view text) {
  const size_t cross = text.find('x');
  LinearShape shape{.name = std::string(text)};
  if (cross != text.npos) {
    shape.outputs = Number(text.substr(0, cross), kWidthMax);
    shape.inputs = Number(text.substr(cross + 1), kWidthMax);
  }
  if (shape.outputs == 0 || shape.inputs == 0)
    return ParamError(Code::kInvalidArgument, "shapes",
                      "--shapes: {} is not OUTPUTSxINPUTS with both from 1 to {}", Quoted(text),
                      kWidthMax);
  return shape;
}

Result<Routing> ParseRouting(std::string_view name) {
  if (name == "uniform") return Routing::kUniform;
  if (name == "zipf") return Routing::kZipf;
  if (name == "hot") return Routing::kHot;
  return ParamError(Code::kInvalidArgument, "routing",
                    "--routing is {}, allowed are uniform, zipf, hot", Quoted(name));
}

std::vector<int32_t> DrawExperts(Routing routing, const MoeShape& shape, int64_t tokens,
                                 SplitMix64& random) {
  std::vector<double> popularity(static_cast<size_t>(shape.experts), 1);
  if (routing == Routing::kZipf)
    for (size_t e = 0; e < popularity.size(); ++e) popularity[e] = 1 / static_cast<double>(e + 1);
  double total = 0;
  for (const double p : popularity) total += p;
  std::vector<int32_t> ids;
  ids.reserve(static_cast<size_t>(tokens * shape.top_k));
  for (int64_t t = 0; t < tokens; ++t) {
    const auto row = static_cast<std::ptrdiff_t>(ids.size());
    if (routing == Routing::kHot) ids.push_back(0);
    while (static_cast<int64_t>(ids.size()) - row < shape.top_k) {
      const int32_t id = Pick(popularity, random.Uniform() * total);
      if (std::find(ids.begin() + row, ids.end(), id) == ids.end()) ids.push_back(id);
    }
  }
  return ids;
}

LayerWork MoeWork(const MoeShape& shape, const std::vector<int32_t>& ids, uint64_t expert_bytes,
                  uint64_t shared_bytes) {
  std::vector<bool> active(static_cast<size_t>(shape.experts));
  for (const int32_t id : ids) active[static_cast<size_t>(id)] = true;
  LayerWork work;
  work.active_experts = static_cast<double>(std::count(active.begin(), active.end(), true));
  const auto pairs = static_cast<double>(ids.size());
  const double tokens = pairs / static_cast<double>(shape.top_k);
  const double columns =
      pairs * static_cast<double>(shape.intermediate) + tokens * static_cast<double>(shape.shared);
  work.flop = 2 * 3 * columns * static_cast<double>(shape.hidden);
  work.bytes = work.active_experts * static_cast<double>(expert_bytes) +
               (tokens > 0 ? static_cast<double>(shared_bytes) : 0);
  return work;
}

LayerWork LinearWork(const LinearShape& shape, int64_t rows, uint64_t weight_bytes) {
  return {.flop = 2 * static_cast<double>(rows) * static_cast<double>(shape.outputs) *
                  static_cast<double>(shape.inputs),
          .bytes = static_cast<double>(weight_bytes)};
}

double RooflineShare(const LayerWork& work, double seconds, double flops, double bandwidth) {
  return std::max(work.bytes / bandwidth, work.flop / flops) / seconds;
}

}  // namespace sluice
