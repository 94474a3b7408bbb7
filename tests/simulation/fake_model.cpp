#include "fake_model.h"

#include <cstring>
#include <limits>
#include <new>
#include <thread>

namespace sluice {
namespace {

constexpr int64_t kLayers = 2;
constexpr uint64_t kStart = 0x5EED;
constexpr uint64_t kPoisoned = 0xDEAD;  // in a hidden row's last field

uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t z = (a ^ (b + 0x9E3779B97F4A7C15ull)) * 0xBF58476D1CE4E5B9ull;
  z ^= z >> 29;
  z *= 0x94D049BB133111EBull;
  return z ^ (z >> 32);
}

uint64_t* PageRow(const KvPagePool& kv, const SequenceStep& sequence, int64_t layer,
                  int64_t position) {
  const int32_t page = sequence.pages[position / kPageTokens];
  CHECK_GE(page, 0);
  CHECK_LT(page, kv.page_count());
  return reinterpret_cast<uint64_t*>(kv.LayerBase(layer) + page * kv.page_stride()) +
         position % kPageTokens;
}

}  // namespace

FakeModel::FakeModel(int64_t vocab) {
  info_.architecture = "FakeForCausalLM";
  info_.vocab_size = vocab;
  info_.hidden_size = 5;
  info_.layers = kLayers + 1;
  info_.linear_layers = 1;
  info_.max_position = 1 << 20;
  layout_.kv_layers = kLayers;
  layout_.kv_row_bytes = 8;
  layout_.recurrent_layers = 1;
  layout_.heads = 1;
  layout_.key_dim = 4;
  layout_.value_dim = 4;
  layout_.block_tokens = 64;
}

uint64_t FakeModel::ScratchBytes(int64_t, int64_t, int) const { return 0; }

// The hash that this row can read, after writing its own share.
uint64_t FakeModel::RunRow(const Batch& batch, const SequenceStep& sequence, int64_t row,
                           const CachePools& pools) const {
  const int64_t position = sequence.position_begin + row - sequence.row_begin;
  CHECK_EQ(batch.positions[row], position);
  const uint64_t origin = position < sequence.prompt_length ? 1 : 2;
  const uint64_t token = Mix(static_cast<uint64_t>(batch.tokens[row]), origin);

  auto* state = reinterpret_cast<uint64_t*>(pools.recurrent->State(sequence.slot, 0));
  if (position == 0) state[0] = state[1] = 0;  // a new request's slot is not cleared for it
  state[0] = Mix(Mix(state[0], state[1]), token);
  state[1] += 1;  // positions seen: a repeated or skipped one shows

  uint64_t read = Mix(state[0], state[1]);
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    const uint64_t before =
        position == 0 ? kStart + layer : *PageRow(*pools.kv, sequence, layer, position - 1);
    *PageRow(*pools.kv, sequence, layer, position) = Mix(before, Mix(token, position));
    read = Mix(read, *PageRow(*pools.kv, sequence, layer, position));
    for (int64_t back = 1; back <= position; back *= 3)  // and further rows through the page table
      read = Mix(read, *PageRow(*pools.kv, sequence, layer, position - back));
  }
  return read;
}

void FakeModel::Forward(const Batch& batch, const CachePools& pools, View<float, 2> hidden,
                        Exec&) const {
  if (forwards_++ == throw_at_step) throw std::bad_alloc();
  if (step_us > 0) std::this_thread::sleep_for(std::chrono::microseconds(step_us));
  CHECK(!batch.sequences.empty());
  std::vector<bool> page_seen(pools.kv->page_count()), slot_seen(pools.recurrent->slot_count());
  std::vector<uint64_t> read(batch.tokens.size());
  int64_t rows = 0;
  for (const SequenceStep& sequence : batch.sequences) {
    CHECK_EQ(sequence.row_begin, rows);
    CHECK_GE(sequence.row_count, 1);
    rows += sequence.row_count;
    CHECK(!slot_seen[sequence.slot]);  // no slot and no page has two writers
    slot_seen[sequence.slot] = true;
    const int64_t last = sequence.position_begin + sequence.row_count - 1;
    for (int64_t page = 0; page <= last / kPageTokens; ++page) {
      CHECK(!page_seen[sequence.pages[page]]);
      page_seen[sequence.pages[page]] = true;
    }
    for (int64_t row = sequence.row_begin; row < rows; ++row)
      read[row] = RunRow(batch, sequence, row, pools);
  }
  CHECK_EQ(rows, static_cast<int64_t>(batch.tokens.size()));
  for (size_t i = 0; i < batch.output_rows.size(); ++i) {
    const int32_t row = batch.output_rows[i];
    for (int part = 0; part < 4; ++part)  // 16 bits a field: exact in a float
      hidden(i, part) = static_cast<float>(read[row] >> (16 * part) & 0xFFFF);
    hidden(i, 4) = batch.tokens[row] == poison_token ? static_cast<float>(kPoisoned) : 0;
  }
}

void FakeModel::Logits(View<const float, 2> hidden, View<float, 2> logits, Exec&) const {
  CHECK_GE(hidden.dim(0), 1);
  for (int64_t i = 0; i < hidden.dim(0); ++i) {
    uint64_t read = 0;
    for (int part = 0; part < 4; ++part)
      read |= static_cast<uint64_t>(hidden(i, part)) << (16 * part);
    for (int64_t id = 0; id < info_.vocab_size; ++id)
      logits(i, id) = static_cast<float>(Mix(read, id) >> 48) * 0x1p-13f - 4;
    if (hidden(i, 4) == static_cast<float>(kPoisoned))
      logits(i, 7) = std::numeric_limits<float>::quiet_NaN();
  }
}

}  // namespace sluice
