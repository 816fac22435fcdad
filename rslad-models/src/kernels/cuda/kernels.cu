// The kernels of the device executor, one thread for each number that a launch writes.
//
// Tensors are pixels in rows with channels last and nothing between: element i has channel i % c. A null pointer
// stands for what is left out. Sums run in a fixed order: slabs of SLAB rows, then groups of SLAB sums, until one
// is left; no atomics, no shared memory, so a result is the same to the bit whenever it is computed again.
// Products are not fused with sums (compile with --fmad=false). Each kernel has a twin in Rust, in
// exec/device/twin.rs; a test compiles this file for the processor and compares the two, bit by bit.

#define SLAB 64u
#define THREAD (blockIdx.x * blockDim.x + threadIdx.x)

typedef unsigned int uint;
typedef unsigned short ushort;

// What ends a pointwise step: a sum, then a rectifier (1) or the gate of its derivative (2).
static __device__ float finish(float v, uint i, const float* add, const float* gate, uint rectify) {
    if (add) v = v + add[i];
    if (rectify == 1u && v <= 0.0f) v = 0.0f; // NaN stays
    if (rectify == 2u && gate[i] <= 0.0f) v = 0.0f;
    return v;
}

static __device__ float scaled(float x, uint channel, const float* scale, const float* shift) {
    if (scale) x = x * scale[channel];
    if (shift) x = x + shift[channel];
    return x;
}

// [N, C, H, W] to pixels in rows; p pixels an image.
extern "C" __global__ void import_rows(uint total, uint c, uint p, const float* x, float* y) {
    uint i = THREAD;
    if (i >= total) return;
    uint channel = i % c, row = i / c;
    y[i] = x[((row / p) * c + channel) * p + row % p];
}

// Pixels in rows to [N, C, H, W].
extern "C" __global__ void export_rows(uint total, uint c, uint p, const float* x, float* y) {
    uint i = THREAD;
    if (i >= total) return;
    uint pixel = i % p, channel = (i / p) % c, image = i / (p * c);
    y[i] = x[(image * p + pixel) * c + channel];
}

// curve(scale x + shift), curve 1 is Swish.
extern "C" __global__ void affine(uint total, uint c, const float* x, const float* scale, const float* shift,
                                  uint curve, const float* add, const float* gate, uint rectify, float* y) {
    uint i = THREAD;
    if (i >= total) return;
    float v = scaled(x[i], i % c, scale, shift);
    if (curve == 1u) v = v / (1.0f + expf(-v));
    y[i] = finish(v, i, add, gate, rectify);
}

// The way back through Swish(scale x + shift).
extern "C" __global__ void swish_back(uint total, uint c, const float* x, const float* g, const float* scale,
                                      const float* shift, const float* add, const float* gate, uint rectify,
                                      float* y) {
    uint i = THREAD;
    if (i >= total) return;
    float v = scaled(x[i], i % c, scale, shift);
    float s = 1.0f / (1.0f + expf(-v));
    float slope = s * (1.0f + v * (1.0f - s));
    if (scale) slope = slope * scale[i % c];
    y[i] = finish(g[i] * slope, i, add, gate, rectify);
}

// slope x + scale g + shift: the way back through batch statistics.
extern "C" __global__ void combine(uint total, uint c, const float* x, const float* g, const float* slope,
                                   const float* scale, const float* shift, const float* add, const float* gate,
                                   uint rectify, float* y) {
    uint i = THREAD;
    if (i >= total) return;
    uint channel = i % c;
    float v = slope[channel] * x[i] + scale[channel] * g[i] + shift[channel];
    y[i] = finish(v, i, add, gate, rectify);
}

// The mean over the p pixels of an image.
extern "C" __global__ void mean(uint total, uint c, uint p, const float* x, float* y) {
    uint i = THREAD;
    if (i >= total) return;
    const float* first = x + (i / c) * p * c + i % c;
    double sum = 0.0;
    for (uint pixel = 0; pixel < p; pixel++) sum += first[pixel * c];
    y[i] = (float)(sum / p);
}

extern "C" __global__ void mean_back(uint total, uint c, uint p, const float* g, const float* add, const float* gate,
                                     uint rectify, float* y) {
    uint i = THREAD;
    if (i >= total) return;
    float v = (float)((double)g[(i / (p * c)) * c + i % c] / p);
    y[i] = finish(v, i, add, gate, rectify);
}

// Mean and sum of squared differences from it, of each slab of rows.
extern "C" __global__ void moments(uint total, uint rows, uint c, const float* x, double* mean, double* m2) {
    uint i = THREAD;
    if (i >= total) return;
    uint channel = i % c, first = (i / c) * SLAB;
    uint last = first + SLAB < rows ? first + SLAB : rows;
    double sum = 0.0, squares = 0.0;
    for (uint row = first; row < last; row++) sum += x[row * c + channel];
    double center = sum / (last - first);
    for (uint row = first; row < last; row++) {
        double away = x[row * c + channel] - center;
        squares += away * away;
    }
    mean[i] = center;
    m2[i] = squares;
}

