// Writes JSON that is always valid: text is repaired UTF-8, numbers are finite and in their
// shortest form. It cannot fail, whatever a model says.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace boost::json {
class value;
}

namespace sluice {

/// Appends to one string; commas and colons come by themselves.
///
///   JsonWriter json;
///   json.BeginObject().Key("id").String(id).Key("n").Int(1).EndObject();
class JsonWriter {
 public:
  JsonWriter& BeginObject() { return Open('{'); }
  JsonWriter& EndObject() { return Close('}'); }
  JsonWriter& BeginArray() { return Open('['); }
  JsonWriter& EndArray() { return Close(']'); }
  JsonWriter& Key(std::string_view key);
  JsonWriter& String(std::string_view text);
  JsonWriter& Int(int64_t value);
  JsonWriter& Uint(uint64_t value);
  JsonWriter& Bool(bool value);
  JsonWriter& Null();
  /// Not finite: the lowest float, which is how clients know an impossible token.
  JsonWriter& Number(double value);
  JsonWriter& Number(float value);
  /// Any parsed value (of limited depth).
  JsonWriter& Value(const boost::json::value& value);
  /// Text that is JSON already.
  JsonWriter& Raw(std::string_view json);

  const std::string& text() const { return text_; }
  std::string Take() { return std::move(text_); }

 private:
  JsonWriter& Open(char bracket);
  JsonWriter& Close(char bracket);
  void Separate();
  void Quote(std::string_view text);

  std::string text_;
  bool needs_comma_ = false;
};

}  // namespace sluice
