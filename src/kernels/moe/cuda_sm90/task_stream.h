// The order of work of the fused kernel, as plain C++ that the device runs and the host tests. One
// rank's work is two streams: product tasks, which a CTA's copy warp and math warps run together,
// and row items, which single warps run. Whoever is free takes the next position of a stream, in
// order, and finishes it before the next; the streams' order is such that an item waits only for
// items that were taken before it, or for row items that wait for nothing unfinished, so that
// somebody can always go on (task_stream_test.cpp runs it with random delays).
#pragma once

#include "kernels/moe/cuda_sm90/element.h"

namespace sluice::moe_sm90 {

/// Rows that a product tile has at most, and that share arrival counters.
inline constexpr int kBlockRows = 128;
/// Blocks of one expert that are consecutive tasks of one weight tile, which is then in L2.
inline constexpr int kUnitBlocks = 8;
inline constexpr int kUnitRows = kUnitBlocks * kBlockRows;
/// Experts with at most this many rows run as narrow tiles: weights on the side of the matrix unit
/// that is 64 wide, rows on the side that can be 8.
inline constexpr int kNarrowRows = 64;
/// Weight rows (outputs) of a tile.
inline constexpr int kWideOutputs = 256, kNarrowOutputs = 128;
/// Gate and up rows alternate in eights, so that both of an output are in one thread.
inline constexpr int kInterleave = 8;
/// Rows of a row item.
inline constexpr int kSendRows = 4, kQuantizeRows = 4;
/// Columns that a warp adds at a time.
inline constexpr int kCombineColumns = 1024;

SLUICE_HOST_DEVICE constexpr int CeilDiv(int a, int b) { return (a + b - 1) / b; }

/// What one rank has to do. Padded widths: intermediate a multiple of 128, hidden of 256.
struct Work {
  int experts;              // of this rank
  const int* expert_rows;   // [experts], rows that all ranks send
  int tokens;               // of this rank
  int pairs;                // rows that this rank sends: tokens * top_k
  bool shared;              // every token is also a row of the shared expert
  bool quantized;           // fp8: the intermediate is quantised between the products
  int hidden;               // padded
  int intermediate;         // padded, of the routed experts
  int shared_intermediate;  // padded
  int lag_tasks;            // gate/up tasks between a unit's gate/up and its down tasks
  int ring_units;           // units of intermediate rows that fit in the ring, >= 1
};

/// Up to kUnitBlocks blocks of one expert.
struct Unit {
  int idx;     // position among the rank's units
  int expert;  // of this rank; -1: the shared expert, whose units come first
  int row;     // first row: of the rank's rows in order of experts; for -1 its first token
  int rows;
  int block;  // first block, counted over all units
  bool narrow;

  SLUICE_HOST_DEVICE int blocks() const { return CeilDiv(rows, kBlockRows); }
  SLUICE_HOST_DEVICE int tile_outputs() const { return narrow ? kNarrowOutputs : kWideOutputs; }
};

SLUICE_HOST_DEVICE inline int Intermediate(const Work& work, const Unit& unit) {
  return unit.expert < 0 ? work.shared_intermediate : work.intermediate;
}
SLUICE_HOST_DEVICE inline int GateUpTiles(const Work& work, const Unit& unit) {
  return 2 * Intermediate(work, unit) / unit.tile_outputs();
}
SLUICE_HOST_DEVICE inline int DownTiles(const Work& work, const Unit& unit) {
  return work.hidden / unit.tile_outputs();
}
/// Counters count in narrow tiles, so that they need not know who produced.
SLUICE_HOST_DEVICE inline int TileWeight(const Unit& unit) {
  return unit.tile_outputs() / kNarrowOutputs;
}
SLUICE_HOST_DEVICE inline int GateUpDone(const Work& work, const Unit& unit) {
  return 2 * Intermediate(work, unit) / kNarrowOutputs;
}
/// Of one output row: what each of a token's rows adds to its counter.
SLUICE_HOST_DEVICE inline int DownDone(const Work& work) { return work.hidden / kNarrowOutputs; }

/// The units in order: the shared expert's, then each expert's.
class UnitWalker {
 public:
  UnitWalker() = default;
  SLUICE_HOST_DEVICE explicit UnitWalker(const Work& work) {
    unit_.idx = -1;
    unit_.expert = -1;
    unit_.row = unit_.block = unit_.rows = 0;
    left_ = work.shared ? work.tokens : 0;
    group_rows_ = left_;
    Next(work);
  }
  SLUICE_HOST_DEVICE bool done() const { return done_; }
  /// Where done(), idx and block are the totals.
  SLUICE_HOST_DEVICE const Unit& unit() const { return unit_; }
  SLUICE_HOST_DEVICE void Next(const Work& work) {
    unit_.idx += 1;
    unit_.block += unit_.blocks();
    unit_.row += unit_.rows;
    while (left_ == 0) {
      if (unit_.expert + 1 >= work.experts) {
        done_ = true;
        unit_.rows = 0;
        return;
      }
      if (unit_.expert < 0) unit_.row = 0;  // from tokens to sorted rows
      left_ = group_rows_ = work.expert_rows[++unit_.expert];
    }
    unit_.rows = left_ < kUnitRows ? left_ : kUnitRows;
    unit_.narrow = group_rows_ <= kNarrowRows;
    left_ -= unit_.rows;
  }

