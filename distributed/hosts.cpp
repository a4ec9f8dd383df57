#include "distributed/hosts.h"

#include <algorithm>

namespace ringfort {

std::vector<std::vector<int>> ranks_by_host(const std::vector<std::string>& hosts) {
  std::vector<std::vector<int>> groups;
  for (size_t rank = 0; rank < hosts.size(); ++rank) {
    const auto same = [&](const std::vector<int>& group) {
      return hosts[static_cast<size_t>(group.front())] == hosts[rank];
    };
    const auto found = std::find_if(groups.begin(), groups.end(), same);
    if (found == groups.end())
      groups.push_back({static_cast<int>(rank)});
    else
      found->push_back(static_cast<int>(rank));
  }
  return groups;
}

bool Hosts::are_worth_it(const std::vector<std::string>& hosts) {
  const size_t groups = ranks_by_host(hosts).size();
  return groups > 1 && groups < hosts.size();
}

Hosts::Hosts(Exec& exec, Comm& comm, const std::vector<std::string>& hosts) {
  std::vector<int> leaders;
  for (const std::vector<int>& group : ranks_by_host(hosts)) {
    leaders.push_back(group.front());
    if (std::find(group.begin(), group.end(), comm.rank()) != group.end())
      local_.emplace(comm, group);
  }
  hosts_ = static_cast<int>(leaders.size());
  local_exchange_.emplace(exec, *local_);
  if (local_->rank() != 0) return;
  leaders_.emplace(comm, leaders);
  leaders_exchange_.emplace(exec, *leaders_);
}

void Hosts::all_reduce(Codec& codec, Codec& dense, const ExchangeCall& call) {
  ExchangeCall inside = call;
  inside.algorithm = Algorithm::kRing;
  inside.residual = nullptr;
  inside.vote = false;
  inside.what = call.what + ", inside a host";
  if (local_->size() > 1) local_exchange_->all_reduce(dense, inside);
  if (leaders_exchange_) leaders_exchange_->all_reduce(codec, call);
  if (local_->size() > 1) local_exchange_->broadcast(dense, call.values, inside.what);
}

ExchangeTimes Hosts::times() const {
  ExchangeTimes sum = local_exchange_->times();
  if (!leaders_exchange_) return sum;
  const ExchangeTimes& between = leaders_exchange_->times();
  return {sum.encode + between.encode, sum.decode + between.decode, sum.wait + between.wait};
}

}  // namespace ringfort
