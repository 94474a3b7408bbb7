#include "text/template/operators.h"

#include <cmath>
#include <cstring>

#include "text/template/callable.h"
#include "text/template/python_text.h"
#include "text/template/unicode.h"

namespace sluice::jinja {
namespace {

constexpr std::string_view kSymbols[] = {"+", "-", "*", "/", "//", "%", "**"};

Status NoOperator(std::string_view symbol, const Value& left, const Value& right) {
  for (const Value* value : {&left, &right})
    if (const auto* undefined = std::get_if<UndefinedValue>(&value->data))
      return Error(Code::kInvalidArgument, "{}",
                   undefined->hint ? *undefined->hint : "undefined value");
  return Error(Code::kInvalidArgument, "'{}' does not take {} and {}", symbol, left.TypeName(),
               right.TypeName());
}

Status TooLarge() { return Error(Code::kInvalidArgument, "an integer of more than 128 bits"); }

Result<Value> IntPower(Int base, Int exponent) {
  if (exponent < 0)
    return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  Int result = 1;
  while (exponent > 0) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) return TooLarge();
    exponent >>= 1;
    if (exponent && __builtin_mul_overflow(base, base, &base)) return TooLarge();
  }
  return Value(result);
}

Result<Value> IntArithmetic(BinaryOp op, Int a, Int b) {
  Int result = 0;
  switch (op) {
    case BinaryOp::kAdd:
      if (__builtin_add_overflow(a, b, &result)) return TooLarge();
      return Value(result);
    case BinaryOp::kSubtract:
      if (__builtin_sub_overflow(a, b, &result)) return TooLarge();
      return Value(result);
    case BinaryOp::kMultiply:
      if (__builtin_mul_overflow(a, b, &result)) return TooLarge();
      return Value(result);
    case BinaryOp::kPower:
      if (b < 0 && a == 0) return Error(Code::kInvalidArgument, "0 to a negative power");
      return IntPower(a, b);
    default: break;
  }
  if (b == 0) return Error(Code::kInvalidArgument, "division by zero");
  if (op == BinaryOp::kDivide) return Value(static_cast<double>(a) / static_cast<double>(b));
  if (b == -1)
    return op == BinaryOp::kModulo ? Value(Int{0}) : IntArithmetic(BinaryOp::kSubtract, 0, a);
  // Python rounds down and the remainder has the divisor's sign.
  const Int remainder = a % b;
  const bool adjust = remainder != 0 && (remainder < 0) != (b < 0);
  if (op == BinaryOp::kModulo) return Value(adjust ? remainder + b : remainder);
  return Value(adjust ? a / b - 1 : a / b);
}

Result<Value> FloatArithmetic(BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::kAdd: return Value(a + b);
    case BinaryOp::kSubtract: return Value(a - b);
    case BinaryOp::kMultiply: return Value(a * b);
    case BinaryOp::kPower: {
      if (a == 0 && b < 0) return Error(Code::kInvalidArgument, "0.0 to a negative power");
      if (a < 0 && std::isfinite(b) && b != std::floor(b))
        return Error(Code::kInvalidArgument, "complex numbers are not supported");
      const double power = std::pow(a, b);
      if (std::isinf(power) && std::isfinite(a) && std::isfinite(b))
        return Error(Code::kInvalidArgument, "the result of '**' is too large");
      return Value(power);
    }
    default: break;
  }
  if (b == 0) return Error(Code::kInvalidArgument, "division by zero");
  if (op == BinaryOp::kDivide) return Value(a / b);
  // As CPython's float_divmod: exact remainder first, then the quotient from it.
  double remainder = std::fmod(a, b);
  double quotient = (a - remainder) / b;
  if (remainder != 0) {
    if ((b < 0) != (remainder < 0)) {
      remainder += b;
      quotient -= 1;
    }
  } else {
    remainder = std::copysign(0.0, b);
  }
  if (op == BinaryOp::kModulo) return Value(remainder);
  if (quotient == 0) return Value(std::copysign(0.0, a / b));
  double floor = std::floor(quotient);
  if (quotient - floor > 0.5) floor += 1;
  return Value(floor);
}

