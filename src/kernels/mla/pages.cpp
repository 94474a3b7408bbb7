#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/block/drive.h"
#include "kernels/mla/variants.h"

namespace sluice {
namespace {

constexpr float kNoScore = -std::numeric_limits<float>::infinity();
// Query rows whose scores against one page are held at a time (a multiple of the products' 6).
constexpr int64_t kQueryRows = 24;
// Heads of a generated row whose scores against one page are held at a time: with that page's
// latents they stay in the first two caches.
constexpr int64_t kScoreHeads = 16;
// Heads of a generated row that a lane takes through the pages together, so that it reads the pages
// once for all of them.
constexpr int64_t kAbsorbedHeads = 64;
// Generated rows whose absorbed queries are held at a time; more of them take turns.
constexpr int64_t kAbsorbedRows = 64;

int64_t PageCount(int64_t positions) { return (positions + kKvPageTokens - 1) / kKvPageTokens; }

// Values of so many heads' absorbed queries in the order of BlockNarrowDots.
int64_t NarrowHeads(int64_t heads, int64_t width) {
  return (heads + 3) / 4 * 4 * ((width + 7) / 8 * 8);
}

// The scratch memory of one lane. Offsets depend on the shape and the rows only, so MlaScratchBytes
// and the lanes count alike.
struct PageScratch {
  PageScratch(const MlaShape& s, int64_t rows, float* memory) : memory_(memory) {
    // Expanded form: a page of latents, of [k_nope | v] and of keys with tokens side by side.
    latents = Take(kKvPageTokens * (s.latent + s.rope));
    expanded = Take(kKvPageTokens * (s.nope + s.value));
    keys = Take((s.nope + s.rope) * kKvPageTokens);
    top = Take(rows);
    sum = Take(rows);
    // Both: scores of query rows or heads against a page, and their factors.
    scores = Take(std::max(kQueryRows, kScoreHeads) * kKvPageTokens);
    factors = Take(std::max(kQueryRows, kScoreHeads));
    // Absorbed form: what heads have summed; their queries as bfloat16s; queries and outputs of one
    // head of all rows.
    gathered = Take(std::min(s.heads, kAbsorbedHeads) * s.latent);
    narrow = reinterpret_cast<Bf16*>(
        Take(NarrowHeads(std::min(s.heads, kAbsorbedHeads), s.latent + s.rope) / 2));
    queries = Take(std::min(rows, kAbsorbedRows) * s.nope);
    outputs = Take(std::min(rows, kAbsorbedRows) * s.value);
  }
  int64_t floats() const { return used_; }

  float *latents, *expanded, *keys, *top, *sum, *scores, *factors, *gathered, *queries, *outputs;
  Bf16* narrow;

 private:
  float* Take(int64_t count) {
    float* at = memory_ ? memory_ + used_ : nullptr;
    used_ += (count + 15) / 16 * 16;
    return at;
  }
  float* memory_;
  int64_t used_ = 0;
};

// A generated row of the step.
struct AbsorbedRow {
  int64_t row, position;
  const int32_t* pages;
};

class Step {
 public:
  Step(const MlaArgs& args, Exec& exec, const BlockOps& ops, void (*panel)(const PanelProduct&),
       void (*narrow_dots)(const BlockNarrowDots&))
      : args_(args),
        shape_(args.shape),
        exec_(exec),
        ops_(ops),
        panel_(panel),
        round_(args.rounding == Rounding::kBf16),
        narrow_cache_(args.cache.dtype == DType::kBf16),
        narrow_dots_(narrow_cache_ ? narrow_dots : nullptr),
        cached_width_(shape_.latent + shape_.rope),
        absorbed_width_(shape_.heads * cached_width_) {}

  void Run() {
    Arena::Scope scope(exec_.scratch);
    lane_floats_ = PageScratch(shape_, args_.q.dim(0), nullptr).floats();
    lanes_ = exec_.scratch.Allocate<float>(lane_floats_ * exec_.team.lanes());
    bool any_prompt = false;
    int64_t generated = 0;
    for (const MlaSequence& s : args_.sequences) {
      any_prompt = any_prompt || PromptRows(s) > 0;
      generated += s.row_count - PromptRows(s);
    }
    if (any_prompt) RunExpanded();
    if (generated > 0) RunAbsorbed(generated);
  }

