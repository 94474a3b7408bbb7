// Arbitrary text as config.json, read with every getter. Nothing may crash, and no number that
// comes out may be outside the range that was asked for. Its quantisation is read too.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string_view>

#include "checkpoint/json_config.h"
#include "checkpoint/quantization.h"

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

void ReadAll(const sluice::JsonObject& object, int depth) {
  for (const std::string& key : object.Keys()) {
    if (const auto i = object.Int(key, -7, 4096); i.ok() && (*i < -7 || *i > 4096)) std::abort();
    if (const auto d = object.Double(key, -kInf, kInf); d.ok() && !std::isfinite(*d)) std::abort();
    if (const auto list = object.Ints(key, 0, 9); list.ok())
      for (int64_t i : *list)
        if (i < 0 || i > 9) std::abort();
    (void)object.Bool(key).ok();
    (void)object.String(key).ok();
    (void)object.Doubles(key, 0, 1).ok();
    (void)object.Strings(key).ok();
    if (object.Contradiction(key, "x").message().size() >
        2000 + object.source().size() + key.size())
      std::abort();
    if (const auto inner = object.Object(key); inner.ok() && depth < 4) ReadAll(*inner, depth + 1);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto object = sluice::JsonObject::Parse(text, "config.json");
  if (!object.ok()) return 0;
  ReadAll(*object, 0);
  ReadAll(object->WithOverrides(*object), 0);
  const auto quantization = sluice::QuantizationConfig::Read(*object);
  if (quantization.ok() && quantization->has_value())
    (void)(*quantization)->Quantizes("model.layers.3.mlp.gate.weight");
  return 0;
}
