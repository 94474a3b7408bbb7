// Product tasks of the fused kernel: one thread fetches operands, two warpgroups multiply and write
// what comes out. Stages of shared memory and task slots go round between them.
#pragma once

#include "kernels/moe/cuda_sm90/fused_rows.cuh"

namespace sluice::moe_sm90 {

inline constexpr int kTaskSlots = 3;
inline constexpr int kGroupThreads = 128, kMathWarps = kMathGroups * kGroupThreads / kWarp;

struct FusedShared {
  uint8_t stages[kStages][kStageBytes];  // 1,024-byte aligned: the swizzle
  uint64_t full[kStages], empty[kStages];
  uint64_t task_full[kTaskSlots], task_empty[kTaskSlots];
  Task tasks[kTaskSlots];  // rows == 0: no more
  ExpertTables tables;
  // Here rather than in registers, of which the service warps have few:
  Work work;
  TaskWalker walker;
};

/// A place in a ring and how often it went round.
template <int kSlots>
struct RingPlace {
  int idx = 0;
  uint32_t parity = 0;
  __device__ void Next() {
    if (++idx == kSlots) {
      idx = 0;
      parity ^= 1;
    }
  }
};

__device__ inline void InitBarriers(FusedShared& s) {
  for (int i = 0; i < kStages; ++i) {
    BarrierInit(&s.full[i], 1);
    BarrierInit(&s.empty[i], kMathWarps);
  }
  for (int i = 0; i < kTaskSlots; ++i) {
    BarrierInit(&s.task_full[i], 1);
    BarrierInit(&s.task_empty[i], 1 + kMathWarps);
  }
  FenceBarrierInit();
}

/// One thread hands out the CTA's tasks.
__device__ inline void RunSchedule(const FusedParams& p, int rank, const Work& work,
                                   FusedShared& s) {
  s.walker = TaskWalker(work);
  RingPlace<kTaskSlots> slot;
  for (bool more = true; more; slot.Next()) {
    const int position = atomicAdd(p.ranks[rank].next_task, 1);
    Task task = {};
    more = s.walker.Seek(position, task);
    if (!more) task.rows = 0;
    Delay(p, position);
    BarrierWait(&s.task_empty[slot.idx], slot.parity ^ 1, p.fault, Waiting::kEmptyTask);
    s.tasks[slot.idx] = task;
    BarrierArrive(&s.task_full[slot.idx]);
  }
}

__device__ inline Task TakeTask(const FusedParams& p, FusedShared& s,
                                const RingPlace<kTaskSlots>& slot) {
  BarrierWait(&s.task_full[slot.idx], slot.parity, p.fault, Waiting::kFullTask);
  return s.tasks[slot.idx];
}

__device__ inline int IntermediateOf(const Work& work, const Task& task) {
  return task.expert < 0 ? work.shared_intermediate : work.intermediate;
}
/// Stages of 128 bytes of K, or of 256.
template <Element kElement>
__device__ int StagesOf(const Work& work, const Task& task) {
  const int k = task.product == Product::kGateUp ? work.hidden : IntermediateOf(work, task);
  return k * ElementBytes(kElement) / (task.narrow ? 2 * kStepBytes : kStepBytes);
}
/// Rows that a narrow tile multiplies.
__device__ inline int NarrowColumns(int rows) { return rows <= 16 ? 16 : rows <= 32 ? 32 : 64; }

// ---- Fetching ----

template <Element kElement>
struct Fetch {
  const CUtensorMap *weights, *rows;
  int weight_row, row, narrow_rows;
  bool narrow;

  static constexpr int kStepElements = kStepBytes / ElementBytes(kElement);

  __device__ Fetch(const FusedMaps& maps, const Work& work, const Task& task)
      : narrow_rows(NarrowColumns(task.rows)), narrow(task.narrow) {
    const bool gate_up = task.product == Product::kGateUp, shared = task.expert < 0;
    const int outputs = gate_up ? 2 * IntermediateOf(work, task) : work.hidden;
    weights = gate_up ? (shared ? &maps.shared_gate_up : &maps.gate_up)
                      : (shared ? &maps.shared_down : &maps.down);
    rows = gate_up ? (shared ? (narrow ? &maps.x_narrow : &maps.x)
                             : (narrow ? &maps.rows_narrow : &maps.rows))
                   : (narrow ? &maps.middle_narrow : &maps.middle);
    weight_row =
        (shared ? 0 : task.expert) * outputs + task.tile * (narrow ? kNarrowOutputs : kWideOutputs);
    row = gate_up ? task.row : task.ring_row;
  }

