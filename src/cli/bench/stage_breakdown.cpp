#include "cli/bench/stage_breakdown.h"

#include <algorithm>
#include <map>

namespace sluice {
namespace {

constexpr size_t kStages = std::size(kStageNames);
constexpr size_t kNoStage = kStages;

size_t StageOf(std::string_view name) {
  const auto at = std::find(std::begin(kStageNames), std::end(kStageNames), name);
  return static_cast<size_t>(at - std::begin(kStageNames));
}

const size_t kWaiting = StageOf("waiting"), kOther = StageOf("other");

// One lane's time as pieces one after another, each of the innermost stage there.
struct Piece {
  uint64_t begin, end;
  size_t stage;
};

class LanePieces {
 public:
  LanePieces(uint64_t begin, uint64_t end) : at_(begin), end_(end) {}

  // In the order of their beginnings, outer stages first.
  void Add(const trace::Event& event) {
    const size_t stage = StageOf(event.name);
    if (stage == kNoStage) return;
    CloseUntil(event.begin_ns);
    Advance(event.begin_ns);
    open_.push_back({event.begin_ns, event.end_ns, stage});
  }

  std::vector<Piece> Finish() {
    CloseUntil(end_);
    Advance(end_);
    return std::move(pieces_);
  }

 private:
  void CloseUntil(uint64_t moment) {
    while (!open_.empty() && open_.back().end <= moment) {
      Advance(open_.back().end);
      open_.pop_back();
    }
  }
  // The time up to `moment` belongs to the innermost open stage.
  void Advance(uint64_t moment) {
    moment = std::min(moment, end_);
    if (moment <= at_) return;
    pieces_.push_back({at_, moment, open_.empty() ? kOther : open_.back().stage});
    at_ = moment;
  }

  uint64_t at_, end_;
  std::vector<Piece> open_, pieces_;
};

using Lanes = std::vector<std::vector<Piece>>;

Lanes PiecesOf(std::span<const trace::Event> events, uint64_t begin_ns, uint64_t end_ns,
               int lanes) {
  std::map<int, std::vector<trace::Event>> by_thread;
  for (const trace::Event& event : events)
    if (event.begin_ns < end_ns && event.end_ns > begin_ns)
      by_thread[event.thread].push_back(event);
  Lanes out;
  for (auto& [thread, of_thread] : by_thread) {
    std::stable_sort(of_thread.begin(), of_thread.end(), [](const auto& a, const auto& b) {
      return a.begin_ns != b.begin_ns ? a.begin_ns < b.begin_ns : a.end_ns > b.end_ns;
    });
    LanePieces pieces(begin_ns, end_ns);
    for (const trace::Event& event : of_thread) pieces.Add(event);
    out.push_back(pieces.Finish());
  }
  while (static_cast<int>(out.size()) < lanes) out.push_back(LanePieces(begin_ns, end_ns).Finish());
  return out;
}

// Spans of time in which a lane other than `lane` waits, in order and apart.
std::vector<Piece> OthersWaiting(const Lanes& lanes, size_t lane) {
  std::vector<Piece> waits, out;
  for (size_t other = 0; other < lanes.size(); ++other)
    if (other != lane)
      for (const Piece& piece : lanes[other])
        if (piece.stage == kWaiting) waits.push_back(piece);
  std::sort(waits.begin(), waits.end(),
            [](const Piece& a, const Piece& b) { return a.begin < b.begin; });
  for (const Piece& wait : waits)
    if (!out.empty() && wait.begin <= out.back().end)
      out.back().end = std::max(out.back().end, wait.end);
    else
      out.push_back(wait);
  return out;
}

}  // namespace

const StageTime& StageBreakdown::of(std::string_view stage) const { return stages[StageOf(stage)]; }

double StageBreakdown::product_seconds() const {
  return of("gate/up").seconds + of("down").seconds + of("product").seconds;
}

double StageBreakdown::hidden_seconds() const {
  return std::max(0.0, work.arithmetic + work.reading + work.unpacking - product_seconds());
}

void StageBreakdown::DivideBy(int calls) {
  seconds /= calls;
  unpacked_bytes /= calls;
  for (StageTime& stage : stages) {
    stage.seconds /= calls;
    stage.beside_waiting /= calls;
  }
}

bool AnyHas(std::span<const StageBreakdown> calls, size_t stage) {
  return std::ranges::any_of(
      calls, [=](const StageBreakdown& call) { return call.stages[stage].seconds > 0; });
}

StageBreakdown BreakDown(std::span<const trace::Event> events, uint64_t begin_ns, uint64_t end_ns,
                         int lanes) {
  StageBreakdown out;
  out.seconds = static_cast<double>(end_ns - begin_ns) * 1e-9;
  const Lanes pieces = PiecesOf(events, begin_ns, end_ns, lanes);
  const double share = 1e-9 / static_cast<double>(pieces.size());
  for (size_t lane = 0; lane < pieces.size(); ++lane) {
    const std::vector<Piece> waits = OthersWaiting(pieces, lane);
    size_t next = 0;
    for (const Piece& piece : pieces[lane]) {
      StageTime& time = out.stages[piece.stage];
      time.seconds += share * static_cast<double>(piece.end - piece.begin);
      while (next < waits.size() && waits[next].end <= piece.begin) ++next;
      for (size_t w = next; w < waits.size() && waits[w].begin < piece.end; ++w)
        time.beside_waiting += share * static_cast<double>(std::min(piece.end, waits[w].end) -
                                                           std::max(piece.begin, waits[w].begin));
    }
  }
  for (const trace::Event& event : events)
    if (event.begin_ns >= begin_ns && event.end_ns <= end_ns &&
        std::string_view(event.name) == "unpack")
      out.unpacked_bytes += event.bytes;
  return out;
}

}  // namespace sluice