Result<Value> Repeat(const Value& value, Int count, Budget& budget) {
  count = std::max<Int>(count, 0);
  if (const TracedText* text = value.AsText()) {
    const Int bytes = static_cast<Int>(text->bytes.size());
    if (bytes == 0 || count == 0) return Value::Trusted("");
    if (count > static_cast<Int>(budget.text_bytes_max() / text->bytes.size()))
      return budget.TextBytes(budget.text_bytes_max() + 1);
    TextBuilder out(budget);
    for (Int i = 0; i < count; ++i) out.Append(*text);
    TRY(TextPtr repeated, out.Finish());
    return Value(std::move(repeated));
  }
  const List& list = *value.AsList();
  std::vector<Value> items;
  if (!list.items.empty() && count > 0) {
    if (count > (Int{1} << 32)) return budget.Work(~uint64_t{0});
    RETURN_IF_ERROR(budget.Work(static_cast<uint64_t>(count) * list.items.size() * sizeof(Value)));
    for (Int i = 0; i < count; ++i) items.insert(items.end(), list.items.begin(), list.items.end());
  }
  return MakeList(std::move(items), budget, list.kind);
}

bool IsPlainList(const Value& value) {
  const List* list = value.AsList();
  return list && (list->kind == ListKind::kList || list->kind == ListKind::kTuple);
}

Result<Value> Concatenate(const List& left, const List& right, Budget& budget) {
  std::vector<Value> items;
  RETURN_IF_ERROR(budget.Work((left.items.size() + right.items.size()) * sizeof(Value)));
  items.reserve(left.items.size() + right.items.size());
  items.insert(items.end(), left.items.begin(), left.items.end());
  items.insert(items.end(), right.items.begin(), right.items.end());
  return MakeList(std::move(items), budget, left.kind);
}

}  // namespace

Result<Value> Arithmetic(BinaryOp op, const Value& left, const Value& right, Budget& budget) {
  Int left_storage, right_storage;
  const Int* a = left.AsInt(left_storage);
  const Int* b = right.AsInt(right_storage);
  if (a && b) return IntArithmetic(op, *a, *b);
  double x, y;
  if (left.AsDouble(x) && right.AsDouble(y)) return FloatArithmetic(op, x, y);
  if (op == BinaryOp::kAdd) {
    const TracedText *s = left.AsText(), *t = right.AsText();
    if (s && t) {
      TextBuilder out(budget);
      out.Append(*s);
      out.Append(*t);
      TRY(TextPtr sum, out.Finish());
      return Value(std::move(sum));
    }
    if (IsPlainList(left) && IsPlainList(right) && left.AsList()->kind == right.AsList()->kind)
      return Concatenate(*left.AsList(), *right.AsList(), budget);
  }
  if (op == BinaryOp::kMultiply) {
    if (b && (left.AsText() || IsPlainList(left))) return Repeat(left, *b, budget);
    if (a && (right.AsText() || IsPlainList(right))) return Repeat(right, *a, budget);
  }
  if (op == BinaryOp::kModulo && left.AsText() && !right.IsUndefined())
    return FormatPercent(*left.AsText(), right, budget);
  return NoOperator(kSymbols[static_cast<size_t>(op)], left, right);
}

Result<Value> Negate(const Value& value, Budget&) {
  Int storage;
  if (const Int* i = value.AsInt(storage)) return IntArithmetic(BinaryOp::kSubtract, 0, *i);
  double number;
  if (value.AsDouble(number)) return Value(-number);
  if (value.IsUndefined()) return NoOperator("-", value, value);  // says what is undefined
  return Error(Code::kInvalidArgument, "a {} is not a number", value.TypeName());
}

static Result<bool> EqualLists(const List& a, const List& b, Budget& budget) {
  if (a.kind != b.kind || a.items.size() != b.items.size()) return false;
  if (a.kind > ListKind::kRange) return &a == &b;
  for (size_t i = 0; i < a.items.size(); ++i) {
    TRY(const bool equal, Equal(a.items[i], b.items[i], budget));
    if (!equal) return false;
  }
  return true;
}

