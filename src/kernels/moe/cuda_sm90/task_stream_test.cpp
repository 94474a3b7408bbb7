// A model of the fused kernel's agents on the CPU: CTAs that take product tasks ahead of running
// them, warps that take row items, counters that they wait for. Agents move in random order with
// random delays; what each item reads and writes is checked against what was really written.
#include "kernels/moe/cuda_sm90/task_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <vector>

#include "base/random.h"

namespace sluice::moe_sm90 {
namespace {

struct Shape {
  int ranks, experts, top_k, hidden, intermediate, shared_intermediate;  // 0: no shared expert
  std::vector<int> tokens;                                               // of each rank
  bool quantized;
  int lag_tasks, ring_units, ctas, row_warps;  // of a rank
  int tasks_ahead;
};

// Destination of one sent row.
struct Sent {
  int token, slot, rank, row, block;
};

class Rank {
 public:
  Work work = {};
  std::vector<int> expert_rows;
  std::vector<Sent> sends;
  // Counters, as the kernel has them.
  int next_task = 0, next_item = 0;
  std::vector<int> x_ready, arrived, gate_up_done, quantized, down_done, token_done;
  // What was really written.
  std::vector<int> row_writes;
  std::vector<std::pair<int, int>> row_origin;  // [row] rank, token
  std::vector<int> ring_block;                  // [ring_units * kUnitBlocks] block that is there
  std::map<std::tuple<Product, int, int>, int> tiles;
  std::vector<std::set<int>> quantized_rows;  // [block]
  std::vector<std::vector<int>> token_tiles;  // [token][narrow tile of hidden] rows added
  std::map<std::pair<int, int>, int> combined;
  std::vector<Unit> units;

  int BlockOf(int row, int expert) const {
    for (const Unit& unit : units)
      if (unit.expert == expert && row >= unit.row && row < unit.row + unit.rows)
        return unit.block + (row - unit.row) / kBlockRows;
    ADD_FAILURE() << "row " << row << " of expert " << expert << " is in no unit";
    return 0;
  }
  const Unit& UnitOfBlock(int block) const {
    for (const Unit& unit : units)
      if (block >= unit.block && block < unit.block + unit.blocks()) return unit;
    ADD_FAILURE() << "block " << block << " is in no unit";
    return units.front();
  }
};

class Model {
 public:
  Model(const Shape& shape, uint64_t seed, const std::vector<std::vector<int>>& ids)
      : shape_(shape), random_(seed), ranks_(shape.ranks) {
    const int share = shape.experts / shape.ranks;
    for (int r = 0; r < shape.ranks; ++r) {
      Rank& rank = ranks_[r];
      rank.expert_rows.resize(share);
      for (const auto& of_rank : ids)
        for (const int e : of_rank)
          if (e / share == r) ++rank.expert_rows[e % share];
      rank.work = {.experts = share,
                   .expert_rows = rank.expert_rows.data(),
                   .tokens = shape.tokens[r],
                   .pairs = shape.tokens[r] * shape.top_k,
                   .shared = shape.shared_intermediate > 0,
                   .quantized = shape.quantized,
                   .hidden = shape.hidden,
                   .intermediate = shape.intermediate,
                   .shared_intermediate = shape.shared_intermediate,
                   .lag_tasks = shape.lag_tasks,
                   .ring_units = shape.ring_units};
      UnitWalker walker(rank.work);
      for (; !walker.done(); walker.Next(rank.work)) rank.units.push_back(walker.unit());
      const int rows = std::accumulate(rank.expert_rows.begin(), rank.expert_rows.end(), 0);
      rank.x_ready.resize(CeilDiv(shape.tokens[r], kBlockRows));
      for (auto* counter : {&rank.arrived, &rank.gate_up_done, &rank.quantized})
        counter->resize(walker.unit().block);
      rank.quantized_rows.resize(walker.unit().block);
      rank.down_done.resize(rank.units.size());
      rank.token_done.resize(shape.tokens[r]);
      rank.token_tiles.assign(shape.tokens[r], std::vector<int>(DownDone(rank.work)));
      rank.row_writes.resize(rows);
      rank.row_origin.resize(rows);
      rank.ring_block.assign(shape.ring_units * kUnitBlocks, -1);
    }
    Place(ids);
    for (int r = 0; r < shape.ranks; ++r)
      for (int c = 0; c < shape.ctas; ++c) {
        agents_.push_back(Agent(r, c, true, ranks_[r].work));
        for (int w = 0; w < shape.row_warps; ++w)
          agents_.push_back(Agent(r, c, false, ranks_[r].work));
      }
  }

