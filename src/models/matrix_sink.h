// Where the values of one weight matrix go, whatever form they come in: a part of a packed matrix,
// one matrix of an expert, the two forms of kv_b, plain floats.
#pragma once

#include <cstdint>
#include <vector>

#include "base/check.h"
#include "formats/packed_matrix.h"
#include "kernels/mla/mla.h"
#include "kernels/moe/moe.h"

namespace sluice {

/// One [outputs, inputs] matrix of a checkpoint. Called while the model loads, from any lane.
class MatrixSink {
 public:
  virtual ~MatrixSink() = default;
  virtual void Pack(View<const Bf16, 2> rows) const = 0;
  /// Rounded where bfloat16 is what is kept.
  virtual void Pack(View<const float, 2> rows) const = 0;
  /// fp8 codes and their scales ([ceil(outputs / outputs_per_scale), scale blocks]), in either
  /// order and perhaps at the same time. Only where the memory behind has been allocated as fp8.
  virtual void PackCodes(View<const uint8_t, 2>) const { CHECK(!"this matrix is never fp8"); }
  virtual void SetScales(View<const float, 2>, int64_t) const {
    CHECK(!"this matrix is never fp8");
  }
};

/// Rows [begin, begin + outputs) of a packed matrix.
class PackedPart final : public MatrixSink {
 public:
  PackedPart(PackedMatrix* target, int64_t begin, int64_t outputs)
      : target_(target), begin_(begin), outputs_(outputs) {}
  void Pack(View<const Bf16, 2> rows) const override { target_->Pack(begin_, rows); }
  void Pack(View<const float, 2> rows) const override { target_->Pack(begin_, rows); }
  void PackCodes(View<const uint8_t, 2> rows) const override { target_->PackCodes(begin_, rows); }
  void SetScales(View<const float, 2> scales, int64_t outputs_per_scale) const override {
    target_->SetScales(begin_, outputs_, scales, outputs_per_scale);
  }

 private:
  PackedMatrix* target_;
  int64_t begin_, outputs_;
};

enum class ExpertMatrix { kGate, kUp, kDown };

template <ExpertMatrix which>
class ExpertPart final : public MatrixSink {
 public:
  explicit ExpertPart(ExpertWeights* target) : target_(target) {}
  void Pack(View<const Bf16, 2> rows) const override { PackRows(rows); }
  void Pack(View<const float, 2> rows) const override { PackRows(rows); }
  void PackCodes(View<const uint8_t, 2> rows) const override {
    if constexpr (which == ExpertMatrix::kGate) target_->PackGateCodes(rows);
    if constexpr (which == ExpertMatrix::kUp) target_->PackUpCodes(rows);
    if constexpr (which == ExpertMatrix::kDown) target_->PackDownCodes(rows);
  }
  void SetScales(View<const float, 2> scales, int64_t outputs_per_scale) const override {
    if constexpr (which == ExpertMatrix::kGate) target_->SetGateScales(scales, outputs_per_scale);
    if constexpr (which == ExpertMatrix::kUp) target_->SetUpScales(scales, outputs_per_scale);
    if constexpr (which == ExpertMatrix::kDown) target_->SetDownScales(scales, outputs_per_scale);
  }

 private:
  template <class T>
  void PackRows(View<const T, 2> rows) const {
    if constexpr (which == ExpertMatrix::kGate) target_->PackGate(rows);
    if constexpr (which == ExpertMatrix::kUp) target_->PackUp(rows);
    if constexpr (which == ExpertMatrix::kDown) target_->PackDown(rows);
  }

  ExpertWeights* target_;
};

/// kv_b, which is kept in two bfloat16 forms.
class LatentPart final : public MatrixSink {
 public:
  explicit LatentPart(MlaWeights* target) : target_(target) {}
  void Pack(View<const Bf16, 2> rows) const override { target_->Pack(rows); }
  void Pack(View<const float, 2> rows) const override { target_->Pack(rows); }

 private:
  MlaWeights* target_;
};

/// A router gate: floats as they are.
class FloatPart final : public MatrixSink {
 public:
  explicit FloatPart(std::vector<float>* target) : target_(target) {}
  void Pack(View<const Bf16, 2> rows) const override {
    Copy(rows, [](Bf16 x) { return ToFloat(x); });
  }
  void Pack(View<const float, 2> rows) const override {
    Copy(rows, [](float x) { return x; });
  }

 private:
  template <class T, class Convert>
  void Copy(View<const T, 2> rows, Convert&& convert) const {
    target_->clear();
    target_->reserve(static_cast<size_t>(rows.dim(0) * rows.dim(1)));
    for (int64_t r = 0; r < rows.dim(0); ++r)
      for (int64_t c = 0; c < rows.dim(1); ++c) target_->push_back(convert(rows(r, c)));
  }

  std::vector<float>* target_;
};

}  // namespace sluice