 private:
  static int64_t PromptRows(const MlaSequence& s) {
    return std::clamp<int64_t>(s.prompt_length - s.position_begin, 0, s.row_count);
  }
  PageScratch Scratch(int lane) const {
    return PageScratch(shape_, args_.q.dim(0), lanes_ + lane * lane_floats_);
  }
  const std::byte* Page(const int32_t* pages, int64_t page_idx) const {
    return args_.cache.base + pages[page_idx] * args_.cache.page_stride;
  }
  // y = round(x W) for `rows` rows, all outputs.
  void Multiply(const float* x, int64_t x_stride, int64_t rows, const PackedMatrix& weight,
                float* y, int64_t y_stride) const {
    panel_({.x = x,
            .x_stride = x_stride,
            .rows = rows,
            .weight = &weight,
            .panel_begin = 0,
            .panel_end = weight.panels(),
            .rounding = args_.rounding,
            .y = y,
            .y_stride = y_stride});
  }

  // ---- prompt positions ----

  // Splits (sequence, head) over the lanes; with fewer heads than lanes also each sequence's rows,
  // which then expand the pages once a part.
  void RunExpanded() {
    const int lanes = exec_.team.lanes();
    const int64_t parts = (lanes + shape_.heads - 1) / shape_.heads;
    const double expand =
        double(kKvPageTokens) * double(shape_.latent * (shape_.nope + shape_.value));
    const double attend = double(shape_.nope + shape_.rope + shape_.value);
    const auto cost = [&](int64_t i) {
      const MlaSequence s = PromptPart(args_.sequences[i / parts], i % parts, parts);
      const double rows = double(s.row_count), begin = double(s.position_begin);
      if (s.row_count == 0) return 0.0;
      return double(PageCount(s.position_begin + s.row_count)) * expand +
             rows * (begin + rows / 2) * attend;
    };
    exec_.team.Run([&](int lane) {
      ForHeadShares(static_cast<int64_t>(args_.sequences.size()) * parts, shape_.heads, lane, lanes,
                    cost, [&](int64_t i, int64_t begin, int64_t end) {
                      const MlaSequence s =
                          PromptPart(args_.sequences[i / parts], i % parts, parts);
                      for (int64_t h = begin; h < end; ++h) ExpandedHead(s, h, Scratch(lane));
                    });
    });
  }

  // One of `parts` parts of a sequence's prompt rows, as a sequence of prompt rows only. A part of
  // a short chunk is not worth its expansions: then the first part is everything.
  static MlaSequence PromptPart(MlaSequence s, int64_t part, int64_t parts) {
    s.row_count = PromptRows(s);
    if (s.row_count < parts * kKvPageTokens) parts = 1;
    const int64_t begin = part < parts ? s.row_count * part / parts : s.row_count;
    const int64_t end = part < parts ? s.row_count * (part + 1) / parts : s.row_count;
    s.row_begin += begin;
    s.position_begin += begin;
    s.row_count = end - begin;
    return s;
  }

  // All rows of a (part of a) sequence, one head: page by page, so that a page is expanded once.
  void ExpandedHead(const MlaSequence& s, int64_t head, const PageScratch& scratch) {
    const int64_t rows = s.row_count, length = s.position_begin + rows;
    std::fill_n(scratch.top, rows, kNoScore);
    std::fill_n(scratch.sum, rows, 0.0f);
    for (int64_t page = 0; page < PageCount(length); ++page) {
      const int64_t page_begin = page * kKvPageTokens;
      const int64_t tokens = std::min(kKvPageTokens, length - page_begin);
      ExpandPage(Page(s.pages, page), tokens, head, scratch);
      const int64_t first = std::max<int64_t>(0, page_begin - s.position_begin);
      for (int64_t r = first; r < rows; r += kQueryRows)
        AttendPage(s, head, r, std::min(kQueryRows, rows - r), page_begin, tokens, scratch);
    }
    for (int64_t r = 0; r < rows; ++r)
      ops_.divide(&args_.out(s.row_begin + r, head, 0), shape_.value, scratch.sum[r], round_);
  }

  // [k_nope | v] of a page's first `tokens` tokens, and their keys [dimension][token].
  void ExpandPage(const std::byte* page, int64_t tokens, int64_t head, const PageScratch& scratch) {
    const int64_t width = shape_.nope + shape_.value;
    ops_.widen(page, narrow_cache_, tokens * cached_width_, scratch.latents);
    Multiply(scratch.latents, cached_width_, tokens, args_.weights->expand(head), scratch.expanded,
             width);
    ops_.transpose(scratch.expanded, width, tokens, shape_.nope, scratch.keys, kKvPageTokens);
    ops_.transpose(scratch.latents + shape_.latent, cached_width_, tokens, shape_.rope,
                   scratch.keys + shape_.nope * kKvPageTokens, kKvPageTokens);
  }

