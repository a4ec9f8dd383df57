#include "distributed/reducer.h"

#include <algorithm>
#include <chrono>

#include "kernels/vector.h"

namespace ringfort {
namespace {

// Tensors of fewer elements are not worth an encoding.
constexpr int64_t kTinyElements = 1024;
constexpr int64_t kFirstBucketBytes = 1 << 20;
constexpr int64_t kPlainChunk = 4096;
constexpr int64_t kFloatBytes = 4;

bool is_compressed(const Compressor& compressor, const Segment& segment) {
  if (!compressor.compresses()) return true;  // nothing to be kept from harm
  return is_weight(segment.kind) && segment.shape.count() >= kTinyElements;
}

std::vector<std::string> hosts_of_ranks(Comm& comm) {
  const std::string own = comm.transport().host();
  std::vector<std::string> hosts;
  for (const std::vector<std::byte>& name :
       comm.all_gather_any(std::as_bytes(std::span(own)), "the ranks' machines"))
    hosts.emplace_back(reinterpret_cast<const char*>(name.data()), name.size());
  return hosts;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

// Of the bucket that is being filled, and of the whole model's rest.
struct Reducer::Parts {
  std::vector<Piece> pieces, plain;
  std::vector<MatrixAt> matrices;
  int64_t chunks = 0;
};

Reducer::Reducer(Exec& exec, Comm& comm, ParamStore& params, const ReducerOptions& options)
    : exec_(exec),
      comm_(comm),
      params_(params),
      compressor_(options.compressor),
      thread_exec_(exec.device(), 1),
      exchange_(thread_exec_, comm),
      pool_(exec.device()),
      key_{options.seed, Purpose::kCompress, 0} {
  require(params.master_dtype() == Dtype::kFloat32, "reducer: gradients are {}, not float32",
          to_string(params.master_dtype()));
  require(options.bucket_bytes > 0, "--bucket-mb is {} MB; it must be positive",
          options.bucket_bytes >> 20);
  if (options.algorithm) require_allowed(compressor_, *options.algorithm);
  std::vector<std::string> hosts = options.hosts;
  if (hosts.empty()) hosts = hosts_of_ranks(comm);
  if (!options.flat && Hosts::are_worth_it(hosts)) hosts_.emplace(thread_exec_, comm, hosts);
  make_buckets(params, options);
  if (compressor_.error_feedback())
    error_ = zeros(pool_, params.flat_gradient().shape, Dtype::kFloat32);
  complete_ = std::make_unique<Marker>(exec);
  thread_ = std::jthread([this](const std::stop_token& stop) { work(stop); });
}

Reducer::~Reducer() = default;

// --- buckets ---

void Reducer::make_buckets(const ParamStore& params, const ReducerOptions& options) {
  Parts parts;
  Bucket bucket;
  const std::vector<ParamId> order = params.in_memory_order();
  for (size_t place = 0; place < order.size(); ++place) {
    const Segment& segment = params.segment(order[place]);
    const int64_t count = segment.shape.count();
    const int64_t rows = segment.shape.n, columns = count / std::max<int64_t>(rows, 1);
    const bool low_rank = compressor_.kind() == CompressorClass::kLowRank;
    if (!is_compressed(compressor_, segment) ||
        (low_rank && !PowerSgd::is_worth_it(rows, columns, compressor_.options().rank)))
      parts.plain.push_back({segment.offset, count});
    else if (low_rank)
      parts.matrices.push_back({segment.offset, rows, columns});
    else
      parts.pieces.push_back({segment.offset, count});
    bucket.last = place;
    bucket.end = segment.offset + count;
    const int64_t limit =
        buckets_.empty() ? std::min(kFirstBucketBytes, options.bucket_bytes) : options.bucket_bytes;
    const bool full = (bucket.end - bucket.first) * kFloatBytes >= limit;
    if (!full && place + 1 < order.size()) continue;
    const int64_t next = place + 1 < order.size() ? params.segment(order[place + 1]).offset : 0;
    close(std::move(bucket), parts, options);
    bucket = {};
    bucket.first = next;
  }
  plain_ = make_quantizer_codec(exec_.device(), parts.plain,
                                Quantizer::make(QuantizerKind::kFloat32), kPlainChunk);
  plain_bytes_ = plain_->bytes();
  plain_algorithm_ = choose_algorithm(Compressor({}), sharers(), plain_->elements(), options.link);
  algorithm_ = algorithm_for(options, compressed_elements_);
}

Algorithm Reducer::algorithm_for(const ReducerOptions& options, int64_t elements) const {
  if (options.algorithm) return *options.algorithm;
  const auto buckets = std::max<int64_t>(1, std::ssize(buckets_));
  return choose_algorithm(compressor_, sharers(), elements / buckets, options.link);
}

void Reducer::close(Bucket bucket, Parts& parts, const ReducerOptions& options) {
  bucket.complete = std::make_unique<Marker>(exec_);
  bucket.first_chunk = parts.chunks;
  if (!parts.matrices.empty()) {
    bucket.low_rank = std::make_unique<PowerSgd>(exec_, parts.matrices, compressor_.options().rank,
                                                 options.seed + buckets_.size());
    compressed_bytes_ += bucket.low_rank->bytes();
    for (const MatrixAt& m : parts.matrices) compressed_elements_ += m.rows * m.columns;
  }
  if (!parts.pieces.empty()) {
    bucket.codec = compressor_.make_codec(exec_.device(), parts.pieces);
    if (hosts_)
      bucket.dense = make_quantizer_codec(exec_.device(), parts.pieces,
                                          Quantizer::make(QuantizerKind::kFloat32), kPlainChunk);
    parts.chunks += bucket.codec->chunks();
    compressed_bytes_ += bucket.codec->bytes();
    compressed_elements_ += bucket.codec->elements();
  }
  parts.pieces.clear();
  parts.matrices.clear();
  bucket.what = fmt::format("gradient bucket {}, elements {} to {}, {}", buckets_.size(),
                            bucket.first, bucket.end, compressor_.describe());
  buckets_.push_back(std::move(bucket));
}

std::string Reducer::describe() const {
  const int64_t full = compressed_elements_ * kFloatBytes;
  std::string text = fmt::format("gradients over {} ranks by {}: {}", comm_.size(),
                                 comm_.transport().name(), compressor_.describe());
  if (compressor_.kind() != CompressorClass::kLowRank)
    text += fmt::format(" by {}", to_string(algorithm_));
  if (hosts_) text += fmt::format(" between {} machines, as they are inside them", hosts_->count());
  text += fmt::format("; {} buckets, {:.2f} MB", buckets_.size(),
                      static_cast<double>(compressed_bytes_) / 1e6);
  if (compressed_bytes_ < full)
    text += fmt::format(" instead of {:.2f}", static_cast<double>(full) / 1e6);
  if (plain_bytes_ > 0)
    text += fmt::format(", and {:.2f} MB as they are", static_cast<double>(plain_bytes_) / 1e6);
  return text;
}

// --- a step ---

void Reducer::begin(int64_t step, double lr) {
  key_.epoch = static_cast<uint32_t>(step);
  error_factor_ = last_lr_ > 0 && lr > 0 ? static_cast<float>(last_lr_ / lr) : 1.0f;
  last_lr_ = lr;
  ready_ = posted_ = 0;
}

void Reducer::ready(ParamId) {
  const size_t place = ready_++;
  if (posted_ >= buckets_.size() || place < buckets_[posted_].last) return;
  Bucket& bucket = buckets_[posted_++];
  bucket.complete->set(exec_);
  post([this, &bucket] { exchange_bucket(bucket, true); });
}

void Reducer::finish(std::span<double> sums) {
  require(posted_ == buckets_.size(), "reducer: {} of {} buckets were completed by the pass",
          posted_, buckets_.size());
  complete_->set(exec_);
  post([this, sums] { exchange_plain(sums); });
  const auto start = std::chrono::steady_clock::now();
  wait();
  stats_.exposed += seconds_since(start);
  ++stats_.steps;
}

void Reducer::sum_gradient(int64_t step) {
  key_.epoch = static_cast<uint32_t>(step);
  synchronize(exec_);
  for (Bucket& bucket : buckets_) post([this, &bucket] { exchange_bucket(bucket, false); });
  post([this] { exchange_plain({}); });
  wait();
}

View Reducer::slice(const View& flat, const Bucket& bucket) const {
  return {flat.as<float>() + bucket.first, Dtype::kFloat32,
          vector_shape(bucket.end - bucket.first)};
}

void Reducer::exchange(Codec& codec, Codec* dense, const ExchangeCall& call) {
  if (hosts_)
    hosts_->all_reduce(codec, *dense, call);
  else
    exchange_.all_reduce(codec, call);
}

void Reducer::exchange_bucket(Bucket& bucket, bool feedback) {
  bucket.complete->wait();
  const View gradient = params_.flat_gradient();
  const bool keeps = feedback && error_;
  if (keeps)
    add_scaled(thread_exec_, slice(gradient, bucket), slice(error_, bucket), error_factor_);
  auto* const values = gradient.as<float>();
  float* const residual = keeps ? error_.as<float>() : nullptr;
  if (bucket.low_rank)
    bucket.low_rank->all_reduce(exchange_, thread_exec_, values, residual, bucket.what);
  if (bucket.codec)
    exchange(
        *bucket.codec, bucket.dense.get(),
        {algorithm_, values, residual, key_, compressor_.votes(), bucket.first_chunk, bucket.what});
  synchronize(thread_exec_);
}

void Reducer::exchange_plain(std::span<double> sums) {
  complete_->wait();
  if (plain_->chunks() > 0)
    exchange(*plain_, plain_.get(),
             {plain_algorithm_, params_.flat_gradient().as<float>(), nullptr, key_, false, 0,
              "gradients that travel as they are"});
  synchronize(thread_exec_);
  if (!sums.empty()) comm_.sum(sums, "the step's totals");
}

// --- the thread ---

void Reducer::post(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  changed_.notify_all();
}

void Reducer::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return jobs_.empty() && !busy_; });
  if (error_thrown_) std::rethrow_exception(error_thrown_);
}

