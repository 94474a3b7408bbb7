// Python's printf-style formatting.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "text/template/operators.h"
#include "text/template/python_text.h"
#include "text/template/unicode.h"

namespace sluice::jinja {
namespace {

constexpr int kWidthMax = 256;  // of one conversion

struct Conversion {
  bool left = false, plus = false, space = false, zero = false, alternate = false;
  int width = 0;
  int precision = -1;
  char type = 0;
};

class PercentFormatter {
 public:
  PercentFormatter(const TracedText& text, const Value& arguments, Budget& budget)
      : text_(text), budget_(budget), out_(budget) {
    const List* tuple = arguments.AsList();
    several_ = tuple && tuple->kind == ListKind::kTuple;
    arguments_ = several_ ? std::span<const Value>(tuple->items) : std::span(&arguments, 1);
    // Python takes other containers for mappings, which need not be used up.
    may_remain_ = !several_ && (arguments.AsDict() || arguments.AsList());
  }

  Result<Value> Run() {
    const std::string& bytes = text_.bytes;
    size_t pos = 0;
    while (pos < bytes.size() && !out_.full()) {
      const size_t percent = std::min(bytes.find('%', pos), bytes.size());
      out_.Append(text_, pos, percent);
      pos = percent + 1;
      if (percent == bytes.size()) break;
      Conversion conversion;
      RETURN_IF_ERROR(Parse(pos, conversion));
      RETURN_IF_ERROR(Convert(conversion));
    }
    if (next_ < arguments_.size() && !may_remain_)
      return Error(Code::kInvalidArgument, "not all values of a format are used");
    TRY(TextPtr result, out_.Finish());
    return Value(std::move(result));
  }

 private:
  Result<Value> NextArgument() {
    if (next_ >= arguments_.size())
      return Error(Code::kInvalidArgument, "too few values for a format");
    return arguments_[next_++];
  }

  Status Number(size_t& pos, int& number) {
    const std::string& bytes = text_.bytes;
    number = 0;
    for (; pos < bytes.size() && bytes[pos] >= '0' && bytes[pos] <= '9'; ++pos) {
      number = number * 10 + (bytes[pos] - '0');
      if (number > kWidthMax)
        return Error(Code::kInvalidArgument, "a format width over {}", kWidthMax);
    }
    return {};
  }

  Status Parse(size_t& pos, Conversion& conversion) {
    const std::string& bytes = text_.bytes;
    for (; pos < bytes.size(); ++pos) {
      const char c = bytes[pos];
      if (c == '-')
        conversion.left = true;
      else if (c == '+')
        conversion.plus = true;
      else if (c == ' ')
        conversion.space = true;
      else if (c == '0')
        conversion.zero = true;
      else if (c == '#')
        conversion.alternate = true;
      else
        break;
    }
    RETURN_IF_ERROR(Number(pos, conversion.width));
    if (pos < bytes.size() && bytes[pos] == '.') {
      ++pos;
      RETURN_IF_ERROR(Number(pos, conversion.precision));
    }
    if (pos >= bytes.size()) return Error(Code::kInvalidArgument, "an incomplete format");
    conversion.type = bytes[pos++];
    return {};
  }

  // `digits` in the width; a sign stays before the zeros.
  void Pad(const Conversion& conversion, const TracedText& text) {
    const auto length = static_cast<int>(CountCodePoints(text.bytes));
    const std::string fill(static_cast<size_t>(std::max(conversion.width - length, 0)), ' ');
    if (!conversion.left) out_.Append(fill, true);
    out_.Append(text);
    if (conversion.left) out_.Append(fill, true);
  }

  void PadNumber(const Conversion& conversion, std::string number) {
    const bool negative = number.starts_with('-');
    std::string sign = negative ? "-" : conversion.plus ? "+" : conversion.space ? " " : "";
    if (negative) number.erase(0, 1);
    const size_t length = sign.size() + number.size();
    const auto width = static_cast<size_t>(conversion.width);
    if (conversion.zero && !conversion.left && length < width)
      number.insert(0, width - length, '0');
    Pad(conversion, TracedText::Untrusted(sign + number));
  }

