#include "text/tokenizer/json_members.h"

#include <climits>

namespace sluice {
namespace {

// Several times what the largest vocabularies hold (262k tokens and 515k merges of three values
// each); at this many values a parse stays within 1 GiB.
constexpr size_t kValuesMax = 4'000'000;

// An upper bound of the values in a JSON text, found without parsing it.
size_t CountValues(std::string_view text) {
  size_t values = 1;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      in_string = !in_string;
    } else if (in_string) {
      i += c == '\\';
    } else {
      values += c == ',' || c == '[' || c == '{';
    }
  }
  return values;
}

}  // namespace

Result<json::value> ParseObject(std::string_view text, json::monotonic_resource* memory) {
  if (const size_t values = CountValues(text); values > kValuesMax)
    return Error(Code::kTooLarge, "{} JSON values, at most {}", values, kValuesMax);
  boost::system::error_code error;
  json::value document = json::parse(text, error, memory);
  if (error) return Bad("not JSON:", error.message());
  if (!document.is_object()) return Bad("not", "a JSON object");
  return document;
}

Status Bad(std::string_view where, std::string_view what) {
  return Error(Code::kBadCheckpoint, "{} {}", where, what);
}

Status Unsupported(std::string_view where, std::string_view value, std::string_view allowed) {
  return Error(Code::kUnsupported, "{} is {}; supported: {}", where, Quoted(value, 300), allowed);
}

const json::value* Member(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

Result<bool> BoolMember(const json::object& object, std::string_view where, std::string_view key,
                        bool if_absent) {
  const json::value* value = Member(object, key);
  if (value == nullptr) return if_absent;
  if (!value->is_bool()) return Error(Code::kBadCheckpoint, "{}.{} is not a boolean", where, key);
  return value->get_bool();
}

// Empty if absent.
Result<std::string_view> StringMember(const json::object& object, std::string_view where,
                                      std::string_view key) {
  const json::value* value = Member(object, key);
  if (value == nullptr) return std::string_view();
  if (!value->is_string()) return Error(Code::kBadCheckpoint, "{}.{} is not a string", where, key);
  return std::string_view(value->get_string());
}

// Null if absent.
Result<const json::object*> ObjectMember(const json::object& object, std::string_view where,
                                         std::string_view key) {
  const json::value* value = Member(object, key);
  if (value == nullptr) return static_cast<const json::object*>(nullptr);
  if (!value->is_object()) return Error(Code::kBadCheckpoint, "{}{} is not an object", where, key);
  return &value->get_object();
}

Result<const json::array*> ArrayMember(const json::object& object, std::string_view where,
                                       std::string_view key) {
  const json::value* value = Member(object, key);
  if (value == nullptr || !value->is_array())
    return Error(Code::kBadCheckpoint, "{}.{} is not an array", where, key);
  return &value->get_array();
}

Result<int32_t> ReadId(const json::value& value, std::string_view where) {
  const int64_t* id = value.if_int64();
  if (id == nullptr || *id < 0 || *id > INT32_MAX)
    return Error(Code::kBadCheckpoint, "{} has the id {}, not an integer in 0 .. {}", where,
                 Quoted(json::serialize(value)), INT32_MAX);
  return static_cast<int32_t>(*id);
}

}  // namespace sluice