static Result<bool> EqualDicts(const Dict& a, const Dict& b, Budget& budget) {
  if (a.size() != b.size()) return false;
  for (const auto& [key, value] : a.entries()) {
    const Value* other = b.Find(key);
    if (!other) return false;
    TRY(const bool equal, Equal(value, *other, budget));
    if (!equal) return false;
  }
  return true;
}

// An integer against a float, exactly.
static int OrderIntFloat(Int a, double b) {
  if (std::isnan(b)) return 2;
  if (b >= 0x1p127) return -1;
  if (b < -0x1p127) return 1;
  const Int whole = static_cast<Int>(b);
  if (a != whole) return a < whole ? -1 : 1;
  const double fraction = b - static_cast<double>(whole);
  return fraction > 0 ? -1 : fraction < 0 ? 1 : 0;
}

static int OrderNumbers(const Value& left, const Value& right) {
  Int left_storage, right_storage;
  const Int *a = left.AsInt(left_storage), *b = right.AsInt(right_storage);
  double x = 0, y = 0;
  left.AsDouble(x);
  right.AsDouble(y);
  if (a && b) return *a < *b ? -1 : *a > *b ? 1 : 0;
  if (a) return OrderIntFloat(*a, y);
  if (b) {
    const int order = OrderIntFloat(*b, x);
    return order == 2 ? 2 : -order;
  }
  return x < y ? -1 : x > y ? 1 : x == y ? 0 : 2;
}

Result<bool> Equal(const Value& left, const Value& right, Budget& budget) {
  RETURN_IF_ERROR(budget.Ticks(1));
  if (left.IsNumber() && right.IsNumber()) return OrderNumbers(left, right) == 0;
  if (left.data.index() != right.data.index()) return false;
  if (const TracedText* text = left.AsText()) {
    const std::string& other = right.AsText()->bytes;
    if (text->bytes.size() != other.size()) return false;
    RETURN_IF_ERROR(budget.Work(other.size()));
    return text->bytes == other;
  }
  if (const List* list = left.AsList()) return EqualLists(*list, *right.AsList(), budget);
  if (const Dict* dict = left.AsDict()) return EqualDicts(*dict, *right.AsDict(), budget);
  if (left.AsNamespace()) return left.AsNamespace() == right.AsNamespace();
  if (left.AsLoop()) return left.AsLoop() == right.AsLoop();
  if (left.AsCallable()) return left.AsCallable() == right.AsCallable();
  return true;  // both none, both undefined
}

Result<int> Order(const Value& left, const Value& right, Budget& budget) {
  RETURN_IF_ERROR(budget.Ticks(1));
  if (left.IsNumber() && right.IsNumber()) return OrderNumbers(left, right);
  const TracedText *s = left.AsText(), *t = right.AsText();
  if (s && t) {
    RETURN_IF_ERROR(budget.Work(std::min(s->bytes.size(), t->bytes.size())));
    const int order = s->bytes.compare(t->bytes);  // UTF-8 sorts as its code points do
    return order < 0 ? -1 : order > 0 ? 1 : 0;
  }
  if (IsPlainList(left) && IsPlainList(right) && left.AsList()->kind == right.AsList()->kind) {
    const auto &a = left.AsList()->items, &b = right.AsList()->items;
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      TRY(const bool equal, Equal(a[i], b[i], budget));
      if (!equal) return Order(a[i], b[i], budget);
    }
    return a.size() < b.size() ? -1 : a.size() > b.size() ? 1 : 0;
  }
  return NoOperator("<", left, right);
}

Result<bool> Compare(CompareOp op, const Value& left, const Value& right, Budget& budget) {
  switch (op) {
    case CompareOp::kEqual: return Equal(left, right, budget);
    case CompareOp::kNotEqual: {
      TRY(const bool equal, Equal(left, right, budget));
      return !equal;
    }
    case CompareOp::kIn: return Contains(right, left, budget);
    case CompareOp::kNotIn: {
      TRY(const bool found, Contains(right, left, budget));
      return !found;
    }
    default: break;
  }
  TRY(const int order, Order(left, right, budget));
  if (order == 2) return false;
  return op == CompareOp::kLess        ? order < 0
         : op == CompareOp::kLessEqual ? order <= 0
         : op == CompareOp::kGreater   ? order > 0
                                       : order >= 0;
}

