#include <algorithm>
#include <limits>

#include "kernels/block/drive.h"
#include "kernels/gqa/kv_layout.h"
#include "kernels/gqa/variants.h"

namespace sluice {
namespace {

constexpr float kNoScore = -std::numeric_limits<float>::infinity();
constexpr float kOne = 1;
// Pages whose sums are made apart and then combined in order: where a long context can be split
// over the lanes. Part of the order of sums, whether it is split or not.
constexpr int64_t kSpanPages = 8;
// Rows (of queries, each head counted) whose scores against one page are held at a time: a multiple
// of the products' 6, or two tiles.
constexpr int64_t kStripRows = 24, kTileStripRows = 32;
// Rows that go through the pages together: their queries and sums stay in the second cache.
constexpr int64_t kBlockRows = 256;
// Rows of partial results of split spans that a lane's scratch holds.
constexpr int64_t kPartialRows = 512;

int64_t PageCount(int64_t positions) { return (positions + kKvPageTokens - 1) / kKvPageTokens; }
int64_t SpanCount(int64_t positions) {
  return (PageCount(positions) + kSpanPages - 1) / kSpanPages;
}

// Sizes that depend on the shape and the rows of a step only, so that GqaScratchBytes and the step
// count alike.
struct Sizes {
  Sizes(const GqaShape& shape, int64_t rows, int lanes)
      : group(shape.heads / shape.kv_heads),
        head_dim(shape.head_dim),
        block_rows(std::clamp<int64_t>(kBlockRows / group, 1, std::max<int64_t>(rows, 1))),
        item_rows(block_rows * group),
        partial_rows(lanes > 1 ? std::max(kPartialRows, item_rows) * lanes : 0) {}

  int64_t group;  // query heads of a kv head
  int64_t head_dim;
  int64_t block_rows;    // rows of a sequence in a block, at most
  int64_t item_rows;     // the same times the heads of a group
  int64_t partial_rows;  // of all lanes
};

// Sums over a span for some rows: accumulators [rows, head_dim], their tops and their sums.
struct Partial {
  float *sums, *top, *sum;
};

// The scratch memory of one lane.
struct LaneScratch {
  LaneScratch(const Sizes& s, float* memory) : memory_(memory) {
    queries = Take(s.item_rows * s.head_dim);
    partial.sums = Take(s.item_rows * s.head_dim);
    partial.top = Take(s.item_rows);
    partial.sum = Take(s.item_rows);
    temperatures = Take(s.block_rows);
    scores = Take(kTileStripRows * kKvPageTokens);
    factors = Take(kTileStripRows);
    narrow_queries = TakeNarrow(s.item_rows * s.head_dim);
    near = TakeNarrow(kTileStripRows * kKvPageTokens);
    rest = TakeNarrow(kTileStripRows * kKvPageTokens);
  }
  int64_t floats() const { return used_; }

  float* queries;  // [group][rows of the block][head_dim], as are the sums
  Partial partial;
  float *temperatures, *scores, *factors;
  // As bfloat16s: the queries; for tiles a strip's weights, as the sum of two.
  uint16_t *narrow_queries, *near, *rest;

 private:
  uint16_t* TakeNarrow(int64_t count) { return reinterpret_cast<uint16_t*>(Take((count + 1) / 2)); }
  float* Take(int64_t count) {
    float* at = memory_ ? memory_ + used_ : nullptr;
    used_ += (count + 15) / 16 * 16;
    return at;
  }
  float* memory_;
  int64_t used_ = 0;
};

// Successive rows of one sequence.
struct Block {
  int64_t row, rows, position;
  const int32_t* pages;
  bool split;  // its spans are shared out over the lanes

  int64_t length() const { return position + rows; }
};

// A span of a split block for one kv head.
struct Task {
  int64_t block, kv_head, span;
  int64_t partial_row;  // where its partial results begin
};

class Step {
 public:
  Step(const GqaArgs& args, Exec& exec, const BlockOps& ops, const GqaNarrow& narrow)
      : args_(args),
        exec_(exec),
        ops_(ops),
        tiles_(narrow.tiles),
        narrow_scores_(narrow.scores),
        product_(args.cache.dtype == DType::kBf16 ? ops.pair_product : ops.product),
        sizes_(args.shape, args.q.dim(0), exec.team.lanes()),
        group_(sizes_.group),
        head_dim_(args.shape.head_dim),
        strip_rows_(tiles_ ? kTileStripRows : kStripRows) {}

