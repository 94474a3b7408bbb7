#include "server/json/json_reader.h"

#include <boost/json/error.hpp>
#include <cmath>
#include <cstdlib>

#include "server/json/utf8.h"
#include "text/json_text.h"

namespace sluice {
namespace {

namespace json = boost::json;

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool IsNumberChar(char c) {
  return (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.' || c == 'e' || c == 'E';
}

/// What the parser would not refuse, found in one pass over the raw text: long numbers, numbers
/// that overflow (Boost.JSON makes them infinite) and more values than we hold.
Status CheckTokens(std::string_view text, const JsonLimits& limits) {
  size_t values = 1;
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == '"') {
      for (++i; i < text.size() && text[i] != '"'; ++i)
        if (text[i] == '\\') ++i;
      ++i;
    } else if ((c >= '0' && c <= '9') || c == '-') {
      const size_t begin = i;
      while (i < text.size() && IsNumberChar(text[i])) ++i;
      if (i - begin > limits.number_bytes_max)
        return Error(Code::kInvalidArgument,
                     "invalid JSON: the number at byte {} has {} characters, allowed are {}", begin,
                     i - begin, limits.number_bytes_max);
      const std::string digits(text.substr(begin, i - begin));
      if (digits.find_first_of("eE") != std::string::npos &&
          std::isinf(std::strtod(digits.c_str(), nullptr)))
        return Error(Code::kInvalidArgument, "invalid JSON: the number {} at byte {} is too large",
                     digits, begin);
    } else {
      if (c == ',' || c == '[' || c == '{') ++values;
      ++i;
    }
    if (values > limits.values_max)
      return Error(Code::kInvalidArgument, "the JSON document has more than {} values",
                   limits.values_max);
  }
  return Status();
}

}  // namespace

Result<json::value> ParseJson(std::string_view text, const JsonLimits& limits) {
  if (text.starts_with("\xEF\xBB\xBF"))
    return Error(Code::kInvalidArgument, "invalid JSON: a byte order mark at byte 0");
  if (const auto offset = FindInvalidUtf8(text))
    return Error(Code::kInvalidArgument, "invalid JSON: byte {} is not UTF-8 (0x{:02x})", *offset,
                 static_cast<unsigned char>(text[*offset]));
  size_t begin = 0;
  while (begin < text.size() && IsSpace(text[begin])) ++begin;
  if (begin == text.size()) return Error(Code::kInvalidArgument, "the request body is empty");
  RETURN_IF_ERROR(CheckTokens(text, limits));

  boost::system::error_code error;
  size_t byte = 0;
  json::value value = ParseJsonText(text, limits.depth_max, error, byte);
  if (error == json::error::too_deep)
    return Error(Code::kInvalidArgument, "invalid JSON: nested deeper than {} levels at byte {}",
                 limits.depth_max, byte);
  if (error == json::error::extra_data)
    return Error(Code::kInvalidArgument, "invalid JSON: trailing bytes at byte {}", byte);
  if (error)
    return Error(Code::kInvalidArgument, "invalid JSON: {} at byte {}", error.message(), byte);
  return value;
}

std::optional<int64_t> AsInteger(const json::value& value) {
  if (value.is_int64()) return value.get_int64();
  if (!value.is_double()) return std::nullopt;  // uint64 is above every limit we have
  const double number = value.get_double();
  if (std::trunc(number) != number || std::abs(number) > 0x1.0p53) return std::nullopt;
  return static_cast<int64_t>(number);
}

std::optional<double> AsNumber(const json::value& value) {
  if (value.is_double()) return value.get_double();
  if (value.is_int64()) return static_cast<double>(value.get_int64());
  if (value.is_uint64()) return static_cast<double>(value.get_uint64());
  return std::nullopt;
}

std::optional<int32_t> AsTokenId(const json::value& value) {
  const auto id = AsInteger(value);
  if (!id || *id < 0 || *id > std::numeric_limits<int32_t>::max()) return std::nullopt;
  return static_cast<int32_t>(*id);
}

std::string Describe(const json::value& value) {
  switch (value.kind()) {
    case json::kind::null: return "null";
    case json::kind::bool_: return value.get_bool() ? "true" : "false";
    case json::kind::int64: return fmt::format("{}", value.get_int64());
    case json::kind::uint64: return fmt::format("{}", value.get_uint64());
    case json::kind::double_: return fmt::format("{}", value.get_double());
    case json::kind::string: return Quoted(View(value.get_string()));
    case json::kind::array: return fmt::format("an array of {}", value.get_array().size());
    case json::kind::object: return "an object";
  }
  return "?";
}

