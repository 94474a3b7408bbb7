#include "cli/bench/machine.h"

#include <fmt/format.h>

#include "base/clock.h"
#include "base/machine.h"
#include "base/team.h"
#include "bench/machine_ceilings.h"
#include "bench/peaks.h"
#include "bench/unpack.h"
#include "server/json/json_writer.h"

namespace sluice {
namespace {

constexpr int kRuns = 7;

struct Peak {
  const bench::PeakLoop* loop;
  double registers, l1, l2;  // operations per second
};

struct Unpack {
  const bench::UnpackLoop* loop;
  double rate;  // stored bytes per second
};

struct Latency {
  double barrier_seconds, run_seconds;
};

struct MachineFigures {
  int threads = 0;
  std::vector<Peak> peaks = {};
  std::vector<Unpack> unpack = {};
  double read_huge = 0, read_small = 0;  // bytes per second from 2 MiB and from 4 KiB pages
  double copy = 0;                       // within 2 MiB pages
  Latency latency = {};
};

template <class F>
double MedianOf(F&& measure) {
  std::vector<double> values;
  values.reserve(kRuns);
  for (int i = 0; i < kRuns; ++i) values.push_back(measure());
  return bench::Median(values);
}

// Median seconds of one of many calls, by batches: where other programs hold a processor, a waiting
// lane loses whole time slices, and the batches without that are the ones that tell.
template <class F>
double MedianCall(F&& batch) {
  constexpr int kCalls = 100;
  constexpr double kSeconds = 0.5;
  std::vector<double> seconds;
  const double start = MonotonicSeconds();
  double begin = start;
  do {
    batch(kCalls);
    const double end = MonotonicSeconds();
    seconds.push_back((end - begin) / kCalls);
    begin = end;
  } while (begin - start < kSeconds);
  return bench::Median(seconds);
}

Latency MeasureLatency(Team& team) {
  const double barrier = MedianCall([&](int calls) {
    team.Run([&](int) {
      for (int i = 0; i < calls; ++i) team.Barrier();
    });
  });
  const double run = MedianCall([&](int calls) {
    for (int i = 0; i < calls; ++i) team.Run([](int) {});
  });
  return {barrier, run};
}

MachineFigures Measure(int threads) {
  const PinnedCaller pinned;
  Team team(threads, true);
  const bench::RunLanes run = [&](const std::function<void(int)>& function) {
    team.Run([&](int lane) { function(lane); });
  };
  MachineFigures figures{.threads = threads};
  for (const bench::PeakLoop& loop : bench::PeakLoops()) {
    if (!ThisMachine().Has(loop.needs)) continue;
    const auto peak = [&](bench::Feed feed) {
      return MedianOf([&] { return bench::MeasurePeak(loop, feed, threads, run); });
    };
    figures.peaks.push_back(
        {&loop, peak(bench::Feed::kRegisters), peak(bench::Feed::kL1), peak(bench::Feed::kL2)});
  }
  for (const bench::UnpackLoop& loop : bench::UnpackLoops())
    if (ThisMachine().Has(loop.needs))
      figures.unpack.push_back(
          {&loop, MedianOf([&] { return bench::MeasureUnpack(loop, threads, run); })});
  {
    bench::ReadBandwidth memory(bench::Pages::kHuge);
    figures.read_huge = MedianOf([&] { return memory.Measure(threads, run); });
    figures.copy = MedianOf([&] { return memory.MeasureCopy(threads, run); });
  }
  const bench::ReadBandwidth memory(bench::Pages::kSmall);
  figures.read_small = MedianOf([&] { return memory.Measure(threads, run); });
  figures.latency = MeasureLatency(team);
  return figures;
}

void PrintTable(const MachineFigures& f) {
  fmt::print("{}, {} threads, {}\n\n", ProcessorName(), f.threads, DescribeFeatures(ThisMachine()));
  fmt::print("{:<12} {:<8} {:>12} {:>12} {:>12}   G operations/s, operands from\n", "product",
             "isa", "registers", "L1", "L2");
  for (const Peak& p : f.peaks)
    fmt::print("{:<12} {:<8} {:>12.1f} {:>12.1f} {:>12.1f}\n", p.loop->product, p.loop->isa,
               p.registers * 1e-9, p.l1 * 1e-9, p.l2 * 1e-9);
  fmt::print("\n{:<12} {:<12} {:>8}   GB/s of stored bytes, from L2 to bfloat16s in L1\n", "unpack",
             "isa", "rate");
  for (const Unpack& u : f.unpack)
    fmt::print("{:<12} {:<12} {:>8.1f}\n", u.loop->format, u.loop->isa, u.rate * 1e-9);
  fmt::print("\nread, 2 MiB pages {:>8.1f} GB/s\nread, 4 KiB pages {:>8.1f} GB/s\n",
             f.read_huge * 1e-9, f.read_small * 1e-9);
  fmt::print("copy, 2 MiB pages {:>8.1f} GB/s\n", f.copy * 1e-9);
  fmt::print("barrier           {:>8.0f} ns\nempty call        {:>8.0f} ns\n",
             f.latency.barrier_seconds * 1e9, f.latency.run_seconds * 1e9);
}

void PrintJson(const MachineFigures& f) {
  JsonWriter json;
  json.BeginObject().Key("processor").String(ProcessorName()).Key("threads").Int(f.threads);
  json.Key("features").String(DescribeFeatures(ThisMachine())).Key("peaks").BeginArray();
  for (const Peak& p : f.peaks) {
    json.BeginObject().Key("product").String(p.loop->product).Key("isa").String(p.loop->isa);
    json.Key("registers_per_s").Number(p.registers).Key("l1_per_s").Number(p.l1);
    json.Key("l2_per_s").Number(p.l2).EndObject();
  }
  json.EndArray().Key("unpack").BeginArray();
  for (const Unpack& u : f.unpack) {
    json.BeginObject().Key("format").String(u.loop->format).Key("isa").String(u.loop->isa);
    json.Key("stored_bytes_per_s").Number(u.rate).EndObject();
  }
  json.EndArray().Key("read_bytes_per_s").BeginObject().Key("2MiB").Number(f.read_huge);
  json.Key("4KiB").Number(f.read_small).EndObject();
  json.Key("copy_bytes_per_s").Number(f.copy);
  json.Key("barrier_s").Number(f.latency.barrier_seconds);
  json.Key("empty_call_s").Number(f.latency.run_seconds).EndObject();
  fmt::print("{}\n", json.text());
}

}  // namespace

int RunBenchMachine(const BenchMachineOptions& options) {
  const MachineFigures figures = Measure(options.threads > 0 ? options.threads : UsableCores());
  options.json ? PrintJson(figures) : PrintTable(figures);
  return 0;
}

}  // namespace sluice
