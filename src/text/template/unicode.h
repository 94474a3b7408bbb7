// Characters as Python's str sees them: UTF-8 walking, whitespace, case, printability.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::jinja {

/// The code point at `pos` of valid UTF-8, and its length in bytes.
struct CodePoint {
  uint32_t value;
  size_t bytes;
};
CodePoint DecodeAt(std::string_view text, size_t pos);
void AppendUtf8(uint32_t code_point, std::string& out);
std::string Utf8(uint32_t code_point);

/// Strict UTF-8: no surrogates, no overlong forms.
bool IsUtf8(std::string_view text);
size_t CountCodePoints(std::string_view text);

/// str.isspace, which is also what strip() and the pattern \s mean.
bool IsSpace(uint32_t code_point);
/// Length of the whitespace at the front of `text`, and the end of `text` without that at its back.
size_t LeadingSpace(std::string_view text);
size_t EndWithoutSpace(std::string_view text);
/// Where str.splitlines breaks ("\r\n" is one break: the caller looks for it).
bool IsLineBreak(uint32_t code_point);

bool IsAlpha(uint32_t code_point);
bool IsDigit(uint32_t code_point);
bool IsDecimal(uint32_t code_point);
bool IsNumeric(uint32_t code_point);
bool IsUpper(uint32_t code_point);
bool IsLower(uint32_t code_point);
bool IsTitle(uint32_t code_point);
/// Passed over when the case of a word's neighbour is looked for.
bool IsCaseIgnorable(uint32_t code_point);
/// What repr() shows as it is.
bool IsPrintable(uint32_t code_point);

/// Full case mappings (one code point may become several); lower case without the rule for a final
/// sigma, which needs the word: see ChangeCase in builtins.h.
std::string Upper(uint32_t code_point);
std::string Lower(uint32_t code_point);
std::string Title(uint32_t code_point);

}  // namespace sluice::jinja
