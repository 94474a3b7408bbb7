#include "kernels/moe/small_experts.h"

#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/linear/panel_product.h"

namespace sluice {
namespace {

#include "kernels/simd/avx512.inc"

#include "kernels/linear/pairs_avx512.inc"

#include "kernels/linear/weights.inc"

#include "kernels/linear/panel_driver.inc"

#include "kernels/linear/blocks_dot.inc"

#include "kernels/linear/register_blocks.inc"

#include "kernels/linear/panel_dot.inc"

constexpr int64_t kStride = kSmallExpertStride;
constexpr int64_t kPairLine = 2 * kPanelOutputs;  // elements of a panel's pair of inputs

// One product of one or two experts with equally many rows.
struct Product {
  int64_t panel_stride;  // elements
  int64_t inputs;
  Activation activation = {};
  int64_t out_stride = 0;
  const uint16_t* x[2] = {};  // first rows, kStride elements apart
  const uint16_t* weight[2] = {};
  uint16_t* narrow[2] = {};  // gated: rows of results, kStride apart
  float* out[2] = {};        // otherwise, out_stride apart
};

// 16 bfloat16s.
void StoreNarrow(uint16_t* to, V::Reg x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(x), 16)));
}

// Panels [panel, panel + kPanels) of kExperts experts times kRows rows of each. The sums are those
// of Dot::Block; enough of them are under way at once to hide each other's latency. Never inlined:
// as there. Nothing is fetched ahead: beside loads that are that dense, fetching costs more than
// the processor's own does (L2: 36 us against 33, L3: 43 against 40, for 7 layers of 16 experts).
template <bool kGated, int kExperts, int kRows, int kPanels>
[[gnu::noinline]] void Panels(const Product& p, int64_t panel) {
  constexpr int kVectors = 2 * kPanels;
  V::Reg sum[kExperts][kRows][kVectors];
#pragma GCC unroll 2
  for (int e = 0; e < kExperts; ++e)
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[e][r][v] = V::Zero();
  const int64_t panel_stride = p.panel_stride;
  const uint16_t* x[kExperts];
  const uint16_t* weight[kExperts];
#pragma GCC unroll 2
  for (int e = 0; e < kExperts; ++e) {
    x[e] = p.x[e];
    weight[e] = p.weight[e] + panel * panel_stride;
  }
  for (int64_t k = 0; k < p.inputs; k += 2) {
    const int64_t line = k / 2 * kPairLine;
#pragma GCC unroll 2
    for (int e = 0; e < kExperts; ++e) {
      __m512i pairs[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v)
        pairs[v] =
            _mm512_load_si512(weight[e] + line + v / 2 * panel_stride + v % 2 * 2 * V::kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        int32_t pair;
        std::memcpy(&pair, x[e] + r * kStride + k, sizeof pair);
        __m512i value = _mm512_set1_epi32(pair);
        __asm__("" : "+v"(value));  // as in Dot::Block
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v)
          sum[e][r][v] = _mm512_dpbf16_ps(sum[e][r][v], reinterpret_cast<__m512bh>(value),
                                          reinterpret_cast<__m512bh>(pairs[v]));
      }
    }
  }
#pragma GCC unroll 2
  for (int e = 0; e < kExperts; ++e)
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
      for (int i = 0; i < kPanels; ++i) {
        const V::Reg first = V::RoundBf16(sum[e][r][2 * i]);
        const V::Reg second = V::RoundBf16(sum[e][r][2 * i + 1]);
        if constexpr (kGated) {
          StoreNarrow(p.narrow[e] + r * kStride + (panel + i) * V::kLanes,
                      V::RoundBf16(V::Mul(V::RoundBf16(Activate(p.activation, first)), second)));
        } else {
          float* const to = p.out[e] + r * p.out_stride + (panel + i) * kPanelOutputs;
          V::Store(to, first);
          V::Store(to + V::kLanes, second);
        }
      }
}

// Rows that leave registers for two panels, and for those of two experts.
constexpr int kRowsOfTwoPanels = 6, kRowsOfTwoExperts = 2;

template <bool kGated, int kExperts, int kRows>
void AllPanels(const Product& p, int64_t panels) {
  int64_t panel = 0;
  if constexpr (kRows <= kRowsOfTwoPanels)
    for (; panel + 2 <= panels; panel += 2) Panels<kGated, kExperts, kRows, 2>(p, panel);
  for (; panel < panels; ++panel) Panels<kGated, kExperts, kRows, 1>(p, panel);
}

template <int kExperts, int kRows>
void Experts(const SmallExperts& args, const SmallExpert* experts) {
  const SmallExpert& first = experts[0];
  Product gate_up{
      .panel_stride = args.gate_stride, .inputs = args.hidden, .activation = args.activation};
  Product down{.panel_stride = first.down_stride,
               .inputs = first.intermediate,
               .out_stride = args.out_stride};
  for (int e = 0; e < kExperts; ++e) {
    const SmallExpert& expert = experts[e];
    uint16_t* const packed = args.scratch + 2 * e * kSmallExpertRows * kStride;
    uint16_t* const between = packed + kSmallExpertRows * kStride;
    for (int64_t r = 0; r < kRows; ++r)
      Dot::Pack(args.x + (expert.row_ids ? expert.row_ids[r] : r) * args.x_stride, args.hidden,
                packed + r * kStride);
    gate_up.x[e] = packed;
    gate_up.weight[e] = expert.gate_up;
    gate_up.narrow[e] = between;
    down.x[e] = between;
    down.weight[e] = expert.down;
    down.out[e] = expert.out;
  }
  AllPanels<true, kExperts, kRows>(gate_up, first.gate_panels);
  AllPanels<false, kExperts, kRows>(down, args.hidden / kPanelOutputs);
}

using ExpertsOf = void (*)(const SmallExperts&, const SmallExpert*);

template <int kExperts, int... kRows>
ExpertsOf ByRows(std::integer_sequence<int, kRows...>, int64_t rows) {
  static constexpr ExpertsOf kTable[] = {Experts<kExperts, kRows + 1>...};
  return kTable[rows - 1];
}

}  // namespace

void RunSmallExpertsAvx512Bf16(const SmallExperts& args) {
  for (int64_t i = 0; i < args.count;) {
    const SmallExpert* const expert = args.experts + i;
    const int64_t rows = expert->rows;
    const bool pair = rows <= kRowsOfTwoExperts && i + 1 < args.count && rows == expert[1].rows &&
                      expert->intermediate == expert[1].intermediate;
    if (pair)
      ByRows<2>(std::make_integer_sequence<int, kRowsOfTwoExperts>(), rows)(args, expert);
    else
      ByRows<1>(std::make_integer_sequence<int, kSmallExpertRows>(), rows)(args, expert);
    i += pair ? 2 : 1;
  }
}

}  // namespace sluice
