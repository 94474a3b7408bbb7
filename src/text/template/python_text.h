// Values as text, the way Python writes them: str, repr and json.dumps.
#pragma once

#include <optional>
#include <string>

#include "text/template/value.h"

namespace sluice::jinja {

/// str(value). A text is itself, with its origins; anything else is untrusted.
Result<TextPtr> ToText(const Value& value, Budget& budget);
/// The same, appended.
Status AppendText(const Value& value, TextBuilder& out, Budget& budget);
/// repr(value), appended; untrusted.
Status AppendRepr(const Value& value, TextBuilder& out, Budget& budget);

std::string FormatInt(Int value);
/// Nothing but digits of `base` (2 to 36), at least one; false as well for more than 127 bits.
bool ParseDigits(std::string_view digits, int base, Int& value);
/// The shortest digits that read back as `value`, in Python's layout (1e+16, 0.0001, 1e-05, inf).
std::string FormatFloat(double value);

/// json.dumps with ensure_ascii as given. Without `indent`: one line.
struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

/// Errors: a value that JSON does not have (undefined, a generator, a function).
Result<TextPtr> ToJson(const Value& value, const JsonStyle& style, Budget& budget);

}  // namespace sluice::jinja
