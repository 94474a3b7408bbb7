// Request bodies to values, strictly and within limits. Duplicate keys: the last one wins.
#pragma once

#include <boost/json/value.hpp>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace sluice {

struct JsonLimits {
  size_t depth_max = 64;
  size_t number_bytes_max = 64;
  size_t values_max = size_t{4} << 20;  // a value takes 24 bytes: about 100 MiB
};

/// One JSON document and nothing else. Errors, all kInvalidArgument with the byte offset: empty,
/// BOM, not UTF-8, lone surrogates, a limit, a number beyond double, trailing bytes, syntax.
Result<boost::json::value> ParseJson(std::string_view text, const JsonLimits& limits = {});

/// Reads the fields of one object. Absent and null leave the output as it is. Errors are
/// kInvalidArgument with the field's name (and prefix) as param, the value found and what is
/// allowed.
class FieldReader {
 public:
  /// `prefix` comes before names in errors: "sampling_params.". Both are borrowed.
  explicit FieldReader(const boost::json::object& object, std::string_view prefix = {})
      : object_(object), prefix_(prefix) {}

  /// The value, or nullptr if absent or null.
  const boost::json::value* Find(std::string_view name) const;
  bool Has(std::string_view name) const { return Find(name) != nullptr; }

  Status Bool(std::string_view name, bool& out) const;
  /// Integers may come as 1.0.
  Status Int(std::string_view name, int64_t& out, int64_t min = std::numeric_limits<int64_t>::min(),
             int64_t max = std::numeric_limits<int64_t>::max()) const;
  Status Int(std::string_view name, std::optional<int64_t>& out, int64_t min, int64_t max) const;
  Status Number(std::string_view name, double& out) const;
  Status String(std::string_view name, std::string& out, size_t bytes_max) const;
  /// A string or an array of strings.
  Status Strings(std::string_view name, std::vector<std::string>& out, size_t count_max,
                 size_t bytes_max) const;
  /// An array of integers that fit 32 bits, not negative.
  Status Ids(std::string_view name, std::vector<int32_t>& out, size_t count_max) const;
  Status Object(std::string_view name, const boost::json::object*& out) const;
  Status Array(std::string_view name, const boost::json::array*& out) const;

  /// The error of a field that has a value of another type.
  Status WrongType(std::string_view name, const boost::json::value& value,
                   std::string_view wanted) const;
  std::string FullName(std::string_view name) const {
    return std::string(prefix_) + std::string(name);
  }

 private:
  const boost::json::object& object_;
  const std::string_view prefix_;
};

/// The value as an integer, if it is one (1.0 counts).
std::optional<int64_t> AsInteger(const boost::json::value& value);
/// The value as a number of any kind.
std::optional<double> AsNumber(const boost::json::value& value);
/// A token id: an integer in [0, 2^31).
std::optional<int32_t> AsTokenId(const boost::json::value& value);
/// A short printable form for error messages: the value of scalars, else "an array of 3".
std::string Describe(const boost::json::value& value);
inline std::string_view View(const boost::json::string& s) { return {s.data(), s.size()}; }

}  // namespace sluice