  void Run() {
    Arena::Scope scope(exec_.scratch);
    const int64_t rows = args_.q.dim(0), lanes = exec_.team.lanes();
    MakeBlocks(exec_.scratch.Allocate<Block>(rows));
    top_ = exec_.scratch.Allocate<float>(rows * args_.shape.heads);
    sum_ = exec_.scratch.Allocate<float>(rows * args_.shape.heads);
    lane_floats_ = LaneScratch(sizes_, nullptr).floats();
    lanes_ = exec_.scratch.Allocate<float>(lane_floats_ * lanes);
    RunWhole();
    if (std::any_of(blocks_, blocks_ + block_count_, [](const Block& b) { return b.split; }))
      RunSplit();
  }

 private:
  // What one kv head of a block costs: products, and reading the pages.
  double Cost(const Block& b) const {
    const double seen = double(b.rows) * (double(b.position) + double(b.rows + 1) / 2);
    return double(group_) * seen + 4 * double(b.length());
  }

  void MakeBlocks(Block* blocks) {
    blocks_ = blocks;
    double total = 0;
    for (const GqaSequence& s : args_.sequences)
      for (int64_t r = 0; r < s.row_count; r += sizes_.block_rows) {
        const Block b = {s.row_begin + r, std::min(sizes_.block_rows, s.row_count - r),
                         s.position_begin + r, s.pages, false};
        total += Cost(b) * double(args_.shape.kv_heads);
        blocks_[block_count_++] = b;
      }
    // A block is split where a lane that had one head of it could end up with much more than its
    // share. This decides who computes, not what.
    const double share = total / exec_.team.lanes();
    for (int64_t i = 0; i < block_count_; ++i)
      blocks_[i].split = exec_.team.lanes() > 1 && SpanCount(blocks_[i].length()) > 1 &&
                         Cost(blocks_[i]) > share / 4;
  }

  LaneScratch Scratch(int lane) const { return LaneScratch(sizes_, lanes_ + lane * lane_floats_); }

  // ---- blocks that a lane takes whole ----

  void RunWhole() {
    const auto cost = [&](int64_t i) { return blocks_[i].split ? 0 : Cost(blocks_[i]); };
    exec_.team.Run([&](int lane) {
      const LaneScratch scratch = Scratch(lane);
      ForHeadShares(block_count_, args_.shape.kv_heads, lane, exec_.team.lanes(), cost,
                    [&](int64_t i, int64_t begin, int64_t end) {
                      for (int64_t h = begin; h < end; ++h) WholeBlock(blocks_[i], h, scratch);
                    });
    });
  }

  void WholeBlock(const Block& b, int64_t kv_head, const LaneScratch& scratch) {
    Prepare(b, kv_head, scratch);
    for (int64_t span = 0; span < SpanCount(b.length()); ++span) {
      AttendSpan(b, kv_head, span, scratch, scratch.partial);
      for (int64_t g = 0; g < group_; ++g) Combine(b, kv_head, g, span, scratch.partial);
    }
    for (int64_t g = 0; g < group_; ++g) Finish(b, kv_head, g);
  }

  // ---- blocks whose spans are shared out ----

  // As many spans at a time as there is room for partial results.
  void RunSplit() {
    partials_.sums = exec_.scratch.Allocate<float>(sizes_.partial_rows * head_dim_);
    partials_.top = exec_.scratch.Allocate<float>(sizes_.partial_rows);
    partials_.sum = exec_.scratch.Allocate<float>(sizes_.partial_rows);
    Task* tasks = exec_.scratch.Allocate<Task>(sizes_.partial_rows);
    int64_t count = 0, used = 0;
    const auto run = [&] {
      RunTasks(tasks, count);
      count = used = 0;
    };
    for (int64_t i = 0; i < block_count_; ++i) {
      const Block& b = blocks_[i];
      if (!b.split) continue;
      for (int64_t kv_head = 0; kv_head < args_.shape.kv_heads; ++kv_head)
        for (int64_t span = 0; span < SpanCount(b.length()); ++span) {
          const int64_t rows = b.rows * group_;
          if (used + rows > sizes_.partial_rows) run();
          tasks[count++] = {i, kv_head, span, used};
          used += rows;
        }
    }
    if (count > 0) run();
  }