  Status Convert(const Conversion& conversion) {
    switch (conversion.type) {
      case '%': out_.Append("%", true); return {};
      case 's':
      case 'r': return ConvertText(conversion);
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o': return ConvertInt(conversion);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G': return ConvertFloat(conversion);
      default:
        return Error(Code::kInvalidArgument, "the conversion {} is not supported",
                     Quoted(std::string("%") + conversion.type));
    }
  }

  Status ConvertText(const Conversion& conversion) {
    TRY(const Value value, NextArgument());
    TextBuilder piece(budget_);
    if (conversion.type == 'r') {
      RETURN_IF_ERROR(AppendRepr(value, piece, budget_));
    } else {
      RETURN_IF_ERROR(AppendText(value, piece, budget_));
    }
    TRY(const TextPtr text, piece.Finish());
    if (conversion.precision < 0) {
      Pad(conversion, *text);
      return {};
    }
    const ByteRange range =
        CodePointRange(text->bytes, 0, static_cast<size_t>(conversion.precision));
    TRY(const Value part, Substring(*text, 0, range.end, budget_));
    Pad(conversion, *part.AsText());
    return {};
  }

  Status ConvertInt(const Conversion& conversion) {
    TRY(const Value value, NextArgument());
    if (conversion.alternate)
      return Error(Code::kInvalidArgument, "the format flag '#' is not supported");
    Int number = 0, storage;
    double real;
    const bool decimal = conversion.type == 'd' || conversion.type == 'i' || conversion.type == 'u';
    if (const Int* i = value.AsInt(storage)) {
      number = *i;
    } else if (decimal && value.AsDouble(real) && std::abs(real) < 0x1p126) {
      number = static_cast<Int>(real);
    } else {
      return Error(Code::kInvalidArgument, "%{} takes a number, not a {}", conversion.type,
                   value.TypeName());
    }
    std::string digits = conversion.type == 'x'   ? fmt::format("{:x}", number)
                         : conversion.type == 'X' ? fmt::format("{:X}", number)
                         : conversion.type == 'o' ? fmt::format("{:o}", number)
                                                  : FormatInt(number);
    const size_t sign = digits.starts_with('-') ? 1 : 0;
    if (const auto least = static_cast<size_t>(std::max(conversion.precision, 0));
        digits.size() - sign < least)
      digits.insert(sign, least - (digits.size() - sign), '0');
    PadNumber(conversion, std::move(digits));
    return {};
  }

  Status ConvertFloat(const Conversion& conversion) {
    TRY(const Value value, NextArgument());
    double number;
    if (!value.AsDouble(number))
      return Error(Code::kInvalidArgument, "%{} takes a number, not a {}", conversion.type,
                   value.TypeName());
    if (conversion.alternate)
      return Error(Code::kInvalidArgument, "the format flag '#' is not supported");
    const char format[] = {'%', '.', '*', conversion.type, 0};
    char buffer[1024];  // 309 digits, a point, kWidthMax more
    const int precision = conversion.precision < 0 ? 6 : conversion.precision;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    const int size = std::snprintf(buffer, sizeof buffer, format, precision, number);
#pragma GCC diagnostic pop
    PadNumber(conversion, std::string(buffer, static_cast<size_t>(size)));
    return {};
  }

  const TracedText& text_;
  Budget& budget_;
  TextBuilder out_;
  std::span<const Value> arguments_;
  bool several_ = false, may_remain_ = false;
  size_t next_ = 0;
};

}  // namespace

Result<Value> FormatPercent(const TracedText& text, const Value& arguments, Budget& budget) {
  return PercentFormatter(text, arguments, budget).Run();
}

}  // namespace sluice::jinja
