// Hosts: sums over the ranks of one machine first, as they are, and then between one rank of each
// machine, encoded: the slow links carry one share per machine instead of one per rank.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "distributed/exchange.h"

namespace ringfort {

// The ranks by the machine they are on, in the order of their first.
std::vector<std::vector<int>> ranks_by_host(const std::vector<std::string>& hosts);

class Hosts {
 public:
  // hosts: the machine of each rank.
  Hosts(Exec& exec, Comm& comm, const std::vector<std::string>& hosts);

  // Whether it makes a difference: several machines, and one with several ranks.
  static bool are_worth_it(const std::vector<std::string>& hosts);

  int count() const { return hosts_; }

  // As Exchange::all_reduce. dense: the same elements as they are. Residuals are kept by the first
  // rank of each machine; those of others stay as they were.
  void all_reduce(Codec& codec, Codec& dense, const ExchangeCall& call);

  ExchangeTimes times() const;

 private:
  int hosts_ = 0;
  std::optional<Comm> local_, leaders_;
  std::optional<Exchange> local_exchange_, leaders_exchange_;
};

}  // namespace ringfort
