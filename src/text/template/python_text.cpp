#include "text/template/python_text.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "text/template/callable.h"
#include "text/template/operators.h"
#include "text/template/unicode.h"

namespace sluice::jinja {

std::string FormatInt(Int value) { return fmt::format("{}", value); }

bool ParseDigits(std::string_view digits, int base, Int& value) {
  value = 0;
  for (const char c : digits) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 10
                      : c >= 'A' && c <= 'Z' ? c - 'A' + 10
                                             : 36;
    if (digit >= base || __builtin_mul_overflow(value, Int{base}, &value) ||
        __builtin_add_overflow(value, Int{digit}, &value))
      return false;
  }
  return !digits.empty();
}

std::string FormatFloat(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64] = {};  // ends the exponent's digits
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer - 1, value, std::chars_format::scientific);
  const std::string_view text(buffer, static_cast<size_t>(end.ptr - buffer));
  const size_t e = text.find('e');
  int exponent = std::atoi(buffer + e + 1);
  std::string sign, digits;
  for (const char c : text.substr(0, e)) {
    if (c == '-') sign = "-";
    if (c >= '0' && c <= '9') digits += c;
  }
  if (exponent >= -4 && exponent < 16) {
    if (exponent < 0) {
      digits.insert(0, static_cast<size_t>(-exponent), '0');
      exponent = 0;
    }
    while (digits.size() < static_cast<size_t>(exponent) + 2) digits += '0';
    return sign + digits.insert(static_cast<size_t>(exponent) + 1, ".");
  }
  if (digits.size() > 1) digits.insert(1, ".");
  return fmt::format("{}{}e{}{:02}", sign, digits, exponent < 0 ? '-' : '+', std::abs(exponent));
}

static void AppendQuoted(const TracedText& text, TextBuilder& out) {
  const bool double_quotes =
      text.bytes.find('\'') != std::string::npos && text.bytes.find('"') == std::string::npos;
  const char quote = double_quotes ? '"' : '\'';
  std::string quoted(1, quote);
  for (size_t pos = 0; pos < text.bytes.size() && !out.full();) {
    const CodePoint c = DecodeAt(text.bytes, pos);
    if (c.value == static_cast<uint32_t>(quote) || c.value == '\\') {
      quoted += '\\';
      quoted += static_cast<char>(c.value);
    } else if (c.value == '\n') {
      quoted += "\\n";
    } else if (c.value == '\r') {
      quoted += "\\r";
    } else if (c.value == '\t') {
      quoted += "\\t";
    } else if (IsPrintable(c.value)) {
      quoted.append(text.bytes, pos, c.bytes);
    } else if (c.value < 0x100) {
      quoted += fmt::format("\\x{:02x}", c.value);
    } else if (c.value < 0x10000) {
      quoted += fmt::format("\\u{:04x}", c.value);
    } else {
      quoted += fmt::format("\\U{:08x}", c.value);
    }
    pos += c.bytes;
    if (quoted.size() > 4096) {
      out.Append(quoted, false);
      quoted.clear();
    }
  }
  out.Append(quoted + quote, false);
}

static Status AppendListRepr(const List& list, TextBuilder& out, Budget& budget) {
  static constexpr std::pair<std::string_view, std::string_view> kBrackets[] = {
      {"[", "]"},
      {"(", ")"},
      {},
      {"dict_keys([", "])"},
      {"dict_values([", "])"},
      {"dict_items([", "])"}};
  if (list.kind == ListKind::kRange || list.kind == ListKind::kGenerator)
    return Error(Code::kInvalidArgument, "a {} can not be printed (use |list)",
                 list.kind == ListKind::kRange ? "range" : "generator");
  const auto& [open, close] = kBrackets[static_cast<size_t>(list.kind)];
  out.Append(open, false);
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (i) out.Append(", ", false);
    RETURN_IF_ERROR(AppendRepr(list.items[i], out, budget));
    if (out.full()) break;
  }
  out.Append(list.kind == ListKind::kTuple && list.items.size() == 1 ? ",)" : close, false);
  return {};
}

Status AppendRepr(const Value& value, TextBuilder& out, Budget& budget) {
  RETURN_IF_ERROR(budget.Ticks(1));
  if (const TracedText* text = value.AsText()) {
    AppendQuoted(*text, out);
    return {};
  }
  if (const List* list = value.AsList()) return AppendListRepr(*list, out, budget);
  if (const Dict* dict = value.AsDict()) {
    out.Append("{", false);
    bool first = true;
    for (const auto& [key, item] : dict->entries()) {
      if (!first) out.Append(", ", false);
      first = false;
      RETURN_IF_ERROR(AppendRepr(key, out, budget));
      out.Append(": ", false);
      RETURN_IF_ERROR(AppendRepr(item, out, budget));
      if (out.full()) break;
    }
    out.Append("}", false);
    return {};
  }
  if (value.IsUndefined()) {
    out.Append("Undefined", false);
    return {};
  }
  return AppendText(value, out, budget);
}

Status AppendText(const Value& value, TextBuilder& out, Budget& budget) {
  if (const TracedText* text = value.AsText()) {
    out.Append(*text);
  } else if (value.IsNone()) {
    out.Append("None", false);
  } else if (value.IsBool()) {
    out.Append(value.Truth() ? "True" : "False", false);
  } else if (const Int* i = std::get_if<Int>(&value.data)) {
    out.Append(FormatInt(*i), false);
  } else if (const double* d = std::get_if<double>(&value.data)) {
    out.Append(FormatFloat(*d), false);
  } else if (value.AsList() || value.AsDict()) {
    return AppendRepr(value, out, budget);
  } else if (!value.IsUndefined()) {
    return Error(Code::kInvalidArgument, "a {} can not be printed", value.TypeName());
  }
  return {};
}

