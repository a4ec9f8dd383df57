#include "kernels/plans.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

namespace ringfort {
namespace {

using nlohmann::json;

constexpr const char* kFormat = "ringfort plans 1";

json to_json(const PlanEntry& entry) {
  json candidates = json::array();
  for (const PlanCandidate& candidate : entry.candidates)
    candidates.push_back({{"name", candidate.name}, {"microseconds", candidate.microseconds}});
  return {{"key", entry.key},
          {"chosen", entry.chosen},
          {"gflop", entry.gflop},
          {"candidates", candidates}};
}

// Errors: json::exception if a field is missing or of another type.
PlanEntry entry_from(const json& value) {
  PlanEntry entry{value.at("key"), value.at("chosen"), {}, value.at("gflop")};
  for (const json& candidate : value.at("candidates"))
    entry.candidates.push_back({candidate.at("name"), candidate.at("microseconds")});
  return entry;
}

}  // namespace

double PlanEntry::gflop_per_second(const PlanCandidate& candidate) const {
  return candidate.microseconds > 0 ? gflop * 1e6 / candidate.microseconds : 0;
}

PlanCache::PlanCache(std::string file, std::string library, std::string cpu)
    : file_(std::move(file)), library_(std::move(library)), cpu_(std::move(cpu)) {
  if (!file_.empty()) plans_ = read_file();
}

PlanCache::~PlanCache() {
  try {
    save();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ringfort: plans not saved: %s\n", error.what());
  }
}

const PlanEntry* PlanCache::find(const std::string& key) const {
  const auto found = plans_.find(key);
  return found == plans_.end() ? nullptr : &found->second;
}

void PlanCache::record(PlanEntry entry) {
  plans_[entry.key] = std::move(entry);
  changed_ = true;
  save();
}

std::vector<PlanEntry> PlanCache::entries() const {
  std::vector<PlanEntry> all;
  for (const auto& [key, entry] : plans_) all.push_back(entry);
  return all;
}

void PlanCache::force(const std::string& prefix) {
  const auto known = std::find(forced_.begin(), forced_.end(), prefix);
  force_id_ = static_cast<int>(known - forced_.begin());
  if (known == forced_.end()) forced_.push_back(prefix);
}

void PlanCache::save() {
  if (!changed_ || file_.empty()) return;
  std::map<std::string, PlanEntry> merged = read_file();
  merged.insert(plans_.begin(), plans_.end());
  json all = json::array();
  for (const auto& [key, entry] : merged) all.push_back(to_json(entry));
  const json document = {{"format", kFormat}, {"library", library_}, {"cpu", cpu_}, {"plans", all}};
  if (write_file(document.dump(1) + "\n"))
    changed_ = false;
  else
    warn(fmt::format("cannot write the plan file {}; plans are kept in memory only", file_));
}

std::map<std::string, PlanEntry> PlanCache::read_file() {
  std::ifstream stream(file_);
  if (!stream) return {};
  try {
    const json document = json::parse(stream);
    if (document.at("format") != kFormat || document.at("library") != library_ ||
        document.at("cpu") != cpu_) {
      warn(fmt::format("the plan file {} was measured with another library or CPU; measuring anew",
                       file_));
      return {};
    }
    std::map<std::string, PlanEntry> plans;
    for (const json& value : document.at("plans")) {
      PlanEntry entry = entry_from(value);
      plans[entry.key] = std::move(entry);
    }
    return plans;
  } catch (const json::exception&) {
    warn(fmt::format("the plan file {} is damaged; measuring anew", file_));
    return {};
  }
}

bool PlanCache::write_file(const std::string& text) const {
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::path(file_).parent_path();
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  // Also unlike that of another cache in this process: ranks can be threads.
  const std::string temporary = fmt::format("{}.{}.{}.tmp", file_, getpid(), fmt::ptr(this));
  std::ofstream stream(temporary, std::ios::trunc);
  stream << text;
  stream.close();
  if (stream) std::filesystem::rename(temporary, file_, error);
  if (stream && !error) return true;
  std::filesystem::remove(temporary, error);
  return false;
}

void PlanCache::warn(const std::string& sentence) {
  if (!std::exchange(warned_, true)) std::fprintf(stderr, "ringfort: %s\n", sentence.c_str());
}

std::vector<double> time_in_turns(const std::vector<std::function<double()>>& functions) {
  constexpr double kHopeless = 3;   // times the fastest
  constexpr double kEnough = 10e3;  // microseconds for each function in all
  constexpr int kMinimumRounds = 5, kMaximumRounds = 30;
  for (const auto& function : functions) function();  // allocates, prepares filters, warms caches
  std::vector<double> best(functions.size(), std::numeric_limits<double>::infinity());
  double total = 0;
  for (int round = 0; round < kMaximumRounds && (round < kMinimumRounds || total < kEnough);
       ++round) {
    const double fastest = best.empty() ? 0 : *std::min_element(best.begin(), best.end());
    double shortest = kEnough;
    for (size_t i = 0; i < functions.size(); ++i) {
      if (round > 0 && best[i] > kHopeless * fastest && best[i] > kEnough) continue;
      const double time = 1e6 * functions[i]();
      best[i] = std::min(best[i], time);
      shortest = std::min(shortest, time);
    }
    total += shortest;
  }
  return best;
}

size_t choose_candidate(const std::vector<PlanCandidate>& candidates) {
  double best = candidates.front().microseconds;
  for (const PlanCandidate& candidate : candidates) best = std::min(best, candidate.microseconds);
  size_t chosen = 0;
  while (candidates[chosen].microseconds > 1.02 * best) ++chosen;
  return chosen;
}

}  // namespace ringfort
