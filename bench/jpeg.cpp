// jpeg: what the pipeline makes of JPEG files on one core, decoding, crop and resizing, beside
// libjpeg-turbo's bare decoding of the same files.
#include <cstdio>  // jpeglib.h needs it before
// clang-format off
#include <jpeglib.h>
// clang-format on

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "bench/bench.h"
#include "bench/timing.h"
#include "engine/data/dataset.h"
#include "engine/data/image_transform.h"
#include "engine/data/workers.h"
#include "kernels/error.h"
#include "kernels/philox.h"

namespace ringfort::bench {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr int kSize = 224;

// What a camera's picture costs to decode: ImageNet's usual 375 x 500, smooth areas, edges and
// grain, at the quality and with the halved chroma of most photographs.
Bytes photograph(uint64_t number) {
  constexpr int kHeight = 375, kWidth = 500;
  Bytes pixels;
  for (int y = 0; y < kHeight; ++y)
    for (int x = 0; x < kWidth; ++x) {
      const auto at = static_cast<uint32_t>(y * kWidth + x);
      const uint32_t grain = RandomKey{1, Purpose::kTest, 0}.word(number, at) % 24;
      const bool inside = (x / 40 + y / 55 + static_cast<int>(number)) % 3 == 0;
      for (int c = 0; c < 3; ++c)
        pixels.push_back(static_cast<uint8_t>(100 + 50 * std::sin(0.011 * x + 0.017 * y + c) +
                                              (inside ? 60 : 0) + grain));
    }
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* memory = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &memory, &size);
  info.image_height = kHeight;
  info.image_width = kWidth;
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, 92, TRUE);
  jpeg_start_compress(&info, TRUE);
  for (size_t y = 0; y < kHeight; ++y) {
    JSAMPROW row = pixels.data() + y * kWidth * 3;
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  Bytes file(memory, memory + size);
  jpeg_destroy_compress(&info);
  std::free(memory);
  return file;
}

// The JPEGs of a folder of images or shards, or made ones.
std::vector<Bytes> jpeg_files(const std::string& folder) {
  constexpr int64_t kMost = 500;
  std::vector<Bytes> files;
  if (folder.empty()) {
    for (uint64_t i = 0; i < 16; ++i) files.push_back(photograph(i));
    return files;
  }
  const bool shards =
      std::any_of(std::filesystem::directory_iterator(folder), {},
                  [](const auto& entry) { return entry.path().extension() == ".tar"; });
  const Dataset data = load_dataset(shards ? "webdataset" : "image-folder", folder, Split::kTrain);
  for (int64_t i = 0; i < std::min(data.count, kMost); ++i) {
    Bytes file = data.encoded->read(i);
    if (file.size() > 2 && file[0] == 0xFF && file[1] == 0xD8) files.push_back(std::move(file));
  }
  require(!files.empty(), "'{}' holds no JPEG", folder);
  return files;
}

void decode_bare(const Bytes& file, Bytes& pixels) {
  jpeg_decompress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, file.data(), file.size());
  jpeg_read_header(&info, TRUE);
  if (info.jpeg_color_space != JCS_CMYK && info.jpeg_color_space != JCS_YCCK)
    info.out_color_space = JCS_RGB;
  jpeg_start_decompress(&info);
  const size_t row_bytes = size_t{info.output_width} * static_cast<size_t>(info.output_components);
  pixels.resize(row_bytes * info.output_height);
  while (info.output_scanline < info.output_height) {
    JSAMPROW row = pixels.data() + info.output_scanline * row_bytes;
    jpeg_read_scanlines(&info, &row, 1);
  }
  jpeg_finish_decompress(&info);
  jpeg_destroy_decompress(&info);
}

}  // namespace

void run_jpeg(Context& context) {
  const std::vector<Bytes> files = jpeg_files(context.images);
  Bytes pixels, out(size_t{kSize} * kSize * 3);
  ImagePipeline pipeline;
  uint32_t epoch = 0;
  const auto transformed = [&](ImageTransform transform) {
    transform.epoch = epoch++;
    for (size_t i = 0; i < files.size(); ++i)
      pipeline.run(files[i], "image", transform, static_cast<int64_t>(i), out.data());
  };
  const std::function<void()> bare = [&] {
    for (const Bytes& file : files) decode_bare(file, pixels);
  };
  const int calls = calls_lasting(context.exec, 0.5, bare);
  const auto medians = medians_in_turns(
      context.repeats,
      {timed(context.exec, bare, calls),
       timed(
           context.exec, [&] { transformed({.size = kSize, .random_resized_crop = true}); }, calls),
       timed(
           context.exec, [&] { transformed({.size = kSize}); }, calls)});
  const auto per_second = [&](double seconds) {
    return static_cast<double>(files.size()) / seconds;
  };
  const std::string what =
      fmt::format("{} {}", files.size(), context.images.empty() ? "made JPEGs" : "JPEGs");
  context.report.add({"random-resized-crop, " + what,
                      per_second(medians[1]),
                      "images/s",
                      {{"bare libjpeg-turbo decodes", per_second(medians[0]), 0.9}},
                      "one core"});
  context.report.add({"centre crop, " + what,
                      per_second(medians[2]),
                      "images/s",
                      {{"bare libjpeg-turbo decodes", per_second(medians[0])}},
                      "one core"});
}

}  // namespace ringfort::bench
