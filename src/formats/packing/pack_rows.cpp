#include "formats/packing/pack_rows.h"

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/machine.h"
#include "formats/fp8/e4m3.h"
#include "formats/int8/quantize.h"

namespace sluice {
namespace {

constexpr const PackKernels* kKernels[] = {&kPackAvx512, &kPackAvx2};

// Of a row's element in a panel: its bits, and the inputs that the 2 or 4 bytes of an output in a
// line hold.
struct Geometry {
  int64_t lane_bytes, line_inputs;
};
constexpr Geometry kGeometry[kWeightFormats] = {{4, 2}, {2, 2}, {4, 4}, {4, 8}};

template <class T>
constexpr RowElement kElement = RowElement::kCode;
template <>
constexpr RowElement kElement<Bf16> = RowElement::kBf16;
template <>
constexpr RowElement kElement<float> = RowElement::kFloat;

// What kernels write where a piece does not fill it: rows of a panel's half are missing, or inputs.
struct Scratch {
  alignas(64) std::byte lines[kPackChunk * kPanelOutputs * sizeof(Bf16)];
  alignas(64) Bf16 scales[kPackChunk / kPanelInputs * kPanelOutputs];
  uint8_t zero_points[kPackChunk / kPanelInputs * kPanelOutputs];
};

// Packs a matrix panel by panel.
template <class T>
class Packer {
 public:
  Packer(const PackTarget& to, View<const T, 2> rows, const PackKernels& kernels)
      : to_(to), rows_(rows), kernels_(kernels), geometry_(kGeometry[static_cast<int>(to.format)]) {
    run_ = kernels.pack[static_cast<int>(to.format)][static_cast<int>(kElement<T>)];
    CHECK(run_);
    chunk_.group = kCodes || to.format != WeightFormat::kInt4 ? 0 : to.int4.group;
  }

  // Rows [row, row + count) become outputs from `output` on, all of one panel.
  void Pack(int64_t row, int64_t output, int64_t count) {
    panel_ = output / kPanelOutputs;
    first_ = output % kPanelOutputs;
    count_ = count;
    // Kernels see whole halves: a missing row is one that is there.
    half_begin_ = first_ / kHalfPanelOutputs * kHalfPanelOutputs;
    const int64_t half_end =
        (first_ + count + kHalfPanelOutputs - 1) / kHalfPanelOutputs * kHalfPanelOutputs;
    chunk_.outputs = half_end - half_begin_;
    whole_ = count == chunk_.outputs;
    for (int64_t i = 0; i < chunk_.outputs; ++i)
      from_[i] = rows_.row(row + std::clamp<int64_t>(half_begin_ + i - first_, 0, count - 1));
    if (to_.format == WeightFormat::kFp8E4M3 || to_.format == WeightFormat::kInt8) SetScales();
    // Behind the last rows of a call, too: there a file has the rows of the next one.
    next_ = rows_.data() + (row + count) * rows_.stride(0);
    const int64_t inputs = rows_.dim(1), unit = std::max(chunk_.group, kPackUnit);
    const int64_t whole = inputs / unit * unit;
    for (int64_t i = 0; i < whole; i += kPackChunk) PackInputs(i, std::min(kPackChunk, whole - i));
    if (whole < inputs) PackTail(whole, unit);
  }

 private:
  static constexpr bool kCodes = kElement<T> == RowElement::kCode;

  // The scales of whole rows.
  void SetScales() {
    if constexpr (!kCodes) {
      const auto largest = kernels_.largest[static_cast<int>(kElement<T>)];

      for (int64_t i = 0; i < chunk_.outputs; ++i) {
        const int64_t lane = half_begin_ + i;
        if (lane >= first_ && lane < first_ + count_) {
          const float row_max = largest(from_[i], rows_.dim(1));
          const float scale =
              to_.format == WeightFormat::kInt8 ? Int8Scale(row_max) : row_max / kE4M3Max;
          to_.scales[panel_ * kPanelOutputs + lane] = scale;
          divisors_[i] = scale == 0 ? 1 : scale;
        } else {
          divisors_[i] = 1;
        }
      }
      chunk_.divisors = divisors_;
    }
  }

  int64_t LineBytes() const { return kPanelOutputs * geometry_.lane_bytes; }
  std::byte* Lines(int64_t input) const {
    return to_.panels + panel_ * to_.panel_bytes + input / geometry_.line_inputs * LineBytes();
  }

  // Inputs [begin, begin + count) where whole units of them are left.
  void PackInputs(int64_t begin, int64_t count) {
    const void* rows[kPanelOutputs];
    for (int64_t i = 0; i < chunk_.outputs; ++i) rows[i] = from_[i] + begin;
    chunk_.rows = rows;
    chunk_.inputs = count;
    chunk_.ahead = reinterpret_cast<const char*>(next_ + begin * chunk_.outputs);
    if (whole_)
      Run(Lines(begin), ScaleAt(begin));
    else
      PackByScratch(begin, count);
  }