 private:
  Unit unit_ = {};
  int left_ = 0, group_rows_ = 0;
  bool done_ = false;
};

enum class Product : int { kGateUp, kDown };

/// One output tile of one block.
struct Task {
  Product product;
  int expert;  // as in Unit
  int tile;    // of outputs
  int row;     // as in Unit
  int rows;    // 1 .. kBlockRows
  int block;
  int ring_row;       // first row in the ring of intermediate rows
  int unit;           // its index
  int recycled;       // kGateUp: unit whose place in the ring this takes, or -1
  int recycled_done;  // down tasks that unit has
  bool narrow;
};

/// Product tasks: gate/up units in order; the down tasks of a unit follow when `lag_tasks` gate/up
/// tasks of later units have been handed out, or where the next unit needs its place in the ring.
class TaskWalker {
 public:
  TaskWalker() = default;
  /// `work` must outlive it.
  SLUICE_HOST_DEVICE explicit TaskWalker(const Work& work)
      : work_(&work), ahead_(work), behind_(work), recycled_(work) {
    behind_end_ = behind_.done() ? 0 : GateUpTasks(behind_.unit());
  }

  /// The task at `position`, which may not be lower than in the call before. False past the end.
  SLUICE_HOST_DEVICE bool Seek(int position, Task& task) {
    while (position >= begin_ + count_)
      if (!NextSegment()) return false;
    const int at = position - begin_, blocks = unit_.blocks();
    const int tile = at / blocks, block = at - tile * blocks;
    const int left = unit_.rows - block * kBlockRows;
    task.product = product_;
    task.expert = unit_.expert;
    task.tile = tile;
    task.row = unit_.row + block * kBlockRows;
    task.rows = left < kBlockRows ? left : kBlockRows;
    task.block = unit_.block + block;
    task.ring_row = unit_.idx % work_->ring_units * kUnitRows + block * kBlockRows;
    task.unit = unit_.idx;
    task.recycled = product_ == Product::kGateUp ? unit_.idx - work_->ring_units : -1;
    if (task.recycled < 0) task.recycled = -1;
    task.recycled_done = recycled_done_;
    task.narrow = unit_.narrow;
    return true;
  }

 private:
  SLUICE_HOST_DEVICE int GateUpTasks(const Unit& unit) const {
    return unit.blocks() * GateUpTiles(*work_, unit);
  }
  SLUICE_HOST_DEVICE int DownTasks(const Unit& unit) const {
    return unit.blocks() * DownTiles(*work_, unit);
  }
  SLUICE_HOST_DEVICE bool NextSegment() {
    begin_ += count_;
    count_ = 0;
    const int issued_units = ahead_.unit().idx;
    if (!behind_.done() && behind_.unit().idx < issued_units &&
        (ahead_.done() || issued_ - behind_end_ >= work_->lag_tasks ||
         issued_units - behind_.unit().idx >= work_->ring_units)) {
      product_ = Product::kDown;
      unit_ = behind_.unit();
      count_ = DownTasks(unit_);
      behind_.Next(*work_);
      if (!behind_.done()) behind_end_ += GateUpTasks(behind_.unit());
      return true;
    }
    if (ahead_.done()) return false;
    product_ = Product::kGateUp;
    unit_ = ahead_.unit();
    count_ = GateUpTasks(unit_);
    issued_ += count_;
    if (unit_.idx >= work_->ring_units) {
      recycled_done_ = DownTasks(recycled_.unit());
      recycled_.Next(*work_);
    }
    ahead_.Next(*work_);
    return true;
  }

