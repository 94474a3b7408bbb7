// `sluice eval`: held-out test sets through a running server.
#pragma once

#include <string>
#include <vector>

namespace sluice {

struct EvalOptions {
  std::string url = "http://127.0.0.1:30000";
  std::string directory = "models/sluice-tiny/eval";
  std::vector<std::string> sets;  // names; empty: all
  int limit = 0;                  // items a set; 0: all
  int concurrency = 8;
  int show_failures = 0;   // that many of each set are printed
  double min_percent = 0;  // exit status 1 if a set is below
};

/// Prints a table: set, items, passed, share, answer tokens a second. Exit status: 0, 1 below
/// min_percent, 2 if the sets cannot be read or the server does not answer.
int RunEval(const EvalOptions& options);

}  // namespace sluice