  /// Announces all bytes of the stage; `at` is its number.
  __device__ void Weights(uint8_t* stage, uint64_t* full, int at) const {
    if (!narrow) {
      BarrierArriveExpecting(full, kStageBytes);
      for (int half = 0; half < 2; ++half)
        CopyBox(stage + half * kWeightStageBytes / 2, weights, at * kStepElements,
                weight_row + half * kBlockRows, full, CachePolicy::kEvictNormal);
      return;
    }
    BarrierArriveExpecting(full, 2 * (kNarrowOutputs + narrow_rows) * kStepBytes);
    for (int half = 0; half < 2; ++half)
      CopyBox(stage + half * kWeightStageBytes / 2, weights, (2 * at + half) * kStepElements,
              weight_row, full, CachePolicy::kEvictFirst);
  }
  __device__ void Rows(uint8_t* stage, uint64_t* full, int at) const {
    uint8_t* const out = stage + kWeightStageBytes;
    if (!narrow) {
      CopyBox(out, rows, at * kStepElements, row, full, CachePolicy::kEvictNormal);
      return;
    }
#pragma unroll 1
    for (int half = 0; half < 2; ++half)
#pragma unroll 1
      for (int i = 0; i < narrow_rows; i += kNarrowBox)
        CopyBox(out + (half * kNarrowRows + i) * kStepBytes, rows, (2 * at + half) * kStepElements,
                row + i, full, CachePolicy::kEvictNormal);
  }
};

// A counter that a task needs, and how far; `what` is kNothing where there is none.
struct Need {
  const int* counter;
  int least;
  Waiting what;
  int idx;

  __device__ bool Met() const { return what == Waiting::kNothing || LoadAcquire(counter) >= least; }
  __device__ void Wait(const FusedParams& p) const {
    if (what != Waiting::kNothing) WaitAtLeast(counter, least, p.fault, what, idx);
  }
};

// The task's rows.
template <Element kElement>
__device__ Need RowsNeeded(const FusedParams& p, const FusedRank& r, const Work& work,
                           const Task& task) {
  if (task.product == Product::kDown) {
    if constexpr (kElement == Element::kFp8)
      return {&r.quantized[task.block], task.rows, Waiting::kQuantized, task.block};
    else
      return {&r.gate_up_done[task.block],
              kMathGroups * 2 * IntermediateOf(work, task) / kNarrowOutputs, Waiting::kGateUp,
              task.block};
  }
  if (task.expert >= 0) return {&r.arrived[task.block], task.rows, Waiting::kArrived, task.block};
  return {&r.x_ready[task.block], task.rows, p.x_in_place ? Waiting::kNothing : Waiting::kXReady,
          task.block};
}
// Its place in the ring.
__device__ inline Need PlaceNeeded(const FusedRank& r, const Task& task) {
  const int unit = max(task.recycled, 0);
  return {&r.down_done[unit], kMathGroups * task.recycled_done,
          task.recycled < 0 ? Waiting::kNothing : Waiting::kRing, unit};
}

// Until the rows of all routed experts have arrived; they wait for no product.
__device__ inline void WaitForAllRows(const FusedParams& p, const FusedRank& r, const Work& work) {
  for (UnitWalker walker(work); !walker.done(); walker.Next(work)) {
    const Unit& unit = walker.unit();
    for (int b = 0; unit.expert >= 0 && b < unit.blocks(); ++b)
      WaitAtLeast(&r.arrived[unit.block + b], BlockRowsOf(unit.rows, b), p.fault, Waiting::kArrived,
                  unit.block + b);
  }
}

/// One thread. Where rows are still to come, the weights of the first stages are under way while it
/// waits for them.
template <Element kElement, bool kInstrumented>
__device__ void RunFetches(const FusedParams& p, int rank, const Work& work, FusedShared& s,
                           Tracer<kInstrumented>& trace) {
  const FusedRank& r = p.ranks[rank];
  if (kInstrumented && p.no_overlap) WaitForAllRows(p, r, work);
  RingPlace<kTaskSlots> slot;
  RingPlace<kStages> place;
  for (;; slot.Next()) {
    const Task task = TakeTask(p, s, slot);
    BarrierArrive(&s.task_empty[slot.idx]);
    if (task.rows == 0) return;
    const Fetch<kElement> fetch(p.maps[rank], work, task);
    const int stages = StagesOf<kElement>(work, task);
    const Need rows = RowsNeeded<kElement>(p, r, work, task), in_ring = PlaceNeeded(r, task);
    const bool late = kInstrumented && p.no_prefetch;
    const int ahead = late || (rows.Met() && in_ring.Met()) ? 0 : min(stages, kStages);
    const auto weights = [&](int at) {
      BarrierWait(&s.empty[place.idx], place.parity ^ 1, p.fault, Waiting::kEmptyStage);
      fetch.Weights(s.stages[place.idx], &s.full[place.idx], at);
    };
    const RingPlace<kStages> first = place;
    for (int at = 0; at < ahead; ++at, place.Next()) weights(at);
    const uint32_t begin = trace.Now();
    rows.Wait(p);
    in_ring.Wait(p);
    trace.Add(Did::kWaitInput, begin, task.block);
    FenceCopyEngine();
    const uint32_t fetch_begin = trace.Now();
    RingPlace<kStages> again = first;
    for (int at = 0; at < ahead; ++at, again.Next())
      fetch.Rows(s.stages[again.idx], &s.full[again.idx], at);
    for (int at = ahead; at < stages; ++at, place.Next()) {
      weights(at);
      fetch.Rows(s.stages[place.idx], &s.full[place.idx], at);
    }
    trace.Add(Did::kFetch, fetch_begin, task.block);
  }
}

// ---- Multiplying ----

struct MathThread {
  int group, warp, lane;  // warpgroup, its warp, the lane of it

