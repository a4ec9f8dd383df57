#include "engine/snapshot.h"

#include "kernels/device_memory.h"

namespace ringfort {
namespace {

Tensor copied(Exec& exec, Pool& pool, const View& view) {
  Tensor copy(pool, view.shape, view.dtype, view.layout);
  copy_view(exec, copy, view);
  return copy;
}

}  // namespace

Snapshot::Snapshot(Exec& exec, Pool& pool, const ParamStore& params, const Sgd& optimizer)
    : master_(copied(exec, pool, params.flat_master())),
      statistics_(copied(exec, pool, params.flat_statistics())),
      momentum_(copied(exec, pool, optimizer.momentum_buffer())) {}

std::vector<NamedView> Snapshot::state(const std::string& prefix) const {
  return {{prefix + "master", master_},
          {prefix + "statistics", statistics_},
          {prefix + "momentum", momentum_}};
}

void Snapshot::restore(Exec& exec, ParamStore& params, const Sgd& optimizer) const {
  copy_view(exec, params.flat_master(), master_);
  copy_view(exec, params.flat_statistics(), statistics_);
  copy_view(exec, optimizer.momentum_buffer(), momentum_);
  params.master_changed(exec);
  params.statistics_changed();
}

}  // namespace ringfort
