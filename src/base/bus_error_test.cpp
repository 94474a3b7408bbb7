#include "base/bus_error.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <thread>

#include "base/mapped_file.h"

namespace sluice {
namespace {

// A file of `bytes` sevens.
std::string SevensFile(const std::string& name, size_t bytes) {
  const std::string path = testing::TempDir() + name;
  std::ofstream(path) << std::string(bytes, '\7');
  return path;
}

int Sum(std::span<const std::byte> bytes) {
  int sum = 0;
  for (size_t i = 0; i < bytes.size(); i += 512) sum += static_cast<int>(bytes[i]);
  return sum;
}

TEST(BusErrorScope, ReportsWhereAShrunkenFileEndsAndGoesOnWithZeros) {
  const std::string path = SevensFile("bus_error_test_1", 1 << 20);
  auto file = MappedFile::Open(path);
  ASSERT_TRUE(file.ok());
  {
    BusErrorScope scope(file->bytes());
    EXPECT_EQ(Sum(file->bytes()), 2048 * 7);
    EXPECT_FALSE(scope.failed_at());
    ASSERT_EQ(truncate(path.c_str(), 1 << 19), 0);
    EXPECT_EQ(Sum(file->bytes()), 1024 * 7);
    EXPECT_EQ(scope.failed_at(), uint64_t{1 << 19});
  }
  EXPECT_FALSE(file->CheckUnchanged().ok());
  EXPECT_NE(file->CheckUnchanged().message().find("524288 bytes, was opened with 1048576"),
            std::string::npos);
  std::remove(path.c_str());
}

TEST(BusErrorScope, SeesOnlyItsOwnThreadAndNests) {
  const std::string path = SevensFile("bus_error_test_2", 1 << 16);
  auto file = MappedFile::Open(path);
  auto other = MappedFile::Open(path);
  BusErrorScope scope(other->bytes());
  std::thread([&] {
    BusErrorScope inner(file->bytes());
    ASSERT_EQ(truncate(path.c_str(), 0), 0);
    EXPECT_EQ(Sum(file->bytes()), 0);
    EXPECT_EQ(inner.failed_at(), uint64_t{0});
  }).join();
  EXPECT_FALSE(scope.failed_at());
  {
    BusErrorScope inner(file->bytes());
    EXPECT_FALSE(inner.failed_at());  // already replaced by zeros
  }
  EXPECT_EQ(Sum(other->bytes()), 0);
  EXPECT_EQ(scope.failed_at(), uint64_t{0});
  std::remove(path.c_str());
}

TEST(BusErrorScopeDeathTest, LeavesOtherBusErrorsFatal) {
  const std::string path = SevensFile("bus_error_test_3", 1 << 16);
  auto file = MappedFile::Open(path);
  ASSERT_EQ(truncate(path.c_str(), 0), 0);
  EXPECT_DEATH(
      {
        BusErrorScope scope({});
        std::printf("%d", Sum(file->bytes()));
      },
      "");
  std::remove(path.c_str());
}

TEST(MappedFile, ReadsItsHeadBeforeItIsMappedAndNoticesAWriter) {
  const std::string path = SevensFile("bus_error_test_4", 100);
  auto file = MappedFile::OpenUnmapped(path);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(file->data(), nullptr);
  std::byte head[8];
  EXPECT_TRUE(file->ReadAt(92, head).ok());
  EXPECT_EQ(head[7], std::byte{7});
  EXPECT_NE(file->ReadAt(93, head).message().find("offset 100"), std::string::npos);
  EXPECT_TRUE(file->Map().ok());
  EXPECT_EQ(file->data()[99], std::byte{7});
  EXPECT_TRUE(file->CheckUnchanged().ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // past the clock's grain
  std::ofstream(path) << std::string(100, '\6');
  EXPECT_FALSE(file->CheckUnchanged().ok());
  std::remove(path.c_str());
}

}  // namespace
}  // namespace sluice