  __device__ MathThread()
      : group(threadIdx.x / kGroupThreads - 1),
        warp(threadIdx.x / kWarp % 4),
        lane(threadIdx.x % kWarp) {}
  /// Of the warpgroup's 64 on the left side, and + 8.
  __device__ int Row() const { return 16 * warp + lane / 4; }
  /// Of each eight on the right side, and + 1.
  __device__ int Column() const { return 2 * (lane % 4); }
};

// Adds the full K of this warpgroup's 64 x kColumns, in one chain a sum. (Sums begin as zeros: left
// undefined, their registers would be taken all the time.)
template <Element kElement, int kColumns, bool kNarrow>
__device__ void Multiply(const FusedParams& p, FusedShared& s, RingPlace<kStages>& place,
                         const MathThread& me, int stages, float (&sums)[kColumns / 2]) {
  constexpr int kInstructions = kStepBytes / 32;
  int previous = -1;
  HoldRegisters(sums);
  for (int at = 0; at < stages; ++at, place.Next()) {
    BarrierWait(&s.full[place.idx], place.parity, p.fault, Waiting::kFullStage);
    const uint32_t stage = SharedAddress(s.stages[place.idx]);
    const uint32_t mine = 64 * me.group * kStepBytes;  // rows of the left operand
    uint64_t left = OperandDescriptor(kNarrow ? stage + mine : stage + kWeightStageBytes + mine);
    uint64_t right = OperandDescriptor(kNarrow ? stage + kWeightStageBytes : stage);
    WgmmaFence();
#pragma unroll
    for (int i = 0; i < kInstructions; ++i)
      Wgmma<kElement, kColumns>(sums, left + 2 * i, right + 2 * i);
    if constexpr (kNarrow) {
      left += kWeightStageBytes / 2 / 16;
      right += kNarrowRows * kStepBytes / 16;
#pragma unroll
      for (int i = 0; i < kInstructions; ++i)
        Wgmma<kElement, kColumns>(sums, left + 2 * i, right + 2 * i);
    }
    WgmmaCommit();
    WgmmaWait<1>();  // all but the group just begun: the stage before is free
    if (previous >= 0 && me.lane == 0) BarrierArrive(&s.empty[previous]);
    previous = place.idx;
  }
  WgmmaWait<0>();
  HoldRegisters(sums);
  if (me.lane == 0) BarrierArrive(&s.empty[previous]);
}

// ---- Writing ----

// words[i] of lane 4a + q of each quad becomes words[q] of lane 4a + i.
__device__ inline void TransposeQuad(uint32_t (&words)[4]) {
  const int q = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const uint32_t got = __shfl_xor_sync(0xFFFFFFFF, q & 1 ? words[i] : words[i + 1], 1);
    (q & 1 ? words[i] : words[i + 1]) = got;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t got = __shfl_xor_sync(0xFFFFFFFF, q & 2 ? words[i] : words[i + 2], 2);
    (q & 2 ? words[i] : words[i + 2]) = got;
  }
}
__device__ inline void StoreWords(void* out, const uint32_t (&words)[4]) {
  *static_cast<uint4*>(out) = {words[0], words[1], words[2], words[3]};
}

