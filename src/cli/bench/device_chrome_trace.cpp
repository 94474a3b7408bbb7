#include "cli/bench/device_chrome_trace.h"

#include <fmt/format.h>

#include <fstream>
#include <set>

namespace sluice {
namespace {

using moe_sm90::DeviceSpan;
using moe_sm90::DeviceTrace;

constexpr int kWarps = moe_sm90::kTraceWarps;
constexpr int kFirstMathWarp = 4, kGroupWarps = 4, kMathGroups = 2;
constexpr uint64_t kGapNs = 10'000;  // between calls

std::string TrackName(int cta, int warp) {
  constexpr const char* kNames[] = {"fetch", "tasks", "rows 0", "rows 1"};
  if (warp < kFirstMathWarp) return fmt::format("CTA {} {}", cta, kNames[warp]);
  return fmt::format("CTA {} math {}.{}", cta, (warp - kFirstMathWarp) / kGroupWarps,
                     warp % kGroupWarps);
}

double Microseconds(uint64_t ns) { return static_cast<double>(ns) * 1e-3; }

}  // namespace

DeviceChromeTrace::DeviceChromeTrace() { json_.BeginObject().Key("traceEvents").BeginArray(); }

void DeviceChromeTrace::NameOf(const char* what, int process, int track, const std::string& name) {
  json_.BeginObject().Key("ph").String("M").Key("name").String(what).Key("pid").Int(process);
  json_.Key("tid").Int(track).Key("args").BeginObject().Key("name").String(name).EndObject();
  json_.EndObject();
}

void DeviceChromeTrace::Add(const std::string& label, const DeviceTrace& trace) {
  const int process = calls_++;
  NameOf("process_name", process, 0, label);
  std::set<int> named;
  for (const DeviceSpan& span : trace.spans) {
    const int track = span.cta * kWarps + span.warp;
    if (named.insert(track).second)
      NameOf("thread_name", process, track, TrackName(span.cta, span.warp));
    json_.BeginObject().Key("ph").String("X").Key("name").String(span.name);
    json_.Key("pid").Int(process).Key("tid").Int(track);
    json_.Key("ts").Number(Microseconds(begin_ns_ + span.begin_ns));
    json_.Key("dur").Number(Microseconds(span.end_ns - span.begin_ns));
    json_.Key("args").BeginObject().Key("idx").Int(span.idx).EndObject().EndObject();
  }
  begin_ns_ += trace.end_ns + kGapNs;
}

Status DeviceChromeTrace::Write(const std::string& path) {
  std::ofstream file(path);
  file << json_.EndArray().EndObject().text() << "\n";
  file.close();
  if (!file) return Error(Code::kInvalidArgument, "trace file {} cannot be written", path);
  return {};
}

StageBreakdown BreakDownDevice(const DeviceTrace& trace, int ctas) {
  std::vector<trace::Event> events;
  for (const DeviceSpan& span : trace.spans) {
    if (span.warp < kFirstMathWarp || span.warp % kGroupWarps != 0) continue;
    const int lane = span.cta * kMathGroups + (span.warp - kFirstMathWarp) / kGroupWarps;
    events.push_back({span.name, span.begin_ns, span.end_ns, 0, lane});
  }
  return BreakDown(events, 0, trace.end_ns, ctas * kMathGroups);
}

}  // namespace sluice