// Moments of groups of parts, put together (Chan et al. 1979). A part is of `unit` rows, the last of what is left.
extern "C" __global__ void merge_moments(uint total, uint parts, uint unit, uint rows, uint c, const double* mean,
                                         const double* m2, double* mean_out, double* m2_out) {
    uint i = THREAD;
    if (i >= total) return;
    uint channel = i % c, first = (i / c) * SLAB;
    uint last = first + SLAB < parts ? first + SLAB : parts;
    double count = 0.0, center = 0.0, squares = 0.0;
    for (uint part = first; part < last; part++) {
        uint from = part * unit;
        double own = (double)(from + unit < rows ? unit : rows - from);
        double all = count + own;
        double away = mean[part * c + channel] - center;
        center += away * (own / all);
        squares += m2[part * c + channel] + away * away * (count * own / all);
        count = all;
    }
    mean_out[i] = center;
    m2_out[i] = squares;
}

// The sums over each slab of g, and of g times the normalized x where there is an x.
extern "C" __global__ void gradient_sums(uint total, uint rows, uint c, const float* x, const float* g,
                                         const float* mean, const float* inverse, double* plain, double* weighted) {
    uint i = THREAD;
    if (i >= total) return;
    uint channel = i % c, first = (i / c) * SLAB;
    uint last = first + SLAB < rows ? first + SLAB : rows;
    double a = 0.0, b = 0.0;
    for (uint row = first; row < last; row++) {
        float own = g[row * c + channel];
        a += own;
        if (x) b += own * ((x[row * c + channel] - mean[channel]) * inverse[channel]);
    }
    plain[i] = a;
    if (x) weighted[i] = b;
}

// The sums of groups of sums.
extern "C" __global__ void add_groups(uint total, uint parts, uint c, const double* x, double* y) {
    uint i = THREAD;
    if (i >= total) return;
    uint channel = i % c, first = (i / c) * SLAB;
    uint last = first + SLAB < parts ? first + SLAB : parts;
    double sum = 0.0;
    for (uint part = first; part < last; part++) sum += x[part * c + channel];
    y[i] = sum;
}

// f64 sums as f32; taps > 1 turns [tap][channel] into [channel][tap].
extern "C" __global__ void floats(uint total, uint c, uint taps, const double* x, float* y) {
    uint i = THREAD;
    if (i >= total) return;
    y[i] = (float)x[(i % taps) * c + i / taps];
}

// How a batch normalization acts on a batch with these moments; `unbiased` is what is tracked.
extern "C" __global__ void norm_factors(uint total, uint rows, const double* mean, const double* m2,
                                        const float* weight, const float* bias, double eps, float* center,
                                        float* unbiased, float* inverse, float* scale, float* shift) {
    uint i = THREAD;
    if (i >= total) return;
    double one_over = 1.0 / sqrt(m2[i] / rows + eps);
    double factor = weight[i] * one_over;
    center[i] = (float)mean[i];
    unbiased[i] = (float)(m2[i] / (rows - 1u));
    inverse[i] = (float)one_over;
    scale[i] = (float)factor;
    shift[i] = (float)(bias[i] - mean[i] * factor);
}

// The gradients of weight and bias, and the way back: scale (g - mean(g) - x_hat mean(g x_hat)).
extern "C" __global__ void norm_gradient(uint total, uint rows, const double* plain, const double* weighted,
                                         const float* center, const float* inverse, const float* scale,
                                         float* dweight, float* dbias, float* slope, float* shift) {
    uint i = THREAD;
    if (i >= total) return;
    double by_x = -(double)scale[i] * inverse[i] * weighted[i] / rows;
    dweight[i] = (float)weighted[i];
    dbias[i] = (float)plain[i];
    slope[i] = (float)by_x;
    shift[i] = (float)(-(double)scale[i] * plain[i] / rows - by_x * center[i]);
}

// Scale and shift of a batch normalization by its running statistics.
extern "C" __global__ void running_factors(uint total, const float* weight, const float* bias, const float* mean,
                                           const float* variance, double eps, float* scale, float* shift) {
    uint i = THREAD;
    if (i >= total) return;
    double factor = weight[i] / sqrt(variance[i] + eps);
    scale[i] = (float)factor;
    shift[i] = (float)(bias[i] - mean[i] * factor);
}

// The weights of each output times its scale.
extern "C" __global__ void fold(uint total, uint per_output, const float* w, const float* scale, float* y) {
    uint i = THREAD;
    if (i >= total) return;
    y[i] = w[i] * scale[i / per_output];
}

// Images inside a border of zeros: [h, w] to [big_h, big_w], from row `top` and column `left` on.
extern "C" __global__ void pad(uint total, uint c, uint h, uint w, uint big_h, uint big_w, uint top, uint left,
                               const float* x, float* y) {
    uint i = THREAD;
    if (i >= total) return;
    uint pixel = i / c;
    uint column = pixel % big_w - left, row = (pixel / big_w) % big_h - top, image = pixel / (big_w * big_h);
    y[i] = row < h && column < w ? x[((image * h + row) * w + column) * c + i % c] : 0.0f;
}

