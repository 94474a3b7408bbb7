// For tests: safetensors files from their parts, right or wrong.
#pragma once

#include <cstring>
#include <fstream>
#include <string>
#include <string_view>

#include "base/status.h"

namespace sluice {

/// Header length, header and data, without any check.
inline std::string SafetensorsFile(std::string_view header, std::string_view data) {
  const uint64_t size = header.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &size, 8);
  return out.append(header).append(data);
}

/// Collects tensors and writes the file that describes them.
class SafetensorsBuilder {
 public:
  SafetensorsBuilder& Add(std::string_view name, std::string_view dtype, std::string_view shape,
                          std::string_view data) {
    header_ += fmt::format("{}\"{}\":{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":[{},{}]}}",
                           header_.empty() ? "" : ",", name, dtype, shape, data_.size(),
                           data_.size() + data.size());
    data_ += data;
    return *this;
  }
  std::string header() const { return "{" + header_ + "}"; }
  std::string file() const { return SafetensorsFile(header(), data_); }

 private:
  std::string header_, data_;
};

inline void WriteTo(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace sluice
