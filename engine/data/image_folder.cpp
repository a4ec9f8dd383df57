// A folder of images, one folder per class (torchvision's ImageFolder): dir/train/CLASS/*.jpg
// beside dir/val or dir/test, or dir/CLASS/*.jpg. Labels number the sorted names of the classes.
// Not followed are links to folders below a class, which may lead round in circles.
#include <algorithm>
#include <map>

#include "engine/data/encoded.h"
#include "engine/data/formats.h"
#include "engine/files.h"
#include "kernels/error.h"

namespace ringfort {
namespace {

namespace fs = std::filesystem;

class FolderImages final : public EncodedImages {
 public:
  explicit FolderImages(std::vector<fs::path> paths) : paths_(std::move(paths)) {}
  std::string name(int64_t i) const override { return path(i).string(); }
  std::vector<uint8_t> read(int64_t i) const override {
    return read_file(path(i), kMaxEncodedBytes);
  }

 private:
  const fs::path& path(int64_t i) const { return paths_.at(static_cast<size_t>(i)); }
  std::vector<fs::path> paths_;
};

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

std::vector<std::string> class_folders(const fs::path& root) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(root))
    if (entry.is_directory() && !is_hidden(entry.path()))
      names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  require(names.size() >= 2,
          "'{}' has {} folders; an image folder has one for each of at least two classes",
          root.string(), names.size());
  require(names.size() <= kMaxClasses, "'{}' has {} folders, more than the {} classes there may be",
          root.string(), names.size(), kMaxClasses);
  return names;
}

// Sorted, so that a sample's number does not depend on the file system.
std::vector<fs::path> images_below(const fs::path& folder) {
  std::vector<fs::path> paths;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder))
    if (is_image_name(entry.path().filename().string()) && !is_hidden(entry.path()) &&
        entry.is_regular_file())
      paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  return paths;
}

struct Listing {
  std::vector<std::string> class_names;
  std::vector<fs::path> paths;
  std::vector<int32_t> labels;
};

// class_names: those of the training images, which test images must have too; empty: whatever is
// there.
Listing list_images(const fs::path& root, std::vector<std::string> class_names) {
  const std::vector<std::string> there = class_folders(root);
  if (class_names.empty()) class_names = there;
  Listing listing{std::move(class_names), {}, {}};
  const std::vector<std::string>& names = listing.class_names;
  for (const std::string& name : there) {
    const auto at = std::lower_bound(names.begin(), names.end(), name);
    require(at != names.end() && *at == name,
            "'{}' is the folder of a class that the training images do not have",
            (root / name).string());
    const std::vector<fs::path> paths = images_below(root / name);
    require(!paths.empty(), "'{}' holds no image (.jpg, .jpeg, .png); fill or remove it",
            (root / name).string());
    require(static_cast<int64_t>(listing.paths.size() + paths.size()) <= kMaxEncodedImages,
            "'{}' holds more than {} images", root.string(), kMaxEncodedImages);
    listing.paths.insert(listing.paths.end(), paths.begin(), paths.end());
    listing.labels.resize(listing.paths.size(), static_cast<int32_t>(at - names.begin()));
  }
  return listing;
}

Listing list_split(const fs::path& dir, Split split) {
  const fs::path train = dir / "train";
  if (!fs::is_directory(train)) {
    Listing all = list_images(dir, {});
    Listing part{all.class_names, {}, {}};
    for (const int64_t i : split_samples(static_cast<int64_t>(all.paths.size()), split)) {
      part.paths.push_back(std::move(all.paths[static_cast<size_t>(i)]));
      part.labels.push_back(all.labels[static_cast<size_t>(i)]);
    }
    return part;
  }
  if (split == Split::kTrain) return list_images(train, {});
  for (const char* name : {"val", "test"})
    if (fs::is_directory(dir / name)) return list_images(dir / name, class_folders(train));
  fail("'{}' has a folder train and neither val nor test; put the test images into one of them",
       dir.string());
}

}  // namespace

void load_image_folder(const fs::path& dir, Split split, Dataset& data) {
  try {
    Listing listing = list_split(dir, split);
    data.count = static_cast<int64_t>(listing.paths.size());
    data.class_names = std::move(listing.class_names);
    data.labels = std::move(listing.labels);
    data.encoded = std::make_shared<FolderImages>(std::move(listing.paths));
  } catch (const fs::filesystem_error& error) {
    fail("image folder '{}': '{}' cannot be read: {}", dir.string(), error.path1().string(),
         error.code().message());
  }
}

}  // namespace ringfort
