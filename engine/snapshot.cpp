#include "engine/snapshot.h"

#include "kernels/copy_views.h"

namespace ringfort {

std::vector<NamedView> training_state(const ParamStore& params, const Optimizer& optimizer) {
  std::vector<NamedView> all = {{"master", params.flat_master()},
                                {"statistics", params.flat_statistics()}};
  for (NamedView& part : optimizer.state()) all.push_back(std::move(part));
  return all;
}

Snapshot::Snapshot(Exec& exec, Pool& pool, const ParamStore& params, const Optimizer& optimizer) {
  std::vector<ViewCopy> copies;
  for (const NamedView& part : training_state(params, optimizer)) {
    Tensor copy(pool, part.view.shape, part.view.dtype, part.view.layout);
    copies.push_back({copy, part.view});
    copies_.emplace_back(part.name, std::move(copy));
  }
  copy_views(exec, copies);
}

std::vector<NamedView> Snapshot::state(const std::string& prefix) const {
  std::vector<NamedView> all;
  for (const auto& [name, copy] : copies_) all.push_back({prefix + name, copy});
  return all;
}

void Snapshot::restore(Exec& exec, ParamStore& params, const Optimizer& optimizer) const {
  const std::vector<NamedView> now = training_state(params, optimizer);
  require(now.size() == copies_.size(), "Snapshot: it is of another optimizer");
  std::vector<ViewCopy> copies;
  for (size_t i = 0; i < now.size(); ++i) copies.push_back({now[i].view, copies_[i].second});
  copy_views(exec, copies);
  params.master_changed(exec);
  params.statistics_changed();
}

}  // namespace ringfort