  void RunTasks(const Task* tasks, int64_t count) {
    const int64_t lanes = exec_.team.lanes();
    exec_.team.Run([&](int lane) {
      const LaneScratch scratch = Scratch(lane);
      for (int64_t t = count * lane / lanes; t < count * (lane + 1) / lanes; ++t) {
        const Block& b = blocks_[tasks[t].block];
        Prepare(b, tasks[t].kv_head, scratch);
        AttendSpan(b, tasks[t].kv_head, tasks[t].span, scratch, PartialOf(tasks[t]));
      }
      exec_.team.Barrier();
      // A head's spans in order, so all on one lane.
      for (int64_t t = 0; t < count; ++t) {
        const Block& b = blocks_[tasks[t].block];
        const bool last = tasks[t].span + 1 == SpanCount(b.length());
        for (int64_t g = 0; g < group_; ++g) {
          if ((tasks[t].kv_head * group_ + g) % lanes != lane) continue;
          Combine(b, tasks[t].kv_head, g, tasks[t].span, PartialOf(tasks[t]));
          if (last) Finish(b, tasks[t].kv_head, g);
        }
      }
    });
  }

  Partial PartialOf(const Task& task) const {
    return {partials_.sums + task.partial_row * head_dim_, partials_.top + task.partial_row,
            partials_.sum + task.partial_row};
  }

  // ---- one span ----

  // The block's queries of a kv head, and the temperatures of its rows.
  void Prepare(const Block& b, int64_t kv_head, const LaneScratch& scratch) const {
    for (int64_t g = 0; g < group_; ++g)
      for (int64_t r = 0; r < b.rows; ++r)
        std::copy_n(&args_.q(b.row + r, kv_head * group_ + g, 0), head_dim_,
                    scratch.queries + (g * b.rows + r) * head_dim_);
    if (tiles_ || narrow_scores_)
      ops_.narrow(scratch.queries, group_ * b.rows * head_dim_, scratch.narrow_queries);
    for (int64_t r = 0; r < b.rows; ++r)
      scratch.temperatures[r] =
          static_cast<float>(Temperature(args_.temperature_length, b.position + r));
  }

  // The first row of a block that sees position `begin`.
  static int64_t FirstRow(const Block& b, int64_t begin) {
    return std::max<int64_t>(0, begin - b.position);
  }

  const std::byte* Keys(const Block& b, int64_t page, int64_t kv_head) const {
    return args_.cache.base + b.pages[page] * args_.cache.page_stride +
           kv_head * 2 * HeadKeysBytes(args_.cache.dtype, head_dim_);
  }

  void AttendSpan(const Block& b, int64_t kv_head, int64_t span, const LaneScratch& scratch,
                  const Partial& partial) const {
    std::fill_n(partial.top, group_ * b.rows, kNoScore);
    std::fill_n(partial.sum, group_ * b.rows, 0.0f);
    const int64_t begin = span * kSpanPages;
    const int64_t end = std::min(begin + kSpanPages, PageCount(b.length()));
    for (int64_t page = begin; page < end; ++page) {
      const std::byte* keys = Keys(b, page, kv_head);
      const std::byte* next =
          page + 1 < PageCount(b.length()) ? Keys(b, page + 1, kv_head) : nullptr;
      const int64_t first = FirstRow(b, page * kKvPageTokens);
      const PageOfBlock of = {b, page * kKvPageTokens, page == begin, keys};
      const auto strip = [&](int64_t g, int64_t r, int64_t count, bool of_rows) {
        AttendPage(of, {g, r, count, of_rows}, g == 0 && r == first ? next : nullptr, scratch,
                   partial);
      };
      // Strips of one head's rows, or of one row's heads where those are more.
      if (b.rows >= group_) {
        // Tiles take rows that see the whole page, so strips end where those begin.
        const int64_t whole =
            tiles_ ? std::clamp<int64_t>((page + 1) * kKvPageTokens - 1 - b.position, first, b.rows)
                   : first;
        for (int64_t g = 0; g < group_; ++g) {
          for (int64_t r = first; r < whole; r += strip_rows_)
            strip(g, r, std::min(strip_rows_, whole - r), true);
          for (int64_t r = whole; r < b.rows; r += strip_rows_)
            strip(g, r, std::min(strip_rows_, b.rows - r), true);
        }
      } else {
        for (int64_t r = first; r < b.rows; ++r)
          for (int64_t g = 0; g < group_; g += strip_rows_)
            strip(g, r, std::min(strip_rows_, group_ - g), false);
      }
    }
  }

  struct PageOfBlock {
    const Block& block;
    int64_t position;  // of its first token
    bool first_of_span;
    const std::byte* keys;
  };

