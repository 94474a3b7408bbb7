#include "checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "checkpoint/safetensors_builder.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

const std::string kBytes(4, '\1');
const std::string kA = SafetensorsBuilder().Add("a", "U8", "[4]", kBytes).file();
const std::string kB = SafetensorsBuilder().Add("b", "U8", "[4]", kBytes).file();

// A fresh directory that goes away with the object.
class Directory {
 public:
  Directory() {
    std::string name = testing::TempDir() + "checkpoint_test_XXXXXX";
    path_ = mkdtemp(name.data());
  }
  ~Directory() { fs::remove_all(path_); }
  Directory& Write(const std::string& name, std::string_view bytes) {
    WriteTo(path_ + "/" + name, bytes);
    return *this;
  }
  Directory& Index(std::string_view weight_map) {
    return Write("model.safetensors.index.json",
                 fmt::format(R"({{"metadata":{{"total_size":8}},"weight_map":{}}})", weight_map));
  }
  const std::string& path() const { return path_; }
  Result<Checkpoint> Open() const { return Checkpoint::Open(path_); }

 private:
  std::string path_;
};

TEST(Checkpoint, ReadsTheGoldenCheckpoint) {
  const auto checkpoint = Checkpoint::Open(SLUICE_SOURCE_DIR "/tests/golden/ling25");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  const TensorInfo* head = checkpoint->Find("lm_head.weight");
  ASSERT_NE(head, nullptr);
  EXPECT_EQ(head->dtype, DType::kBf16);
  EXPECT_THAT(head->shape, testing::ElementsAre(384, 128));
  EXPECT_EQ(head->bytes(), 384u * 128 * 2);
  EXPECT_EQ(checkpoint->Find("lm_head"), nullptr);
  EXPECT_EQ(checkpoint->files().size(), 1u);
  uint64_t bytes = 0;
  for (const TensorInfo& tensor : checkpoint->tensors()) bytes += tensor.bytes();
  EXPECT_EQ(bytes, checkpoint->data_bytes());
  EXPECT_TRUE(checkpoint->CheckUnchanged().ok());
}

TEST(Checkpoint, FindsShardsByIndexOrByThemselves) {
  Directory indexed;
  indexed.Write("x.safetensors", kA).Write("y.safetensors", kB);
  indexed.Write("unrelated.safetensors", "damaged");  // the index decides
  indexed.Index(R"({"a":"x.safetensors","b":"y.safetensors"})");
  const auto checkpoint = indexed.Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_EQ(checkpoint->files()[checkpoint->Find("b")->file_idx],
            indexed.path() + "/y.safetensors");

  Directory numbered;
  numbered.Write("model-00001-of-00002.safetensors", kA);
  numbered.Write("model-00002-of-00002.safetensors", kB);
  EXPECT_TRUE(numbered.Open().ok()) << numbered.Open().status().message();

  Directory single;  // model.safetensors wins over others beside it
  single.Write("model.safetensors", kA).Write("adapter.safetensors", kA);
  EXPECT_EQ(single.Open()->files().size(), 1u);
}

TEST(Checkpoint, ReadsThroughSymbolicLinks) {  // as a hub's cache lays them out
  Directory blobs, snapshot;
  blobs.Write("0123", kA);
  fs::create_symlink(blobs.path() + "/0123", snapshot.path() + "/model.safetensors");
  EXPECT_TRUE(snapshot.Open().ok());
}

TEST(Checkpoint, KeepsThePiecesOfATensorInTheirOrder) {
  Directory directory;
  for (int i = 0; i < 11; ++i) directory.Write(fmt::format("m-TP-{}.safetensors", i), kA);
  directory.Write("m-TP-common.safetensors", kB);
  const auto checkpoint = directory.Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  const auto pieces = checkpoint->FindPieces("a");
  ASSERT_EQ(pieces.size(), 11u);
  for (int i = 0; i < 11; ++i)  // by number, although "m-TP-10" sorts before "m-TP-2"
    EXPECT_THAT(checkpoint->files()[pieces[i].file_idx],
                testing::EndsWith(fmt::format("m-TP-{}.safetensors", i)));
  EXPECT_EQ(checkpoint->PieceFiles(pieces[4].file_idx).size(), 11u);
  EXPECT_EQ(checkpoint->PieceFiles(checkpoint->Find("b")->file_idx).size(), 1u);
  EXPECT_TRUE(checkpoint->FindPieces("c").empty());
}

