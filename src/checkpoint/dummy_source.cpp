// Random weights for --load-format dummy. Speed matters: a stack of published width has tens of
// gigabytes. A value is one of 4,096 from a table (8 KiB of bf16, which stays in the L1 cache),
// chosen by 12 bits of a counter-based hash, four values a hash.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <mutex>

#include "base/random.h"
#include "checkpoint/weights.h"
#include "formats/fp8/e4m3.h"

namespace sluice {
namespace {

constexpr int kTableSize = 4096;

// Roughly normal values with mean exactly 0 (each comes with both signs) and variance 1. The table
// is the same for every seed; no libm but a square root, so it is the same on every machine.
const std::array<float, kTableSize>& NormalTable() {
  static const std::array<float, kTableSize> table = [] {
    std::array<float, kTableSize> t;
    SplitMix64 random(1);
    double squares = 0;
    for (int i = 0; i < kTableSize; i += 2) {
      t[i] = random.Normal();
      t[i + 1] = -t[i];
      squares += 2.0 * t[i] * t[i];
    }
    const double scale = 1 / std::sqrt(squares / kTableSize);
    for (float& x : t) x = static_cast<float>(x * scale);
    return t;
  }();
  return table;
}

// FNV-1a; std::hash may differ between libraries.
uint64_t HashName(std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325ull;
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return hash;
}

// Output number `counter` of splitmix64 started at `stream`, which is random access.
inline uint64_t HashAt(uint64_t stream, uint64_t counter) {
  uint64_t z = stream + (counter + 1) * 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

template <class T>
void FillFromTable(uint64_t stream, const std::array<T, kTableSize>& table, int64_t count, T* out) {
  constexpr uint64_t kMask = kTableSize - 1;
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    const uint64_t hash = HashAt(stream, static_cast<uint64_t>(i / 4));
    out[i] = table[hash & kMask];
    out[i + 1] = table[hash >> 16 & kMask];
    out[i + 2] = table[hash >> 32 & kMask];
    out[i + 3] = table[hash >> 48 & kMask];
  }
  for (const uint64_t hash = HashAt(stream, static_cast<uint64_t>(i / 4)); i < count; ++i)
    out[i] = table[hash >> (16 * (i % 4)) & kMask];
}

template <class T>
T Convert(float x) {
  if constexpr (std::is_same_v<T, float>)
    return x;
  else if constexpr (std::is_same_v<T, uint8_t>)
    return FloatToE4M3(x);
  else
    return ToBf16(x);
}

class FromSeed : public WeightSource {
 public:
  FromSeed(uint64_t seed, std::optional<QuantizationConfig> quantization)
      : seed_(seed), quantization_(std::move(quantization)) {}

  std::optional<TensorInfo> Find(const WeightRow& row) const override {
    if (!row.required) return {};
    const DType dtype = DTypeOf(row);
    uint64_t bytes = static_cast<uint64_t>(DTypeBytes(dtype));
    for (int64_t dim : row.shape) bytes *= static_cast<uint64_t>(dim);
    return TensorInfo{row.name, dtype, row.shape, 0, 0, bytes};
  }

  Status Check(std::span<const WeightRow> rows, const IgnoreName&) const override {
    for (const WeightRow& row : rows)
      if (row.required && !row.dtypes.Has(DTypeOf(row)))
        return Error(Code::kUnsupported,
                     "dummy weights of this model are BF16 or F32, {} accepts only {}", row.name,
                     row.dtypes.Names());
    return {};
  }

  Status Visit(const WeightRow& row, std::vector<std::byte>& scratch,
               const std::function<Status(const TensorData&)>& place) const override {
    const DType dtype = DTypeOf(row);
    TensorData data{row.name, dtype, row.shape, nullptr};
    const size_t bytes = static_cast<size_t>(data.bytes());
    if (scratch.size() < bytes) scratch.resize(bytes);
    data.data = scratch.data();
    if (dtype == DType::kF8E4M3)
      Fill(row, data.count(), reinterpret_cast<uint8_t*>(scratch.data()));
    else if (dtype == DType::kBf16)
      Fill(row, data.count(), reinterpret_cast<Bf16*>(scratch.data()));
    else
      Fill(row, data.count(), reinterpret_cast<float*>(scratch.data()));
    Status status = place(data);
    if (status.ok()) return status;
    return Status(status.code(), fmt::format("{}: {}", row.name, status.message()), status.param());
  }

  Status Finish() const override { return {}; }

 private:
  DType DTypeOf(const WeightRow& row) const {
    if (quantization_ && row.dtypes.Has(DType::kF8E4M3) && quantization_->Quantizes(row.name))
      return DType::kF8E4M3;
    return row.dtypes.Has(DType::kBf16) ? DType::kBf16 : DType::kF32;
  }

  template <class T>
  void Fill(const WeightRow& row, int64_t count, T* out) const {
    if (row.dummy.kind == DummyInit::Kind::kNormal) {
      FillFromTable(HashAt(seed_, HashName(row.name)), Table<T>(row.dummy.value), count, out);
      return;
    }
    std::fill_n(out, count, Convert<T>(row.dummy.value));
  }

  // The table for one standard deviation; models use a handful of them. Nodes of a map do not move.
  template <class T>
  const std::array<T, kTableSize>& Table(float std) const {
    std::lock_guard lock(mutex_);
    auto& tables = std::get<std::map<float, std::array<T, kTableSize>>>(tables_);
    const auto [at, is_new] = tables.try_emplace(std);
    if (is_new)
      for (int i = 0; i < kTableSize; ++i) at->second[i] = Convert<T>(NormalTable()[i] * std);
    return at->second;
  }

  const uint64_t seed_;
  const std::optional<QuantizationConfig> quantization_;
  mutable std::mutex mutex_;
  mutable std::tuple<std::map<float, std::array<uint8_t, kTableSize>>,
                     std::map<float, std::array<Bf16, kTableSize>>,
                     std::map<float, std::array<float, kTableSize>>>
      tables_;
};

}  // namespace

std::unique_ptr<WeightSource> DummySource(uint64_t seed,
                                          std::optional<QuantizationConfig> quantization) {
  return std::make_unique<FromSeed>(seed, std::move(quantization));
}

}  // namespace sluice
