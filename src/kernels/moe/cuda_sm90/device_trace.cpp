#include "kernels/moe/cuda_sm90/device_trace.h"

#include <algorithm>

namespace sluice::moe_sm90 {
namespace {

double NanosecondsATick(std::span<const CtaTrace> ctas) {
  std::vector<double> rates;
  for (const CtaTrace& cta : ctas)
    if (cta.end_ticks > cta.begin_ticks && cta.end_ns > cta.begin_ns)
      rates.push_back(static_cast<double>(cta.end_ns - cta.begin_ns) /
                      static_cast<double>(cta.end_ticks - cta.begin_ticks));
  if (rates.empty()) return 1;
  std::sort(rates.begin(), rates.end());
  return rates[rates.size() / 2];
}

}  // namespace

const char* DidName(uint32_t what) {
  constexpr const char* kNames[] = {"sort",  "waiting", "gate/up", "down",   "activation",
                                    "input", "fetch",   "gather",  "unpack", "combine"};
  static_assert(std::size(kNames) == kDidKinds);
  return what < kDidKinds ? kNames[what] : "?";
}

DeviceTrace ReadTrace(std::span<const CtaTrace> ctas) {
  DeviceTrace out;
  const double rate = NanosecondsATick(ctas);
  uint64_t first = UINT64_MAX;
  for (const CtaTrace& cta : ctas) first = std::min(first, cta.begin_ns);
  for (size_t c = 0; c < ctas.size(); ++c) {
    const CtaTrace& cta = ctas[c];
    const uint64_t begin = cta.begin_ns - first;
    const auto at = [&](uint64_t ticks) {
      return begin + static_cast<uint64_t>(static_cast<double>(ticks) * rate);
    };
    out.end_ns = std::max(out.end_ns, at(cta.end_ticks - cta.begin_ticks));
    for (int warp = 0; warp < kTraceWarps; ++warp) {
      const int count = std::clamp(cta.counts[warp], 0, kTraceEvents);
      out.dropped += cta.counts[warp] - count;
      for (int i = 0; i < count; ++i) {
        const TraceEvent& event = cta.events[warp][i];
        out.spans.push_back({DidName(event.what), static_cast<int>(c), warp, event.idx,
                             at(event.begin), at(event.end)});
      }
    }
  }
  return out;
}

}  // namespace sluice::moe_sm90