  // The rest of the inputs, with zeros up to a unit.
  void PackTail(int64_t begin, int64_t unit) {
    alignas(64) T tail[kPanelOutputs * kScaleInputsMax] = {};
    const void* rows[kPanelOutputs];
    for (int64_t i = 0; i < chunk_.outputs; ++i) {
      rows[i] = tail + i * unit;
      std::memcpy(tail + i * unit, from_[i] + begin,
                  static_cast<size_t>(rows_.dim(1) - begin) * sizeof(T));
    }
    chunk_.rows = rows;
    chunk_.inputs = unit;
    PackByScratch(begin, rows_.dim(1) - begin);
  }

  int64_t ScaleAt(int64_t begin) const {
    return chunk_.group ? (panel_ * to_.int4.blocks + begin / chunk_.group) * kPanelOutputs : 0;
  }

  // Into lines and scales of a whole panel.
  void RunInto(std::byte* lines, Bf16* scales, uint8_t* zero_points) {
    chunk_.to = lines + half_begin_ * geometry_.lane_bytes;
    chunk_.scales = scales + half_begin_;
    chunk_.zero_points = to_.int4.zero_points ? zero_points + half_begin_ : nullptr;
    run_(chunk_);
  }
  void Run(std::byte* lines, int64_t scale) {
    RunInto(lines, to_.int4.scales + scale, to_.int4.zero_points + scale);
  }

  // Copies what belongs to `inputs` inputs of the rows that are there.
  void PackByScratch(int64_t begin, int64_t inputs) {
    Scratch scratch;
    RunInto(scratch.lines, scratch.scales, scratch.zero_points);
    const int64_t padded = (inputs + kPanelInputs - 1) / kPanelInputs * kPanelInputs;
    const int64_t lane = first_ * geometry_.lane_bytes;
    for (int64_t line = 0; line < padded / geometry_.line_inputs; ++line)
      std::memcpy(Lines(begin) + line * LineBytes() + lane,
                  scratch.lines + line * LineBytes() + lane,
                  static_cast<size_t>(count_ * geometry_.lane_bytes));
    if (chunk_.group == 0) return;
    for (int64_t g = 0; g < (inputs + chunk_.group - 1) / chunk_.group; ++g) {
      const int64_t from = g * kPanelOutputs + first_, at = ScaleAt(begin) + from;
      std::copy_n(scratch.scales + from, count_, to_.int4.scales + at);
      if (to_.int4.zero_points)
        std::copy_n(scratch.zero_points + from, count_, to_.int4.zero_points + at);
    }
  }

  const PackTarget& to_;
  const View<const T, 2> rows_;
  const PackKernels& kernels_;
  const Geometry geometry_;
  void (*run_)(const PackChunk&);
  // Of the panel that is being packed:
  int64_t panel_ = 0, first_ = 0, count_ = 0;  // outputs [first_, first_ + count_) of it
  int64_t half_begin_ = 0;                     // the first output that kernels see
  bool whole_ = false;                         // they see no other outputs
  const T* from_[kPanelOutputs];
  const T* next_ = nullptr;  // behind the rows
  float divisors_[kPanelOutputs];
  PackChunk chunk_ = {};
};

template <class T>
void PackAll(const PackTarget& to, int64_t output_begin, View<const T, 2> rows,
             const PackKernels& kernels) {
  if (rows.dim(1) == 0) return;
  Packer<T> packer(to, rows, kernels);
  int64_t count;
  for (int64_t r = 0; r < rows.dim(0); r += count) {
    const int64_t output = output_begin + r;
    count = std::min(kPanelOutputs - output % kPanelOutputs, rows.dim(0) - r);
    packer.Pack(r, output, count);
  }
  _mm_sfence();  // kernels store past the caches: before any other thread reads
}

}  // namespace

std::span<const PackKernels* const> AllPackKernels() { return kKernels; }

const PackKernels& BestPackKernels() {
  for (const PackKernels* kernels : kKernels)
    if (ThisMachine().Has(kernels->needs)) return *kernels;
  return *kKernels[std::size(kKernels) - 1];
}

void PackRows(const PackTarget& to, int64_t output_begin, View<const Bf16, 2> rows,
              const PackKernels& kernels) {
  PackAll(to, output_begin, rows, kernels);
}
void PackRows(const PackTarget& to, int64_t output_begin, View<const float, 2> rows,
              const PackKernels& kernels) {
  PackAll(to, output_begin, rows, kernels);
}
void PackRows(const PackTarget& to, int64_t output_begin, View<const uint8_t, 2> rows,
              const PackKernels& kernels) {
  PackAll(to, output_begin, rows, kernels);
}

}  // namespace sluice
