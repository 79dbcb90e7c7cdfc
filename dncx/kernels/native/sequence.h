// A whole sequence: LSTM layers, the interface and the memory access, step by step, forward and
// backward, for a few examples at a time.
//
// The examples of a block share the products with the weights. The memory and the link of each
// stay in the cache of the core that works on it. XLA computes what is outside of the recurrence
// (the output layer and all gradients by weights) as one product over time each.
// Source: dncx/controllers.py, dncx/interface.py, dncx/dnc.py.
#pragma once

#include <memory>

#include "access.h"

namespace dncx {

// What the network is beyond its sizes.
struct Network {
  int64_t inputs, layers, hidden;  // F, LSTM layers, H
  double clip_value, forget_bias, gradient_clip;  // infinity: none
  bool oneplus, content_mode_second, interface_norm, controller_norm;
  double norm_epsilon, controller_norm_epsilon;
};

inline int64_t interface_size(const Sizes& z) {
  int64_t total = 0;
  for (int part = kReadKeys; part < kInputs; ++part) total += size_of_input(z, part);
  return total;
}

// The state of one example, and the gradients by it: AccessState, the words read, LSTM states.
enum StatePart { kWordsRead = kUsage + 1, kHidden, kCell, kStateParts };

constexpr const char* kStateNames[] = {
    "memory", "read weights", "write weights", "link", "precedence weights", "usage",
    "read words", "hidden", "cell"};
static_assert(sizeof kStateNames / sizeof *kStateNames == kStateParts);

inline int64_t size_of_state(const Sizes& z, const Network& net, int part) {
  if (part < kWordsRead) return size_of_input(z, part);
  return part == kWordsRead ? z.reads * z.word : net.layers * net.hidden;
}

// The parts as large as the memory, which are not copied for every step.
inline bool is_large(int part) { return part == kMemory || part == kLink; }

// What the backward pass needs of every step apart from memory and link: the parts of the new
// state and of the trace, and the interface. All of it is small, N or W numbers at a time.
struct Record {
  int64_t output[kOutputs], interface[kInputs], normal, size;

