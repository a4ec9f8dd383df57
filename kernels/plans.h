// PlanCache: which implementation of a product is the fastest for a shape, measured once and then
// remembered, also on disk. The choice decides the last bits of results, so a rerun must repeat it:
// that is why it is kept in a file and not measured anew by every process. It knows names and times
// only; the primitives are the backend's own.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace ringfort {

struct PlanCandidate {
  std::string name;         // "direct", "winograd"
  double microseconds = 0;  // of one call, the fastest of a few
};

struct PlanEntry {
  std::string key;     // "forward float32 n128 h32 w32 c64 -> o64 k3 s1 p1 blocked16 relu threads2"
  std::string chosen;  // name of one of the candidates
  std::vector<PlanCandidate> candidates;
  double gflop = 0;  // 1e9 floating point operations of one such call, a multiplication and an
                     // addition counted as two

  // 0 where the candidate is unknown.
  double gflop_per_second(const PlanCandidate& candidate) const;
};

class PlanCache {
 public:
  // file: where plans are kept between runs, "" for nowhere. A file that is damaged, or measured
  // with another library or CPU (`library` and `cpu` are compared with its header), is set aside
  // with one warning on stderr and rewritten.
  PlanCache(std::string file, std::string library, std::string cpu);
  ~PlanCache();
  PlanCache(const PlanCache&) = delete;
  PlanCache& operator=(const PlanCache&) = delete;

  // The plan recorded for `key`, nullptr if there is none. Valid until the next record().
  const PlanEntry* find(const std::string& key) const;

  // Remembers a measured plan and saves the file.
  void record(PlanEntry entry);

  // All plans, ordered by key.
  std::vector<PlanEntry> entries() const;

  // From now on new shapes take the first candidate whose name begins with `prefix` where there is
  // one, whatever was measured, and record nothing; "" returns to measuring. For tests and benches.
  void force(const std::string& prefix);
  const std::string& forced() const { return forced_[static_cast<size_t>(force_id_)]; }
  // 0 if nothing is forced, else a number for each prefix: part of a backend's look-up key.
  int force_id() const { return force_id_; }

  // Writes the file if a plan is new: temporary file, then rename. Plans that another process has
  // saved meanwhile are kept, and its choice for a key both have measured. A file that cannot be
  // written is a warning, once.
  void save();

 private:
  std::map<std::string, PlanEntry> read_file();
  bool write_file(const std::string& text) const;
  void warn(const std::string& sentence);

  std::string file_, library_, cpu_;
  std::map<std::string, PlanEntry> plans_;
  std::vector<std::string> forced_ = {""};
  int force_id_ = 0;
  bool changed_ = false;
  bool warned_ = false;
};

// Calls each function, which says how many seconds what it measures took, a few times, in turns so
// that a disturbance hits all alike; returns microseconds, the least of each (disturbances only
// ever add time). What is slow and far behind is not measured again.
std::vector<double> time_in_turns(const std::vector<std::function<double()>>& functions);

// Index of the candidate to take: the fastest, or an earlier one that is at most 2 % slower.
// REQUIRES: not empty.
size_t choose_candidate(const std::vector<PlanCandidate>& candidates);

}  // namespace ringfort
