// Python's operators on values.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "text/template/syntax.h"
#include "text/template/value.h"

namespace sluice::jinja {

/// Errors name the operator and both types; a division by zero and a result over 128 bits as well.
Result<Value> Arithmetic(BinaryOp op, const Value& left, const Value& right, Budget& budget);
Result<Value> Negate(const Value& value, Budget& budget);
/// left == right; never an error but for the budget.
Result<bool> Equal(const Value& left, const Value& right, Budget& budget);
/// Negative, 0 or positive; 2 for the unordered (NaN). Errors: types that have no order.
Result<int> Order(const Value& left, const Value& right, Budget& budget);
Result<bool> Compare(CompareOp op, const Value& left, const Value& right, Budget& budget);
/// needle in haystack.
Result<bool> Contains(const Value& haystack, const Value& needle, Budget& budget);

/// The items that a loop over `value` sees. A generator is used up by it. Errors: not iterable.
Result<ListPtr> Iterate(const Value& value, Budget& budget);

/// object[start:stop:step] of texts and lists.
Result<Value> Slice(const Value& object, const Value& start, const Value& stop, const Value& step,
                    Budget& budget);

/// Bytes [begin, end) of the code points [first, last) of `text`.
ByteRange CodePointRange(std::string_view text, size_t first, size_t last);
/// Result<Value> of a piece of a text.
Result<Value> Substring(const TracedText& text, size_t begin, size_t end, Budget& budget);

/// text.find(part, begin) in linear time (std::string_view's is quadratic).
size_t FindBytes(std::string_view text, std::string_view part, size_t begin);

/// text % arguments (a tuple is several): %s %r %d %i %u %f %e %g %x %o %c %% with flags, width and
/// precision. Texts put in keep their origins. Errors: another conversion, too many or too few
/// arguments.
Result<Value> FormatPercent(const TracedText& text, const Value& arguments, Budget& budget);

/// Python's sorted(): stable, by key(item). The first error of a comparison ends it.
template <class Item, class Key>
Status StableSort(std::vector<Item>& items, Key key, bool reverse, Budget& budget) {
  Status status;
  const auto less = [&](const Item& a, const Item& b) {
    if (!status.ok()) return false;
    Result<int> order = Order(key(a), key(b), budget);
    if (!order.ok()) {
      status = order.status();
      return false;
    }
    return reverse ? *order == 1 : *order == -1;
  };
  // A merge sort is safe with any answers of `less`, NaN's among them.
  std::stable_sort(items.begin(), items.end(), less);
  return status;
}

}  // namespace sluice::jinja