void Reducer::run(const std::function<void(Comm&)>& body) {
  post([this, &body] { body(comm_); });
  wait();
}

// After an error nothing is exchanged any more: the ranks no longer agree on what comes next.
void Reducer::work(const std::stop_token& stop) {
  while (true) {
    std::function<void()> job;
    {
      std::unique_lock lock(mutex_);
      if (!changed_.wait(lock, stop, [this] { return !jobs_.empty(); })) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
      busy_ = true;
      if (error_thrown_) job = [] {};
    }
    std::exception_ptr thrown;
    try {
      job();
    } catch (...) {
      thrown = std::current_exception();
    }
    {
      const std::lock_guard lock(mutex_);
      busy_ = false;
      if (thrown) error_thrown_ = thrown;
    }
    changed_.notify_all();
  }
}

// --- what is read ---

ReducerStats Reducer::take_stats() {
  wait();
  ReducerStats stats = stats_;
  const Traffic& traffic = comm_.traffic();
  ExchangeTimes times = exchange_.times();
  if (hosts_) {
    const ExchangeTimes of_hosts = hosts_->times();
    times = {times.encode + of_hosts.encode, times.decode + of_hosts.decode,
             times.wait + of_hosts.wait};
  }
  stats.bytes_sent = traffic.bytes_sent - traffic_before_.bytes_sent;
  stats.times = {times.encode - times_before_.encode, times.decode - times_before_.decode,
                 times.wait - times_before_.wait};
  stats_ = {};
  traffic_before_ = traffic;
  times_before_ = times;
  return stats;
}

std::vector<NamedView> Reducer::common_state() const {
  std::vector<NamedView> all;
  for (size_t i = 0; i < buckets_.size(); ++i)
    if (buckets_[i].low_rank)
      all.push_back({fmt::format("power_sgd.{}", i), buckets_[i].low_rank->state()});
  return all;
}

}  // namespace ringfort