  Record(const Sizes& z, const Network& net) : size(0) {
    for (int i : {int(kReadWeights), int(kWriteWeights), int(kPrecedence), int(kUsage),
                  int(kAllocation), int(kWriteContent), int(kReadContent), int(kForward),
                  int(kBackward), int(kRetention), int(kRawForward), int(kRawBackward)}) {
      output[i] = size;
      size += size_of_output(z, i);
    }
    for (int i = kReadKeys; i < kInputs; ++i) {
      interface[i] = size;
      size += size_of_input(z, i);
    }
    normal = size;  // what `normalize` keeps
    if (net.interface_norm) size += interface_size(z) + 1;
  }
};

// Flags of a step.
constexpr int32_t kAlive = 1, kReset = 2;

// ---- The interface ---------------------------------------------------------------------------

// Where the read modes stand in the raw interface: backward, forward, content, or content alone.
inline void mode_places(const Network& net, int* place) {
  place[0] = 0;
  place[1] = net.content_mode_second ? 2 : 1;
  place[2] = net.content_mode_second ? 1 : 2;
}

// The parts of the raw vector, brought into their ranges. Both have the order of Interface.
template <class T>
void squash(const Sizes& z, const Network& net, const T* raw, T* out) {
  auto logistic = [](T x) { return 1 / (1 + std::exp(-x)); };
  auto softplus = [](T x) {
    return std::max(x, T(0)) + std::log1p(std::exp(-std::abs(x)));  // e^x would overflow
  };
  const T least = net.oneplus ? T(1) : T(0);
  int place[3];
  mode_places(net, place);
  for (int part = kReadKeys; part < kInputs; ++part) {
    const int64_t count = size_of_input(z, part);
    if (part == kReadKeys || part == kWriteKey || part == kWriteVector) {
      copy(raw, count, out);
    } else if (part == kReadStrengths || part == kWriteStrength) {
      std::transform(raw, raw + count, out, [&](T x) { return softplus(x) + least; });
    } else if (part == kForwardSharpness || part == kBackwardSharpness) {
      std::transform(raw, raw + count, out, [&](T x) { return softplus(x) + 1; });
    } else if (part == kReadMode) {
      const int modes = int(modes_of(z));
      for (int64_t h = 0; h < count; h += modes) {
        T highest = *std::max_element(raw + h, raw + h + modes), total = 0;
        for (int k = 0; k < modes; ++k) total += out[h + k] = std::exp(raw[h + place[k]] - highest);
        for (int k = 0; k < modes; ++k) out[h + k] /= total;
      }
    } else {
      std::transform(raw, raw + count, out, logistic);
    }
    raw += count;
    out += count;
  }
}

// The gradients by the raw vector, from those by the parts and the parts themselves.
template <class T>
void squash_backward(const Sizes& z, const Network& net, const T* parts, const T* d_parts, T* d_raw) {
  int place[3];
  mode_places(net, place);
  for (int part = kReadKeys; part < kInputs; ++part) {
    const int64_t count = size_of_input(z, part);
    if (part == kReadKeys || part == kWriteKey || part == kWriteVector) {
      copy(d_parts, count, d_raw);
    } else if (part == kReadStrengths || part == kWriteStrength || part == kForwardSharpness ||
               part == kBackwardSharpness) {
      // The slope of softplus, from its value y: 1 - e^-y.
      const bool from_one = net.oneplus || part >= kForwardSharpness;
      for (int64_t i = 0; i < count; ++i)
        d_raw[i] = d_parts[i] * -std::expm1((from_one ? T(1) : T(0)) - parts[i]);
    } else if (part == kReadMode) {
      const int modes = int(modes_of(z));
      for (int64_t h = 0; h < count; h += modes) {
        T mean = 0;
        for (int k = 0; k < modes; ++k) mean += parts[h + k] * d_parts[h + k];
        for (int k = 0; k < modes; ++k) d_raw[h + place[k]] = parts[h + k] * (d_parts[h + k] - mean);
      }
    } else {
      for (int64_t i = 0; i < count; ++i) d_raw[i] = d_parts[i] * parts[i] * (1 - parts[i]);
    }
    parts += count;
    d_parts += count;
    d_raw += count;
  }
}

// Layer norm of x: (x - mean) / sqrt(variance + epsilon) * scale + bias, in place. kept: the numbers
// before scale and bias, then the factor 1 / sqrt(...).
template <class T>
void normalize(int64_t count, T epsilon, const T* scale, const T* bias, T* x, T* kept) {
  constexpr int64_t lanes = Lanes<T>::count;
  V<T> total{}, squares{};
  for (int64_t k = 0; k < count; k += lanes) total += load(x + k, count - k);
  const T mean = sum<T>(total) / T(count);
  for (int64_t k = 0; k < count; k += lanes) {
    store(kept + k, load(x + k, count - k) - mean, count - k);
    const V<T> centred = load(kept + k, count - k);  // 0 beyond the end
    squares += centred * centred;
  }
  const T factor = 1 / std::sqrt(sum<T>(squares) / T(count) + epsilon);
  for (int64_t k = 0; k < count; k += lanes) {
    const int64_t n = count - k;
    const V<T> normal = load(kept + k, n) * factor;
    store(kept + k, normal, n);
    store(x + k, normal * load(scale + k, n) + load(bias + k, n), n);
  }
  kept[count] = factor;
}

// d_x: the gradients by the result, replaced by those by x. Adds to d_scale and d_bias.
template <class T>
void normalize_backward(int64_t count, const T* scale, const T* kept, T* d_x, T* d_scale, T* d_bias) {
  constexpr int64_t lanes = Lanes<T>::count;
  V<T> total{}, along{};
  for (int64_t k = 0; k < count; k += lanes) {
    const int64_t n = count - k;
    const V<T> d = load(d_x + k, n), normal = load(kept + k, n), g = d * load(scale + k, n);
    store(d_scale + k, load(d_scale + k, n) + d * normal, n);
    store(d_bias + k, load(d_bias + k, n) + d, n);
    store(d_x + k, g, n);
    total += g;
    along += g * normal;
  }
  const T mean = sum<T>(total) / T(count), slope = sum<T>(along) / T(count), factor = kept[count];
  for (int64_t k = 0; k < count; k += lanes) {
    const int64_t n = count - k;
    store(d_x + k, factor * (load(d_x + k, n) - mean - slope * load(kept + k, n)), n);
  }
}

// ---- LSTM layers -------------------------------------------------------------------------------

template <class T>
inline V<T> clip(V<T> x, T limit) {
  x = x > limit ? V<T>{} + limit : x;
  return x < -limit ? V<T>{} - limit : x;
}

// The layer norms of a layer, if it has them: one for each gate, whose biases are the layer's own,
// and one for the cell.
template <class T>
struct LayerNorms {
  const T *gate_scales, *cell_scale, *cell_bias;  // 4H, H, H
};

// What is kept of a layer: four gates and the new cell, then what `normalize` keeps of the products
// that the gates are made of, and of the cell.
inline int64_t kept_of_gates(const Network& net) { return 5 * net.hidden; }
inline int64_t kept_of_layer(const Network& net) {
  return kept_of_gates(net) + (net.controller_norm ? 5 * (net.hidden + 1) : 0);
}
inline int64_t kept_of_norm(const Network& net, int norm) {
  return kept_of_gates(net) + norm * (net.hidden + 1);
}
constexpr int kNormOfCell = 4;

// How many gradients there are by the norms of a layer: 4H scales and biases of gates, H of the cell.
inline int64_t gradients_by_norms(const Network& net) { return net.controller_norm ? 10 * net.hidden : 0; }

// One layer of one example. gates: i, j, f, o before their activations; with norms, without their
// biases. hidden and cell: the state, clipped; above: hidden before that.
template <class T>
void lstm(const Network& net, const LayerNorms<T>& norms, const T* biases, T* gates, T* kept,
          T* hidden, T* cell, T* above) {
  const int64_t H = net.hidden;
  const T limit = T(net.clip_value), forget_bias = T(net.forget_bias);
  const T epsilon = T(net.controller_norm_epsilon);
  for (int g = 0; g < 4 && net.controller_norm; ++g)
    normalize(H, epsilon, norms.gate_scales + g * H, biases + g * H, gates + g * H,
              kept + kept_of_norm(net, g));
  for (int64_t k = 0; k < H; k += Lanes<T>::count) {
    const int64_t n = H - k;
    V<T> i = sigmoid<T>(load(gates + k, n)), j = tanh<T>(load(gates + H + k, n));
    V<T> f = sigmoid<T>(load(gates + 2 * H + k, n) + forget_bias);
    V<T> o = sigmoid<T>(load(gates + 3 * H + k, n));
    V<T> c = f * load(cell + k, n) + i * j;
    store(kept + k, i, n);
    store(kept + H + k, j, n);
    store(kept + 2 * H + k, f, n);
    store(kept + 3 * H + k, o, n);
    store(kept + 4 * H + k, c, n);
    store(cell + k, clip<T>(c, limit), n);
    store(above + k, c, n);
  }
  if (net.controller_norm)
    normalize(H, epsilon, norms.cell_scale, norms.cell_bias, above, kept + kept_of_norm(net, kNormOfCell));
  for (int64_t k = 0; k < H; k += Lanes<T>::count) {
    const int64_t n = H - k;
    V<T> h = load(kept + 3 * H + k, n) * tanh<T>(load(above + k, n));
    store(hidden + k, clip<T>(h, limit), n);
    store(above + k, h, n);
  }
}

// d_hidden: by the clipped hidden state; d_above: by the one before clipping; d_cell: by the
// clipped cell, replaced by that by the previous one, which is kept unclipped but for the first.
// d_norms: added to. d_shown: H numbers of scratch.
template <class T>
void lstm_backward(const Network& net, const LayerNorms<T>& norms, const T* kept,
                   const T* previous_cell, bool clip_previous, const T* d_hidden, const T* d_above,
                   T* d_cell, T* d_gates, T* d_norms, T* d_shown) {
  const int64_t H = net.hidden;
  const T limit = T(net.clip_value), gradient_limit = T(net.gradient_clip);
  auto within = [&](V<T> x, V<T> gradient) {
    return (x >= limit) | (x <= -limit) ? V<T>{} : gradient;
  };
  const T* normal = kept + kept_of_norm(net, kNormOfCell);
  for (int64_t k = 0; k < H; k += Lanes<T>::count) {
    const int64_t n = H - k;
    V<T> o = load(kept + 3 * H + k, n), shown = load(kept + 4 * H + k, n);
    if (net.controller_norm)
      shown = load(normal + k, n) * load(norms.cell_scale + k, n) + load(norms.cell_bias + k, n);
    V<T> squashed = tanh<T>(shown);
    V<T> dh = within(o * squashed, load(d_hidden + k, n)) + load(d_above + k, n);
    dh = clip<T>(dh, gradient_limit);
    store(d_shown + k, dh * o * (1 - squashed * squashed), n);
    store(d_gates + 3 * H + k, dh * squashed * o * (1 - o), n);
  }
  if (net.controller_norm)
    normalize_backward(H, norms.cell_scale, normal, d_shown, d_norms + 8 * H, d_norms + 9 * H);
  for (int64_t k = 0; k < H; k += Lanes<T>::count) {
    const int64_t n = H - k;
    V<T> i = load(kept + k, n), j = load(kept + H + k, n), f = load(kept + 2 * H + k, n);
    V<T> c = load(kept + 4 * H + k, n), previous = load(previous_cell + k, n);
    if (clip_previous) previous = clip<T>(previous, limit);
    V<T> dc = within(c, load(d_cell + k, n)) + load(d_shown + k, n);
    store(d_gates + k, dc * j * i * (1 - i), n);
    store(d_gates + H + k, dc * i * (1 - j * j), n);
    store(d_gates + 2 * H + k, dc * previous * f * (1 - f), n);
    store(d_cell + k, dc * f, n);
  }
  for (int g = 0; g < 4 && net.controller_norm; ++g)
    normalize_backward(H, norms.gate_scales + g * H, kept + kept_of_norm(net, g), d_gates + g * H,
                       d_norms + g * H, d_norms + (4 + g) * H);
}

// ---- The sequence --------------------------------------------------------------------------------

template <class T>
struct Weights {
  std::vector<Matrix<T>> layers;  // [inputs; words read; below; hidden] -> gates (or transposed)
  Matrix<T> interface;            // controller output -> interface (or transposed)
};

// How many numbers enter a layer: [inputs; words read; hidden layer below, if any; hidden].
inline int64_t layer_depth(const Sizes& z, const Network& net, int64_t layer) {
  return net.inputs + z.reads * z.word + (layer ? 2 : 1) * net.hidden;
}

// The last layer is as deep as any.
inline int64_t deepest_layer(const Sizes& z, const Network& net) {
  return layer_depth(z, net, net.layers - 1);
}

// How many steps begin a chunk.
inline int64_t chunks_of(int64_t steps, int64_t chunk) { return (steps + chunk - 1) / chunk; }

inline int64_t feature_count(const Sizes& z, const Network& net) {
  return net.layers * net.hidden + z.reads * z.word;
}

template <class T>
struct ForwardArrays {
  const T *inputs;              // [T, B, F]
  const int32_t* flags;         // [T, B]
  const T *start[kStateParts];  // [B, ...]
  const T *interface_bias;
  const T *norm_scale, *norm_bias;  // of the interface, if it is normalized
  std::vector<const T*> biases;  // of the layers
  std::vector<LayerNorms<T>> norms;
  T *features;                   // [T, B, LH + RW]: what enters the output layer
  T *state[kStateParts];         // [B, ...]: the last one, and on the way the present one
  T *layer_inputs, *lstm;        // [T, B, L, depth of the last layer], [T, B, L, kept]
  T *records, *memories, *links;  // [T, B, record], [chunks, B, N, W], [chunks, B, N, N]
};

// Examples first..first+count, all steps. Without `keep`, the last five arrays are not written.
template <class T, int R>
void forward_block(const Sizes& z, const Network& net, const Options& options,
                   const Weights<T>& weights, const ForwardArrays<T>& a, int64_t steps,
                   int64_t batch, int64_t first, int64_t count, int64_t chunk, bool keep) {
  static thread_local Scratch<T> scratch;
  static thread_local std::vector<T> block;
  const Record record(z, net);
  const int64_t H = net.hidden, L = net.layers, xi = interface_size(z);
  const int64_t depth = deepest_layer(z, net), features = feature_count(z, net);
  const int64_t layer_kept = kept_of_layer(net);
  const int64_t wide = std::max(4 * H + Matrix<T>::kWidth, weights.interface.width());
  block.assign(count * (L * depth + wide + H + L * layer_kept + record.size), T(0));
  T *in_here = block.data(), *out = in_here + count * L * depth, *above = out + count * wide;
  T *kept_here = above + count * H, *records_here = kept_here + count * L * layer_kept;

  T* state[kStateParts];
  int64_t sizes[kStateParts];
  for (int p = 0; p < kStateParts; ++p) {
    sizes[p] = size_of_state(z, net, p);
    state[p] = a.state[p] + first * sizes[p];
    if (!is_large(p)) copy(a.start[p] + first * sizes[p], count * sizes[p], state[p]);
  }
  auto size = [&](int which) { return sizes[which]; };
  auto part = [&](int which, int64_t b) { return state[which] + b * sizes[which]; };
  // Memory and link before a step. The first step takes them from where they came in: copying
  // them would cost as much as what it does with them.
  auto large = [&](int which, int64_t t, int64_t b) -> const T* {
    const bool first_one = t == 0 && a.flags[first + b] == kAlive;
    return first_one ? a.start[which] + (first + b) * sizes[which] : part(which, b);
  };
  for (int64_t b = 0; b < count; ++b)
    if (steps == 0 || a.flags[first + b] != kAlive)
      for (int p : {kMemory, kLink}) copy(a.start[p] + (first + b) * sizes[p], sizes[p], part(p, b));

  for (int64_t t = 0; t < steps; ++t) {
    const int64_t row = t * batch + first;
    T* in = keep ? a.layer_inputs + row * L * depth : in_here;
    T* all_kept = keep ? a.lstm + row * L * layer_kept : kept_here;
    T* all_records = keep ? a.records + row * record.size : records_here;
    for (int64_t b = 0; b < count; ++b) {
      if (a.flags[row + b] & kReset)
        for (int p = 0; p < kStateParts; ++p) zero(part(p, b), size(p));
      if (keep && t % chunk == 0) {
        const int64_t place = t / chunk * batch + first + b;
        copy(large(kMemory, t, b), size(kMemory), a.memories + place * size(kMemory));
        copy(large(kLink, t, b), size(kLink), a.links + place * size(kLink));
      }
    }
    for (int64_t l = 0; l < L; ++l) {
      for (int64_t b = 0; b < count; ++b) {
        const T* x = a.inputs + (row + b) * net.inputs;
        T* to = copy(x, net.inputs, in + (b * L + l) * depth);
        to = copy(part(kWordsRead, b), size(kWordsRead), to);
        if (l) to = copy(above + b * H, H, to);
        copy(part(kHidden, b) + l * H, H, to);
        if (net.controller_norm) zero(out + b * wide, 4 * H);
        else copy(a.biases[l], 4 * H, out + b * wide);
      }
      weights.layers[l].multiply(count, in + l * depth, L * depth, out, wide);
      for (int64_t b = 0; b < count; ++b) {
        T* kept = all_kept + (b * L + l) * layer_kept;
        if (a.flags[row + b] & kAlive)
          lstm(net, a.norms[l], a.biases[l], out + b * wide, kept, part(kHidden, b) + l * H,
               part(kCell, b) + l * H, above + b * H);
        else
          zero(kept, layer_kept);
      }
    }
    T* now = a.features + row * features;
    for (int64_t b = 0; b < count; ++b) {
      if (a.flags[row + b] & kAlive) copy(part(kHidden, b), size(kHidden), now + b * features);
      else zero(now + b * features, features);
      copy(a.interface_bias, xi, out + b * wide);
    }
    weights.interface.multiply(count, now, features, out, wide);
    for (int64_t b = 0; b < count; ++b) {
      if (!(a.flags[row + b] & kAlive)) continue;
      T* kept = all_records + b * record.size;
      if (net.interface_norm)
        normalize(xi, T(net.norm_epsilon), a.norm_scale, a.norm_bias, out + b * wide,
                  kept + record.normal);
      squash(z, net, out + b * wide, kept + record.interface[kReadKeys]);
      const T* step_in[kInputs];
      T* step_out[kOutputs];
      for (int p = 0; p <= kUsage; ++p) step_in[p] = step_out[p] = part(p, b);
      for (int p : {kMemory, kLink}) step_in[p] = large(p, t, b);
      for (int p = kReadKeys; p < kInputs; ++p) step_in[p] = kept + record.interface[p];
      step_out[kReadWords] = part(kWordsRead, b);
      for (int p = kAllocation; p < kOutputs; ++p) step_out[p] = kept + record.output[p];
      forward<T, R>(z, options, step_in, step_out, scratch);
      for (int p : {kReadWeights, kWriteWeights, kPrecedence, kUsage})
        copy(part(p, b), size(p), kept + record.output[p]);
      copy(part(kWordsRead, b), size(kWordsRead), now + b * features + L * H);
    }
  }
}

// The link after a step, from that before and what the step wrote: `link_step` without all that
// reads it, and on rows without padding. It runs as fast as memory takes the results, which go to a
// buffer larger than the second-level cache.
template <class T>
void replay_link(const Sizes& z, const T* link, const T* write, const T* precedence,
                 T* __restrict new_link) {
  const int64_t N = z.slots;
  for (int64_t i = 0; i < N; ++i) {
    for (int64_t j = 0; j < N; ++j)
      new_link[i * N + j] = (1 - write[i] - write[j]) * link[i * N + j] + write[i] * precedence[j];
    new_link[i * N + i] = 0;
  }
}

// The memory after a step, in the same way: `erase_and_write` on rows without padding.
template <class T>
void replay_memory(const Sizes& z, const T* memory, const T* kept, const T* write, const T* erase,
                   const T* vector, T* __restrict new_memory) {
  const int64_t W = z.word;
  for (int64_t i = 0; i < z.slots; ++i) {
    const T share = kept ? kept[i] : T(1);
    for (int64_t j = 0; j < W; ++j)
      new_memory[i * W + j] =
          share * memory[i * W + j] * (1 - write[i] * erase[j]) + write[i] * vector[j];
  }
}

template <class T>
struct BackwardArrays {
  const int32_t* flags;
  const T *start[kStateParts], *lstm, *records, *memories, *links;  // as in ForwardArrays
  const T *norm_scale, *d_features;
  std::vector<LayerNorms<T>> norms;
  T *d_state[kStateParts];  // by the last state; left as that by the first
  T *d_inputs, *d_gates, *d_interface;  // [T, B, F], [T, B, L, 4H], [T, B, xi]; before activation
  T *d_norm, *d_norms;  // [B, 2, xi], [B, L, 10H]: by scales and biases, the sum over time
};

template <class T, int R>
void backward_block(const Sizes& z, const Network& net, const Options& options,
                    const Weights<T>& transposed, const BackwardArrays<T>& a, int64_t steps,
                    int64_t batch, int64_t first, int64_t count, int64_t chunk) {
  static thread_local Scratch<T> scratch;
  static thread_local std::vector<T> block;
  const Record record(z, net);
  const int64_t H = net.hidden, L = net.layers, words = z.reads * z.word, xi = interface_size(z);
  const int64_t features = feature_count(z, net);
  const int64_t link_size = size_of_input(z, kLink), memory_size = size_of_input(z, kMemory);
  int64_t wide = transposed.interface.width();
  for (const auto& layer : transposed.layers) wide = std::max(wide, layer.width());
  const int64_t entry = link_size + memory_size, none_size = std::max(record.size, L * H);
  const int64_t layer_kept = kept_of_layer(net), by_norms = gradients_by_norms(net);
  block.assign(count * (wide + H) + none_size + xi + H, T(0));
  T *out = block.data(), *d_above = out + count * wide;
  T *none = d_above + count * H, *d_parts = none + none_size;  // `none` stays zero
  T* d_shown = d_parts + xi;
  if (net.interface_norm) zero(a.d_norm + first * 2 * xi, count * 2 * xi);
  if (net.controller_norm) zero(a.d_norms + first * L * by_norms, count * L * by_norms);
  if (steps == 0) return;
  // The links and memories of one chunk. Too large to be kept between calls.
  const std::unique_ptr<T[]> stack(new T[count * chunk * entry]);

  auto d_part = [&](int which, int64_t b) {
    return a.d_state[which] + (first + b) * size_of_state(z, net, which);
  };
  auto record_at = [&](int64_t t, int64_t b) {
    return a.records + (t * batch + first + b) * record.size;
  };
  // A small part of the state before a step.
  auto before = [&](int which, int64_t t, int64_t b) -> const T* {
    if (a.flags[t * batch + first + b] & kReset) return none;
    if (t > 0) return record_at(t - 1, b) + record.output[which];
    return a.start[which] + (first + b) * size_of_state(z, net, which);
  };

  for (int64_t begin = (steps - 1) / chunk * chunk; begin >= 0; begin -= chunk) {
    const int64_t end = std::min(begin + chunk, steps);
    auto stacked = [&](int64_t t, int64_t b) { return stack.get() + (b * chunk + t - begin) * entry; };
    for (int64_t b = 0; b < count; ++b) {
      const int64_t place = begin / chunk * batch + first + b;
      T* to = copy(a.links + place * link_size, link_size, stacked(begin, b));
      copy(a.memories + place * memory_size, memory_size, to);
      for (int64_t t = begin; t + 1 < end && (a.flags[t * batch + first + b] & kAlive); ++t) {
        const T *kept = record_at(t, b), *from = stacked(t, b);
        T* next = stacked(t + 1, b);
        const T* write = kept + record.output[kWriteWeights];
        if (z.links) replay_link(z, from, write, before(kPrecedence, t, b), next);
        replay_memory(z, from + link_size, z.wipe ? kept + record.output[kRetention] : nullptr,
                      write, kept + record.interface[kErase],
                      kept + record.interface[kWriteVector], next + link_size);
        if (a.flags[(t + 1) * batch + first + b] & kReset) std::fill(next, next + entry, T(0));
      }
    }
    for (int64_t t = end - 1; t >= begin; --t) {
      const int64_t row = t * batch + first;
      std::fill(a.d_inputs + row * net.inputs, a.d_inputs + (row + count) * net.inputs, T(0));
      for (int64_t b = 0; b < count; ++b) {
        T* d_xi = a.d_interface + (row + b) * xi;
        const T* d_features = a.d_features + (row + b) * features;
        if (!(a.flags[row + b] & kAlive)) {
          std::fill(d_xi, d_xi + xi, T(0));
          continue;
        }
        const T* kept = record_at(t, b);
        const T *in[kInputs], *kept_parts[kKeptCount], *d_out[kOutputs];
        T* d_in[kInputs];
        in[kLink] = stacked(t, b);
        in[kMemory] = in[kLink] + link_size;
        for (int p : {kReadWeights, kWriteWeights, kPrecedence, kUsage}) in[p] = before(p, t, b);
        for (int p = 0; p <= kUsage; ++p) d_out[p] = d_in[p] = d_part(p, b);
        T* d_raw = d_parts;
        for (int p = kReadKeys; p < kInputs; d_raw += size_of_input(z, p++)) {
          in[p] = kept + record.interface[p];
          d_in[p] = d_raw;
        }
        for (int i = 0; i < kKeptCount; ++i) kept_parts[i] = kept + record.output[kKept[i]];
        T* d_read = d_part(kWordsRead, b);
        for (int64_t i = 0; i < words; ++i) d_read[i] += d_features[L * H + i];
        d_out[kReadWords] = d_read;
        for (int p = kAllocation; p < kOutputs; ++p) d_out[p] = none;
        backward<T, R>(z, options, in, kept_parts, d_out, d_in, scratch);
        squash_backward(z, net, kept + record.interface[kReadKeys], d_parts, d_xi);
        if (net.interface_norm) {
          T* d_scale = a.d_norm + (first + b) * 2 * xi;
          normalize_backward(xi, a.norm_scale, kept + record.normal, d_xi, d_scale, d_scale + xi);
        }
        copy(d_features, L * H, out + b * wide);
      }
      transposed.interface.multiply(count, a.d_interface + row * xi, xi, out, wide);
      for (int64_t b = 0; b < count; ++b) {
        if (!(a.flags[row + b] & kAlive)) continue;
        for (int64_t i = 0; i < L * H; ++i) d_part(kHidden, b)[i] += out[b * wide + i];
        std::fill(d_part(kWordsRead, b), d_part(kWordsRead, b + 1), T(0));
        std::fill(d_above + b * H, d_above + (b + 1) * H, T(0));
      }
      for (int64_t l = L - 1; l >= 0; --l) {
        for (int64_t b = 0; b < count; ++b) {
          T* d_gates = a.d_gates + ((row + b) * L + l) * 4 * H;
          if (!(a.flags[row + b] & kAlive)) {
            std::fill(d_gates, d_gates + 4 * H, T(0));
            continue;
          }
          const T* previous = none;
          if (!(a.flags[row + b] & kReset))
            previous = t ? a.lstm + ((row - batch + b) * L + l) * layer_kept + 4 * H
                         : a.start[kCell] + ((first + b) * L + l) * H;
          lstm_backward(net, a.norms[l], a.lstm + ((row + b) * L + l) * layer_kept, previous, t > 0,
                        d_part(kHidden, b) + l * H, d_above + b * H, d_part(kCell, b) + l * H,
                        d_gates, a.d_norms + ((first + b) * L + l) * by_norms, d_shown);
        }
        std::fill(out, out + count * wide, T(0));
        transposed.layers[l].multiply(count, a.d_gates + (row * L + l) * 4 * H, L * 4 * H, out, wide);
        for (int64_t b = 0; b < count; ++b) {
          if (!(a.flags[row + b] & kAlive)) continue;
          const T* from = out + b * wide;
          T* d_x = a.d_inputs + (row + b) * net.inputs;
          for (int64_t i = 0; i < net.inputs; ++i) d_x[i] += from[i];
          from += net.inputs;
          for (int64_t i = 0; i < words; ++i) d_part(kWordsRead, b)[i] += from[i];
          from += words;
          if (l) {
            copy(from, H, d_above + b * H);
            from += H;
          }
          copy(from, H, d_part(kHidden, b) + l * H);
        }
      }
      for (int64_t b = 0; b < count; ++b)
        if (a.flags[row + b] & kReset)
          for (int p = 0; p < kStateParts; ++p) std::fill(d_part(p, b), d_part(p, b + 1), T(0));
    }
  }
}

}  // namespace dncx