TEST(Checkpoint, GivesTheBytesOfATensor) {
  Directory directory;
  directory.Write("model.safetensors", SafetensorsBuilder()
                                           .Add("a", "U8", "[3]", "abc")
                                           .Add("e", "F32", "[0]", "")
                                           .Add("b", "U8", "[2]", "de")
                                           .file());
  const auto checkpoint = directory.Open();
  ASSERT_TRUE(checkpoint.ok());
  const auto text = [&](const char* name) {
    std::string out;
    EXPECT_TRUE(checkpoint
                    ->WithBytes(*checkpoint->Find(name),
                                [&](auto bytes) {
                                  out.assign(reinterpret_cast<const char*>(bytes.data()),
                                             bytes.size());
                                  return Status();
                                })
                    .ok());
    return out;
  };
  EXPECT_EQ(text("a"), "abc");
  EXPECT_EQ(text("b"), "de");
  EXPECT_EQ(text("e"), "");
}

TEST(Checkpoint, RefusesEachBadDirectoryAndNamesTheFault) {
  const auto fifo = [](Directory& d, const std::string& name) {
    ASSERT_EQ(mkfifo((d.path() + "/" + name).c_str(), 0600), 0);
  };
  const struct {
    std::string lie;
    std::function<void(Directory&)> make;
    std::string says;
  } kLies[] = {
      {"empty", [](auto&) {}, "no model.safetensors.index.json, no model.safetensors and no other"},
      {"truncated", [](auto& d) { d.Write("model.safetensors", kA.substr(0, kA.size() - 1)); },
       "tensor \"a\" claims bytes [0, 4) of a data section of 3: 1 bytes are missing"},
      {"longer", [](auto& d) { d.Write("model.safetensors", kA + "x"); }, "1 bytes too many"},
      {"empty file", [](auto& d) { d.Write("model.safetensors", ""); },
       "0 bytes is no safetensors"},
      {"fifo", [&](auto& d) { fifo(d, "model.safetensors"); }, "not a regular file"},
      {"directory", [](auto& d) { fs::create_directory(d.path() + "/model.safetensors"); },
       "not a regular file"},
      {"dangling link",
       [](auto& d) { fs::create_symlink("/nowhere", d.path() + "/model.safetensors"); },
       "model.safetensors: No such file"},
      {"index no JSON", [](auto& d) { d.Write("model.safetensors.index.json", "{"); },
       "index.json: not valid JSON"},
      {"index an array", [](auto& d) { d.Write("model.safetensors.index.json", "[]"); },
       "expected is an object"},
      {"index a number", [](auto& d) { d.Write("model.safetensors.index.json", "1"); },
       "expected is an object"},
      {"no map", [](auto& d) { d.Write("model.safetensors.index.json", "{\"metadata\":{}}"); },
       "weight_map is missing"},
      {"map an array", [](auto& d) { d.Index("[]"); }, "weight_map is no object"},
      {"map null", [](auto& d) { d.Index("null"); }, "weight_map is no object"},
      {"file a number", [](auto& d) { d.Index(R"({"a":1})"); }, "\"a\" is no file name"},
      {"file an object", [](auto& d) { d.Index(R"({"a":{}})"); }, "\"a\" is no file name"},
      {"file an array", [](auto& d) { d.Index(R"({"a":["x"]})"); }, "\"a\" is no file name"},
      {"two maps",
       [](auto& d) {
         d.Write("model.safetensors.index.json", R"({"weight_map":{},"weight_map":{}})");
       },
       "weight_map occurs twice"},
      {"a name twice", [](auto& d) { d.Index(R"({"a":"x.safetensors","a":"y.safetensors"})"); },
       "names tensor \"a\" twice"},
      {"deep metadata",
       [](auto& d) {
         d.Write("model.safetensors.index.json", "{\"metadata\":" + std::string(100'000, '['));
       },
       "not valid JSON"},
      {"absent file", [](auto& d) { d.Index(R"({"a":"x.safetensors"})"); },
       "/x.safetensors: No such file"},
      {"parent", [](auto& d) { d.Index(R"({"a":"../x.safetensors"})"); },
       "shard \"../x.safetensors\" leads out of the directory"},
      {"absolute", [](auto& d) { d.Index(R"({"a":"/etc/x.safetensors"})"); },
       "shard \"/etc/x.safetensors\" leads out of the directory"},
      {"dots", [](auto& d) { d.Index(R"({"a":".."})"); }, "\"..\" does not end with .safetensors"},
      {"empty name", [](auto& d) { d.Index(R"({"a":""})"); }, "is no file name"},
      {"NUL", [](auto& d) { d.Index(R"({"a":"x\u0000.safetensors"})"); }, "leads out"},
      {"other suffix", [](auto& d) { d.Write("x.bin", kA).Index(R"({"a":"x.bin"})"); },
       "does not end with .safetensors"},
      {"fifo in index",
       [&](auto& d) {
         fifo(d, "x.safetensors");
         d.Index(R"({"a":"x.safetensors"})");
       },
       "x.safetensors: not a regular file"},
      {"in two shards",
       [](auto& d) {
         d.Write("x.safetensors", kA);
         d.Write("y.safetensors", SafetensorsBuilder()
                                      .Add("a", "U8", "[4]", kBytes)
                                      .Add("b", "U8", "[4]", kBytes)
                                      .file());
         d.Index(R"({"a":"x.safetensors","b":"y.safetensors"})");
       },
       "tensor \"a\" is both in"},
      {"in two files without index",
       [](auto& d) { d.Write("x.safetensors", kA).Write("y.safetensors", kA); },
       "tensor \"a\" is both in"},
      {"index names more",
       [](auto& d) {
         d.Write("x.safetensors", kA).Index(R"({"a":"x.safetensors","c":"x.safetensors"})");
       },
       "tensor \"c\" is in the index, but not in \"x.safetensors\""},
      {"index names less",
       [](auto& d) {
         d.Write("x.safetensors", kA)
             .Write("y.safetensors", SafetensorsBuilder()
                                         .Add("b", "U8", "[4]", kBytes)
                                         .Add("c", "U8", "[4]", kBytes)
                                         .file());
         d.Index(R"({"a":"x.safetensors","b":"y.safetensors"})");
       },
       "but not in the index"},
      {"index names another",
       [](auto& d) {
         d.Write("x.safetensors", kA).Write("y.safetensors", kB);
         d.Index(R"({"a":"y.safetensors","b":"x.safetensors"})");
       },
       "x.safetensors, but the index says \"y.safetensors\""},
      {"numbered shard absent", [](auto& d) { d.Write("model-00001-of-00003.safetensors", kA); },
       "shard 2 of 3 of \"model\" is absent"},
      {"piece absent",
       [](auto& d) { d.Write("m-TP-000.safetensors", kA).Write("m-TP-002.safetensors", kA); },
       "piece 1 of \"m-TP-\" is absent, \"m-TP-002.safetensors\" is there"},
      {"piece twice",
       [](auto& d) { d.Write("m-TP-0.safetensors", kA).Write("m-TP-00.safetensors", kA); },
       "\"m-TP-0.safetensors\" and \"m-TP-00.safetensors\" are the same piece"},
      {"pieces of two sets",
       [](auto& d) { d.Write("m-TP-000.safetensors", kA).Write("n-TP-000.safetensors", kA); },
       "tensor \"a\" is both in"},
      {"a piece and a whole",
       [](auto& d) { d.Write("m-TP-000.safetensors", kA).Write("m-TP-common.safetensors", kA); },
       "tensor \"a\" is both in"},
  };
  for (const auto& [lie, make, says] : kLies) {
    Directory directory;
    make(directory);
    const auto checkpoint = directory.Open();
    EXPECT_THAT(checkpoint.status().message(), AllOf(HasSubstr(directory.path()), HasSubstr(says)))
        << lie;
  }
  EXPECT_EQ(Checkpoint::Open("/nowhere").status().code(), Code::kNotFound);
}

TEST(Checkpoint, ListsEveryFaultUpToTwenty) {
  Directory directory;
  std::string map = "{";
  for (int i = 0; i < 30; ++i) map += fmt::format("\"t{}\":\"../{}.safetensors\",", i, i);
  map.back() = '}';
  directory.Index(map);
  EXPECT_THAT(
      directory.Open().status().message(),
      AllOf(HasSubstr("30 faults:"), HasSubstr("../0.safetensors"), HasSubstr("../19.safetensors"),
            Not(HasSubstr("../20.safetensors")), HasSubstr("and 10 more")));
}

TEST(Checkpoint, ReportsAFileThatShrinksWhileItIsRead) {
  Directory directory;
  directory.Write(
      "model.safetensors",
      SafetensorsBuilder().Add("a", "U8", "[100000]", std::string(100'000, '\1')).file());
  const auto checkpoint = directory.Open();
  ASSERT_TRUE(checkpoint.ok());
  const TensorInfo* tensor = checkpoint->Find("a");
  const auto sum = [&] {
    return checkpoint->WithBytes(*tensor, [&](std::span<const std::byte> bytes) {
      int sum = 0;
      for (std::byte b : bytes) sum += static_cast<int>(b);
      return sum == 100'000 ? Status() : Status(Code::kInternal, "wrong sum");
    });
  };
  EXPECT_TRUE(sum().ok());
  ASSERT_EQ(truncate((directory.path() + "/model.safetensors").c_str(), 8192), 0);
  EXPECT_THAT(sum().message(),
              AllOf(HasSubstr("model.safetensors: the file shrank from"),
                    HasSubstr("to 8192 bytes; no data at offset 8192"), HasSubstr("tensor \"a\"")));
  EXPECT_THAT(sum().message(), HasSubstr("could not be read before"));
  EXPECT_FALSE(checkpoint->CheckUnchanged().ok());
}

}  // namespace
}  // namespace sluice