Result<bool> Contains(const Value& haystack, const Value& needle, Budget& budget) {
  if (const TracedText* text = haystack.AsText()) {
    const TracedText* part = needle.AsText();
    if (!part) return NoOperator("in", needle, haystack);
    RETURN_IF_ERROR(budget.Work(text->bytes.size()));
    return FindBytes(text->bytes, part->bytes, 0) != std::string_view::npos;
  }
  if (const Dict* dict = haystack.AsDict()) {
    if (!needle.IsHashable())
      return Error(Code::kInvalidArgument, "a {} can not be a key", needle.TypeName());
    if (const TracedText* key = needle.AsText()) RETURN_IF_ERROR(budget.Work(key->bytes.size()));
    return dict->Find(needle) != nullptr;
  }
  if (const List* list = haystack.AsList()) {
    // A generator is used up as far as it is read.
    size_t local = 0;
    size_t& i = list->kind == ListKind::kGenerator ? list->consumed : local;
    while (i < list->items.size()) {
      TRY(const bool equal, Equal(list->items[i++], needle, budget));
      if (equal) return true;
    }
    return false;
  }
  if (haystack.IsUndefined()) return false;
  return NoOperator("in", needle, haystack);
}

Result<ListPtr> Iterate(const Value& value, Budget& budget) {
  if (const ListPtr* list = std::get_if<ListPtr>(&value.data)) {
    if ((*list)->kind != ListKind::kGenerator) return *list;
    const size_t begin = std::exchange((*list)->consumed, (*list)->items.size());
    if (begin == 0) return *list;
    TRY(const Value rest,
        MakeList({(*list)->items.begin() + static_cast<ptrdiff_t>(begin), (*list)->items.end()},
                 budget));
    return std::get<ListPtr>(rest.data);
  }
  std::vector<Value> items;
  if (const TracedText* text = value.AsText()) {
    RETURN_IF_ERROR(budget.Work(text->bytes.size() * (sizeof(Value) + sizeof(TracedText))));
    TrustCursor trust(*text);
    for (size_t pos = 0; pos < text->bytes.size();) {
      const size_t bytes = DecodeAt(text->bytes, pos).bytes;
      const std::string_view c = std::string_view(text->bytes).substr(pos, bytes);
      items.push_back(TextPtr(std::make_shared<TracedText>(
          trust.At(pos) ? TracedText::Trusted(c) : TracedText::Untrusted(c))));
      pos += bytes;
    }
  } else if (const Dict* dict = value.AsDict()) {
    RETURN_IF_ERROR(budget.Work(dict->size() * sizeof(Value)));
    for (const auto& entry : dict->entries()) items.push_back(entry.first);
  } else if (!value.IsUndefined()) {
    return Error(Code::kInvalidArgument, "a {} can not be iterated", value.TypeName());
  }
  TRY(const Value list, MakeList(std::move(items), budget));
  return std::get<ListPtr>(list.data);
}

ByteRange CodePointRange(std::string_view text, size_t first, size_t last) {
  ByteRange range{text.size(), text.size()};
  size_t pos = 0;
  for (size_t i = 0; pos < text.size(); ++i) {
    if (i == first) range.begin = pos;
    if (i == last) {
      range.end = pos;
      break;
    }
    pos += DecodeAt(text, pos).bytes;
  }
  range.begin = std::min(range.begin, range.end);
  return range;
}

Result<Value> Substring(const TracedText& text, size_t begin, size_t end, Budget& budget) {
  TextBuilder out(budget);
  out.Append(text, begin, end);
  TRY(TextPtr part, out.Finish());
  return Value(std::move(part));
}

