// Content weighting, allocation, the link matrix and sharpened links for one example, forward and
// backward.
//
// The equations are those of dncx/addressing.py for one write head, under the same names. The link
// is by far the largest array, so each pass goes over it once, forward and backward.
#pragma once

#include <cmath>
#include <limits>

#include "vectors.h"

namespace dncx {

struct Sizes {
  int64_t slots, word, reads;     // N, W, R
  int64_t padded, padded_word;    // rounded up to whole vectors; the tail of every row is 0
  bool links;                     // without them, all reads are by content
  bool masks, wipe, sharpen;      // DNC-M, DNC-D, DNC-S
};

// The read modes of a head: backward, forward and content, or content alone.
inline int64_t modes_of(const Sizes& z) { return z.links ? 3 : 1; }

// ---- Content weighting ------------------------------------------------------------------------

// sqrt(squares + epsilon); vectors shorter than SHORTEST_VECTOR (addressing.py) count as zero.
template <class T>
T norm_of(T squares, T epsilon) {
  squares += epsilon;
  return squares >= T(1e-6) * T(1e-6) ? std::sqrt(squares) : T(0);
}

// What a lookup compares the slots with: R keys, or one. With masks (DNC-M), the head's mask m scales
// both key and slot: the product of k m and M m is that of k m^2 and M, so `keys` are k m^2 and
// `squares` m^2. Without masks, `keys` are k.
template <class T>
struct Lookup {
  const T *raw_keys, *strengths, *masks;  // of the interface; masks: null without
  const T *keys, *squares;                // heads x padded_word
  T *similarity, *norms;                  // heads x padded; norms: one row without masks
};

// m = least + (1 - least) x, from the interface's x; numbers or vectors.
template <class X, class T>
X mask_of(X x, T least) {
  return least + (1 - least) * x;
}

// The arrays of a lookup, with the masks applied to the keys.
template <class T>
Lookup<T> make_lookup(const Sizes& z, const T* keys, const T* strengths, const T* masks, int heads,
                      T least_mask, Scratch<T>& scratch) {
  const int64_t PW = z.padded_word;
  Lookup<T> a{scratch.copy(keys, heads, z.word, PW), strengths, nullptr};
  a.similarity = scratch.zeros(heads, z.padded);
  a.norms = scratch.zeros(z.masks ? heads : 1, z.padded);
  a.keys = a.raw_keys;
  if (!z.masks) return a;
  T *squares = scratch.copy(masks, heads, z.word, PW), *masked = scratch.rows(heads, PW);
  each_vector<T>(heads * PW, [&](int64_t j) {
    const V<T> mask = mask_of(load(squares + j), least_mask);
    store(squares + j, mask * mask);
    store(masked + j, load(a.raw_keys + j) * mask * mask);
  });
  a.masks = masks;
  a.squares = squares;
  a.keys = masked;
  return a;
}

// How many rows of words and of slots `make_lookup` takes at most.
constexpr int64_t lookup_words(int64_t heads) { return 3 * heads; }
constexpr int64_t lookup_slots(int64_t heads) { return 2 * heads; }

// similarity[h, n] = keys[h] . memory[n], and norms[n] = |memory[n]| (of the masked slot), for ROWS
// slots from n on: a key is loaded once for all of them.
template <class T, int HEADS, bool MASKS, int ROWS>
void compare_rows(const Sizes& z, const T* memory, const Lookup<T>& a, T epsilon, int64_t n) {
  constexpr int NORMS = MASKS ? HEADS : 1;
  V<T> squares[NORMS][ROWS] = {}, products[HEADS][ROWS] = {};
  each_vector<T>(z.padded_word, [&](int64_t j) {
    V<T> m[ROWS];
    for (int i = 0; i < ROWS; ++i) {
      m[i] = load(memory + (n + i) * z.padded_word + j);
      if constexpr (!MASKS) squares[0][i] += m[i] * m[i];
    }
    for (int h = 0; h < HEADS; ++h) {
      const V<T> key = load(a.keys + h * z.padded_word + j);
      for (int i = 0; i < ROWS; ++i) products[h][i] += m[i] * key;
      if constexpr (MASKS) {
        const V<T> square = load(a.squares + h * z.padded_word + j);
        for (int i = 0; i < ROWS; ++i) squares[h][i] += m[i] * m[i] * square;
      }
    }
  });
  for (int i = 0; i < ROWS; ++i) {
    for (int h = 0; h < NORMS; ++h) a.norms[h * z.padded + n + i] = norm_of(sum<T>(squares[h][i]), epsilon);
    for (int h = 0; h < HEADS; ++h) a.similarity[h * z.padded + n + i] = sum<T>(products[h][i]);
  }
}

template <class T, int HEADS, bool MASKS>
void compare(const Sizes& z, const T* memory, const Lookup<T>& a, T epsilon) {
  // The totals, HEADS + 1 or (with masks) 2 HEADS for each row, must fit into registers.
  constexpr int ROWS = HEADS > 4 ? 1 : MASKS ? 2 : 4;
  int64_t n = 0;
  for (; n + ROWS <= z.slots; n += ROWS) compare_rows<T, HEADS, MASKS, ROWS>(z, memory, a, epsilon, n);
  for (; n < z.slots; ++n) compare_rows<T, HEADS, MASKS, 1>(z, memory, a, epsilon, n);
}

// |k| of a head, with its mask.
template <class T>
T key_norm_of(const Sizes& z, const Lookup<T>& a, int head, T epsilon) {
  const int64_t row = head * z.padded_word;
  return norm_of(dot(a.raw_keys + row, a.keys + row, z.padded_word), epsilon);
}

// Turns dots into cosine similarities.
template <class T>
void to_similarity(const Sizes& z, T* dots, const T* norms, T key_norm, T epsilon) {
  for (int64_t n = 0; n < z.slots; ++n) {
    T scale = key_norm * norms[n] + epsilon;
    dots[n] = scale > 0 ? dots[n] / scale : T(0);
  }
}

template <class T>
void softmax(const Sizes& z, const T* similarity, T strength, T* weights) {
  T highest = similarity[0];
  for (int64_t n = 1; n < z.slots; ++n) highest = std::max(highest, similarity[n]);
  T total = 0;
  each_vector<T>(z.padded, [&](int64_t j) {
    store(weights + j, exponential<T>(strength * (load(similarity + j) - highest)).value);
  });
  std::fill(weights + z.slots, weights + z.padded, T(0));
  each_vector<T>(z.padded, [&](int64_t j) { total += sum<T>(load(weights + j)); });
  T scale = 1 / total;
  each_vector<T>(z.padded, [&](int64_t j) { store(weights + j, load(weights + j) * scale); });
}

template <class T, int HEADS, bool MASKS>
void content_weights(const Sizes& z, const T* memory, const Lookup<T>& a, T epsilon, T* weights) {
  compare<T, HEADS, MASKS>(z, memory, a, epsilon);
  for (int h = 0; h < HEADS; ++h) {
    T* similarity = a.similarity + h * z.padded;
    to_similarity(z, similarity, a.norms + (MASKS ? h * z.padded : 0), key_norm_of(z, a, h, epsilon), epsilon);
    softmax(z, similarity, a.strengths[h], weights + h * z.padded);
  }
}

// C(memory, keys, strengths), the content weighting of every head.
template <class T, int HEADS>
void content_weights(const Sizes& z, const T* memory, const Lookup<T>& a, T epsilon, T* weights) {
  if (z.masks) content_weights<T, HEADS, true>(z, memory, a, epsilon, weights);
  else content_weights<T, HEADS, false>(z, memory, a, epsilon, weights);
}

// The gradients of a lookup. memory: added to; the others: set, without padding.
template <class T>
struct LookupGradients {
  T *memory, *keys, *strengths, *masks;
};

template <class T, int HEADS, bool MASKS>
void content_weights_backward(const Sizes& z, const T* memory, const Lookup<T>& a, T epsilon,
                              T least_mask, const T* weights, T* d_weights,
                              const LookupGradients<T>& d, Scratch<T>& scratch) {
  constexpr int NORMS = MASKS ? HEADS : 1;
  const int64_t P = z.padded, PW = z.padded_word;
  compare<T, HEADS, MASKS>(z, memory, a, epsilon);
  T *slope = scratch.zeros(NORMS, P);                                  // by the norms of the slots
  T *d_keys = scratch.zeros(HEADS, PW), *d_squares = scratch.zeros(MASKS ? HEADS : 0, PW);
  T along_key[HEADS];  // the gradient by the key's norm, divided by the norm
  for (int h = 0; h < HEADS; ++h) {
    const T *y = weights + h * P, *norms = a.norms + (MASKS ? h * P : 0);
    T *dy = d_weights + h * P, *cosine = a.similarity + h * P, *d_norm = slope + (MASKS ? h * P : 0);
    const T key_norm = key_norm_of(z, a, h, epsilon);
    to_similarity(z, cosine, norms, key_norm, epsilon);
    T mean = dot(y, dy, P), d_strength = 0, d_key_norm = 0;
    for (int64_t n = 0; n < z.slots; ++n) {
      T scale = key_norm * norms[n] + epsilon;
      T d_logit = y[n] * (dy[n] - mean);
      d_strength += d_logit * cosine[n];
      T d_dot = scale > 0 ? d_logit * a.strengths[h] / scale : T(0);
      T d_scale = -d_dot * cosine[n];
      d_key_norm += d_scale * norms[n];
      d_norm[n] += d_scale * key_norm;
      dy[n] = d_dot;  // from here on the gradient by the dot product
    }
    d.strengths[h] = d_strength;
    along_key[h] = key_norm > 0 ? d_key_norm / key_norm : T(0);
  }
  for (int h = 0; h < NORMS; ++h)
    for (int64_t n = h * P; n < h * P + z.slots; ++n)
      slope[n] = a.norms[n] > 0 ? slope[n] / a.norms[n] : T(0);
  for (int64_t n = 0; n < z.slots; ++n) {
    const T* row = memory + n * PW;
    each_vector<T>(PW, [&](int64_t j) {
      V<T> m = load(row + j), total = load(d.memory + n * PW + j);
      if constexpr (!MASKS) total += slope[n] * m;
      for (int h = 0; h < HEADS; ++h) {
        const T d_dot = d_weights[h * P + n];
        T* d_key = d_keys + h * PW + j;
        total += d_dot * load(a.keys + h * PW + j);
        store(d_key, load(d_key) + d_dot * m);
        if constexpr (MASKS) {
          const T along = slope[h * P + n];
          total += along * load(a.squares + h * PW + j) * m;
          T* d_square = d_squares + h * PW + j;
          store(d_square, load(d_square) + T(0.5) * along * m * m);
        }
      }
      store(d.memory + n * PW + j, total);
    });
  }
  // From k m^2 and m^2 to k and m, and the key's own norm, the root of k^2 m^2.
  for (int h = 0; h < HEADS; ++h) {
    for (int64_t j = 0; j < z.word; ++j) {
      const int64_t at = h * PW + j;
      const T key = a.raw_keys[at], d_key = d_keys[at] + along_key[h] * key;
      if constexpr (MASKS) {
        const T mask = mask_of(a.masks[h * z.word + j], least_mask);
        const T d_square = d_squares[at] + key * (d_keys[at] + T(0.5) * along_key[h] * key);
        d.keys[h * z.word + j] = d_key * a.squares[at];
        d.masks[h * z.word + j] = (1 - least_mask) * 2 * mask * d_square;
      } else {
        d.keys[h * z.word + j] = d_key;
      }
    }
  }
}

// d_weights is overwritten.
template <class T, int HEADS>
void content_weights_backward(const Sizes& z, const T* memory, const Lookup<T>& a, T epsilon,
                              T least_mask, const T* weights, T* d_weights,
                              const LookupGradients<T>& d, Scratch<T>& scratch) {
  if (z.masks)
    content_weights_backward<T, HEADS, true>(z, memory, a, epsilon, least_mask, weights, d_weights, d, scratch);
  else
    content_weights_backward<T, HEADS, false>(z, memory, a, epsilon, least_mask, weights, d_weights, d, scratch);
}

// How many rows of words and of slots `content_weights_backward` takes at most.
constexpr int64_t gradient_words(int64_t heads) { return 2 * heads; }
constexpr int64_t gradient_slots(int64_t heads) { return heads; }

// ---- Allocation -------------------------------------------------------------------------------

// The slots in order of their free share, freest first, equal ones in the order of their numbers.
//
// The place of a slot is the number of slots before it. To count them takes N^2 comparisons, 16 at a
// time and without a branch, which at the usual sizes is faster than a sort, whose branches cannot
// be predicted. Padding is minus infinity, which comes before no slot.
template <class T>
void order_by_freeness(const Sizes& z, const T* free, int32_t* order) {
  using L = Lanes<T>;
  using Integer = typename L::Integer;
  typename L::Integers index;
  for (int k = 0; k < L::count; ++k) index[k] = Integer(k);
  std::fill(order, order + z.slots, 0);  // with NaN, places collide and leave gaps
  for (int64_t n = 0; n < z.slots; ++n) {
    const T own = free[n];
    typename L::Integers before{};
    const int64_t around = n / L::count * L::count;
    each_vector<T>(around, [&](int64_t j) { before -= load(free + j) >= own; });
    const V<T> here = load(free + around);
    before -= (here > own) | ((here == own) & (index < Integer(n - around)));
    for (int64_t j = around + L::count; j < z.padded; j += L::count) before -= load(free + j) > own;
    Integer place = 0;
    for (int k = 0; k < L::count; ++k) place += before[k];
    order[place] = static_cast<int32_t>(n);
  }
}

template <class T>
void free_shares(const Sizes& z, const T* usage, T epsilon, T* free) {
  for (int64_t n = 0; n < z.slots; ++n) free[n] = 1 - (epsilon + (1 - epsilon) * usage[n]);
  std::fill(free + z.slots, free + z.padded, -std::numeric_limits<T>::infinity());
}

template <class T>
void allocation_weights(const Sizes& z, const T* usage, T epsilon, T* free, int32_t* order,
                        T* allocation) {
  free_shares(z, usage, epsilon, free);
  order_by_freeness(z, free, order);
  T used_before = 1;
  std::fill(allocation, allocation + z.padded, T(0));
  for (int64_t k = 0; k < z.slots; ++k) {
    T share = free[order[k]];
    allocation[order[k]] = share * used_before;
    used_before *= 1 - share;
  }
}

// Adds to d_usage. `before` is a row of scratch.
template <class T>
void allocation_weights_backward(const Sizes& z, const T* usage, T epsilon,
                                 const T* d_allocation, T* free, int32_t* order, T* before,
                                 T* d_usage) {
  free_shares(z, usage, epsilon, free);
  order_by_freeness(z, free, order);
  T used_before = 1;
  for (int64_t k = 0; k < z.slots; ++k) {
    before[k] = used_before;
    used_before *= 1 - free[order[k]];
  }
  T later = 0;  // how the allocations of later slots change with the product up to here
  for (int64_t k = z.slots - 1; k >= 0; --k) {
    int32_t n = order[k];
    d_usage[n] -= (1 - epsilon) * before[k] * (d_allocation[n] - later);
    later = d_allocation[n] * free[n] + (1 - free[n]) * later;
  }
}

// ---- The link matrix ----------------------------------------------------------------------------

// Calls body with rows of the link in whole vectors: in place if N is a multiple of a vector's
// length, otherwise through a padded copy in `staged`.
template <class T, class Body>
inline void with_rows(const Sizes& z, const T* from, T* to, int64_t row, int count, T* staged,
                      Body body) {
  if (z.padded == z.slots) return body(from + row * z.slots, to + row * z.slots);
  pad(from + row * z.slots, count, z.slots, z.padded, staged);
  body(staged, staged);
  unpad(to + row * z.slots, staged, count, z.slots, z.padded);
}

// Runs body(j, std::bool_constant) over the vectors of ROWS rows from `row` on. The flag marks the
// one vector that holds their diagonal, so that the others are compiled without a mask.
template <class T, int ROWS, class Body>
inline void around_diagonal(int64_t padded, int64_t row, Body body) {
  static_assert(Lanes<T>::count % ROWS == 0);
  int64_t diagonal = row / Lanes<T>::count * Lanes<T>::count, j = 0;
  for (; j < diagonal; j += Lanes<T>::count) body(j, std::false_type{});
  body(j, std::true_type{});
  for (j += Lanes<T>::count; j < padded; j += Lanes<T>::count) body(j, std::false_type{});
}

// ROWS rows at once: the vectors of all heads (write, precedence, read, backward) are loaded once
// for all rows, and the totals of the forward weights stay in registers.
template <class T, int R, int ROWS>
void link_rows(int64_t padded, int64_t row, const T* link, T* new_link, const T* write,
               const T* precedence, const T* read, T* forward, T* backward) {
  V<T> f[ROWS][R] = {};
  T to[ROWS], from[ROWS][R];
  for (int i = 0; i < ROWS; ++i) {
    to[i] = write[row + i];
    for (int h = 0; h < R; ++h) from[i][h] = read[h * padded + row + i];
  }
  around_diagonal<T, ROWS>(padded, row, [&](int64_t j, auto holds_diagonal) {
    V<T> w = load(write + j), p = load(precedence + j), r[R], b[R];
    for (int h = 0; h < R; ++h) r[h] = load(read + h * padded + j), b[h] = load(backward + h * padded + j);
    for (int i = 0; i < ROWS; ++i) {
      V<T> l = (1 - to[i] - w) * load(link + i * padded + j) + to[i] * p;
      if constexpr (holds_diagonal) l[row + i - j] = 0;
      store(new_link + i * padded + j, l);
      for (int h = 0; h < R; ++h) f[i][h] += l * r[h], b[h] += l * from[i][h];
    }
    for (int h = 0; h < R; ++h) store(backward + h * padded + j, b[h]);
  });
  for (int i = 0; i < ROWS; ++i)
    for (int h = 0; h < R; ++h) forward[h * padded + row + i] = sum<T>(f[i][h]);
}

// L <- (1 - w_i - w_j) L + w_i p_j, f = L r, b = L^T r. `backward` must be zero.
template <class T, int R>
void link_step(const Sizes& z, const T* link, T* new_link, const T* write, const T* precedence,
               const T* read, T* forward, T* backward, T* staged) {
  // More heads leave registers for fewer rows.
  constexpr int ROWS = R <= 4 ? 4 : 2;
  int64_t row = 0;
  for (; row + ROWS <= z.slots; row += ROWS)
    with_rows(z, link, new_link, row, ROWS, staged, [&](const T* in, T* out) {
      link_rows<T, R, ROWS>(z.padded, row, in, out, write, precedence, read, forward, backward);
    });
  for (; row < z.slots; ++row)
    with_rows(z, link, new_link, row, 1, staged, [&](const T* in, T* out) {
      link_rows<T, R, 1>(z.padded, row, in, out, write, precedence, read, forward, backward);
    });
}

template <class T>
struct LinkGradients {
  const T *forward, *backward;          // given: by f and b, R rows each
  T *write, *precedence, *read;         // added to
};

template <class T, int R, int ROWS>
void link_rows_backward(int64_t padded, int64_t row, const T* link, const T* d_new_link,
                        T* d_link, const T* write, const T* precedence, const T* read,
                        const LinkGradients<T>& d) {
  V<T> read_sum[ROWS][R] = {}, write_sum[ROWS] = {};
  T to[ROWS], from[ROWS][R], df[ROWS][R];
  for (int i = 0; i < ROWS; ++i) {
    to[i] = write[row + i];
    for (int h = 0; h < R; ++h) {
      from[i][h] = read[h * padded + row + i];
      df[i][h] = d.forward[h * padded + row + i];
    }
  }
  around_diagonal<T, ROWS>(padded, row, [&](int64_t j, auto holds_diagonal) {
    V<T> w = load(write + j), p = load(precedence + j), r[R], db[R], dr[R];
    V<T> dw = load(d.write + j), dp = load(d.precedence + j);
    for (int h = 0; h < R; ++h) {
      r[h] = load(read + h * padded + j);
      db[h] = load(d.backward + h * padded + j);
      dr[h] = load(d.read + h * padded + j);
    }
    for (int i = 0; i < ROWS; ++i) {
      V<T> l = load(link + i * padded + j), g = load(d_new_link + i * padded + j);
      for (int h = 0; h < R; ++h) g += df[i][h] * r[h] + from[i][h] * db[h];
      V<T> keep = 1 - to[i] - w, new_l = keep * l + to[i] * p;
      if constexpr (holds_diagonal) g[row + i - j] = 0, new_l[row + i - j] = 0;
      store(d_link + i * padded + j, keep * g);
      V<T> gl = g * l;
      write_sum[i] += g * p - gl;
      dw -= gl;
      dp += to[i] * g;
      for (int h = 0; h < R; ++h) dr[h] += new_l * df[i][h], read_sum[i][h] += new_l * db[h];
    }
    store(d.write + j, dw);
    store(d.precedence + j, dp);
    for (int h = 0; h < R; ++h) store(d.read + h * padded + j, dr[h]);
  });
  for (int i = 0; i < ROWS; ++i) {
    d.write[row + i] += sum<T>(write_sum[i]);
    for (int h = 0; h < R; ++h) d.read[h * padded + row + i] += sum<T>(read_sum[i][h]);
  }
}

template <class T, int R>
void link_step_backward(const Sizes& z, const T* link, const T* d_new_link, T* d_link,
                        const T* write, const T* precedence, const T* read,
                        const LinkGradients<T>& d, T* staged) {
  // The backward pass keeps about twice as many vectors for each row as the forward pass.
  constexpr int ROWS = 2;
  auto run = [&](int64_t row, auto rows) {
    constexpr int count = decltype(rows)::value;
    const T* in = link + row * z.slots;
    if (z.padded != z.slots) {
      T* rows_of_link = staged + count * z.padded;
      pad(in, count, z.slots, z.padded, rows_of_link);
      in = rows_of_link;
    }
    with_rows(z, d_new_link, d_link, row, count, staged, [&](const T* d_in, T* d_out) {
      link_rows_backward<T, R, count>(z.padded, row, in, d_in, d_out, write, precedence, read, d);
    });
  };
  int64_t row = 0;
  for (; row + ROWS <= z.slots; row += ROWS) run(row, std::integral_constant<int, ROWS>{});
  for (; row < z.slots; ++row) run(row, std::integral_constant<int, 1>{});
}

// ---- Sharpened links (DNC-S) ---------------------------------------------------------------------

// SHARPENING_EPSILON (addressing.py).
template <class T>
constexpr T kSharpeningEpsilon = T(1e-6);

// d + epsilon. Rounding may make a weight d slightly negative, which counts as 0.
template <class T>
V<T> shifted(V<T> weights) {
  return (weights < 0 ? V<T>{} : weights) + kSharpeningEpsilon<T>;
}

// S(d, s)[i] = (d[i] + epsilon)^s / sum_j (d[j] + epsilon)^s.
template <class T>
void sharpen(const Sizes& z, const T* weights, T sharpness, T* sharpened, T* logs) {
  each_vector<T>(z.padded, [&](int64_t j) { store(logs + j, logarithm<T>(shifted<T>(load(weights + j)))); });
  softmax(z, logs, sharpness, sharpened);
}

// Returns the gradient by s. d_weights: the gradient by the result, overwritten with that by the
// weights; it has padding, `weights` and `sharpened` have none.
template <class T>
T sharpen_backward(const Sizes& z, const T* weights, T sharpness, const T* sharpened, T* d_weights) {
  V<T> total{}, d_sharpness{};
  each_vector<T>(z.padded, [&](int64_t j) { total += load(sharpened + j, z.slots - j) * load(d_weights + j); });
  const T mean = sum<T>(total);
  each_vector<T>(z.padded, [&](int64_t j) {
    const V<T> d = load(weights + j, z.slots - j), base = shifted<T>(d);
    const V<T> d_logit = load(sharpened + j, z.slots - j) * (load(d_weights + j) - mean);
    d_sharpness += d_logit * logarithm<T>(base);
    store(d_weights + j, d < 0 ? V<T>{} : d_logit * sharpness / base);
  });
  return sum<T>(d_sharpness);
}

}  // namespace dncx
