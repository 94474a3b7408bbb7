// Timing on the device for the programs here: medians of events around work on one stream.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace sluice::moe_sm90 {

/// Ends the program: a bench has nobody to report an error to.
inline void Must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

struct Times {
  double least, median, most;  // ms
};

/// `between`, unmeasured, goes before each of `runs` runs of `work`; both enqueue on `stream`.
template <class Between, class Work>
Times TimeRuns(cudaStream_t stream, int runs, Between&& between, Work&& work) {
  cudaEvent_t begin, end;
  Must(cudaEventCreate(&begin), "event");
  Must(cudaEventCreate(&end), "event");
  std::vector<double> times;
  for (int i = 0; i < runs + 3; ++i) {  // three to warm up
    between();
    Must(cudaEventRecord(begin, stream), "event");
    work();
    Must(cudaEventRecord(end, stream), "event");
    Must(cudaEventSynchronize(end), "run");
    float ms = 0;
    Must(cudaEventElapsedTime(&ms, begin, end), "event");
    if (i >= 3) times.push_back(ms);
  }
  Must(cudaEventDestroy(begin), "event");
  Must(cudaEventDestroy(end), "event");
  std::sort(times.begin(), times.end());
  return {times.front(), times[times.size() / 2], times.back()};
}

}  // namespace sluice::moe_sm90