  // Until every agent is done. `slow`: an agent that moves only when no other can.
  void Run(std::optional<size_t> slow) {
    std::vector<size_t> order(agents_.size());
    std::iota(order.begin(), order.end(), 0);
    for (;;) {
      for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_.Below(i)]);
      bool moved = false, left = false;
      for (const size_t i : order) {
        left |= !agents_[i].done;
        if (slow && i == *slow) continue;
        if (random_.Below(3) != 0) moved |= Step(agents_[i]);
        if (testing::Test::HasFailure()) return;
      }
      if (!moved && slow) moved = Step(agents_[*slow]);
      if (!left) return;
      if (!moved &&
          !std::any_of(order.begin(), order.end(), [&](size_t i) { return Step(agents_[i]); })) {
        ADD_FAILURE() << "nobody can go on";
        return;
      }
    }
  }

  void ExpectAllDone() const {
    for (const Rank& rank : ranks_) {
      for (const int writes : rank.row_writes) EXPECT_EQ(writes, 1);
      size_t tiles = 0;
      for (const Unit& unit : rank.units) {
        for (int b = unit.block; b < unit.block + unit.blocks(); ++b) {
          for (int t = 0; t < GateUpTiles(rank.work, unit); ++t, ++tiles)
            EXPECT_TRUE(rank.tiles.contains({Product::kGateUp, b, t}));
          for (int t = 0; t < DownTiles(rank.work, unit); ++t, ++tiles)
            EXPECT_TRUE(rank.tiles.contains({Product::kDown, b, t}));
        }
      }
      EXPECT_EQ(rank.tiles.size(), tiles);
      for (const auto& [tile, times] : rank.tiles) EXPECT_EQ(times, 1);
      const int columns = CeilDiv(shape_.hidden, kCombineColumns);
      EXPECT_EQ(rank.combined.size(), static_cast<size_t>(rank.work.tokens * columns));
      for (const auto& [at, times] : rank.combined) EXPECT_EQ(times, 1);
      const int rows = shape_.top_k + rank.work.shared;
      for (const auto& token : rank.token_tiles)
        for (const int added : token) EXPECT_EQ(added, rows);
    }
  }

 private:
  struct Agent {
    int rank, cta;
    bool products;
    int tokens_next;  // the CTA's share of the quantisation of x comes first
    TaskWalker tasks;
    RowWalker items;
    std::deque<Task> queue;
    std::optional<RowItem> item;
    uint64_t delay = 0;
    bool stream_over = false, done = false;

    Agent(int r, int c, bool p, const Work& work)
        : rank(r), cta(c), products(p), tokens_next(c), tasks(work), items(work) {}
  };

  // Where each pair goes, as the kernel's prefix sums have it: experts' rows in order of ranks,
  // tokens and slots.
  void Place(const std::vector<std::vector<int>>& ids) {
    const int share = shape_.experts / shape_.ranks;
    std::vector<int> next(shape_.experts);
    for (int e = 0; e < shape_.experts; ++e) {
      const Rank& owner = ranks_[e / share];
      next[e] =
          std::accumulate(owner.expert_rows.begin(), owner.expert_rows.begin() + e % share, 0);
    }
    for (int r = 0; r < shape_.ranks; ++r) {
      std::vector<std::vector<Sent>> by_order(shape_.experts);
      for (size_t p = 0; p < ids[r].size(); ++p) {
        const int e = ids[r][p], order = SendOrder(e, r, shape_.ranks, shape_.experts);
        const int row = next[e]++;
        by_order[order].push_back({static_cast<int>(p) / shape_.top_k,
                                   static_cast<int>(p) % shape_.top_k, e / share, row,
                                   ranks_[e / share].BlockOf(row, e % share)});
      }
      for (const auto& list : by_order)
        ranks_[r].sends.insert(ranks_[r].sends.end(), list.begin(), list.end());
    }
  }

  bool Step(Agent& agent) {
    if (agent.done) return false;
    if (agent.delay > 0) {
      --agent.delay;
      return true;
    }
    const bool moved = Move(agent);
    if (moved && random_.Below(8) == 0) agent.delay = random_.Below(20);
    return moved;
  }

