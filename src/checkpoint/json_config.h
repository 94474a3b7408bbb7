// config.json and its kin, read strictly. A file is parsed once (UTF-8, depth at most 64, no
// duplicate keys, every number finite); fields are then read with the range that makes sense for
// them, and every error says file, field, value found and what is allowed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace boost::json {
class object;
class value;
}  // namespace boost::json

namespace sluice {

constexpr uint64_t kJsonConfigBytesMax = 16 << 20;

/// One JSON object; copies share the parsed document. A key whose value is null counts as absent
/// everywhere below. Integers may be written as 4096 or 4096.0, never as 4096.5 or "4096".
///
/// Errors of the getters: kMissingParameter if a field without default is absent, otherwise
/// kInvalidArgument. Their param() is the field's name.
class JsonObject {
 public:
  /// An object without keys.
  JsonObject();

  /// `source` names the text in errors: a path or a flag. Errors: kInvalidArgument with the byte
  /// offset, kTooLarge over kJsonConfigBytesMax.
  static Result<JsonObject> Parse(std::string_view text, std::string source);

  /// Errors: as Parse; kNotFound if there is no such file.
  static Result<JsonObject> Read(const std::string& path);

  /// The object with the top-level keys of `patch` put over its own, as --json-model-override-args
  /// does: a nested object is replaced as a whole, and null removes a key. Errors keep naming this
  /// object's file, and say "overridden" for keys that came from the patch.
  JsonObject WithOverrides(const JsonObject& patch) const;

  bool Has(std::string_view key) const;
  /// Whether the file spells the key out as null: for the few that mean something else by it than
  /// by leaving it out.
  bool IsNull(std::string_view key) const;
  std::vector<std::string> Keys() const;

  /// Where this object comes from: "dir/config.json" or "dir/config.json: rope_scaling".
  const std::string& source() const { return source_; }

  // Each getter exists twice: without default the field is required.
  Result<int64_t> Int(std::string_view key, int64_t min, int64_t max) const;
  Result<int64_t> Int(std::string_view key, int64_t min, int64_t max, int64_t otherwise) const;
  Result<double> Double(std::string_view key, double min, double max) const;
  Result<double> Double(std::string_view key, double min, double max, double otherwise) const;
  Result<bool> Bool(std::string_view key) const;
  Result<bool> Bool(std::string_view key, bool otherwise) const;
  Result<std::string> String(std::string_view key) const;
  Result<std::string> String(std::string_view key, std::string otherwise) const;
  Result<JsonObject> Object(std::string_view key) const;

  // Arrays: an absent field is an empty array. `Ints` takes a single integer as an array of one
  // (eos_token_id is written both ways), `Strings` a single string.
  Result<std::vector<int64_t>> Ints(std::string_view key, int64_t min, int64_t max) const;
  Result<std::vector<double>> Doubles(std::string_view key, double min, double max) const;
  Result<std::vector<std::string>> Strings(std::string_view key) const;

  /// "path: field is 7, <why>": for contradictions between fields, which only the caller knows.
  /// Code kInvalidArgument. The value found is printed from the document.
  Status Contradiction(std::string_view key, std::string_view why) const;

 private:
  JsonObject(std::shared_ptr<const boost::json::value> document, const boost::json::object* object,
             std::string source);
  const boost::json::value* Find(std::string_view key) const;
  Status Wrong(std::string_view key, const boost::json::value* found,
               std::string_view allowed) const;

  std::shared_ptr<const boost::json::value> document_;  // keeps object_ alive
  const boost::json::object* object_;
  std::string source_;
  std::vector<std::string> overridden_;
};

/// Reads many fields in a row and keeps every error, so that one report names all that is wrong
/// with a file. After an error a getter gives its default (or the smallest allowed value), and the
/// caller goes on; the values mean nothing until status() is OK.
///
///   FieldReader read(config);
///   c.hidden = read.Int("hidden_size", 1, 1 << 20);
///   c.eps = read.Double("rms_norm_eps", 0, 1, 1e-6);
///   if (c.hidden % 64) read.Contradiction("hidden_size", "allowed are multiples of 64");
///   RETURN_IF_ERROR(read.status());
class FieldReader {
 public:
  explicit FieldReader(JsonObject object) : object_(std::move(object)) {}

  const JsonObject& object() const { return object_; }
  bool Has(std::string_view key) const { return object_.Has(key); }
  bool IsNull(std::string_view key) const { return object_.IsNull(key); }

  int64_t Int(std::string_view key, int64_t min, int64_t max);
  int64_t Int(std::string_view key, int64_t min, int64_t max, int64_t otherwise);
  double Double(std::string_view key, double min, double max);
  double Double(std::string_view key, double min, double max, double otherwise);
  bool Bool(std::string_view key);
  bool Bool(std::string_view key, bool otherwise);
  std::string String(std::string_view key);
  std::string String(std::string_view key, const std::string& otherwise);
  /// An absent or wrong object reads as one without keys; only a wrong one is an error.
  JsonObject Object(std::string_view key);
  std::vector<int64_t> Ints(std::string_view key, int64_t min, int64_t max);
  std::vector<double> Doubles(std::string_view key, double min, double max);
  std::vector<std::string> Strings(std::string_view key);
  void Contradiction(std::string_view key, std::string_view why);
  /// Takes over an error found elsewhere (a nested object's reader, say); OK is ignored.
  void Add(Status status);

  /// OK, or the first error's code with all messages, one a line (20 at most, then a count).
  Status status() const;

 private:
  template <class T>
  T Keep(Result<T> result, T otherwise);

  JsonObject object_;
  std::vector<Status> errors_;
};

/// A model's config.json (ModelPath::config_path), with `overrides` (JSON text of
/// --json-model-override-args; empty for none) put over it.
Result<JsonObject> ReadModelConfig(const std::string& path, std::string_view overrides = {});

}  // namespace sluice
