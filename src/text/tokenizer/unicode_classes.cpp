#include "text/tokenizer/unicode_classes.h"

#include <utf8proc.h>

#include <algorithm>
#include <map>

namespace sluice {
namespace {

struct ClassRange {
  char32_t first, last;
  uint8_t classes;
};

// Assigned by Unicode 15.1 and 16.0, unknown to Debian's utf8proc 2.8 (Unicode 15.0).
constexpr uint8_t kL = kLetter | kWord, kM = kMark | kWord, kNd = kNumber | kWord;
// clang-format off
constexpr ClassRange kNewer[] = {
    {0x0897, 0x0897, kM},   {0x1B4E, 0x1B4F, kPunctuation}, {0x1B7F, 0x1B7F, kPunctuation},
    {0x1C89, 0x1C8A, kL},   {0x2427, 0x2429, kPunctuation}, {0x2FFC, 0x2FFF, kPunctuation},
    {0x31E4, 0x31E5, kPunctuation}, {0x31EF, 0x31EF, kPunctuation},
    {0xA7CB, 0xA7CD, kL},   {0xA7DA, 0xA7DC, kL},
    {0x105C0, 0x105F3, kL}, {0x10D40, 0x10D49, kNd}, {0x10D4A, 0x10D65, kL}, {0x10D69, 0x10D6D, kM},
    {0x10D6E, 0x10D6E, kPunctuation}, {0x10D6F, 0x10D85, kL}, {0x10D8E, 0x10D8F, kPunctuation},
    {0x10EC2, 0x10EC4, kL}, {0x10EFC, 0x10EFC, kM},
    {0x11380, 0x11389, kL}, {0x1138B, 0x1138B, kL}, {0x1138E, 0x1138E, kL}, {0x11390, 0x113B5, kL},
    {0x113B7, 0x113B7, kL}, {0x113B8, 0x113C0, kM}, {0x113C2, 0x113C2, kM}, {0x113C5, 0x113C5, kM},
    {0x113C7, 0x113CA, kM}, {0x113CC, 0x113D0, kM}, {0x113D1, 0x113D1, kL}, {0x113D2, 0x113D2, kM},
    {0x113D3, 0x113D3, kL}, {0x113D4, 0x113D5, kPunctuation}, {0x113D7, 0x113D8, kPunctuation},
    {0x113E1, 0x113E2, kM}, {0x116D0, 0x116E3, kNd},
    {0x11BC0, 0x11BE0, kL}, {0x11BE1, 0x11BE1, kPunctuation}, {0x11BF0, 0x11BF9, kNd},
    {0x11F5A, 0x11F5A, kM}, {0x13460, 0x143FA, kL}, {0x16100, 0x1611D, kL}, {0x1611E, 0x1612F, kM},
    {0x16130, 0x16139, kNd}, {0x16D40, 0x16D6C, kL}, {0x16D6D, 0x16D6F, kPunctuation},
    {0x16D70, 0x16D79, kNd}, {0x18CFF, 0x18CFF, kL},
    {0x1CC00, 0x1CCEF, kPunctuation}, {0x1CCF0, 0x1CCF9, kNd}, {0x1CD00, 0x1CEB3, kPunctuation},
    {0x1E5D0, 0x1E5ED, kL}, {0x1E5EE, 0x1E5EF, kM}, {0x1E5F0, 0x1E5F0, kL}, {0x1E5F1, 0x1E5FA, kNd},
    {0x1E5FF, 0x1E5FF, kPunctuation}, {0x1F8B2, 0x1F8BB, kPunctuation}, {0x1F8C0, 0x1F8C1, kPunctuation},
    {0x1FA89, 0x1FA89, kPunctuation}, {0x1FA8F, 0x1FA8F, kPunctuation}, {0x1FABE, 0x1FABE, kPunctuation},
    {0x1FAC6, 0x1FAC6, kPunctuation}, {0x1FADC, 0x1FADC, kPunctuation}, {0x1FADF, 0x1FADF, kPunctuation},
    {0x1FAE9, 0x1FAE9, kPunctuation}, {0x1FBCB, 0x1FBEF, kPunctuation}, {0x2EBF0, 0x2EE5D, kL},
};

// White_Space has not changed since Unicode 6.3. Other_Alphabetic symbols and joiners belong to \w.
constexpr ClassRange kProperties[] = {
    {0x09, 0x0D, kSpace}, {0x20, 0x20, kSpace}, {0x85, 0x85, kSpace}, {0xA0, 0xA0, kSpace},
    {0x1680, 0x1680, kSpace}, {0x2000, 0x200A, kSpace}, {0x2028, 0x2029, kSpace},
    {0x202F, 0x202F, kSpace}, {0x205F, 0x205F, kSpace}, {0x3000, 0x3000, kSpace},
    {0x200C, 0x200D, kWord}, {0x24B6, 0x24E9, kWord}, {0x1F130, 0x1F149, kWord},
    {0x1F150, 0x1F169, kWord}, {0x1F170, 0x1F189, kWord},
};
// clang-format on

uint8_t ClassesOfCategory(utf8proc_category_t category) {
  switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return kLetter | kWord;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: return kMark | kWord;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL: return kNumber | kWord;
    case UTF8PROC_CATEGORY_NO: return kNumber;
    case UTF8PROC_CATEGORY_PC: return kPunctuation | kWord;
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO: return kPunctuation;
    default: return 0;
  }
}

}  // namespace

UnicodeClasses::UnicodeClasses() {
  std::vector<uint8_t> classes(0x110000);
  for (char32_t c = 0; c < 0x110000; ++c)
    classes[c] = ClassesOfCategory(utf8proc_category(static_cast<utf8proc_int32_t>(c)));
  for (const ClassRange& range : kNewer)
    std::fill(&classes[range.first], &classes[range.last] + 1, range.classes);
  for (const ClassRange& range : kProperties)
    for (char32_t c = range.first; c <= range.last; ++c) classes[c] |= range.classes;

  std::map<std::vector<uint8_t>, uint16_t> seen;  // equal blocks are stored once
  for (size_t block = 0; block < block_of_.size(); ++block) {
    const std::vector<uint8_t> content(&classes[block << 8], &classes[block << 8] + 256);
    const auto [at, is_new] = seen.emplace(content, static_cast<uint16_t>(seen.size()));
    if (is_new) blocks_.insert(blocks_.end(), content.begin(), content.end());
    block_of_[block] = at->second;
  }
}

const UnicodeClasses& UnicodeClasses::Get() {
  static const UnicodeClasses classes;
  return classes;
}

}  // namespace sluice