  bool Move(Agent& agent) {
    Rank& rank = ranks_[agent.rank];
    if (agent.products) {
      if (agent.tokens_next < rank.work.tokens) {
        ++rank.x_ready[agent.tokens_next / kBlockRows];
        agent.tokens_next += shape_.ctas;
        return true;
      }
      if (const auto moved = StepTasks(agent, rank)) return *moved;
    } else if (Prologue(agent)) {
      return false;
    }
    return StepItems(agent, rank);
  }

  // Whether the agent's CTA still quantises.
  bool Prologue(const Agent& agent) const {
    for (const Agent& other : agents_)
      if (other.products && other.rank == agent.rank && other.cta == agent.cta)
        return other.tokens_next < ranks_[agent.rank].work.tokens;
    return false;
  }

  // Nothing once the stream is over: a CTA without tasks helps with row items.
  std::optional<bool> StepTasks(Agent& agent, Rank& rank) {
    bool moved = false;
    while (!agent.stream_over && static_cast<int>(agent.queue.size()) <= shape_.tasks_ahead) {
      Task task;
      moved = true;
      if (agent.tasks.Seek(rank.next_task++, task))
        agent.queue.push_back(task);
      else
        agent.stream_over = true;
    }
    if (agent.queue.empty()) return std::nullopt;
    if (!Ready(rank, agent.queue.front())) return moved;
    Apply(rank, agent.queue.front());
    agent.queue.pop_front();
    return true;
  }

  bool StepItems(Agent& agent, Rank& rank) {
    bool moved = false;
    if (!agent.item) {
      agent.item.emplace();
      moved = true;
      if (!agent.items.Seek(rank.next_item++, *agent.item)) {
        agent.done = true;
        return true;
      }
    }
    if (!Ready(rank, *agent.item)) return moved;
    Apply(agent.rank, rank, *agent.item);
    agent.item.reset();
    return true;
  }

  // ---- The kernel's waits. ----

  static bool Ready(const Rank& rank, const Task& task) {
    const Unit& unit = rank.units[task.unit];
    if (task.product == Product::kGateUp)
      return (task.expert < 0 ? rank.x_ready : rank.arrived)[task.block] == task.rows &&
             (task.recycled < 0 || rank.down_done[task.recycled] == task.recycled_done);
    if (rank.work.quantized) return rank.quantized[task.block] == task.rows;
    return rank.gate_up_done[task.block] == GateUpDone(rank.work, unit);
  }
  bool Ready(const Rank& rank, const RowItem& item) const {
    switch (item.kind) {
      case RowKind::kSend:
        for (int i = item.begin; i < item.begin + item.count; ++i) {
          const int block = rank.sends[i].token / kBlockRows;
          if (rank.x_ready[block] < std::min(kBlockRows, rank.work.tokens - block * kBlockRows))
            return false;
        }
        return true;
      case RowKind::kQuantize:
        return rank.gate_up_done[item.block] == GateUpDone(rank.work, rank.UnitOfBlock(item.block));
      case RowKind::kCombine:
        return rank.token_done[item.begin] ==
               DownDone(rank.work) * (shape_.top_k + rank.work.shared);
    }
    return false;
  }

  // ---- What items read and write. ----

  void Apply(Rank& rank, const Task& task) {
    const Unit& unit = rank.units[task.unit];
    ++rank.tiles[{task.product, task.block, task.tile}];
    int& in_ring = rank.ring_block[task.ring_row / kBlockRows];
    if (task.product == Product::kGateUp) {
      for (int r = task.row; task.expert >= 0 && r < task.row + task.rows; ++r) {
        ASSERT_EQ(rank.row_writes[r], 1);
      }
      if (in_ring != task.block) {
        if (in_ring >= 0) {
          const Unit& old = rank.UnitOfBlock(in_ring);
          for (int t = 0; t < DownTiles(rank.work, old); ++t)
            ASSERT_TRUE(rank.tiles.contains({Product::kDown, in_ring, t}))
                << "unit " << task.unit << " takes the place of unit " << old.idx << " too early";
        }
        in_ring = task.block;
      }
      rank.gate_up_done[task.block] += TileWeight(unit);
      return;
    }
    ASSERT_EQ(in_ring, task.block);
    for (int t = 0; t < GateUpTiles(rank.work, unit); ++t)
      ASSERT_TRUE(rank.tiles.contains({Product::kGateUp, task.block, t}));
    if (rank.work.quantized) {
      ASSERT_EQ(rank.quantized_rows[task.block].size(), static_cast<size_t>(task.rows));
    }
    ++rank.down_done[task.unit];
    for (int r = task.row; r < task.row + task.rows; ++r) {
      const auto [source, token] = task.expert < 0
                                       ? std::pair(static_cast<int>(&rank - ranks_.data()), r)
                                       : rank.row_origin[r];
      for (int i = 0; i < TileWeight(unit); ++i)
        ++ranks_[source].token_tiles[token][task.tile * TileWeight(unit) + i];
      ranks_[source].token_done[token] += TileWeight(unit);
    }
  }