// What a task's outputs are scaled by and where they go.
template <Element kElement>
struct Outputs {
  const FusedParams& p;
  const FusedRank& r;
  const Task& task;
  const float* scales;   // of the tile's weight rows
  uint32_t* magnitudes;  // of the block's rows
  int tile_outputs;

  __device__ Outputs(const FusedParams& params, int rank, const Work& work, const Task& t)
      : p(params), r(params.ranks[rank]), task(t) {
    const bool gate_up = task.product == Product::kGateUp, shared = task.expert < 0;
    const ExpertsView& view = shared ? r.shared : r.routed;
    const int outputs = gate_up ? 2 * IntermediateOf(work, task) : work.hidden;
    tile_outputs = task.narrow ? kNarrowOutputs : kWideOutputs;
    scales = (gate_up ? view.gate_up_scales : view.down_scales) +
             (shared ? 0 : task.expert) * outputs + task.tile * tile_outputs;
    magnitudes = (shared ? r.shared_max : r.middle_max) + task.row;
  }
  /// Of a row of the block; rows behind its end have any.
  __device__ float RowFactor(int row) const {
    if (kElement == Element::kBf16 || row >= task.rows) return 1;
    if (task.product == Product::kDown) return RowScale(__ldcg(&magnitudes[row]));
    return __ldcg(&(task.expert < 0 ? r.x_scales : r.row_scales)[task.row + row]);
  }
  __device__ float2 OutputFactors(int output) const {
    if (kElement == Element::kBf16) return {1, 1};
    return LoadConstantPair(scales + output);
  }
  __device__ float OutputFactor(int output) const {
    return kElement == Element::kBf16 ? 1 : __ldg(scales + output);
  }
  __device__ float Scaled(float sum, float row, float output) const {
    return kElement == Element::kBf16 ? sum : sum * (row * output);
  }
  __device__ bool gelu() const { return p.shape.activation == Activation::kGeluTanh; }

  /// The tile's part of an intermediate row.
  __device__ __nv_bfloat16* MiddleRow(int row) const {
    return reinterpret_cast<__nv_bfloat16*>(r.middle) +
           int64_t{task.ring_row + row} * p.middle_stride + task.tile * tile_outputs / 2;
  }
  __device__ Origin OriginOf(int row, int rank) const {
    if (task.expert >= 0) {
      const int2 origin = __ldcg(reinterpret_cast<const int2*>(&r.origins[task.row + row]));
      return {origin.x, origin.y};
    }
    return {rank, r.args.tokens * p.shape.top_k + task.row + row};
  }
  /// The tile's part of an output row.
  __device__ __nv_bfloat16* SlotRow(int row, int rank) const {
    const Origin origin = OriginOf(row, rank);
    return reinterpret_cast<__nv_bfloat16*>(p.ranks[origin.rank].slots) +
           int64_t{origin.slot} * p.padded_hidden + task.tile * tile_outputs;
  }
  __device__ void KeepMagnitude(int row, uint32_t magnitude) const {
    if (kElement == Element::kFp8 && row < task.rows) atomicMax(&magnitudes[row], magnitude);
  }

  /// After a warpgroup's gate/up part.
  __device__ void AnnounceGateUp(const MathThread& me) const {
    if (kElement == Element::kBf16) FenceCopyEngine();
    NamedBarrier(1 + me.group, kGroupThreads);
    if (threadIdx.x % kGroupThreads == 0)
      AddRelease(&r.gate_up_done[task.block], tile_outputs / kNarrowOutputs);
  }
  /// After a warpgroup's down part, of rows [begin, end) of the block; `weight` in half narrow
  /// tiles.
  __device__ void AnnounceDown(const MathThread& me, int rank, int begin, int end,
                               int weight) const {
    NamedBarrier(1 + me.group, kGroupThreads);
    const int row = begin + threadIdx.x % kGroupThreads;
    if (row < min(end, task.rows)) {
      const Origin origin = OriginOf(row, rank);
      const int pairs = p.ranks[origin.rank].args.tokens * p.shape.top_k;
      const int token = origin.slot < pairs ? origin.slot / p.shape.top_k : origin.slot - pairs;
      AddRelease(&p.ranks[origin.rank].token_done[token], weight);
    }
    if (threadIdx.x % kGroupThreads == kGroupThreads - 1) AddRelease(&r.down_done[task.unit], 1);
  }
};

