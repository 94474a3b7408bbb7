// The life of a serving process: listen, load, warm up, serve, drain, end.
#pragma once

#include <optional>

#include "server/app.h"
#include "sluice/engine.h"

namespace sluice {

struct ServerOptions {
  HttpServerOptions http;
  AppOptions app;
  bool warm_up = true;
  double watchdog_seconds = 300;                // a step that takes longer is taken to hang; 0: off
  double drain_seconds = 5;                     // after SIGTERM: unready, but still admitting
  std::optional<double> drain_timeout_seconds;  // for what is in flight; none: as long as it takes
  bool force_shutdown = false;                  // the first signal ends it all, as a second would
};

/// Exit statuses of RunServer.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;  // while serving
inline constexpr int kExitUsage = 2;   // at start-up: flags, files, port

/// Serves until a signal says otherwise. Errors at start-up go to standard error in one line.
/// The address and the line `The server is fired up and ready to roll!` go to standard output.
///
/// SIGTERM: /readyz and /health say 503 at once; after `drain_seconds` new requests are refused;
/// what runs is finished. SIGINT skips the wait. A second signal ends what runs with an error.
/// A step beyond `watchdog_seconds` ends the process by abort(): where core dumps are enabled, one
/// shows where every thread was.
/// PrepareSignals must have been called.
int RunServer(const ServerOptions& options, const EngineOptions& engine_options);

}  // namespace sluice
