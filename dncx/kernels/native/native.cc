// What XLA calls: one step of the memory access, and whole sequences; each forward and backward.
//
// Compiled for one type of numbers and one number of read heads (library.py), so that loops
// over heads unroll.

#include <atomic>
#include <cfenv>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <thread>

#include "sequence.h"
#include "xla/ffi/api/ffi.h"

namespace dncx {
namespace {

namespace ffi = xla::ffi;

using Number = DNCX_NUMBER;
constexpr int kHeads = DNCX_READS;

// Threads of our own that help a call, and sleep between calls. (XLA's pool would do, but that a
// call is often made on one of its threads, and what such a thread hands to the pool may wait
// until it is done itself: docs/performance.md.) They end with the process.
class Helpers {
 public:
  // Lets `count` helpers run a task, soon.
  void run(int64_t count, const std::function<void()>& task) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      for (; threads_ < count; ++threads_) std::thread([this] { serve(); }).detach();
      for (int64_t i = 0; i < count; ++i) tasks_.push_back(task);
    }
    for (int64_t i = 0; i < count; ++i) wake_.notify_one();
  }

 private:
  void serve() {
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [this] { return !tasks_.empty(); });
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  int64_t threads_ = 0;
};

Helpers& helpers_of_this_process() {
  static Helpers* helpers = new Helpers;  // never destroyed: its threads may outlive main
  return *helpers;
}

// Runs run(job) for every job, on this thread and on helpers, as many as XLA has threads. This
// thread takes jobs itself and waits only for those that another has begun, so it cannot wait
// for a thread that never comes. Helpers round and flush as this thread does.
template <class Run>
void for_each(ffi::ThreadPool& pool, int64_t jobs, int64_t numbers, Run run) {
  constexpr int64_t kWorthAThread = 1 << 14;
  const int64_t helpers = std::min({pool.num_threads() - 1, jobs - 1, jobs * numbers / kWorthAThread});
  if (helpers < 1) {
    for (int64_t i = 0; i < jobs; ++i) run(i);
    return;
  }
  struct Shared {
    std::atomic<int64_t> next{0}, done{0};
    std::atomic<bool> failed{false};
  };
  auto shared = std::make_shared<Shared>();
  const Run* body = &run;  // outlives the last job, which this call waits for
  std::fenv_t rounding;
  std::fegetenv(&rounding);
  auto work = [shared, body, jobs, rounding] {
    std::fesetenv(&rounding);
    for (int64_t i; (i = shared->next.fetch_add(1)) < jobs;) {
      try {
        (*body)(i);
      } catch (...) {  // no memory; a thread of XLA's must not see it
        shared->failed = true;
      }
      shared->done.fetch_add(1, std::memory_order_release);
    }
  };
  helpers_of_this_process().run(helpers, work);
  work();
  while (shared->done.load(std::memory_order_acquire) < jobs) std::this_thread::yield();
  if (shared->failed) throw std::bad_alloc();
}


// The arrays of a call, one after the other. Axes in front of those that a handler knows come
// from vmap: all arrays have as many, of length 1 where they are the same for all. `group`
// counts along them.
template <class List>
struct Arrays {
  List list;
  std::vector<int64_t> axes = {};
  int64_t group = 0;
  size_t next = 0;

  ffi::AnyBuffer buffer(size_t i) {
    if constexpr (std::is_same_v<List, ffi::RemainingArgs>) return *list.template get<ffi::AnyBuffer>(i);
    else return **list.template get<ffi::AnyBuffer>(i);
  }
  // The length of an axis, counted from the last.
  int64_t axis(size_t i, int back) {
    auto shape = buffer(i).dimensions();
    return shape[shape.size() - back];
  }
  template <class T = Number>
  T* take() {
    ffi::AnyBuffer array = buffer(next++);
    auto shape = array.dimensions();
    int64_t place = 0, own = 1, rest = group, stride = 1;
    for (size_t k = axes.size(); k-- > 0; rest /= axes[k]) {
      if (shape[k] > 1) place += rest % axes[k] * stride;
      stride *= shape[k];
    }
    for (size_t k = axes.size(); k < shape.size(); ++k) own *= shape[k];
    return static_cast<T*>(array.untyped_data()) + place * own;
  }
  template <class Pointer>
  void take(Pointer* to, int count) {
    for (int i = 0; i < count; ++i) to[i] = take();
  }
};

