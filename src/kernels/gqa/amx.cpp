#include <immintrin.h>

#include <bit>

#include "kernels/gqa/tiles.h"

namespace sluice {
namespace {

#include "kernels/linear/amx_tiles.inc"

#include "kernels/gqa/tile_ops.inc"

}  // namespace

const TileOps kTileOpsAmx = {MultiplyTiles, Split};

}  // namespace sluice
