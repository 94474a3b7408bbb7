#include "text/template/lexer.h"

#include <algorithm>

#include "text/template/unicode.h"

namespace sluice::jinja {

std::string NormalizeSource(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

namespace {

bool IsDigitChar(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  Result<std::vector<Token>> Run() {
    while (pos_ < source_.size()) RETURN_IF_ERROR(Root());
    Add(TokenKind::kEnd, {});
    return std::move(tokens_);
  }

 private:
  std::string_view Rest() const { return source_.substr(pos_); }
  bool At(std::string_view text) const { return Rest().starts_with(text); }

  template <class... Args>
  Status Fail(fmt::format_string<Args...> format, Args&&... args) const {
    return Error(Code::kInvalidArgument, "chat template line {}: {}", line_,
                 fmt::format(format, std::forward<Args>(args)...));
  }

  void Advance(size_t bytes) {
    const std::string_view passed = source_.substr(pos_, bytes);
    line_ += static_cast<int>(std::count(passed.begin(), passed.end(), '\n'));
    pos_ += bytes;
  }
  void Add(TokenKind kind, std::string_view text) { tokens_.push_back({kind, line_, text}); }

  // After a tag, is the next character the first of its line?
  void EndOfTag() { line_starts_ = pos_ > 0 && source_[pos_ - 1] == '\n'; }

  // Text up to a tag at `end`, whose sign ('-', '+' or 0) decides what becomes of the whitespace
  // between them.
  void Data(size_t end, char sign, bool variable) {
    std::string_view text = source_.substr(pos_, end - pos_);
    std::string_view kept = text;
    if (sign == '-') {
      kept = text.substr(0, EndWithoutSpace(text));
    } else if (sign != '+' && !variable) {
      const size_t newline = text.rfind('\n');
      const size_t line_begin = newline == std::string_view::npos ? 0 : newline + 1;
      const std::string_view indent = text.substr(line_begin);
      if ((line_begin > 0 || line_starts_) && LeadingSpace(indent) == indent.size())
        kept = text.substr(0, line_begin);
    }
    if (!kept.empty()) Add(TokenKind::kData, kept);
    Advance(text.size());
  }

  char SignAt(size_t pos) const {
    return pos < source_.size() && (source_[pos] == '-' || source_[pos] == '+') ? source_[pos] : 0;
  }

  Status Root() {
    size_t tag = pos_;
    for (;; ++tag) {
      tag = source_.find('{', tag);
      if (tag == std::string_view::npos || tag + 1 >= source_.size()) {
        Add(TokenKind::kData, Rest());
        Advance(Rest().size());
        return {};
      }
      const char kind = source_[tag + 1];
      if (kind == '{' || kind == '%' || kind == '#') break;
    }
    const char kind = source_[tag + 1];
    const char sign = SignAt(tag + 2);
    Data(tag, sign, kind == '{');
    if (kind == '#') {
      Advance(sign ? 3 : 2);
      return Comment();
    }
    size_t raw_bytes = 0;
    if (kind == '%' && RawBegin(raw_bytes)) return Raw(raw_bytes);
    Add(kind == '{' ? TokenKind::kVariableBegin : TokenKind::kBlockBegin, source_.substr(pos_, 2));
    Advance(sign ? 3 : 2);
    return Tag(kind == '{');
  }

  // Length of `%}` with its sign and what it swallows, at `pos`; 0 if there is none.
  size_t EndTagBytes(size_t pos, std::string_view end, bool newline) const {
    const std::string_view rest = source_.substr(pos);
    if (rest.starts_with(end))
      return end.size() + (newline && rest.substr(end.size()).starts_with('\n') ? 1 : 0);
    if (rest.starts_with('-') && rest.substr(1).starts_with(end))
      return 1 + end.size() + LeadingSpace(rest.substr(1 + end.size()));
    if (newline && rest.starts_with('+') && rest.substr(1).starts_with(end)) return 1 + end.size();
    return 0;
  }

  // From behind `{#`.
  Status Comment() {
    for (size_t end = pos_; end < source_.size(); ++end) {
      end = source_.find_first_of("+-#", end);
      if (end == std::string_view::npos) break;
      const size_t bytes = EndTagBytes(end, "#}", true);
      if (!bytes) continue;
      Advance(end + bytes - pos_);
      EndOfTag();
      return {};
    }
    return Fail("missing end of comment tag");
  }

  // `{% raw %}`: the newline behind it stays.
  bool RawBegin(size_t& bytes) const {
    size_t pos = pos_ + 2 + (SignAt(pos_ + 2) ? 1 : 0);
    pos += LeadingSpace(source_.substr(pos));
    if (!source_.substr(pos).starts_with("raw")) return false;
    pos += 3;
    pos += LeadingSpace(source_.substr(pos));
    const size_t end = EndTagBytes(pos, "%}", false);
    bytes = pos + end - pos_;
    return end != 0;
  }

  Status Raw(size_t begin_bytes) {
    Advance(begin_bytes);
    EndOfTag();
    for (size_t tag = pos_; (tag = source_.find("{%", tag)) != std::string_view::npos; tag += 2) {
      const char sign = SignAt(tag + 2);
      size_t pos = tag + 2 + (sign ? 1 : 0);
      pos += LeadingSpace(source_.substr(pos));
      if (!source_.substr(pos).starts_with("endraw")) continue;
      pos += 6;
      pos += LeadingSpace(source_.substr(pos));
      const size_t end = EndTagBytes(pos, "%}", true);
      if (!end) continue;
      Data(tag, sign, false);
      Advance(pos + end - pos_);
      EndOfTag();
      return {};
    }
    return Fail("missing end of raw directive");
  }

  // The inside of {{ }} or {% %}.
  Status Tag(bool variable) {
    std::string open;  // brackets that wait for their partner; the end tag counts only outside
    while (pos_ < source_.size()) {
      if (open.empty()) {
        const size_t end =
            variable ? EndTagBytes(pos_, "}}", false) : EndTagBytes(pos_, "%}", true);
        if (end) {
          Add(variable ? TokenKind::kVariableEnd : TokenKind::kBlockEnd, source_.substr(pos_, end));
          Advance(end);
          EndOfTag();
          return {};
        }
      }
      if (const size_t space = LeadingSpace(Rest())) {
        Advance(space);
        continue;
      }
      RETURN_IF_ERROR(Lexeme(open));
    }
    return {};  // the parser reports the end of the source
  }

  Status Lexeme(std::string& open) {
    const char c = source_[pos_];
    if (IsDigitChar(c)) {
      if (const size_t bytes = FloatBytes()) {
        Take(TokenKind::kFloat, bytes);
      } else {
        Take(TokenKind::kInteger, IntegerBytes());
      }
      return {};
    }
    if (IsNameStart(c)) {
      size_t bytes = 1;
      while (pos_ + bytes < source_.size() &&
             (IsNameStart(source_[pos_ + bytes]) || IsDigitChar(source_[pos_ + bytes])))
        ++bytes;
      Take(TokenKind::kName, bytes);
      return {};
    }
    if (c == '\'' || c == '"') return String(c);
    return Operator(open);
  }

  void Take(TokenKind kind, size_t bytes) {
    Add(kind, source_.substr(pos_, bytes));
    Advance(bytes);
  }

  Status String(char quote) {
    for (size_t end = pos_ + 1; end < source_.size(); ++end) {
      if (source_[end] == '\\') {
        ++end;
      } else if (source_[end] == quote) {
        Take(TokenKind::kString, end + 1 - pos_);
        return {};
      }
    }
    return Fail("a string that begins here has no end");
  }

  Status Operator(std::string& open) {
    static constexpr std::string_view kTwo[] = {"//", "**", "==", "!=", ">=", "<="};
    static constexpr std::string_view kOne = "+-/*%~[](){}><=.:|,;";
    for (const std::string_view op : kTwo)
      if (At(op)) {
        Take(TokenKind::kOperator, 2);
        return {};
      }
    const char c = source_[pos_];
    if (kOne.find(c) == std::string_view::npos)
      return Fail("unexpected character {}",
                  Quoted(Rest().substr(0, DecodeAt(source_, pos_).bytes)));
    if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open.empty()) return Fail("unexpected '{}'", c);
      if (open.back() != c) return Fail("unexpected '{}', expected '{}'", c, open.back());
      open.pop_back();
    }
    Take(TokenKind::kOperator, 1);
    return {};
  }

  // Digits with single underscores between them, from `pos`.
  size_t DigitsEnd(size_t pos) const {
    while (pos < source_.size() &&
           (IsDigitChar(source_[pos]) || (source_[pos] == '_' && pos + 1 < source_.size() &&
                                          IsDigitChar(source_[pos + 1]) && pos > pos_)))
      ++pos;
    return pos;
  }

  // A number with a fraction or an exponent; 0 if there is none here.
  size_t FloatBytes() const {
    if (pos_ > 0 && source_[pos_ - 1] == '.') return 0;  // x.0.1 is two subscripts
    const auto digit_at = [&](size_t p) { return p < source_.size() && IsDigitChar(source_[p]); };
    size_t end = DigitsEnd(pos_);
    const size_t whole_end = end;
    if (end < source_.size() && source_[end] == '.' && digit_at(end + 1)) end = DigitsEnd(end + 1);
    if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      size_t exponent = end + 1;
      if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-'))
        ++exponent;
      if (digit_at(exponent)) end = DigitsEnd(exponent);
    }
    return end == whole_end ? 0 : end - pos_;
  }

  size_t IntegerBytes() const {
    const auto run = [&](std::string_view digits, size_t begin) {
      size_t end = begin;
      for (;;) {
        size_t next = end;
        if (next < source_.size() && source_[next] == '_') ++next;
        if (next >= source_.size() || digits.find(source_[next]) == std::string_view::npos) break;
        end = next + 1;
      }
      return end;
    };
    if (source_[pos_] == '0') {
      const char base = pos_ + 1 < source_.size() ? static_cast<char>(source_[pos_ + 1] | 32) : ' ';
      const std::string_view digits = base == 'x'   ? "0123456789abcdefABCDEF"
                                      : base == 'o' ? "01234567"
                                      : base == 'b' ? "01"
                                                    : "";
      if (const size_t end = run(digits, pos_ + 2); !digits.empty() && end > pos_ + 2)
        return end - pos_;
      return run("0", pos_ + 1) - pos_;
    }
    return run("0123456789", pos_ + 1) - pos_;
  }

  std::string_view source_;
  size_t pos_ = 0;
  int line_ = 1;
  bool line_starts_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

Result<std::vector<Token>> Lex(std::string_view source) { return Lexer(source).Run(); }

}  // namespace sluice::jinja
