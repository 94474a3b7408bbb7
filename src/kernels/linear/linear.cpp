#include "kernels/linear/linear.h"

#include "kernels/linear/linear_variants.h"

namespace sluice {
namespace {

// From so many rows on a lane may as well take rows instead of panels: weights are read again by
// every lane, but a lane has several register blocks to amortise that over.
constexpr int64_t kRowsWorthSplitting = 48;

// Rows x panels x inputs that one lane finishes in about a microsecond: no more than it takes to
// set the others to work.
constexpr int64_t kSerialWork = 512;

// By row kKernel of the table of kernels.
template <size_t kKernel>
void LinearBy(const LinearArgs& args, Exec& exec) {
  LinearWith(PanelKernels()[kKernel], SelectIntegerKernel(exec.machine, args.activations), args,
             exec);
}

// clang-format off
constexpr Variant<LinearArgs> kLinearVariants[] = {
    // name         needs                  run
    {"amx",         kAmxBf16,              LinearBy<0>},  // bfloat16 inputs only
    {"avx512_bf16", kDotProducts,          LinearBy<1>},  // bfloat16 inputs only
    {"avx512_vbmi", kAvx512 | kAvx512Vbmi, LinearBy<2>},
    {"avx512",      kAvx512,               LinearBy<3>},
    {"avx2",        kAvx2,                 LinearBy<4>},
    {"reference",   kAnything,             LinearReference},
};
// clang-format on

}  // namespace

void LinearWith(const PanelKernel& kernel, const IntegerKernel* integers, const LinearArgs& args,
                Exec& exec) {
  const int64_t rows = args.x.dim(0), panels = args.weight->panels();
  const auto run = [&kernel](const PanelProduct& part) {
    const trace::Stage stage("product",
                             (part.panel_end - part.panel_begin) * part.weight->panel_bytes());
    kernel.Run(part);
  };
  PanelProduct whole{.x = args.x.data(),
                     .x_stride = args.x.stride(0),
                     .rows = rows,
                     .weight = args.weight,
                     .panel_begin = 0,
                     .panel_end = panels,
                     .bias = args.bias,
                     .rounding = args.rounding,
                     .integers = integers,
                     .lanes = exec.team.lanes(),
                     .y = args.y.data(),
                     .y_stride = args.y.stride(0)};
  const int lanes = exec.team.lanes();
  if (rows * panels * args.weight->inputs() <= kSerialWork) {
    run(whole);
    return;
  }
  if (rows >= kRowsWorthSplitting * lanes && panels < 4 * lanes) {
    exec.team.ParallelFor(rows, 1, [&](int64_t begin, int64_t end) {
      PanelProduct part = whole;
      part.x += begin * part.x_stride;
      part.y += begin * part.y_stride;
      part.rows = end - begin;
      run(part);
    });
    return;
  }
  exec.team.ParallelFor(panels, 1, [&](int64_t begin, int64_t end) {
    PanelProduct part = whole;
    part.panel_begin = begin;
    part.panel_end = end;
    run(part);
  });
}

void Linear(const LinearArgs& args, Exec& exec) {
  CHECK_EQ(args.x.dim(1), args.weight->inputs());
  CHECK_EQ(args.y.dim(1), args.weight->outputs());
  CHECK_EQ(args.x.dim(0), args.y.dim(0));
  Machine machine = exec.machine;
  if (!args.bf16_inputs) machine.features &= ~(kAmxBf16 | kFastBf16Dot);
  Select(kLinearVariants, machine).run(args, exec);
}

std::vector<Variant<LinearArgs>> LinearVariants() {
  return {std::begin(kLinearVariants), std::end(kLinearVariants)};
}

}  // namespace sluice