  // Rows of the item (g, r), (g, r + 1), ... or (g, r), (g + 1, r), ...
  struct Strip {
    int64_t g, r, count;
    bool of_rows;
  };

  // `next`: keys to fetch meanwhile, or nullptr.
  void AttendPage(const PageOfBlock& page, const Strip& strip, const std::byte* next,
                  const LaneScratch& scratch, const Partial& partial) const {
    const Block& b = page.block;
    const int64_t begin = strip.g * b.rows + strip.r, step = strip.of_rows ? 1 : b.rows;
    // Tokens of the page that the strip's first row sees, if it were long enough; each further row
    // of a head sees one more.
    const int64_t seen = b.position + strip.r + 1 - page.position;
    const int64_t growth = strip.of_rows ? 1 : 0;
    const std::byte* values = page.keys + HeadKeysBytes(args_.cache.dtype, head_dim_);
    const bool on_tiles = tiles_ && seen >= kKvPageTokens;
    const int64_t tokens = std::min(kKvPageTokens, seen + growth * (strip.count - 1));
    if (narrow_scores_)
      narrow_scores_({strip.count, tokens, head_dim_, scratch.narrow_queries + begin * head_dim_,
                      step * head_dim_, page.keys, PairStride(kKvPageTokens), scratch.scores,
                      kKvPageTokens, next ? values : nullptr});
    else if (on_tiles)
      tiles_->product({strip.count, kKvPageTokens, head_dim_,
                       scratch.narrow_queries + begin * head_dim_, nullptr, step * head_dim_,
                       page.keys, 2 * kKvPageTokens, scratch.scores, kKvPageTokens, nullptr,
                       next ? values : nullptr});
    else
      product_({strip.count, tokens, head_dim_, scratch.queries + begin * head_dim_,
                step * head_dim_, 1, page.keys, false, PairStride(kKvPageTokens), scratch.scores,
                kKvPageTokens, nullptr, false, next ? values : nullptr});
    for (int64_t i = 0; i < strip.count; ++i) {
      const float temperature = scratch.temperatures[strip.r + growth * i];
      const bool cap = args_.softcap > 0;
      const int64_t at = begin + i * step;
      scratch.factors[i] = ops_.softmax_page(
          scratch.scores + i * kKvPageTokens, std::min(kKvPageTokens, seen + growth * i),
          cap ? args_.scale / args_.softcap : args_.scale * temperature,
          cap ? args_.softcap * temperature : 0, partial.top + at, partial.sum + at);
    }
    float* sums = partial.sums + begin * head_dim_;
    const float* factors = page.first_of_span ? nullptr : scratch.factors;
    if (on_tiles) {
      tiles_->split(scratch.scores, strip.count * kKvPageTokens, scratch.near, scratch.rest);
      tiles_->product({strip.count, head_dim_, kKvPageTokens, scratch.near, scratch.rest,
                       kKvPageTokens, values, 2 * head_dim_, sums, step * head_dim_, factors,
                       next});
      return;
    }
    BlockProduct sum = {strip.count,
                        head_dim_,
                        seen,
                        scratch.scores,
                        kKvPageTokens,
                        1,
                        values,
                        false,
                        PairStride(head_dim_),
                        sums,
                        step * head_dim_,
                        factors,
                        false,
                        next};
    AddValues(sum, strip.of_rows);
  }

  // From pair to pair of depths of a cached B with so many columns; of floats, from depth to depth.
  int64_t PairStride(int64_t columns) const {
    return (args_.cache.dtype == DType::kBf16 ? 2 : 1) * columns;
  }

  // `sum` over the tokens that its rows see: sum.depth of them, one more a row if `growing`, 64 at
  // most.
  void AddValues(BlockProduct sum, bool growing) const {
    const int64_t seen = sum.depth, rows = sum.rows;
    sum.depth = std::min(kKvPageTokens, seen);
    if (growing) {
      const int64_t diagonal = std::clamp<int64_t>(kKvPageTokens - seen, 0, rows);
      sum.rows = diagonal;
      DiagonalProduct(sum);
      sum.depth = kKvPageTokens;
      sum.rows = rows - diagonal;
      sum.a += diagonal * sum.a_row;
      sum.c += diagonal * sum.c_row;
      if (sum.row_scale) sum.row_scale += diagonal;
    }
    if (sum.rows > 0) product_(sum);
  }