  // Adds the page that begins at position `page_begin` to rows [first, first + rows) of a head.
  void AttendPage(const MlaSequence& s, int64_t head, int64_t first, int64_t rows,
                  int64_t page_begin, int64_t tokens, const PageScratch& scratch) {
    const int64_t row = s.row_begin + first, position = s.position_begin + first;
    ops_.product({rows, tokens, shape_.nope + shape_.rope, &args_.q(row, head, 0),
                  args_.q.stride(0), 1, scratch.keys, false, kKvPageTokens, scratch.scores,
                  kKvPageTokens, nullptr});
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t seen = std::min(kKvPageTokens, position + r + 1 - page_begin);
      scratch.factors[r] = ops_.softmax_page(scratch.scores + r * kKvPageTokens, seen, args_.scale,
                                             0, scratch.top + first + r, scratch.sum + first + r);
    }
    // Rows before the page's last token see one token more than the row before; the others all.
    const int64_t diagonal =
        std::clamp<int64_t>(page_begin + kKvPageTokens - 1 - position, 0, rows);
    BlockProduct values = {diagonal,
                           shape_.value,
                           position + 1 - page_begin,
                           scratch.scores,
                           kKvPageTokens,
                           1,
                           scratch.expanded + shape_.nope,
                           false,
                           shape_.nope + shape_.value,
                           &args_.out(row, head, 0),
                           args_.out.stride(0),
                           page_begin == 0 ? nullptr : scratch.factors};
    if (diagonal > 0) CausalProduct(ops_, values);
    if (diagonal == rows) return;
    values.rows = rows - diagonal;
    values.depth = kKvPageTokens;
    values.a += diagonal * kKvPageTokens;
    values.c += diagonal * values.c_row;
    if (values.row_scale) values.row_scale += diagonal;
    ops_.product(values);
  }

  // ---- generated positions ----

  void RunAbsorbed(int64_t generated) {
    const int64_t rows_max = std::min(generated, kAbsorbedRows);
    absorbed_rows_ = exec_.scratch.Allocate<AbsorbedRow>(rows_max);
    absorbed_ = exec_.scratch.Allocate<float>(rows_max * absorbed_width_);
    int64_t count = 0;
    for (const MlaSequence& s : args_.sequences)
      for (int64_t r = PromptRows(s); r < s.row_count; ++r) {
        absorbed_rows_[count++] = {s.row_begin + r, s.position_begin + r, s.pages};
        if (count == rows_max) AbsorbedBatch(std::exchange(count, 0));
      }
    if (count > 0) AbsorbedBatch(count);
  }

  void AbsorbedBatch(int64_t rows) {
    const int lanes = exec_.team.lanes();
    const auto cost = [&](int64_t i) { return double(absorbed_rows_[i].position + 1); };
    exec_.team.Run([&](int lane) {
      const PageScratch scratch = Scratch(lane);
      const int64_t begin = shape_.heads * lane / lanes, end = shape_.heads * (lane + 1) / lanes;
      for (int64_t h = begin; h < end; ++h) AbsorbQueries(rows, h, scratch);
      exec_.team.Barrier();
      ForHeadShares(rows, shape_.heads, lane, lanes, cost,
                    [&](int64_t i, int64_t head_begin, int64_t head_end) {
                      for (int64_t h = head_begin; h < head_end; h += kAbsorbedHeads)
                        AbsorbedHeads(i, h, std::min(kAbsorbedHeads, head_end - h), scratch);
                    });
      exec_.team.Barrier();
      for (int64_t h = begin; h < end; ++h) AbsorbedOutputs(rows, h, scratch);
    });
  }

  // What a head of a batch's row holds: [ql | q_rope], later [ol | ...].
  float* Absorbed(int64_t i, int64_t head) const {
    return absorbed_ + i * absorbed_width_ + head * cached_width_;
  }

