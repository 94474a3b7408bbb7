// Which room may include which: the picture in docs/architecture.md, held by reading the sources.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>

namespace {

using Rooms = std::set<std::string>;

// A room may always include itself and the public headers ("sluice/").
const std::map<std::string, Rooms> kMayInclude = {
    {"base", {}},
    {"tensor", {"base"}},
    {"formats", {"base", "tensor"}},
    {"kernels", {"base", "tensor", "formats"}},
    {"checkpoint", {"base", "tensor", "formats"}},
    {"memory", {"base", "tensor"}},
    {"text", {"base"}},
    {"models", {"base", "tensor", "formats", "kernels", "checkpoint", "memory"}},
    {"engine", {"base", "tensor", "kernels", "memory", "models"}},
    {"api", {"base", "tensor", "kernels", "checkpoint", "memory", "models", "engine", "text"}},
    {"server", {"base", "text"}},
    // inspect and bench look below the public interface on purpose.
    {"cli",
     {"base", "tensor", "formats", "kernels", "checkpoint", "memory", "models", "text", "server",
      "bench"}},
};

TEST(Layering, EveryIncludePointsDownwards) {
  const std::filesystem::path source = SLUICE_SOURCE_DIR "/src";
  int includes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(source)) {
    const std::string extension = entry.path().extension();
    if (extension != ".h" && extension != ".cpp" && extension != ".inc") continue;
    const std::string relative = std::filesystem::relative(entry.path(), source);
    const std::string room = relative.substr(0, relative.find('/'));
    ASSERT_TRUE(kMayInclude.contains(room)) << relative << ": a room this test does not know";
    std::ifstream file(entry.path());
    std::string line;
    for (int number = 1; std::getline(file, line); ++number) {
      if (!line.starts_with("#include \"")) continue;
      ++includes;
      const std::string path = line.substr(10, line.rfind('"') - 10);
      const std::string target = path.substr(0, path.find('/'));
      EXPECT_NE(path.find('/'), path.npos)
          << relative << ":" << number << ": " << path << " is not relative to src/";
      const bool bench = target == "bench" && relative.ends_with("_bench.cpp");
      EXPECT_TRUE(bench || target == room || target == "sluice" ||
                  kMayInclude.at(room).contains(target))
          << relative << ":" << number << ": " << room << " may not include " << path;
    }
  }
  EXPECT_GT(includes, 100);
}

TEST(Layering, PublicHeadersAndExamplesIncludeOnlyPublicHeaders) {
  for (const char* folder : {"/include/sluice", "/examples"})
    for (const auto& entry :
         std::filesystem::directory_iterator(std::string(SLUICE_SOURCE_DIR) + folder)) {
      std::ifstream file(entry.path());
      std::string line;
      while (std::getline(file, line))
        if (line.starts_with("#include \"")) {
          EXPECT_TRUE(line.starts_with("#include \"sluice/")) << entry.path() << ": " << line;
        }
    }
}

TEST(Layering, VariantFilesDefineNothingWithExternalLinkageButTheirEntries) {
  // A file compiled for one instruction set may not include headers with inline arithmetic: the
  // linker could merge its copy into programs for older machines.
  const Rooms forbidden = {"tensor/dtype.h", "base/random.h"};
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(SLUICE_SOURCE_DIR "/src/kernels")) {
    const std::string name = entry.path().filename();
    if (name.find("avx512") == name.npos && name.find("amx") == name.npos) continue;
    if (entry.path().extension() != ".cpp" || name.find("test") != name.npos) continue;
    std::ifstream file(entry.path());
    std::string line;
    while (std::getline(file, line))
      for (const std::string& header : forbidden)
        EXPECT_EQ(line.find("#include \"" + header), line.npos) << entry.path();
  }
}

}  // namespace