namespace {

// Python's slice.indices(): the first index, the step, and how many indices there are.
struct SliceIndices {
  Int start = 0, step = 1;
  size_t count = 0;
};

Result<SliceIndices> Resolve(const Value& start, const Value& stop, const Value& step,
                             size_t size) {
  const auto bound = [](const Value& value, Int& out) -> Result<bool> {
    if (value.IsNone()) return false;
    Int storage;
    const Int* i = value.AsInt(storage);
    if (!i)
      return Error(Code::kInvalidArgument, "a slice takes integers, not {}", value.TypeName());
    out = *i;
    return true;
  };
  const Int length = static_cast<Int>(size);
  SliceIndices out;
  TRY(bool given, bound(step, out.step));
  if (out.step == 0) return Error(Code::kInvalidArgument, "a slice with step 0");
  const Int low = out.step < 0 ? -1 : 0, high = out.step < 0 ? length - 1 : length;
  const auto clamp = [&](Int i) {
    if (i >= 0) return std::min(i, high);
    return i < -length ? low : i + length;
  };
  out.start = out.step < 0 ? high : low;
  Int last = out.step < 0 ? low : high;
  Int found = 0;
  TRY(given, bound(start, found));
  if (given) out.start = clamp(found);
  TRY(given, bound(stop, found));
  if (given) last = clamp(found);
  // Steps beyond the size are all alike.
  out.step = std::clamp<Int>(out.step, -length - 1, length + 1);
  if (out.step > 0 && out.start < last)
    out.count = static_cast<size_t>((last - out.start - 1) / out.step + 1);
  if (out.step < 0 && out.start > last)
    out.count = static_cast<size_t>((out.start - last - 1) / -out.step + 1);
  return out;
}

}  // namespace

static Result<Value> SliceText(const TracedText& text, const Value& start, const Value& stop,
                               const Value& step, Budget& budget) {
  RETURN_IF_ERROR(budget.Work(text.bytes.size()));
  TRY(const SliceIndices indices, Resolve(start, stop, step, CountCodePoints(text.bytes)));
  const size_t first = static_cast<size_t>(indices.start);
  if (indices.count == 0) return Value::Trusted("");
  if (indices.step == 1) {
    const ByteRange range = CodePointRange(text.bytes, first, first + indices.count);
    return Substring(text, range.begin, range.end, budget);
  }
  RETURN_IF_ERROR(budget.Work(text.bytes.size() * sizeof(size_t)));
  std::vector<size_t> begins;
  for (size_t pos = 0; pos < text.bytes.size(); pos += DecodeAt(text.bytes, pos).bytes)
    begins.push_back(pos);
  TextBuilder out(budget);
  for (size_t i = 0; i < indices.count; ++i) {
    const size_t begin =
        begins[static_cast<size_t>(indices.start + static_cast<Int>(i) * indices.step)];
    out.Append(text, begin, begin + DecodeAt(text.bytes, begin).bytes);
  }
  TRY(TextPtr slice, out.Finish());
  return Value(std::move(slice));
}

Result<Value> Slice(const Value& object, const Value& start, const Value& stop, const Value& step,
                    Budget& budget) {
  if (const TracedText* text = object.AsText()) return SliceText(*text, start, stop, step, budget);
  const List* list = object.AsList();
  if (!list || list->kind > ListKind::kRange) {
    if (const auto* undefined = std::get_if<UndefinedValue>(&object.data))
      return Error(Code::kInvalidArgument, "{}",
                   undefined->hint ? *undefined->hint : "an undefined value has no slices");
    return Error(Code::kInvalidArgument, "a {} has no slices", object.TypeName());
  }
  TRY(const SliceIndices indices, Resolve(start, stop, step, list->items.size()));
  RETURN_IF_ERROR(budget.Work(indices.count * sizeof(Value)));
  std::vector<Value> items;
  for (size_t i = 0; i < indices.count; ++i)
    items.push_back(
        list->items[static_cast<size_t>(indices.start + static_cast<Int>(i) * indices.step)]);
  return MakeList(std::move(items), budget, list->kind);
}

size_t FindBytes(std::string_view text, std::string_view part, size_t begin) {
  if (begin > text.size()) return std::string_view::npos;
  if (part.empty()) return begin;
  const void* found = memmem(text.data() + begin, text.size() - begin, part.data(), part.size());
  return found ? static_cast<size_t>(static_cast<const char*>(found) - text.data())
               : std::string_view::npos;
}

}  // namespace sluice::jinja