  void Apply(int source, Rank& rank, const RowItem& item) {
    switch (item.kind) {
      case RowKind::kSend:
        for (int i = item.begin; i < item.begin + item.count; ++i) {
          const Sent& sent = rank.sends[i];
          Rank& owner = ranks_[sent.rank];
          ++owner.row_writes[sent.row];
          owner.row_origin[sent.row] = {source, sent.token};
          ++owner.arrived[sent.block];
        }
        return;
      case RowKind::kQuantize: {
        const Unit& unit = rank.UnitOfBlock(item.block);
        ASSERT_EQ(rank.ring_block[item.ring_row / kBlockRows], item.block);
        ASSERT_EQ(item.expert, unit.expert);
        for (int t = 0; t < GateUpTiles(rank.work, unit); ++t)
          ASSERT_TRUE(rank.tiles.contains({Product::kGateUp, item.block, t}));
        for (int i = 0; i < item.count; ++i)
          ASSERT_TRUE(rank.quantized_rows[item.block].insert(item.row + i).second);
        rank.quantized[item.block] += item.count;
        return;
      }
      case RowKind::kCombine:
        for (int c = item.column / kNarrowOutputs;
             c < std::min(item.column + kCombineColumns, shape_.hidden) / kNarrowOutputs; ++c)
          ASSERT_EQ(rank.token_tiles[item.begin][c], shape_.top_k + rank.work.shared);
        ++rank.combined[{item.begin, item.column}];
        return;
    }
  }

  Shape shape_;
  SplitMix64 random_;
  std::vector<Rank> ranks_;
  std::vector<Agent> agents_;
};

std::vector<std::vector<int>> RandomIds(SplitMix64& random, const Shape& shape) {
  // Uniform, all to one expert, or to the experts of one rank.
  const uint64_t kind = random.Below(4);
  const int share = shape.experts / shape.ranks;
  const int hot = static_cast<int>(random.Below(shape.experts));
  std::vector<std::vector<int>> ids(shape.ranks);
  for (int r = 0; r < shape.ranks; ++r)
    for (int i = 0; i < shape.tokens[r] * shape.top_k; ++i)
      ids[r].push_back(kind == 0   ? hot
                       : kind == 1 ? hot / share * share + static_cast<int>(random.Below(share))
                                   : static_cast<int>(random.Below(shape.experts)));
  return ids;
}

Shape RandomShape(SplitMix64& random, int ranks) {
  Shape shape{.ranks = ranks,
              .experts = ranks * static_cast<int>(1 + random.Below(4)),
              .top_k = static_cast<int>(1 + random.Below(3)),
              .hidden = 256 * static_cast<int>(1 + random.Below(5)),
              .intermediate = 128 * static_cast<int>(1 + random.Below(3)),
              .shared_intermediate = 128 * static_cast<int>(random.Below(3)),
              .tokens = {},
              .quantized = random.Below(2) == 0,
              .lag_tasks = static_cast<int>(random.Below(40)),
              .ring_units = static_cast<int>(1 + random.Below(4)),
              .ctas = static_cast<int>(1 + random.Below(6)),
              .row_warps = static_cast<int>(1 + random.Below(3)),
              .tasks_ahead = static_cast<int>(random.Below(3))};
  // Often a few rows, sometimes units of several blocks, sometimes none.
  const uint64_t tokens_max = random.Below(3) == 0 ? 700 : 60;
  for (int r = 0; r < ranks; ++r)
    shape.tokens.push_back(random.Below(6) == 0 ? 0 : static_cast<int>(random.Below(tokens_max)));
  return shape;
}

void RunModel(uint64_t seed, int ranks, bool starved) {
  SplitMix64 random(seed);
  const Shape shape = RandomShape(random, ranks);
  SCOPED_TRACE(testing::Message() << "seed " << seed << ", ranks " << ranks << ", lag "
                                  << shape.lag_tasks << ", ring " << shape.ring_units << ", CTAs "
                                  << shape.ctas);
  Model model(shape, seed, RandomIds(random, shape));
  const auto agents = static_cast<uint64_t>(shape.ranks * shape.ctas * (1 + shape.row_warps));
  model.Run(starved ? std::optional<size_t>(random.Below(agents)) : std::nullopt);
  model.ExpectAllDone();
}