const json::value* FieldReader::Find(std::string_view name) const {
  const json::value* value = object_.if_contains(json::string_view(name.data(), name.size()));
  return value && !value->is_null() ? value : nullptr;
}

Status FieldReader::WrongType(std::string_view name, const json::value& value,
                              std::string_view wanted) const {
  const std::string full = FullName(name);
  return ParamError(Code::kInvalidArgument, full, "{} must be {}, found {}", full, wanted,
                    Describe(value));
}

Status FieldReader::Bool(std::string_view name, bool& out) const {
  const json::value* value = Find(name);
  if (!value) return Status();
  if (!value->is_bool()) return WrongType(name, *value, "true or false");
  out = value->get_bool();
  return Status();
}

Status FieldReader::Int(std::string_view name, int64_t& out, int64_t min, int64_t max) const {
  const json::value* value = Find(name);
  if (!value) return Status();
  const auto integer = AsInteger(*value);
  if (!integer || *integer < min || *integer > max) {
    const bool low_open = min == std::numeric_limits<int64_t>::min();
    const bool high_open = max == std::numeric_limits<int64_t>::max();
    const std::string range = low_open && high_open ? "an integer"
                              : high_open           ? fmt::format("an integer of at least {}", min)
                                          : fmt::format("an integer in [{}, {}]", min, max);
    return WrongType(name, *value, range);
  }
  out = *integer;
  return Status();
}

Status FieldReader::Int(std::string_view name, std::optional<int64_t>& out, int64_t min,
                        int64_t max) const {
  if (!Has(name)) return Status();
  int64_t integer = 0;
  RETURN_IF_ERROR(Int(name, integer, min, max));
  out = integer;
  return Status();
}

Status FieldReader::Number(std::string_view name, double& out) const {
  const json::value* value = Find(name);
  if (!value) return Status();
  const auto number = AsNumber(*value);
  if (!number || !std::isfinite(*number)) return WrongType(name, *value, "a number");
  out = *number;
  return Status();
}

Status FieldReader::String(std::string_view name, std::string& out, size_t bytes_max) const {
  const json::value* value = Find(name);
  if (!value) return Status();
  if (!value->is_string()) return WrongType(name, *value, "a string");
  if (value->get_string().size() > bytes_max)
    return WrongType(name, *value, fmt::format("a string of at most {} bytes", bytes_max));
  out = std::string(View(value->get_string()));
  return Status();
}

Status FieldReader::Strings(std::string_view name, std::vector<std::string>& out, size_t count_max,
                            size_t bytes_max) const {
  const json::value* value = Find(name);
  if (!value) return Status();
  out.clear();
  if (value->is_string()) {
    out.emplace_back();
    return String(name, out.back(), bytes_max);
  }
  if (!value->is_array()) return WrongType(name, *value, "a string or an array of strings");
  if (value->get_array().size() > count_max)
    return WrongType(name, *value, fmt::format("an array of at most {}", count_max));
  for (const json::value& item : value->get_array()) {
    if (!item.is_string() || item.get_string().size() > bytes_max)
      return WrongType(name, item, fmt::format("strings of at most {} bytes", bytes_max));
    out.emplace_back(View(item.get_string()));
  }
  return Status();
}

Status FieldReader::Ids(std::string_view name, std::vector<int32_t>& out, size_t count_max) const {
  const json::array* array = nullptr;
  RETURN_IF_ERROR(Array(name, array));
  if (!array) return Status();
  if (array->size() > count_max)
    return WrongType(name, *Find(name), fmt::format("an array of at most {}", count_max));
  out.clear();
  for (const json::value& item : *array) {
    const auto id = AsTokenId(item);
    if (!id) return WrongType(name, item, "an array of token ids");
    out.push_back(*id);
  }
  return Status();
}

Status FieldReader::Object(std::string_view name, const json::object*& out) const {
  const json::value* value = Find(name);
  if (!value) return Status();
  if (!value->is_object()) return WrongType(name, *value, "an object");
  out = &value->get_object();
  return Status();
}

Status FieldReader::Array(std::string_view name, const json::array*& out) const {
  const json::value* value = Find(name);
  if (!value) return Status();
  if (!value->is_array()) return WrongType(name, *value, "an array");
  out = &value->get_array();
  return Status();
}

}  // namespace sluice
