#include <utility>

#include "kernels/moe/moe.h"

namespace sluice {
namespace {

// Gate and up columns of one panel: 16 gate | 16 up, so that act(gate) * up needs no other panel.
constexpr int64_t kHalfPanel = kPanelOutputs / 2;

int64_t GateUpOutputs(int64_t intermediate) {
  return (intermediate + kHalfPanel - 1) / kHalfPanel * kPanelOutputs;
}

template <class T>
void PackHalves(PackedMatrix& gate_up, View<const T, 2> rows, int64_t half_begin) {
  for (int64_t r = 0; r < rows.dim(0); r += kHalfPanel)
    gate_up.Pack(r * 2 + half_begin, rows.Rows(r, std::min(kHalfPanel, rows.dim(0) - r)));
}

}  // namespace

Result<ExpertWeights> ExpertWeights::Allocate(int64_t hidden, int64_t intermediate) {
  TRY(auto layer, AllocateLayer(1, hidden, intermediate));
  return std::move(layer[0]);
}

Result<std::vector<ExpertWeights>> ExpertWeights::AllocateLayer(int64_t count, int64_t hidden,
                                                                int64_t intermediate) {
  CHECK(count > 0 && hidden > 0 && intermediate > 0);
  const uint64_t gate_up_bytes = PackedMatrix::Bytes(GateUpOutputs(intermediate), hidden);
  const uint64_t expert_bytes = gate_up_bytes + PackedMatrix::Bytes(hidden, intermediate);
  TRY(Buffer buffer,
      Buffer::Allocate(static_cast<uint64_t>(count) * expert_bytes, "expert weights"));
  const auto shared = std::make_shared<const Buffer>(std::move(buffer));
  std::vector<ExpertWeights> layer(count);
  for (int64_t e = 0; e < count; ++e) {
    const uint64_t begin = static_cast<uint64_t>(e) * expert_bytes;
    layer[e].hidden_ = hidden;
    layer[e].intermediate_ = intermediate;
    layer[e].gate_up_ = PackedMatrix::Inside(shared, begin, GateUpOutputs(intermediate), hidden);
    layer[e].down_ = PackedMatrix::Inside(shared, begin + gate_up_bytes, hidden, intermediate);
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

template void ExpertWeights::PackGate(View<const Bf16, 2>);
template void ExpertWeights::PackGate(View<const float, 2>);
template void ExpertWeights::PackUp(View<const Bf16, 2>);
template void ExpertWeights::PackUp(View<const float, 2>);
template void ExpertWeights::PackDown(View<const Bf16, 2>);
template void ExpertWeights::PackDown(View<const float, 2>);

}  // namespace sluice