  // `p` with row i reaching depth p.depth + i and reading no token beyond. Six rows at a time up to
  // the even depth that all of them have, then what is left of each.
  void DiagonalProduct(const BlockProduct& p) const {
    constexpr int64_t kRows = 6;
    const int64_t pair_bytes =
        args_.cache.dtype == DType::kBf16 ? p.b_depth * 2 : 2 * p.b_depth * 4;
    for (int64_t begin = 0; begin < p.rows; begin += kRows) {
      BlockProduct group = p;
      group.rows = std::min(kRows, p.rows - begin);
      group.depth = (p.depth + begin) / 2 * 2;
      group.a += begin * p.a_row;
      group.c += begin * p.c_row;
      if (p.row_scale) group.row_scale += begin;
      product_(group);
      for (int64_t r = 0; r < group.rows; ++r) {
        BlockProduct rest = group;
        rest.rows = 1;
        rest.depth = p.depth + begin + r - group.depth;
        if (rest.depth == 0) continue;
        rest.a += r * p.a_row + group.depth;
        rest.b = static_cast<const std::byte*>(p.b) + group.depth / 2 * pair_bytes;
        rest.c += r * p.c_row;
        rest.row_scale = &kOne;
        product_(rest);
      }
    }
  }

  // ---- spans into outputs ----

  // Adds a span's results for head `g` of a group to what the rows have; the sums lie in `out`.
  void Combine(const Block& b, int64_t kv_head, int64_t g, int64_t span, const Partial& partial) {
    const int64_t head = kv_head * group_ + g;
    for (int64_t r = FirstRow(b, span * kSpanPages * kKvPageTokens); r < b.rows; ++r) {
      const int64_t at = g * b.rows + r, total = (b.row + r) * args_.shape.heads + head;
      float* out = &args_.out(b.row + r, head, 0);
      const float* sums = partial.sums + at * head_dim_;
      if (span == 0) {
        std::copy_n(sums, head_dim_, out);
        top_[total] = partial.top[at];
        sum_[total] = partial.sum[at];
        continue;
      }
      // The softmax step over one more "score", the span's top.
      float weight[kKvPageTokens] = {partial.top[at]};
      float ignored = 0;
      const float factor = ops_.softmax_page(weight, 1, 1, 0, top_ + total, &ignored);
      sum_[total] = sum_[total] * factor + partial.sum[at] * weight[0];
      ops_.product(
          {1, head_dim_, 1, weight, 1, 1, sums, false, head_dim_, out, head_dim_, &factor});
    }
  }

  void Finish(const Block& b, int64_t kv_head, int64_t g) const {
    const int64_t head = kv_head * group_ + g;
    for (int64_t r = 0; r < b.rows; ++r)
      ops_.divide(&args_.out(b.row + r, head, 0), head_dim_,
                  sum_[(b.row + r) * args_.shape.heads + head], args_.rounding == Rounding::kBf16);
  }

  const GqaArgs& args_;
  Exec& exec_;
  const BlockOps& ops_;
  const TileOps* const tiles_;                              // or nullptr
  void (*const narrow_scores_)(const BlockNarrowProduct&);  // the same
  void (*const product_)(const BlockProduct&);  // whose B is keys or values as they are cached
  const Sizes sizes_;
  const int64_t group_, head_dim_, strip_rows_;
  Block* blocks_ = nullptr;
  int64_t block_count_ = 0;
  float *top_ = nullptr, *sum_ = nullptr;  // [rows][heads]
  int64_t lane_floats_ = 0;
  float* lanes_ = nullptr;
  Partial partials_{};
};

}  // namespace

void GqaOverPages(const GqaArgs& args, Exec& exec, const BlockOps& ops, const GqaNarrow& narrow) {
  Step(args, exec, ops, narrow).Run();
}

uint64_t GqaScratchBytes(const GqaShape& shape, int64_t rows, int lanes) {
  const auto bytes = [](int64_t count, size_t size) {
    return (static_cast<uint64_t>(count) * size + 63) / 64 * 64;
  };
  const Sizes sizes(shape, rows, lanes);
  return bytes(rows, sizeof(Block)) + 2 * bytes(rows * shape.heads, sizeof(float)) +
         bytes(LaneScratch(sizes, nullptr).floats() * lanes, sizeof(float)) +
         bytes(sizes.partial_rows * shape.head_dim, sizeof(float)) +
         2 * bytes(sizes.partial_rows, sizeof(float)) + bytes(sizes.partial_rows, sizeof(Task));
}

}  // namespace sluice
