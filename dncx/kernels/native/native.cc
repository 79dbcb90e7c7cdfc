// What XLA calls: one step of the memory access, and whole sequences; each forward and backward.
//
// Compiled for one type of numbers and one number of read heads (library.py), so that loops
// over heads unroll.

#include <array>
#include <atomic>
#include <cfenv>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <thread>

#include "buffers.h"
#include "sequence.h"

namespace dncx {
namespace {

using Number = DNCX_NUMBER;
constexpr int kHeads = DNCX_READS;

// Threads that help a call and sleep between calls. They end with the process.
//
// XLA's own pool would not do: a call is often made on one of its threads, and work that such a
// thread hands to the pool may wait until the thread itself is done (docs/performance.md).
class Helpers {
 public:
  // Has `count` helpers run a task soon.
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

// Runs run(job) for every job, on this thread and on helpers: as many threads as XLA has.
//
// This thread takes jobs, too, and waits only for those that a helper has begun, so it cannot wait
// for a thread that never comes. `numbers` is how many numbers a job goes over.
template <class Run>
void for_each(ffi::ThreadPool& pool, int64_t jobs, int64_t numbers, Run run) {
  // Waking a helper takes some microseconds, in which one core processes about this many numbers.
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
  // XLA sets its threads to flush denormal numbers to zero. Helpers must do the same, or results
  // would depend on which thread computed them.
  std::fenv_t rounding;
  std::fegetenv(&rounding);
  auto work = [shared, body, jobs, rounding] {
    std::fesetenv(&rounding);
    for (int64_t i; (i = shared->next.fetch_add(1)) < jobs;) {
      try {
        (*body)(i);
      } catch (...) {  // out of memory; an exception that left the thread would end the process
        shared->failed = true;
      }
      shared->done.fetch_add(1, std::memory_order_release);
    }
  };
  helpers_of_this_process().run(helpers, work);
  work();
  // Jobs are of one size, so that the last ones end together: too soon to sleep.
  while (shared->done.load(std::memory_order_acquire) < jobs) std::this_thread::yield();
  if (shared->failed) throw std::bad_alloc();
}

// The sizes of the memory, from the shape of its buffer [..., slots, word].
Sizes sizes_of(const ffi::Dictionary& attributes, const Arguments& from, size_t memory) {
  constexpr int64_t lanes = Lanes<Number>::count;
  Sizes z;
  z.slots = from.axis(memory, 2);
  z.word = from.axis(memory, 1);
  z.reads = kHeads;
  z.links = attribute<bool>(attributes, "links");
  z.masks = attribute<bool>(attributes, "masks");
  z.wipe = attribute<bool>(attributes, "wipe_freed");
  z.sharpen = attribute<bool>(attributes, "sharpen_links");
  z.padded = (z.slots + lanes - 1) / lanes * lanes;
  z.padded_word = (z.word + lanes - 1) / lanes * lanes;
  if (z.slots < 1 || z.word < 1) throw Mismatch("the memory has no slots or no words");
  if (z.sharpen && !z.links) throw Mismatch("there are no links to sharpen");
  return z;
}

// The next array, with `numbers` for each of `count` examples. Null for a part without numbers, such
// as the link of a memory without links: Python passes no array for it.
template <class T, class From>
T* take_part(From& from, const Name& name, int64_t count, int64_t numbers) {
  return numbers ? from.template take<T>(name, count * numbers) : nullptr;
}

// The place of the layers' hidden states among the arguments, from that of the memory.
size_t place_of_hidden(const Sizes& z, size_t memory) {
  size_t place = memory;
  for (int p = 0; p < kHidden; ++p) place += p > kUsage || size_of_input(z, p) > 0;
  return place;
}

Options options_of(const ffi::Dictionary& attributes) {
  return {attribute<double>(attributes, "cosine_epsilon"),
          attribute<double>(attributes, "allocation_epsilon"),
          attribute<double>(attributes, "least_mask"),
          attribute<bool>(attributes, "write_gradient")};
}

// The sizes of the layers are those of the buffer of their hidden states [..., layers, H].
Network network_of(const ffi::Dictionary& attributes, const Arguments& from, size_t hidden) {
  Network net{attribute<int64_t>(attributes, "inputs"),
              from.axis(hidden, 2),
              from.axis(hidden, 1),
              attribute<double>(attributes, "clip_value"),
              attribute<double>(attributes, "forget_bias"),
              attribute<double>(attributes, "gradient_clip"),
              attribute<bool>(attributes, "oneplus"),
              attribute<bool>(attributes, "content_mode_second"),
              attribute<bool>(attributes, "interface_norm"),
              attribute<bool>(attributes, "controller_norm"),
              attribute<double>(attributes, "norm_epsilon"),
              attribute<double>(attributes, "controller_norm_epsilon")};
  if (net.inputs < 0 || net.layers < 1 || net.hidden < 1)
    throw Mismatch("the controller has no layers or no features");
  return net;
}

int64_t chunk_of(const ffi::Dictionary& attributes) {
  const int64_t chunk = attribute<int64_t>(attributes, "chunk");
  if (chunk < 1) throw Mismatch("attribute chunk is " + std::to_string(chunk) + ", expected 1 or more");
  return chunk;
}

// ---- One step ------------------------------------------------------------------------------------

// The examples of a step: all axes in front of the memory's own.
std::vector<int64_t> examples_of(const Arguments& from) {
  const auto shape = from.at(kMemory).dimensions();
  return {shape.begin(), shape.end() - 2};
}

ffi::Error step(ffi::ThreadPool pool, ffi::Dictionary attributes, ffi::RemainingArgs args,
                ffi::RemainingRets rets) {
  const Sizes z = sizes_of(attributes, Arguments(args), kMemory);
  const Options options = options_of(attributes);
  const int64_t examples = product(examples_of(Arguments(args)));
  Arguments from{args};
  Results to{rets};
  const Number* all_in[kInputs];
  Number* all_out[kOutputs];
  for (int i = 0; i < kInputs; ++i)
    all_in[i] = take_part<const Number>(from, kInputNames[i], examples, size_of_input(z, i));
  for (int i = 0; i < kOutputs; ++i)
    all_out[i] = take_part<Number>(to, kOutputNames[i], examples, size_of_output(z, i));
  from.end();
  to.end();
  for_each(pool, examples, numbers_of_step(z), [&](int64_t b) {
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
  const Sizes z = sizes_of(attributes, Arguments(args), kMemory);
  const Options options = options_of(attributes);
  const int64_t examples = product(examples_of(Arguments(args)));
  Arguments from{args};
  Results to{rets};
  const Number *all_in[kInputs], *all_kept[kKeptCount], *all_d_out[kOutputs];
  Number* all_d_in[kInputs];
  for (int i = 0; i < kInputs; ++i)
    all_in[i] = take_part<const Number>(from, kInputNames[i], examples, size_of_input(z, i));
  for (int i = 0; i < kKeptCount; ++i)
    all_kept[i] = take_part<const Number>(from, {"new ", kOutputNames[kKept[i]]}, examples,
                                          size_of_output(z, kKept[i]));
  for (int i = 0; i < kOutputs; ++i)
    all_d_out[i] = take_part<const Number>(from, {"gradient by ", kOutputNames[i]}, examples,
                                           size_of_output(z, i));
  for (int i = 0; i < kInputs; ++i)
    all_d_in[i] = take_part<Number>(to, {"gradient by ", kInputNames[i]}, examples,
                                    size_of_input(z, i));
  from.end();
  to.end();
  // The backward pass does about twice the work of the forward pass.
  for_each(pool, examples, 2 * numbers_of_step(z), [&](int64_t b) {
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

// Divides the examples of all groups among threads: run(group, first, count) for each block of
// neighbours.
template <class Run>
void for_each_block(ffi::ThreadPool& pool, int64_t groups, int64_t batch, Run run) {
  // The examples of a block share each load of the weights, so blocks are as large as the products
  // can take; but no thread may be left without one.
  const int64_t threads = std::max<int64_t>(1, pool.num_threads());
  const int64_t size = std::clamp<int64_t>((batch * groups + threads - 1) / threads, 1, kRows);
  const int64_t blocks = (batch + size - 1) / size;
  // All steps of several examples are always worth a thread.
  constexpr int64_t kMany = 1 << 20;
  for_each(pool, groups * blocks, kMany, [&](int64_t job) {
    const int64_t first = job % blocks * size;
    run(job / blocks, first, std::min(size, batch - first));
  });
}

enum class Layout { kPacked, kTransposed, kAsItIs };

// The weights of a call. Groups that share weights share the packed copy, too.
class WeightsOfGroups {
 public:
  WeightsOfGroups(const Sizes& z, const Network& net, Layout layout) : z_(z), net_(net), layout_(layout) {}

  void take(Arguments& from) {
    const int64_t xi = interface_size(z_);
    std::vector<const Number*> kernels;
    kernels.push_back(from.take<const Number>("kernel of the interface", net_.layers * net_.hidden * xi));
    for (int64_t l = 0; l < net_.layers; ++l)
      kernels.push_back(from.take<const Number>({"kernel of layer", l},
                                                layer_depth(z_, net_, l) * 4 * net_.hidden));
    std::shared_ptr<Weights<Number>>& weights = packed_[kernels];
    if (!weights) {
      weights = std::make_shared<Weights<Number>>();
      set(weights->interface, net_.layers * net_.hidden, xi, kernels[0]);
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

// The parts of the state of all examples of a group.
template <class Pointer, class From>
void take_state(From& from, const char* prefix, const Sizes& z, const Network& net,
                int64_t batch, Pointer* parts) {
  using T = std::remove_pointer_t<Pointer>;
  for (int p = 0; p < kStateParts; ++p)
    parts[p] = take_part<T>(from, {prefix, kStateNames[p]}, batch, size_of_state(z, net, p));
}

// The norms of the layers, if they have any; null pointers otherwise.
std::vector<LayerNorms<Number>> take_norms(Arguments& from, const Network& net) {
  std::vector<LayerNorms<Number>> norms(net.layers);
  const int64_t hidden = net.controller_norm ? net.hidden : 0;
  for (int64_t l = 0; l < net.layers; ++l) {
    norms[l].gate_scales = take_part<const Number>(from, {"scales of the gates of layer", l}, 4, hidden);
    norms[l].cell_scale = take_part<const Number>(from, {"scale of the cell of layer", l}, 1, hidden);
    norms[l].cell_bias = take_part<const Number>(from, {"bias of the cell of layer", l}, 1, hidden);
  }
  return norms;
}

// What `sequence` keeps of a group for the backward pass, but for what entered the layers.
template <class T, class Pointer, class From>
void take_kept(From& from, const Sizes& z, const Network& net, int64_t steps, int64_t chunks,
               int64_t batch, Pointer& lstm, Pointer& records, Pointer& memories, Pointer& links) {
  const int64_t rows = steps * batch;
  lstm = from.template take<T>("gates and cells", rows * net.layers * kept_of_layer(net));
  records = from.template take<T>("records", rows * Record(z, net).size);
  memories = from.template take<T>("memories", chunks * batch * z.slots * z.word);
  links = take_part<T>(from, "links", chunks * batch, size_of_input(z, kLink));
}

// args: flags, inputs, the start, kernels of interface and layers, their biases, scale and bias of
// the interface's norm, and the norms of the layers, if there are any.
ffi::Error sequence(ffi::ThreadPool pool, ffi::Dictionary attributes, ffi::RemainingArgs args,
                    ffi::RemainingRets rets) {
  const Arguments given{args};
  constexpr int kFirst = 2;
  const Sizes z = sizes_of(attributes, given, kFirst + kMemory);
  const Network net = network_of(attributes, given, place_of_hidden(z, kFirst));
  const Options options = options_of(attributes);
  const int64_t steps = given.axis(0, 2), batch = given.axis(0, 1), rows = steps * batch;
  const int64_t chunk = chunk_of(attributes);
  const bool keep = attribute<bool>(attributes, "keep");
  const int64_t kept_steps = keep ? steps : 0, chunks = chunks_of(kept_steps, chunk);
  const std::vector<int64_t> axes = axes_of_vmap(given);
  const int64_t groups = product(axes);
  std::vector<ForwardArrays<Number>> arrays(groups);
  // Packing pays when the weights are used again, by other examples or later steps.
  WeightsOfGroups weights(z, net, rows == 1 ? Layout::kAsItIs : Layout::kPacked);
  for (int64_t group = 0; group < groups; ++group) {
    Arguments in{args, axes, group};
    Results out{rets, axes, group};
    ForwardArrays<Number>& a = arrays[group];
    a.flags = in.take<const int32_t>("flags", rows);
    a.inputs = in.take<const Number>("inputs", rows * net.inputs);
    take_state(in, "", z, net, batch, a.start);
    weights.take(in);
    a.interface_bias = in.take<const Number>("bias of the interface", interface_size(z));
    for (int64_t l = 0; l < net.layers; ++l)
      a.biases.push_back(in.take<const Number>({"bias of layer", l}, 4 * net.hidden));
    const int64_t normalized = net.interface_norm ? interface_size(z) : 0;
    a.norm_scale = take_part<const Number>(in, "scale of the interface's norm", 1, normalized);
    a.norm_bias = take_part<const Number>(in, "bias of the interface's norm", 1, normalized);
    a.norms = take_norms(in, net);
    a.features = out.take<Number>("features", rows * feature_count(z, net));
    take_state(out, "last ", z, net, batch, a.state);
    a.layer_inputs = out.take<Number>("inputs of layers",
                                      kept_steps * batch * net.layers * deepest_layer(z, net));
    take_kept<Number>(out, z, net, kept_steps, chunks, batch, a.lstm, a.records, a.memories, a.links);
    in.end();
    out.end();
  }
  for_each_block(pool, groups, batch, [&](int64_t group, int64_t first, int64_t count) {
    forward_block<Number, kHeads>(z, net, options, weights[group], arrays[group], steps, batch,
                                  first, count, chunk, keep);
  });
  return ffi::Error::Success();
}

// args: flags, the start, what `sequence` kept (but for what entered the layers), the gradients by
// its results, kernels of interface and layers, the scale of the interface's norm, and the norms of
// the layers.
ffi::Error sequence_backward(ffi::ThreadPool pool, ffi::Dictionary attributes,
                             ffi::RemainingArgs args, ffi::RemainingRets rets) {
  const Arguments given{args};
  constexpr int kFirst = 1;
  const Sizes z = sizes_of(attributes, given, kFirst + kMemory);
  const Network net = network_of(attributes, given, place_of_hidden(z, kFirst));
  const Options options = options_of(attributes);
  const int64_t steps = given.axis(0, 2), batch = given.axis(0, 1), rows = steps * batch;
  const int64_t chunk = chunk_of(attributes), chunks = chunks_of(steps, chunk);
  const std::vector<int64_t> axes = axes_of_vmap(given);
  const int64_t groups = product(axes);
  std::vector<BackwardArrays<Number>> arrays(groups);
  std::vector<std::array<const Number*, kStateParts>> d_last(groups);
  WeightsOfGroups transposed(z, net, Layout::kTransposed);
  for (int64_t group = 0; group < groups; ++group) {
    Arguments in{args, axes, group};
    Results out{rets, axes, group};
    BackwardArrays<Number>& a = arrays[group];
    a.flags = in.take<const int32_t>("flags", rows);
    take_state(in, "", z, net, batch, a.start);
    take_kept<const Number>(in, z, net, steps, chunks, batch, a.lstm, a.records, a.memories, a.links);
    a.d_features = in.take<const Number>("gradient by features", rows * feature_count(z, net));
    take_state(in, "gradient by last ", z, net, batch, d_last[group].data());
    transposed.take(in);
    const int64_t normalized = net.interface_norm ? interface_size(z) : 0;
    a.norm_scale = take_part<const Number>(in, "scale of the interface's norm", 1, normalized);
    a.norms = take_norms(in, net);
    a.d_inputs = out.take<Number>("gradient by inputs", rows * net.inputs);
    a.d_gates = out.take<Number>("gradient by gates", rows * net.layers * 4 * net.hidden);
    a.d_interface = out.take<Number>("gradient by the interface", rows * interface_size(z));
    take_state(out, "gradient by ", z, net, batch, a.d_state);
    a.d_norm = take_part<Number>(out, "gradient by the interface's norm", batch, 2 * normalized);
    a.d_norms = take_part<Number>(out, "gradient by the layers' norms", batch,
                                  net.layers * gradients_by_norms(net));
    in.end();
    out.end();
  }
  for (int64_t group = 0; group < groups; ++group)
    for (int p = 0; p < kStateParts; ++p)
      copy(d_last[group][p], batch * size_of_state(z, net, p), arrays[group].d_state[p]);
  for_each_block(pool, groups, batch, [&](int64_t group, int64_t first, int64_t count) {
    backward_block<Number, kHeads>(z, net, options, transposed[group], arrays[group], steps, batch,
                                   first, count, chunk);
  });
  return ffi::Error::Success();
}

// A handler whose failures are errors of the call: XLA's threads must not see an exception.
template <ffi::Error (*handler)(ffi::ThreadPool, ffi::Dictionary, ffi::RemainingArgs, ffi::RemainingRets)>
ffi::Error guarded(ffi::ThreadPool pool, ffi::Dictionary attributes, ffi::RemainingArgs args,
                   ffi::RemainingRets rets) {
  try {
    return handler(pool, attributes, args, rets);
  } catch (const Mismatch& mismatch) {
    return ffi::Error(ffi::ErrorCode::kInvalidArgument,
                      std::string("dncx: the native kernel and Python disagree: ") + mismatch.what());
  } catch (const std::bad_alloc&) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, "RESOURCE_EXHAUSTED: dncx: out of memory");
  }
}

auto binding() {
  return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Attrs().RemainingArgs().RemainingRets();
}

}  // namespace

// The sizes of a network in `sequence` that follow from how this code lays numbers out; Python asks
// for them (library.py), so that they are defined here alone.
extern "C" void dncx_layout(int64_t slots, int64_t word, int64_t inputs, int64_t layers,
                            int64_t hidden, int64_t links, int64_t masks, int64_t wipe_freed,
                            int64_t sharpen_links, int64_t interface_norm, int64_t controller_norm,
                            int64_t* sizes) {
  Sizes z{slots, word, kHeads, 0, 0, links != 0, masks != 0, wipe_freed != 0, sharpen_links != 0};
  Network net{};
  net.inputs = inputs;
  net.layers = layers;
  net.hidden = hidden;
  net.interface_norm = interface_norm != 0;
  net.controller_norm = controller_norm != 0;
  sizes[0] = Record(z, net).size;
  sizes[1] = kept_of_layer(net);
  sizes[2] = deepest_layer(z, net);
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(dncx_step, guarded<step>, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(dncx_step_backward, guarded<step_backward>, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(dncx_sequence, guarded<sequence>, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(dncx_sequence_backward, guarded<sequence_backward>, binding());

}  // namespace dncx
