#include "server/watchdog.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

namespace sluice {
namespace {

TEST(Watchdog, ReportsWorkBeyondItsLimitOnce) {
  std::atomic<int> reports = 0;
  std::promise<double> first;
  {
    const Watchdog watchdog(
        0.01, [] { return 7.0; },
        [&](double seconds) {
          if (reports++ == 0) first.set_value(seconds);
        });
    EXPECT_EQ(first.get_future().get(), 7.0);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_EQ(reports, 1);
}

TEST(Watchdog, LetsWorkWithinItsLimitBe) {
  std::atomic<int> looks = 0;
  {
    const Watchdog watchdog(
        0.01,
        [&] {
          ++looks;
          return 0.01;
        },
        [](double) { ADD_FAILURE(); });
    while (looks < 3) std::this_thread::yield();
  }
}

TEST(Watchdog, WithoutALimitWatchesNothing) {
  const Watchdog watchdog(
      0, [] { return 1e9; }, [](double) { ADD_FAILURE(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

}  // namespace
}  // namespace sluice
