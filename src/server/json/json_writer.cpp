#include "server/json/json_writer.h"

#include <fmt/format.h>

#include <boost/json/value.hpp>
#include <cmath>
#include <iterator>
#include <limits>

#include "server/json/utf8.h"

namespace sluice {
namespace {

template <class T>
void AppendNumber(std::string& out, T value) {
  if (!std::isfinite(value)) value = std::numeric_limits<float>::lowest();
  const size_t begin = out.size();
  fmt::format_to(std::back_inserter(out), "{}", value);
  // "1" would turn a float into an integer for typed readers.
  if (out.find_first_of(".e", begin) == std::string::npos) out += ".0";
}

}  // namespace

void JsonWriter::Separate() {
  if (needs_comma_) text_ += ',';
  needs_comma_ = true;
}

JsonWriter& JsonWriter::Open(char bracket) {
  Separate();
  text_ += bracket;
  needs_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::Close(char bracket) {
  text_ += bracket;
  needs_comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::Key(std::string_view key) {
  Separate();
  Quote(key);
  text_ += ':';
  needs_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::String(std::string_view text) {
  Separate();
  Quote(text);
  return *this;
}

void JsonWriter::Quote(std::string_view text) {
  if (FindInvalidUtf8(text)) return Quote(RepairUtf8(text));
  text_ += '"';
  for (const char c : text) {
    switch (c) {
      case '"': text_ += "\\\""; break;
      case '\\': text_ += "\\\\"; break;
      case '\n': text_ += "\\n"; break;
      case '\r': text_ += "\\r"; break;
      case '\t': text_ += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          fmt::format_to(std::back_inserter(text_), "\\u{:04x}", static_cast<unsigned char>(c));
        } else {
          text_ += c;
        }
    }
  }
  text_ += '"';
}

JsonWriter& JsonWriter::Int(int64_t value) { return Raw(fmt::format_int(value).str()); }
JsonWriter& JsonWriter::Uint(uint64_t value) { return Raw(fmt::format_int(value).str()); }
JsonWriter& JsonWriter::Bool(bool value) { return Raw(value ? "true" : "false"); }
JsonWriter& JsonWriter::Null() { return Raw("null"); }

JsonWriter& JsonWriter::Number(double value) {
  Separate();
  AppendNumber(text_, value);
  return *this;
}

JsonWriter& JsonWriter::Number(float value) {
  Separate();
  AppendNumber(text_, value);
  return *this;
}

JsonWriter& JsonWriter::Raw(std::string_view json) {
  Separate();
  text_ += json;
  return *this;
}

JsonWriter& JsonWriter::Value(const boost::json::value& value) {
  switch (value.kind()) {
    case boost::json::kind::null: return Null();
    case boost::json::kind::bool_: return Bool(value.get_bool());
    case boost::json::kind::int64: return Int(value.get_int64());
    case boost::json::kind::uint64: return Uint(value.get_uint64());
    case boost::json::kind::double_: return Number(value.get_double());
    case boost::json::kind::string: {
      const auto& text = value.get_string();
      return String(std::string_view(text.data(), text.size()));
    }
    case boost::json::kind::array:
      BeginArray();
      for (const auto& item : value.get_array()) Value(item);
      return EndArray();
    case boost::json::kind::object:
      BeginObject();
      for (const auto& [key, item] : value.get_object())
        Key(std::string_view(key.data(), key.size())).Value(item);
      return EndObject();
  }
  return Null();
}

}  // namespace sluice