// Rows are the left operand: 128 x 256 weight rows, a warpgroup has 64 of the rows, a thread two
// (h).
template <Element kElement>
__device__ void WideGateUp(const Outputs<kElement>& out, const MathThread& me,
                           const float (&sums)[kWideOutputs / 2]) {
  const int first = 64 * me.group + me.Row(), q = me.lane % 4;
  const float factors[2] = {out.RowFactor(first), out.RowFactor(first + 8)};
  uint32_t largest[2] = {};
#pragma unroll
  for (int four = 0; four < 4; ++four) {
    uint32_t words[2][4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int pair = 4 * four + i;  // eight gate rows and eight up rows
      const float2 gate = out.OutputFactors(16 * pair + me.Column());
      const float2 up = out.OutputFactors(16 * pair + 8 + me.Column());
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float* g = &sums[8 * pair + 2 * h];
        const float* u = &sums[8 * pair + 4 + 2 * h];
        const float low = GatedProduct(out.gelu(), out.Scaled(g[0], factors[h], gate.x),
                                       out.Scaled(u[0], factors[h], up.x));
        const float high = GatedProduct(out.gelu(), out.Scaled(g[1], factors[h], gate.y),
                                        out.Scaled(u[1], factors[h], up.y));
        largest[h] = max(largest[h], max(MagnitudeBits(low), MagnitudeBits(high)));
        words[h][i] = PackBf16(low, high);
      }
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      TransposeQuad(words[h]);
      const int row = first + 8 * h;
      if (row < out.task.rows) StoreWords(out.MiddleRow(row) + (4 * four + q) * 8, words[h]);
    }
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    largest[h] = max(largest[h], __shfl_xor_sync(0xFFFFFFFF, largest[h], 1));
    largest[h] = max(largest[h], __shfl_xor_sync(0xFFFFFFFF, largest[h], 2));
    if (q == 0) out.KeepMagnitude(first + 8 * h, largest[h]);
  }
  out.AnnounceGateUp(me);
}

template <Element kElement>
__device__ void WideDown(const Outputs<kElement>& out, const MathThread& me, int rank,
                         const float (&sums)[kWideOutputs / 2]) {
  const int first = 64 * me.group + me.Row(), q = me.lane % 4;
  float factors[2];
  __nv_bfloat16* to[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = first + 8 * h;
    factors[h] = out.RowFactor(row);
    to[h] = row < out.task.rows ? out.SlotRow(row, rank) : nullptr;
  }
#pragma unroll
  for (int four = 0; four < 8; ++four) {
    uint32_t words[2][4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int eight = 4 * four + i;
      const float2 scale = out.OutputFactors(8 * eight + me.Column());
#pragma unroll
      for (int h = 0; h < 2; ++h)
        words[h][i] = PackBf16(out.Scaled(sums[4 * eight + 2 * h], factors[h], scale.x),
                               out.Scaled(sums[4 * eight + 2 * h + 1], factors[h], scale.y));
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      TransposeQuad(words[h]);
      if (to[h]) StoreWords(to[h] + (4 * four + q) * 8, words[h]);
    }
  }
  out.AnnounceDown(me, rank, 64 * me.group, 64 * me.group + 64, kMathGroups * 2);
}

// Weights are the left operand: 128 of them, a warpgroup has 64, gate in the low and up in the high
// eight of each sixteen.
template <Element kElement, int kColumns>
__device__ void NarrowGateUp(const Outputs<kElement>& out, const MathThread& me,
                             const float (&sums)[kColumns / 2]) {
  const int weight_row = 64 * me.group + me.Row();
  const float gate = out.OutputFactor(weight_row), up = out.OutputFactor(weight_row + 8);
  const int column = 32 * me.group + 8 * me.warp + me.lane / 4;
#pragma unroll
  for (int eight = 0; eight < kColumns / 8; ++eight)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = 8 * eight + me.Column() + i;
      const float factor = out.RowFactor(row);
      const float y = GatedProduct(out.gelu(), out.Scaled(sums[4 * eight + i], factor, gate),
                                   out.Scaled(sums[4 * eight + 2 + i], factor, up));
      if (row < out.task.rows) out.MiddleRow(row)[column] = __float2bfloat16_rn(y);
      uint32_t largest = MagnitudeBits(y);
      for (int step = 4; step < kWarp; step *= 2)
        largest = max(largest, __shfl_xor_sync(0xFFFFFFFF, largest, step));
      if (me.lane < 4) out.KeepMagnitude(row, largest);
    }
  out.AnnounceGateUp(me);
}

