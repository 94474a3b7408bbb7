#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "cli/bench/cuda_contenders.h"
#include "cli/bench/device_chrome_trace.h"
#include "cli/bench/moe_cuda.h"

namespace sluice {
namespace {

using moe_sm90::DeviceTrace;
using moe_sm90::Element;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr int64_t kShared = 32;

MoeShape Layer(int64_t shared) {
  return {
      .name = "m", .hidden = 64, .intermediate = 32, .experts = 8, .top_k = 2, .shared = shared};
}

std::vector<std::string> Names(const std::vector<CudaContender>& contenders) {
  std::vector<std::string> out;
  for (const CudaContender& c : contenders) out.push_back(c.name);
  return out;
}

// Whatever the build and the machine: a GPU that does not exist, or cannot be used, is an error
// that names the flag.
TEST(BenchMoeOnCuda, SaysWhyThereIsNoGpuToMeasure) {
  BenchMoeOptions options;
  options.device = "cuda";
  options.geometries = {"64x32x8x2"};
  setenv("CUDA_VISIBLE_DEVICES", "", 1);
  const Status status = BenchMoeOnCuda(options);
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_EQ(status.param(), "device");
  EXPECT_THAT(status.message(), testing::StartsWith("--device cuda: "));
  EXPECT_THAT(status.message(),
              testing::AnyOf(HasSubstr("built without CUDA"), HasSubstr("no CUDA device")));
}

TEST(BenchMoeOnCuda, RefusesWhatBelongsToTheCpuBeforeItLooksForAGpu) {
  BenchMoeOptions options;
  options.geometries = {"64x32x8x2"};
  options.formats = {"fp8", "int4"};
  EXPECT_EQ(BenchMoeOnCuda(options).param(), "format");
  EXPECT_THAT(BenchMoeOnCuda(options).message(), HasSubstr("\"int4\""));
  options.formats = {"fp8"};
  options.threads = 2;
  EXPECT_EQ(BenchMoeOnCuda(options).param(), "threads");
  options.threads = 0;
  options.tokens = {1 << 18};
  EXPECT_THAT(BenchMoeOnCuda(options).message(), HasSubstr("262144"));
}

TEST(CudaContenders, AreEveryCombinationThatExists) {
  BenchMoeOptions options;
  options.backends = {"epmoe", "fused_v2"};
  options.ablate = {"none", "prefetch+overlap"};
  options.ranks = {1, 4};
  const auto contenders = ReadCudaContenders(options, Layer(kShared));
  ASSERT_TRUE(contenders.ok()) << contenders.status().message();
  EXPECT_THAT(Names(*contenders),
              ElementsAre("epmoe 1 rank", "fused_v2 1 rank", "fused_v2-prefetch+overlap 1 rank",
                          "fused_v2 4 ranks", "fused_v2-prefetch+overlap 4 ranks"));
  EXPECT_TRUE(contenders->front().plain);
  EXPECT_FALSE((*contenders)[2].options.prefetch);
  EXPECT_FALSE((*contenders)[2].options.overlap);
  EXPECT_TRUE((*contenders)[2].options.residency);
}

TEST(CudaContenders, RefuseWhatNothingInTheListCanDo) {
  BenchMoeOptions options;
  options.ablate = {"shared"};
  EXPECT_THAT(ReadCudaContenders(options, Layer(0)).status().message(),
              HasSubstr("no shared expert"));
  options.ablate = {"multicast"};
  EXPECT_THAT(ReadCudaContenders(options, Layer(0)).status().message(), HasSubstr("\"multicast\""));
  options.ablate = {"none"};
  options.ranks = {3};
  EXPECT_THAT(ReadCudaContenders(options, Layer(0)).status().message(),
              HasSubstr("3 ranks do not divide 8 experts"));
  options.ranks = {1};
  options.backends = {"fused"};
  EXPECT_EQ(ReadCudaContenders(options, Layer(0)).status().param(), "moe-backend");
}

TEST(CudaContenders, TakeHowTheKernelIsCutUp) {
  const auto options = ReadCudaAblation("lag:400+ring:8+ctas:64+residency");
  ASSERT_TRUE(options.ok()) << options.status().message();
  EXPECT_EQ(options->lag_tasks, 400);
  EXPECT_EQ(options->ring_units, 8);
  EXPECT_EQ(options->ctas, 64);
  EXPECT_FALSE(options->residency);
  for (const char* bad :
       {"lag:", "lag:0", "ring:-1", "ctas:9x", "lag:99999999999", "", "none+lag:1"})
    EXPECT_EQ(ReadCudaAblation(bad).status().param(), "ablate") << bad;
}

DeviceTrace TwoWarpgroups() {
  return {.spans = {{"sort", 0, 4, 0, 0, 100},
                    {"waiting", 0, 4, 1, 100, 150},
                    {"gate/up", 0, 4, 1, 150, 500},
                    {"activation", 0, 4, 1, 500, 600},
                    {"gate/up", 0, 5, 1, 150, 500},  // the same warpgroup
                    {"fetch", 0, 0, 1, 100, 480},
                    {"sort", 0, 8, 0, 0, 100},
                    {"down", 0, 8, 1, 100, 900}},
          .end_ns = 1000,
          .dropped = 0};
}

TEST(DeviceTraces, BreakTheWarpgroupsThatMultiplyDown) {
  const StageBreakdown stages = BreakDownDevice(TwoWarpgroups(), 1);
  EXPECT_DOUBLE_EQ(stages.seconds, 1000e-9);
  EXPECT_DOUBLE_EQ(stages.of("sort").seconds, 100e-9);
  EXPECT_DOUBLE_EQ(stages.of("gate/up").seconds, 175e-9);
  EXPECT_DOUBLE_EQ(stages.of("down").seconds, 400e-9);
  EXPECT_DOUBLE_EQ(stages.of("activation").seconds, 50e-9);
  EXPECT_DOUBLE_EQ(stages.of("waiting").seconds, 25e-9);
  EXPECT_DOUBLE_EQ(stages.of("other").seconds, 250e-9);
}

TEST(DeviceTraces, BecomeChromeTracksAWarp) {
  DeviceChromeTrace chrome;
  chrome.Add("first", TwoWarpgroups());
  chrome.Add("second", TwoWarpgroups());
  const std::string path = testing::TempDir() + "/device_trace.json";
  ASSERT_TRUE(chrome.Write(path).ok());
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_THAT(text.str(), HasSubstr(R"({"traceEvents":[{"ph":"M","name":"process_name","pid":0)"));
  EXPECT_THAT(text.str(), HasSubstr(R"("CTA 0 math 1.0")"));
  EXPECT_THAT(text.str(),
              HasSubstr(R"({"ph":"X","name":"down","pid":1,"tid":8,"ts":11.1,"dur":0.8)"));
  EXPECT_FALSE(DeviceChromeTrace().Write("/nowhere/trace.json").ok());
}

}  // namespace
}  // namespace sluice
