#include "kernels/embed/embed.h"

#include <cstring>

namespace sluice {

void Embed(std::span<const int32_t> tokens, View<const Bf16, 2> table, View<float, 2> y,
           Exec& exec) {
  const int64_t width = table.dim(1);
  CHECK_EQ(y.dim(1), width);
  exec.team.ParallelFor(static_cast<int64_t>(tokens.size()), Team::GrainFor(width),
                        [&](int64_t begin, int64_t end) {
                          for (int64_t t = begin; t < end; ++t) {
                            const Bf16* from = table.row(tokens[t]);
                            float* to = y.row(t);
                            for (int64_t i = 0; i < width; ++i) to[i] = ToFloat(from[i]);
                          }
                        });
}

void GatherRows(View<const float, 2> x, std::span<const int32_t> rows, View<float, 2> y,
                Exec& exec) {
  const int64_t width = x.dim(1);
  CHECK_EQ(y.dim(1), width);
  exec.team.ParallelFor(
      static_cast<int64_t>(rows.size()), Team::GrainFor(width), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          std::memcpy(y.row(i), x.row(rows[i]), static_cast<size_t>(width) * sizeof(float));
      });
}

}  // namespace sluice