// The axes in front of the first array's last two; each as long as in any array.
std::vector<int64_t> axes_of_vmap(Arrays<ffi::RemainingArgs>& args) {
  const size_t count = args.buffer(0).dimensions().size() - 2;
  std::vector<int64_t> axes(count, 1);
  bool empty = false;
  for (size_t i = 0; i < args.list.size(); ++i)
    for (size_t k = 0; k < count; ++k) {
      const int64_t length = args.buffer(i).dimensions()[k];
      empty |= length == 0;
      axes[k] = std::max(axes[k], length);
    }
  if (empty) axes.assign(count, 0);
  return axes;
}

int64_t product(const std::vector<int64_t>& axes) {
  return std::accumulate(axes.begin(), axes.end(), int64_t{1}, std::multiplies<int64_t>());
}

Sizes sizes_of(Arrays<ffi::RemainingArgs>& args, size_t memory) {
  constexpr int64_t lanes = Lanes<Number>::count;
  Sizes z;
  z.slots = args.axis(memory, 2);
  z.word = args.axis(memory, 1);
  z.reads = kHeads;
  z.padded = (z.slots + lanes - 1) / lanes * lanes;
  z.padded_word = (z.word + lanes - 1) / lanes * lanes;
  return z;
}

Options options_of(ffi::Dictionary attributes) {
  return {*attributes.get<double>("cosine_epsilon"), *attributes.get<double>("allocation_epsilon"),
          *attributes.get<bool>("write_gradient")};
}

Network network_of(ffi::Dictionary attributes, Arrays<ffi::RemainingArgs>& args, size_t hidden) {
  return {*attributes.get<int64_t>("inputs"),    args.axis(hidden, 2),
          args.axis(hidden, 1),                  *attributes.get<double>("clip_value"),
          *attributes.get<double>("forget_bias"), *attributes.get<double>("gradient_clip"),
          *attributes.get<bool>("oneplus"),      *attributes.get<bool>("content_mode_second")};
}

// ---- One step ------------------------------------------------------------------------------------

ffi::Error step(ffi::ThreadPool pool, ffi::Dictionary attributes, ffi::RemainingArgs args,
                ffi::RemainingRets rets) {
  Arrays<ffi::RemainingArgs> from{args};
  Arrays<ffi::RemainingRets> to{rets};
  const Sizes z = sizes_of(from, kMemory);
  const Options options = options_of(attributes);
  const int64_t examples = from.buffer(kMemory).element_count() / (z.slots * z.word);
  const Number* all_in[kInputs];
  Number* all_out[kOutputs];
  from.take(all_in, kInputs);
  to.take(all_out, kOutputs);
  for_each(pool, examples, z.slots * (z.slots + z.word), [&](int64_t b) {
    static thread_local Scratch<Number> scratch;
    const Number* in[kInputs];
    Number* out[kOutputs];
    for (int i = 0; i < kInputs; ++i) in[i] = all_in[i] + b * size_of_input(z, i);
    for (int i = 0; i < kOutputs; ++i) out[i] = all_out[i] + b * size_of_output(z, i);
    forward<Number, kHeads>(z, options, in, out, scratch);
  });
  return ffi::Error::Success();
}

