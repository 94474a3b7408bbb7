// A loaded tokenizer, ready to run; shared by the loaders (tokenizer_json.cpp, tok_json.cpp) and
// the methods of Tokenizer (tokenizer.cpp).
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/scanners.h"
#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer/vocabulary.h"

namespace sluice {

/// One step of the pre-tokenizer; each works on every piece that the one before made.
struct PreTokenStep {
  bool prefix_space = false;       // puts a space before a piece that does not begin with one
  std::optional<Scanner> scanner;  // then cuts it
};

struct Tokenizer::Impl {
  Vocabulary vocabulary;
  BpeModel bpe;
  bool nfc = false;
  AddedTokenMatcher raw_matcher;         // added tokens that are looked for before normalisation
  AddedTokenMatcher normalized_matcher;  // and after
  std::vector<PreTokenStep> steps;
  std::vector<int32_t> before, after;  // what add_special_tokens adds
  /// Special tokens that BPE can make out of plain text, with the ids of their bytes.
  std::vector<std::pair<int32_t, std::vector<int32_t>>> makeable_special;

  /// Scratch of calls that are over, at most kIdleScratchMax.
  static constexpr size_t kIdleScratchMax = 16;
  mutable std::mutex mutex;
  mutable std::vector<std::unique_ptr<BpeScratch>> idle_scratch;
};

/// Reads `json` into `impl`. Errors as for Tokenizer::FromJson.
Status ReadTokenizerJson(std::string_view json, Tokenizer::Impl* impl);
/// Reads a tokenizer.tok.json. Errors as for Tokenizer::FromTokJson.
Status ReadTokJson(std::string_view json, Tokenizer::Impl* impl);

}  // namespace sluice