// And out of it.
extern "C" __global__ void crop(uint total, uint c, uint h, uint w, uint big_h, uint big_w, uint top, uint left,
                                const float* x, float* y) {
    uint i = THREAD;
    if (i >= total) return;
    uint pixel = i / c;
    uint column = pixel % w + left, row = (pixel / w) % h + top, image = pixel / (w * h);
    y[i] = x[((image * big_h + row) * big_w + column) * c + i % c];
}

// A convolution that keeps channels apart, of images [h, w] to [oh, ow]; weights are [channel][tap].
extern "C" __global__ void depthwise(uint total, uint c, uint h, uint w, uint oh, uint ow, uint k, uint stride, uint top,
                                     uint left, const float* x, const float* weight, float* y) {
    uint i = THREAD;
    if (i >= total) return;
    uint channel = i % c, pixel = i / c;
    uint column = pixel % ow, row = (pixel / ow) % oh, image = pixel / (ow * oh);
    float sum = 0.0f;
    for (uint dy = 0; dy < k; dy++) {
        for (uint dx = 0; dx < k; dx++) {
            uint from_row = row * stride + dy - top, from_column = column * stride + dx - left; // wraps outside
            if (from_row < h && from_column < w) {
                sum += weight[(channel * k + dy) * k + dx] * x[((image * h + from_row) * w + from_column) * c + channel];
            }
        }
    }
    y[i] = sum;
}

// Its way back to the images.
extern "C" __global__ void depthwise_back(uint total, uint c, uint h, uint w, uint oh, uint ow, uint k, uint stride,
                                          uint top, uint left, const float* g, const float* weight, float* y) {
    uint i = THREAD;
    if (i >= total) return;
    uint channel = i % c, pixel = i / c;
    uint column = pixel % w, row = (pixel / w) % h, image = pixel / (w * h);
    float sum = 0.0f;
    for (uint dy = 0; dy < k; dy++) {
        for (uint dx = 0; dx < k; dx++) {
            uint from_row = row + top - dy, from_column = column + left - dx; // wraps outside
            if (from_row % stride != 0u || from_column % stride != 0u) continue;
            from_row /= stride;
            from_column /= stride;
            if (from_row < oh && from_column < ow) {
                sum += weight[(channel * k + dy) * k + dx] * g[((image * oh + from_row) * ow + from_column) * c + channel];
            }
        }
    }
    y[i] = sum;
}

// The sums of its weights' gradients over each slab of output pixels, [slab][tap][channel].
extern "C" __global__ void depthwise_sums(uint total, uint rows, uint c, uint h, uint w, uint oh, uint ow, uint k,
                                          uint stride, uint top, uint left, const float* x, const float* g, double* y) {
    uint i = THREAD;
    if (i >= total) return;
    uint channel = i % c, tap = (i / c) % (k * k), first = i / (c * k * k) * SLAB;
    uint last = first + SLAB < rows ? first + SLAB : rows;
    uint column = first % ow, row = (first / ow) % oh, image = first / (ow * oh), down = tap / k, across = tap % k;
    double sum = 0.0;
    for (uint pixel = first; pixel < last; pixel++) {
        uint from_row = row * stride + down - top, from_column = column * stride + across - left; // wraps outside
        if (from_row < h && from_column < w) {
            sum += x[((image * h + from_row) * w + from_column) * c + channel] * g[pixel * c + channel];
        }
        if (++column < ow) continue; // divisions would cost more than the product
        column = 0u;
        if (++row < oh) continue;
        row = 0u;
        image++;
    }
    y[i] = sum;
}

// A step along the sign of dx, then the nearest point between the bounds and in [0, 1]; x_nat where that is NaN.
extern "C" __global__ void sign_step(uint total, float step, const float* x, const float* dx, const float* x_nat,
                                     const float* lower, const float* upper, float* y) {
    uint i = THREAD;
    if (i >= total) return;
    float sign = (float)(dx[i] > 0.0f) - (float)(dx[i] < 0.0f);
    float to = x[i] + step * sign;
    if (to != to) to = x_nat[i];
    if (to < lower[i]) to = lower[i];
    if (to > upper[i]) to = upper[i];
    if (to < 0.0f) to = 0.0f;
    if (to > 1.0f) to = 1.0f;
    y[i] = to;
}

// To bfloat16, the upper half of a float: the nearest, ties to even; NaN stays NaN.
extern "C" __global__ void narrow(uint total, const float* x, ushort* y) {
    uint i = THREAD;
    if (i >= total) return;
    uint bits = __float_as_uint(x[i]);
    bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    y[i] = (ushort)(nan ? (bits >> 16) | 0x40u : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

extern "C" __global__ void widen(uint total, const ushort* x, float* y) {
    uint i = THREAD;
    if (i >= total) return;
    y[i] = __uint_as_float((uint)x[i] << 16);
}