  void AbsorbQueries(int64_t rows, int64_t head, const PageScratch& scratch) {
    for (int64_t i = 0; i < rows; ++i) {
      const float* q = &args_.q(absorbed_rows_[i].row, head, 0);
      std::copy_n(q, shape_.nope, scratch.queries + i * shape_.nope);
      std::copy_n(q + shape_.nope, shape_.rope, Absorbed(i, head) + shape_.latent);
    }
    Multiply(scratch.queries, shape_.nope, rows, args_.weights->absorb_key(head), Absorbed(0, head),
             absorbed_width_);
  }

  // Heads [head, head + heads) of a batch's row i: ql becomes ol.
  void AbsorbedHeads(int64_t i, int64_t head, int64_t heads, const PageScratch& scratch) {
    const AbsorbedRow& row = absorbed_rows_[i];
    float top[kAbsorbedHeads], sum[kAbsorbedHeads] = {};
    std::fill_n(top, heads, kNoScore);
    if (narrow_dots_)
      PackNarrowRowsAvx512(Absorbed(i, head), cached_width_, heads, cached_width_, scratch.narrow);
    for (int64_t page = 0; page <= row.position / kKvPageTokens; ++page) {
      const std::byte* cached = Page(row.pages, page);
      const int64_t seen = std::min(kKvPageTokens, row.position + 1 - page * kKvPageTokens);
      for (int64_t h = 0; h < heads; h += kScoreHeads) {
        const int64_t group = std::min(kScoreHeads, heads - h);
        if (narrow_dots_)
          narrow_dots_({group, seen, cached_width_, scratch.narrow + NarrowHeads(h, cached_width_),
                        cached, cached_width_, scratch.scores, kKvPageTokens});
        else
          ops_.dots({group, seen, cached_width_, Absorbed(i, head + h), cached_width_, cached,
                     narrow_cache_, cached_width_, scratch.scores, kKvPageTokens});
        for (int64_t g = 0; g < group; ++g)
          scratch.factors[g] = ops_.softmax_page(scratch.scores + g * kKvPageTokens, seen,
                                                 args_.scale, 0, top + h + g, sum + h + g);
        ops_.product({group, shape_.latent, seen, scratch.scores, kKvPageTokens, 1, cached,
                      narrow_cache_, cached_width_, scratch.gathered + h * shape_.latent,
                      shape_.latent, page == 0 ? nullptr : scratch.factors});
      }
    }
    for (int64_t h = 0; h < heads; ++h) {
      ops_.divide(scratch.gathered + h * shape_.latent, shape_.latent, sum[h], round_);
      std::copy_n(scratch.gathered + h * shape_.latent, shape_.latent, Absorbed(i, head + h));
    }
  }

  void AbsorbedOutputs(int64_t rows, int64_t head, const PageScratch& scratch) {
    Multiply(Absorbed(0, head), absorbed_width_, rows, args_.weights->absorb_value(head),
             scratch.outputs, shape_.value);
    for (int64_t i = 0; i < rows; ++i)
      std::copy_n(scratch.outputs + i * shape_.value, shape_.value,
                  &args_.out(absorbed_rows_[i].row, head, 0));
  }

  const MlaArgs& args_;
  const MlaShape& shape_;
  Exec& exec_;
  const BlockOps& ops_;
  void (*const panel_)(const PanelProduct&);
  const bool round_, narrow_cache_;
  void (*const narrow_dots_)(const BlockNarrowDots&);  // or none
  const int64_t cached_width_;                         // values a cached token: latent + rope
  const int64_t absorbed_width_;                       // of all heads of a row
  int64_t lane_floats_ = 0;
  float* lanes_ = nullptr;
  AbsorbedRow* absorbed_rows_ = nullptr;
  float* absorbed_ = nullptr;  // [rows][heads][latent + rope]
};

}  // namespace

void MlaOverPages(const MlaArgs& args, Exec& exec, const BlockOps& ops,
                  void (*panel)(const PanelProduct&), void (*narrow_dots)(const BlockNarrowDots&)) {
  Step(args, exec, ops, panel, narrow_dots).Run();
}

uint64_t MlaScratchBytes(const MlaShape& shape, int64_t rows, int lanes) {
  const auto bytes = [](int64_t count, size_t size) {
    return (static_cast<uint64_t>(count) * size + 63) / 64 * 64;
  };
  const int64_t batch = std::min(rows, kAbsorbedRows);
  return bytes(PageScratch(shape, rows, nullptr).floats() * lanes, sizeof(float)) +
         bytes(batch, sizeof(AbsorbedRow)) +
         bytes(batch * shape.heads * (shape.latent + shape.rope), sizeof(float));
}

}  // namespace sluice
