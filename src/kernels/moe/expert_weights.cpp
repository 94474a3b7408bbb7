#include <utility>

#include "kernels/moe/moe.h"

namespace sluice {
namespace {

// Gate and up columns of one panel: 16 gate | 16 up, so that act(gate) * up needs no other panel.
constexpr int64_t kHalfPanel = kPanelOutputs / 2;

int64_t GateUpOutputs(int64_t intermediate) {
  return (intermediate + kHalfPanel - 1) / kHalfPanel * kPanelOutputs;
}

// Rows r of gate or up in the pieces that lie together: function(output, r, count).
template <class F>
void ForEachHalf(int64_t rows, int64_t half_begin, F&& function) {
  for (int64_t r = 0; r < rows; r += kHalfPanel)
    function(r * 2 + half_begin, r, std::min(kHalfPanel, rows - r));
}

template <class T>
void PackHalves(PackedMatrix& gate_up, View<const T, 2> rows, int64_t half_begin) {
  ForEachHalf(rows.dim(0), half_begin, [&](int64_t output, int64_t r, int64_t count) {
    gate_up.Pack(output, rows.Rows(r, count));
  });
}

void PackCodeHalves(PackedMatrix& gate_up, View<const uint8_t, 2> rows, int64_t half_begin) {
  ForEachHalf(rows.dim(0), half_begin, [&](int64_t output, int64_t r, int64_t count) {
    gate_up.PackCodes(output, rows.Rows(r, count));
  });
}

void SetScaleHalves(PackedMatrix& gate_up, int64_t rows, View<const float, 2> scales,
                    int64_t outputs_per_scale, int64_t half_begin) {
  CHECK_EQ(scales.dim(0), (rows + outputs_per_scale - 1) / outputs_per_scale);
  for (int64_t r = 0; r < rows; ++r)
    gate_up.SetScales(r / kHalfPanel * kPanelOutputs + half_begin + r % kHalfPanel, 1,
                      scales.Rows(r / outputs_per_scale, 1), 1);
}

}  // namespace

uint64_t ExpertWeights::Bytes(WeightLayout layout, int64_t hidden, int64_t intermediate) {
  return PackedMatrix::Bytes(layout, GateUpOutputs(intermediate), hidden) +
         PackedMatrix::Bytes(layout, hidden, intermediate);
}

Result<ExpertWeights> ExpertWeights::Allocate(WeightLayout layout, int64_t hidden,
                                              int64_t intermediate) {
  TRY(auto layer, AllocateLayer(layout, 1, hidden, intermediate));
  return std::move(layer[0]);
}

Result<std::vector<ExpertWeights>> ExpertWeights::AllocateLayer(WeightLayout layout, int64_t count,
                                                                int64_t hidden,
                                                                int64_t intermediate) {
  CHECK(count > 0 && hidden > 0 && intermediate > 0);
  const int64_t gate_up_outputs = GateUpOutputs(intermediate);
  const uint64_t gate_up_bytes = PackedMatrix::Bytes(layout, gate_up_outputs, hidden);
  const uint64_t expert_bytes = Bytes(layout, hidden, intermediate);
  TRY(Buffer buffer,
      Buffer::Allocate(static_cast<uint64_t>(count) * expert_bytes, "expert weights"));
  const auto shared = std::make_shared<const Buffer>(std::move(buffer));
  std::vector<ExpertWeights> layer(count);
  for (int64_t e = 0; e < count; ++e) {
    const uint64_t begin = static_cast<uint64_t>(e) * expert_bytes;
    layer[e].hidden_ = hidden;
    layer[e].intermediate_ = intermediate;
    layer[e].gate_up_ = PackedMatrix::Inside(shared, begin, layout, gate_up_outputs, hidden);
    layer[e].down_ =
        PackedMatrix::Inside(shared, begin + gate_up_bytes, layout, hidden, intermediate);
  }
  return layer;
}

template <class T>
void ExpertWeights::PackGate(View<const T, 2> rows) {
  CHECK(rows.dim(0) == intermediate_ && rows.dim(1) == hidden_);
  PackHalves(gate_up_, rows, 0);
}

template <class T>
void ExpertWeights::PackUp(View<const T, 2> rows) {
  CHECK(rows.dim(0) == intermediate_ && rows.dim(1) == hidden_);
  PackHalves(gate_up_, rows, kHalfPanel);
}

template <class T>
void ExpertWeights::PackDown(View<const T, 2> rows) {
  CHECK(rows.dim(0) == hidden_ && rows.dim(1) == intermediate_);
  down_.Pack(0, rows);
}

void ExpertWeights::PackGateCodes(View<const uint8_t, 2> rows) {
  CHECK(rows.dim(0) == intermediate_ && rows.dim(1) == hidden_);
  PackCodeHalves(gate_up_, rows, 0);
}

void ExpertWeights::PackUpCodes(View<const uint8_t, 2> rows) {
  CHECK(rows.dim(0) == intermediate_ && rows.dim(1) == hidden_);
  PackCodeHalves(gate_up_, rows, kHalfPanel);
}

void ExpertWeights::PackDownCodes(View<const uint8_t, 2> rows) {
  CHECK(rows.dim(0) == hidden_ && rows.dim(1) == intermediate_);
  down_.PackCodes(0, rows);
}

void ExpertWeights::SetGateScales(View<const float, 2> scales, int64_t outputs_per_scale) {
  SetScaleHalves(gate_up_, intermediate_, scales, outputs_per_scale, 0);
}

void ExpertWeights::SetUpScales(View<const float, 2> scales, int64_t outputs_per_scale) {
  SetScaleHalves(gate_up_, intermediate_, scales, outputs_per_scale, kHalfPanel);
}

void ExpertWeights::SetDownScales(View<const float, 2> scales, int64_t outputs_per_scale) {
  down_.SetScales(0, hidden_, scales, outputs_per_scale);
}

template void ExpertWeights::PackGate(View<const Bf16, 2>);
template void ExpertWeights::PackGate(View<const float, 2>);
template void ExpertWeights::PackUp(View<const Bf16, 2>);
template void ExpertWeights::PackUp(View<const float, 2>);
template void ExpertWeights::PackDown(View<const Bf16, 2>);
template void ExpertWeights::PackDown(View<const float, 2>);

}  // namespace sluice
