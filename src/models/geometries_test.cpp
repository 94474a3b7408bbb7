// The shipped geometries against the sizes that their publishers state.
#include <cmath>

#include "models/family_testing.h"

namespace sluice {
namespace {

struct Geometry {
  const char* name;
  uint64_t parameters, active;  // active with embedding and head
  int64_t kv_bytes_per_token, state_bytes;
};

// clang-format off
const Geometry kGeometries[] = {
    {"Ling-2.6-1T",     1012231160320, 63580258816,  11520, 293601280},
    {"Ring-2.5-1T",     1012231160320, 63580258816,  11520, 293601280},
    {"Ling-2.5-1T",     1012231160320, 63580258816,  11520, 293601280},
    {"Ling-2.6-flash",   104186915584,  7449488128,   4608,  58720256},
    {"Ling-1T",          999705328640, 51054427136, 327680,         0},
    {"Ling-flash-2.0",   102889705216,  6152277760,  65536,         0},
    {"Ling-mini-2.0",     16255643392,  1432973056,  40960,         0},
    {"Qwen3-30B-A3B",     30532122624,  3353032704,  98304,         0},
    {"Qwen3-235B-A22B",  235093634560, 22190763520, 192512,         0},
    {"Grok-2",           269515497472, 114896666624, 262144,        0},
};
// clang-format on

TEST(Geometries, CountWhatTheirPublishersCount) {
  for (const Geometry& g : kGeometries) {
    const auto described = DescribeWith(g.name, "");
    ASSERT_TRUE(described.ok()) << described.status().message();
    // Optional tensors (router biases that are not announced) are too small to show.
    const auto near = [&](uint64_t actual, uint64_t expected) {
      EXPECT_LE(std::abs(static_cast<double>(actual) / static_cast<double>(expected) - 1), 1e-6)
          << g.name << " " << actual << " " << expected;
    };
    near(described->info.parameters, g.parameters);
    near(described->info.active_parameters, g.active);
    EXPECT_EQ(described->cache.PageBytes() / kPageTokens, g.kv_bytes_per_token) << g.name;
    EXPECT_EQ(described->cache.recurrent_layers * described->cache.StateBytesPerLayer(),
              g.state_bytes)
        << g.name;
  }
}

}  // namespace
}  // namespace sluice