Result<TextPtr> ToText(const Value& value, Budget& budget) {
  if (const TextPtr* text = std::get_if<TextPtr>(&value.data)) return *text;
  TextBuilder out(budget);
  RETURN_IF_ERROR(AppendText(value, out, budget));
  return out.Finish();
}

namespace {

class JsonWriter {
 public:
  JsonWriter(const JsonStyle& style, TextBuilder& out, Budget& budget)
      : style_(style), out_(out), budget_(budget) {}

  Status Write(const Value& value) {
    RETURN_IF_ERROR(budget_.Ticks(1));
    if (out_.full()) return {};
    if (const TracedText* text = value.AsText()) {
      WriteString(text->bytes);
    } else if (const List* list = value.AsList()) {
      return WriteList(*list);
    } else if (const Dict* dict = value.AsDict()) {
      return WriteDict(*dict);
    } else {
      std::string flat;
      if (!Flat(value, flat))
        return Error(Code::kInvalidArgument, "a {} can not be written as JSON", value.TypeName());
      Put(flat);
    }
    return {};
  }

 private:
  void Put(std::string_view text) { out_.Append(text, false); }

  static bool Flat(const Value& value, std::string& out) {
    if (value.IsNone()) {
      out = "null";
    } else if (value.IsBool()) {
      out = value.Truth() ? "true" : "false";
    } else if (const Int* i = std::get_if<Int>(&value.data)) {
      out = FormatInt(*i);
    } else if (const double* d = std::get_if<double>(&value.data)) {
      out = std::isnan(*d)   ? "NaN"
            : std::isinf(*d) ? (*d < 0 ? "-Infinity" : "Infinity")
                             : FormatFloat(*d);
    } else {
      return false;
    }
    return true;
  }

  void Escape(uint32_t c, std::string& out) const {
    static constexpr std::string_view kFrom = "\"\\\n\r\t\b\f", kTo = "\"\\nrtbf";
    const size_t simple = c < 0x80 ? kFrom.find(static_cast<char>(c)) : std::string_view::npos;
    if (simple != std::string_view::npos) {
      out += '\\';
      out += kTo[simple];
    } else if (c < 0x20 || (style_.ensure_ascii && c >= 0x7F && c < 0x10000)) {
      out += fmt::format("\\u{:04x}", c);
    } else if (style_.ensure_ascii && c >= 0x10000) {
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xD7C0 + (c >> 10), 0xDC00 + (c & 0x3FF));
    } else {
      AppendUtf8(c, out);
    }
  }

  void WriteString(std::string_view text) {
    std::string quoted = "\"";
    for (size_t pos = 0; pos < text.size() && !out_.full();) {
      const CodePoint c = DecodeAt(text, pos);
      Escape(c.value, quoted);
      pos += c.bytes;
      if (quoted.size() > 4096) {
        Put(quoted);
        quoted.clear();
      }
    }
    Put(quoted + '"');
  }

  void NewLine() {
    if (!style_.indent) return;
    Put("\n");
    for (int i = 0; i < level_; ++i) Put(*style_.indent);
  }

  Status WriteList(const List& list) {
    if (list.kind != ListKind::kList && list.kind != ListKind::kTuple)
      return Error(Code::kInvalidArgument,
                   "a generator, range or view can not be written as JSON (use |list)");
    if (list.items.empty()) {
      Put("[]");
      return {};
    }
    Put("[");
    ++level_;
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i) Put(style_.item_separator);
      NewLine();
      RETURN_IF_ERROR(Write(list.items[i]));
    }
    --level_;
    NewLine();
    Put("]");
    return {};
  }

  Status WriteDict(const Dict& dict) {
    if (dict.size() == 0) {
      Put("{}");
      return {};
    }
    std::vector<const Dict::Entry*> entries;
    for (const Dict::Entry& entry : dict.entries()) entries.push_back(&entry);
    RETURN_IF_ERROR(budget_.Work(entries.size() * sizeof(void*)));
    if (style_.sort_keys) {
      RETURN_IF_ERROR(StableSort(
          entries, [](const Dict::Entry* e) { return e->first; }, false, budget_));
    }
    Put("{");
    ++level_;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i) Put(style_.item_separator);
      NewLine();
      if (const TracedText* key = entries[i]->first.AsText()) {
        WriteString(key->bytes);
      } else {
        std::string flat;
        Flat(entries[i]->first, flat);  // keys are flat: Dict takes no others
        WriteString(flat);
      }
      Put(style_.key_separator);
      RETURN_IF_ERROR(Write(entries[i]->second));
    }
    --level_;
    NewLine();
    Put("}");
    return {};
  }

  const JsonStyle& style_;
  TextBuilder& out_;
  Budget& budget_;
  int level_ = 0;
};

}  // namespace

Result<TextPtr> ToJson(const Value& value, const JsonStyle& style, Budget& budget) {
  TextBuilder out(budget);
  RETURN_IF_ERROR(JsonWriter(style, out, budget).Write(value));
  return out.Finish();
}

}  // namespace sluice::jinja