template <Element kElement, int kColumns>
__device__ void NarrowDown(const Outputs<kElement>& out, const MathThread& me, int rank,
                           const float (&sums)[kColumns / 2]) {
  const int weight_row = 64 * me.group + me.Row();
#pragma unroll
  for (int eight = 0; eight < kColumns / 8; ++eight)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = 8 * eight + me.Column() + i;
      if (row >= out.task.rows) continue;
      const float factor = out.RowFactor(row);
      __nv_bfloat16* const to = out.SlotRow(row, rank);
#pragma unroll
      for (int h = 0; h < 2; ++h)
        to[weight_row + 8 * h] = __float2bfloat16_rn(
            out.Scaled(sums[4 * eight + 2 * h + i], factor, out.OutputFactor(weight_row + 8 * h)));
    }
  out.AnnounceDown(me, rank, 0, kNarrowRows, 1);
}

__device__ inline Did DidOf(Product product) {
  return product == Product::kGateUp ? Did::kGateUp : Did::kDown;
}

template <Element kElement, int kColumns, bool kInstrumented>
__device__ void NarrowTile(const FusedParams& p, int rank, const Work& work, const Task& task,
                           FusedShared& s, RingPlace<kStages>& place, const MathThread& me,
                           Tracer<kInstrumented>& trace) {
  float sums[kColumns / 2] = {};
  const uint32_t begin = trace.Now();
  Multiply<kElement, kColumns, true>(p, s, place, me, StagesOf<kElement>(work, task), sums);
  trace.Add(DidOf(task.product), begin, task.block);
  const uint32_t write_begin = trace.Now();
  const Outputs<kElement> out(p, rank, work, task);
  if (task.product == Product::kGateUp)
    NarrowGateUp<kElement, kColumns>(out, me, sums);
  else
    NarrowDown<kElement, kColumns>(out, me, rank, sums);
  trace.Add(Did::kWrite, write_begin, task.block);
}

template <Element kElement, bool kInstrumented>
__device__ void WideTile(const FusedParams& p, int rank, const Work& work, const Task& task,
                         FusedShared& s, RingPlace<kStages>& place, const MathThread& me,
                         Tracer<kInstrumented>& trace) {
  float sums[kWideOutputs / 2] = {};
  const uint32_t begin = trace.Now();
  Multiply<kElement, kWideOutputs, false>(p, s, place, me, StagesOf<kElement>(work, task), sums);
  trace.Add(DidOf(task.product), begin, task.block);
  const uint32_t write_begin = trace.Now();
  const Outputs<kElement> out(p, rank, work, task);
  if (task.product == Product::kGateUp)
    WideGateUp(out, me, sums);
  else
    WideDown(out, me, rank, sums);
  trace.Add(Did::kWrite, write_begin, task.block);
}

/// The math warpgroups.
template <Element kElement, bool kInstrumented>
__device__ void RunProducts(const FusedParams& p, int rank, const Work& work, FusedShared& s,
                            Tracer<kInstrumented>& trace) {
  const MathThread me;
  RingPlace<kTaskSlots> slot;
  RingPlace<kStages> place;
  for (;; slot.Next()) {
    const uint32_t begin = trace.Now();
    const Task task = TakeTask(p, s, slot);
    trace.Add(Did::kWaitTask, begin, task.block);
    __syncwarp();
    if (me.lane == 0) BarrierArrive(&s.task_empty[slot.idx]);
    if (task.rows == 0) return;
    if (!task.narrow)
      WideTile<kElement>(p, rank, work, task, s, place, me, trace);
    else if (NarrowColumns(task.rows) == 16)
      NarrowTile<kElement, 16>(p, rank, work, task, s, place, me, trace);
    else if (NarrowColumns(task.rows) == 32)
      NarrowTile<kElement, 32>(p, rank, work, task, s, place, me, trace);
    else
      NarrowTile<kElement, 64>(p, rank, work, task, s, place, me, trace);
  }
}

}  // namespace sluice::moe_sm90
