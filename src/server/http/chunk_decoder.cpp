#include "server/http/chunk_decoder.h"

#include <fmt/core.h>

#include <algorithm>

namespace sluice {
namespace {

constexpr int kSizeDigitsMax = 15;  // below 2^60

int HexValue(unsigned char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool IsControl(unsigned char c) { return (c < 0x20 && c != '\t') || c == 0x7F; }

}  // namespace

ChunkDecoder::State ChunkDecoder::Refuse(int status, std::string message) {
  refusal_ = {status, std::move(message)};
  return state_ = State::kRefused;
}

ChunkDecoder::State ChunkDecoder::Advance(std::string_view& input, std::string& body) {
  while (state_ == State::kNeedMore && !input.empty()) {
    if (part_ == Part::kData) {
      const size_t taken = static_cast<size_t>(std::min<uint64_t>(chunk_bytes_, input.size()));
      body.append(input.substr(0, taken));
      input.remove_prefix(taken);
      chunk_bytes_ -= taken;
      if (chunk_bytes_ == 0) part_ = Part::kDataCr;
      continue;
    }
    const auto byte = static_cast<unsigned char>(input.front());
    input.remove_prefix(1);
    Byte(byte);
  }
  return state_;
}

ChunkDecoder::State ChunkDecoder::Byte(unsigned char byte) {
  switch (part_) {
    case Part::kSize: return SizeByte(byte);
    case Part::kExtension:
      if (byte == '\r') {
        part_ = Part::kSizeLf;
        return state_;
      }
      if (IsControl(byte)) return Refuse(400, "control byte in a chunk extension");
      if (++extension_bytes_ > limits_.extension_bytes_max)
        return Refuse(
            400, fmt::format("chunk extension longer than {} bytes", limits_.extension_bytes_max));
      return state_;
    case Part::kSizeLf:
      if (byte != '\n') return Refuse(400, "CR without LF after a chunk size");
      part_ = chunk_bytes_ > 0 ? Part::kData : Part::kTrailerStart;
      return state_;
    case Part::kDataCr:
      if (byte != '\r') return Refuse(400, "chunk data is longer than its size says");
      part_ = Part::kDataLf;
      return state_;
    case Part::kDataLf:
      if (byte != '\n') return Refuse(400, "CR without LF after chunk data");
      part_ = Part::kSize;
      size_digits_ = 0;
      extension_bytes_ = 0;
      return state_;
    case Part::kEndLf:
      if (byte != '\n') return Refuse(400, "CR without LF at the end of a chunked body");
      return state_ = State::kDone;
    default: return TrailerByte(byte);
  }
}

ChunkDecoder::State ChunkDecoder::SizeByte(unsigned char byte) {
  const int digit = HexValue(byte);
  if (digit >= 0) {
    if (++size_digits_ > kSizeDigitsMax) return Refuse(400, "chunk size too long");
    chunk_bytes_ = chunk_bytes_ * 16 + static_cast<uint64_t>(digit);
    return state_;
  }
  if (size_digits_ == 0 || (byte != '\r' && byte != ';'))
    return Refuse(400, fmt::format("bad byte 0x{:02x} in a chunk size", byte));
  if (chunk_bytes_ > limits_.body_bytes_max - body_bytes_)
    return Refuse(413,
                  fmt::format("the request body is longer than {} bytes", limits_.body_bytes_max));
  body_bytes_ += chunk_bytes_;
  part_ = byte == '\r' ? Part::kSizeLf : Part::kExtension;
  return state_;
}

ChunkDecoder::State ChunkDecoder::TrailerByte(unsigned char byte) {
  if (part_ == Part::kTrailerLf) {
    if (byte != '\n') return Refuse(400, "CR without LF in a trailer");
    part_ = Part::kTrailerStart;
    return state_;
  }
  if (++trailer_bytes_ > limits_.trailer_bytes_max)
    return Refuse(431, fmt::format("trailers longer than {} bytes", limits_.trailer_bytes_max));
  if (part_ == Part::kTrailerStart) {
    if (byte == '\r') {
      part_ = Part::kEndLf;
      return state_;
    }
    if (++trailer_count_ > limits_.trailer_count_max)
      return Refuse(431, fmt::format("more than {} trailers", limits_.trailer_count_max));
    if (!IsTokenChar(byte)) return Refuse(400, "bad trailer name");
    part_ = Part::kTrailer;
    trailer_has_colon_ = false;
    return state_;
  }
  if (byte == '\r') {
    if (!trailer_has_colon_) return Refuse(400, "a trailer without colon");
    part_ = Part::kTrailerLf;
    return state_;
  }
  if (byte == ':') trailer_has_colon_ = true;
  if (!trailer_has_colon_ && !IsTokenChar(byte)) return Refuse(400, "bad trailer name");
  if (IsControl(byte)) return Refuse(400, "control byte in a trailer");
  return state_;
}

}  // namespace sluice