ffi::Error step_backward(ffi::ThreadPool pool, ffi::Dictionary attributes,
                         ffi::RemainingArgs args, ffi::RemainingRets rets) {
  Arrays<ffi::RemainingArgs> from{args};
  Arrays<ffi::RemainingRets> to{rets};
  const Sizes z = sizes_of(from, kMemory);
  const Options options = options_of(attributes);
  const int64_t examples = from.buffer(kMemory).element_count() / (z.slots * z.word);
  const Number *all_in[kInputs], *all_kept[kKeptCount], *all_d_out[kOutputs];
  Number* all_d_in[kInputs];
  from.take(all_in, kInputs);
  from.take(all_kept, kKeptCount);
  from.take(all_d_out, kOutputs);
  to.take(all_d_in, kInputs);
  for_each(pool, examples, 2 * z.slots * (z.slots + z.word), [&](int64_t b) {
    static thread_local Scratch<Number> scratch;
    const Number *in[kInputs], *kept[kKeptCount], *d_out[kOutputs];
    Number* d_in[kInputs];
    for (int i = 0; i < kInputs; ++i) {
      in[i] = all_in[i] + b * size_of_input(z, i);
      d_in[i] = all_d_in[i] + b * size_of_input(z, i);
    }
    for (int i = 0; i < kKeptCount; ++i) kept[i] = all_kept[i] + b * size_of_output(z, kKept[i]);
    for (int i = 0; i < kOutputs; ++i) d_out[i] = all_d_out[i] + b * size_of_output(z, i);
    backward<Number, kHeads>(z, options, in, kept, d_out, d_in, scratch);
  });
  return ffi::Error::Success();
}

// ---- Sequences -----------------------------------------------------------------------------------

// Shares the examples of all groups out: run(group, first, count) for blocks of neighbours.
template <class Run>
void for_each_block(ffi::ThreadPool& pool, int64_t groups, int64_t batch, Run run) {
  const int64_t threads = std::max<int64_t>(1, pool.num_threads());
  const int64_t size = std::clamp<int64_t>((batch * groups + threads - 1) / threads, 1, kRows);
  const int64_t blocks = (batch + size - 1) / size;
  for_each(pool, groups * blocks, int64_t{1} << 20, [&](int64_t job) {
    const int64_t first = job % blocks * size;
    run(job / blocks, first, std::min(size, batch - first));
  });
}

enum class Layout { kPacked, kTransposed, kAsItIs };

// The weights of a call; packed once where several groups have the same.
class WeightsOfGroups {
 public:
  WeightsOfGroups(const Sizes& z, const Network& net, Layout layout) : z_(z), net_(net), layout_(layout) {}

  void take(Arrays<ffi::RemainingArgs>& from) {
    std::vector<const Number*> kernels;
    for (int64_t i = 0; i <= net_.layers; ++i) kernels.push_back(from.take());
    std::shared_ptr<Weights<Number>>& weights = packed_[kernels];
    if (!weights) {
      weights = std::make_shared<Weights<Number>>();
      set(weights->interface, net_.layers * net_.hidden, interface_size(z_), kernels[0]);
      weights->layers.resize(net_.layers);
      for (int64_t l = 0; l < net_.layers; ++l)
        set(weights->layers[l], layer_depth(z_, net_, l), 4 * net_.hidden, kernels[1 + l]);
    }
    weights_.push_back(weights);
  }
  const Weights<Number>& operator[](int64_t group) const { return *weights_[group]; }

 private:
  void set(Matrix<Number>& matrix, int64_t rows, int64_t columns, const Number* from) {
    if (layout_ == Layout::kAsItIs) matrix.view(rows, columns, from);
    else if (layout_ == Layout::kPacked) matrix.pack(rows, columns, from, columns, 1);
    else matrix.pack(columns, rows, from, 1, columns);
  }

  Sizes z_;
  Network net_;
  Layout layout_;
  std::map<std::vector<const Number*>, std::shared_ptr<Weights<Number>>> packed_;
  std::vector<std::shared_ptr<Weights<Number>>> weights_;
};

