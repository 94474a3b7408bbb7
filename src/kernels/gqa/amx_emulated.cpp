#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "kernels/gqa/tiles.h"

namespace sluice {
namespace {

#include "kernels/linear/emulated_tiles.inc"

#include "kernels/gqa/tile_ops.inc"

}  // namespace

const TileOps kTileOpsEmulated = {MultiplyTiles, Split};

}  // namespace sluice
