// Embedding rows.
#pragma once

#include <span>

#include "tensor/dtype.h"
#include "tensor/exec.h"
#include "tensor/view.h"

namespace sluice {

/// y[t] = table[tokens[t]]. Token ids are in [0, table.dim(0)): the engine has checked them.
void Embed(std::span<const int32_t> tokens, View<const Bf16, 2> table, View<float, 2> y,
           Exec& exec);

/// y[i] = x[rows[i]]: the rows of a step whose logits are wanted.
void GatherRows(View<const float, 2> x, std::span<const int32_t> rows, View<float, 2> y,
                Exec& exec);

}  // namespace sluice