// args: flags, inputs, the start, kernels of interface and layers, their biases.
ffi::Error sequence(ffi::ThreadPool pool, ffi::Dictionary attributes, ffi::RemainingArgs args,
                    ffi::RemainingRets rets) {
  Arrays<ffi::RemainingArgs> from{args};
  constexpr int kFirst = 2;
  const Sizes z = sizes_of(from, kFirst + kMemory);
  const Network net = network_of(attributes, from, kFirst + kHidden);
  const Options options = options_of(attributes);
  const int64_t steps = from.axis(0, 2), batch = from.axis(0, 1);
  const int64_t chunk = *attributes.get<int64_t>("chunk");
  const bool keep = *attributes.get<bool>("keep");
  const std::vector<int64_t> axes = axes_of_vmap(from);
  const int64_t groups = product(axes);
  std::vector<ForwardArrays<Number>> arrays(groups);
  WeightsOfGroups weights(z, net, steps * batch == 1 ? Layout::kAsItIs : Layout::kPacked);
  for (int64_t group = 0; group < groups; ++group) {
    Arrays<ffi::RemainingArgs> in{args, axes, group};
    Arrays<ffi::RemainingRets> out{rets, axes, group};
    ForwardArrays<Number>& a = arrays[group];
    a.flags = in.take<int32_t>();
    a.inputs = in.take();
    in.take(a.start, kStateParts);
    weights.take(in);
    a.interface_bias = in.take();
    for (int64_t l = 0; l < net.layers; ++l) a.biases.push_back(in.take());
    a.features = out.take();
    out.take(a.state, kStateParts);
    a.layer_inputs = out.take();
    a.lstm = out.take();
    a.records = out.take();
    a.memories = out.take();
    a.links = out.take();
  }
  for_each_block(pool, groups, batch, [&](int64_t group, int64_t first, int64_t count) {
    forward_block<Number, kHeads>(z, net, options, weights[group], arrays[group], steps, batch,
                                  first, count, chunk, keep);
  });
  return ffi::Error::Success();
}

// args: flags, the start, what `sequence` kept (but what entered the layers), the gradients by
// what it gave, kernels of interface and layers.
ffi::Error sequence_backward(ffi::ThreadPool pool, ffi::Dictionary attributes,
                             ffi::RemainingArgs args, ffi::RemainingRets rets) {
  Arrays<ffi::RemainingArgs> from{args};
  constexpr int kFirst = 1;
  const Sizes z = sizes_of(from, kFirst + kMemory);
  const Network net = network_of(attributes, from, kFirst + kHidden);
  const Options options = options_of(attributes);
  const int64_t steps = from.axis(0, 2), batch = from.axis(0, 1);
  const int64_t chunk = *attributes.get<int64_t>("chunk");
  const std::vector<int64_t> axes = axes_of_vmap(from);
  const int64_t groups = product(axes);
  std::vector<BackwardArrays<Number>> arrays(groups);
  WeightsOfGroups transposed(z, net, Layout::kTransposed);
  for (int64_t group = 0; group < groups; ++group) {
    Arrays<ffi::RemainingArgs> in{args, axes, group};
    Arrays<ffi::RemainingRets> out{rets, axes, group};
    BackwardArrays<Number>& a = arrays[group];
    a.flags = in.take<int32_t>();
    in.take(a.start, kStateParts);
    a.lstm = in.take();
    a.records = in.take();
    a.memories = in.take();
    a.links = in.take();
    a.d_features = in.take();
    const Number* d_last[kStateParts];
    in.take(d_last, kStateParts);
    transposed.take(in);
    a.d_inputs = out.take();
    a.d_gates = out.take();
    a.d_interface = out.take();
    out.take(a.d_state, kStateParts);
    for (int p = 0; p < kStateParts; ++p)
      copy(d_last[p], batch * size_of_state(z, net, p), a.d_state[p]);
  }
  for_each_block(pool, groups, batch, [&](int64_t group, int64_t first, int64_t count) {
    backward_block<Number, kHeads>(z, net, options, transposed[group], arrays[group], steps, batch,
                                   first, count, chunk);
  });
  return ffi::Error::Success();
}

// A handler that says so when there is no memory.
template <ffi::Error (*handler)(ffi::ThreadPool, ffi::Dictionary, ffi::RemainingArgs, ffi::RemainingRets)>
ffi::Error guarded(ffi::ThreadPool pool, ffi::Dictionary attributes, ffi::RemainingArgs args,
                   ffi::RemainingRets rets) {
  try {
    return handler(pool, attributes, args, rets);
  } catch (const std::bad_alloc&) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, "RESOURCE_EXHAUSTED: dncx: out of memory");
  }
}

auto binding() {
  return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Attrs().RemainingArgs().RemainingRets();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(dncx_step, guarded<step>, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(dncx_step_backward, guarded<step_backward>, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(dncx_sequence, guarded<sequence>, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(dncx_sequence_backward, guarded<sequence_backward>, binding());

}  // namespace dncx