TEST(TaskStream, EveryTileIsProducedOnceAndNobodyWaitsForever) {
  for (const int ranks : {1, 2, 4, 8})
    for (uint64_t seed = 0; seed < 40 && !HasFailure(); ++seed)
      RunModel(seed * 8 + ranks, ranks, false);
}

TEST(TaskStream, OneAgentThatNearlyStandsStillStopsNobodyElseForever) {
  for (const int ranks : {1, 2, 4})
    for (uint64_t seed = 1000; seed < 1030 && !HasFailure(); ++seed) RunModel(seed, ranks, true);
}

TEST(TaskStream, EveryLagAndRingSizeComesToAnEnd) {
  SplitMix64 random(5);
  for (int ring = 1; ring <= 5; ++ring)
    for (const int lag : {0, 1, 2, 3, 7, 30, 1000}) {
      if (HasFailure()) return;
      Shape shape{.ranks = 1,
                  .experts = 6,
                  .top_k = 2,
                  .hidden = 512,
                  .intermediate = 128,
                  .shared_intermediate = 256,
                  .tokens = {90},
                  .quantized = ring % 2 == 0,
                  .lag_tasks = lag,
                  .ring_units = ring,
                  .ctas = 1 + lag % 4,
                  .row_warps = 1,
                  .tasks_ahead = 2};
      SCOPED_TRACE(testing::Message() << "lag " << lag << ", ring " << ring);
      Model model(shape, ring * 100 + lag, RandomIds(random, shape));
      model.Run(std::nullopt);
      model.ExpectAllDone();
    }
}

TEST(TaskStream, HasNothingToDoWithoutTokens) {
  Shape shape{.ranks = 2,
              .experts = 4,
              .top_k = 2,
              .hidden = 256,
              .intermediate = 128,
              .shared_intermediate = 128,
              .tokens = {0, 0},
              .quantized = true,
              .lag_tasks = 3,
              .ring_units = 2,
              .ctas = 2,
              .row_warps = 1,
              .tasks_ahead = 1};
  Model model(shape, 1, {{}, {}});
  model.Run(std::nullopt);
  model.ExpectAllDone();
}

TEST(TaskStream, SharedUnitsComeFirstAndFewRowsAreNarrow) {
  const std::vector<int> rows = {0, 64, 65, 1100};
  const Work work{.experts = 4,
                  .expert_rows = rows.data(),
                  .tokens = 200,
                  .pairs = 400,
                  .shared = true,
                  .quantized = false,
                  .hidden = 512,
                  .intermediate = 256,
                  .shared_intermediate = 128,
                  .lag_tasks = 4,
                  .ring_units = 3};
  std::vector<Unit> units;
  UnitWalker walker(work);
  for (; !walker.done(); walker.Next(work)) units.push_back(walker.unit());
  ASSERT_EQ(units.size(), 5u);
  const int experts[] = {-1, 1, 2, 3, 3}, begins[] = {0, 0, 64, 129, 1153};
  const int blocks[] = {0, 2, 3, 4, 12}, counts[] = {200, 64, 65, 1024, 76};
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(units[i].idx, i);
    EXPECT_EQ(units[i].expert, experts[i]);
    EXPECT_EQ(units[i].row, begins[i]);
    EXPECT_EQ(units[i].rows, counts[i]);
    EXPECT_EQ(units[i].block, blocks[i]);
    EXPECT_EQ(units[i].narrow, i == 1);
  }
  EXPECT_EQ(walker.unit().block, 13);
}

TEST(TaskStream, RanksSendToThemselvesFirstAndToEveryExpertOnce) {
  for (const int ranks : {1, 2, 4, 8}) {
    const int experts = 3 * ranks;
    for (int rank = 0; rank < ranks; ++rank) {
      std::set<int> seen;
      for (int order = 0; order < experts; ++order) {
        const int expert = ExpertOfSendOrder(order, rank, ranks, experts);
        EXPECT_EQ(SendOrder(expert, rank, ranks, experts), order);
        EXPECT_TRUE(expert >= 0 && expert < experts && seen.insert(expert).second);
      }
      EXPECT_EQ(ExpertOfSendOrder(0, rank, ranks, experts) / 3, rank);
    }
  }
}

}  // namespace
}  // namespace sluice::moe_sm90