  const Work* work_ = nullptr;
  UnitWalker ahead_, behind_, recycled_;
  Unit unit_ = {};
  Product product_ = Product::kGateUp;
  int begin_ = 0, count_ = 0;  // positions of the segment: one product of one unit
  int issued_ = 0;             // gate/up tasks up to the last gate/up segment
  int behind_end_ = 0;         // the same up to the unit whose down tasks come next
  int recycled_done_ = 0;
};

enum class RowKind : int { kSend, kQuantize, kCombine };

struct RowItem {
  RowKind kind;
  int begin, count;  // kSend: of the send list. kQuantize: rows of the unit's ring place. kCombine:
                     // one token, `begin`
  int column;        // kCombine: first column
  // kQuantize:
  int ring_row;  // of the first row
  int row;       // as in Task, of the first row
  int block;
  int expert;  // as in Task
};

/// Row items: all sends; quantisation of the intermediate, unit by unit; then the tokens' sums.
class RowWalker {
 public:
  /// `work` must outlive it.
  SLUICE_HOST_DEVICE explicit RowWalker(const Work& work) : work_(&work), walker_(work) {
    count_ = CeilDiv(work.pairs, kSendRows);
  }
  /// As TaskWalker::Seek.
  SLUICE_HOST_DEVICE bool Seek(int position, RowItem& item) {
    while (position >= begin_ + count_)
      if (!NextSegment()) return false;
    const int at = position - begin_;
    item.kind = kind_;
    if (kind_ == RowKind::kSend) {
      item.begin = at * kSendRows;
      item.count = Least(kSendRows, work_->pairs - item.begin);
    } else if (kind_ == RowKind::kQuantize) {
      item.begin = at * kQuantizeRows;
      item.count = Least(kQuantizeRows, unit_.rows - item.begin);
      item.ring_row = unit_.idx % work_->ring_units * kUnitRows + item.begin;
      item.row = unit_.row + item.begin;
      item.block = unit_.block + item.begin / kBlockRows;
      item.expert = unit_.expert;
    } else {
      const int columns = CeilDiv(work_->hidden, kCombineColumns);
      item.begin = at / columns;
      item.count = 1;
      item.column = (at - item.begin * columns) * kCombineColumns;
    }
    return true;
  }

 private:
  SLUICE_HOST_DEVICE static int Least(int a, int b) { return a < b ? a : b; }
  SLUICE_HOST_DEVICE bool NextSegment() {
    if (kind_ == RowKind::kCombine) return false;
    begin_ += count_;
    if (work_->quantized && !walker_.done()) {
      kind_ = RowKind::kQuantize;
      unit_ = walker_.unit();
      count_ = CeilDiv(unit_.rows, kQuantizeRows);
      walker_.Next(*work_);
    } else {
      kind_ = RowKind::kCombine;
      count_ = work_->tokens * CeilDiv(work_->hidden, kCombineColumns);
    }
    return true;
  }

  const Work* work_;
  UnitWalker walker_;
  Unit unit_ = {};
  RowKind kind_ = RowKind::kSend;
  int begin_ = 0, count_ = 0;
};

/// Experts in the order in which rank `rank` of `ranks` sends their rows: first the first expert of
/// every rank, beginning with its own, then the second ones. `expert` counts over all ranks, which
/// own equal consecutive shares. A bijection of [0, experts).
SLUICE_HOST_DEVICE inline int SendOrder(int expert, int rank, int ranks, int experts) {
  const int share = experts / ranks, owner = expert / share;
  return expert % share * ranks + (owner - rank + ranks) % ranks;
}
SLUICE_HOST_DEVICE inline int ExpertOfSendOrder(int order, int rank, int ranks, int experts) {
  const int share = experts / ranks;
  return (order % ranks + rank) % ranks * share + order / ranks;
}

}  // namespace sluice::moe_sm90
