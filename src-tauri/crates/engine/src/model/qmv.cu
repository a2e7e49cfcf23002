// A warp sums R rows of `weight`; a lane takes 32 values of 4 bits of each at a time, which is half a group. A block has
// WARPS of them.
const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, slot = blockIdx.y;
const int first = (blockIdx.x * WARPS + warp) * R, outputs = gridDim.x * WARPS * R;
const int groups = weight_shape[weight_ndim - 1] / 8, chunks = groups * 2;
const size_t row = size_t(experts[slot]) * outputs + first;
const uint4* of_weight = reinterpret_cast<const uint4*>(weight) + row * chunks;
const auto* of_scales = scales + row * groups;
const auto* of_biases = biases + row * groups;
const uint4* of_x = reinterpret_cast<const uint4*>(x) + size_t(COUNTED ? slot : inputs[slot]) * chunks * 4;

float sums[R] = {};
#pragma unroll 1
for (int chunk = lane; chunk < chunks; chunk += 32) {
  uint4 loaded[R];
  float scale[R], bias[R];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    loaded[r] = __ldcs(of_weight + size_t(r) * chunks + chunk);
    scale[r] = float(of_scales[r * groups + chunk / 2]);
    bias[r] = float(of_biases[r * groups + chunk / 2]);
  }
  float a[32], sum = 0.0f;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const uint4 activations = of_x[chunk * 4 + j];
    const unsigned words[4] = {activations.x, activations.y, activations.z, activations.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      // Two bfloat16 of a word are the upper halves of two float32.
      a[j * 8 + 2 * i] = __uint_as_float(words[i] << 16);
      a[j * 8 + 2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
  }
#pragma unroll
  for (int i = 0; i < 32; ++i) sum += a[i];
  // A weight stays at its bits of the half word below, so it is 16, 256 or 4096 times too large.
  const float places[4] = {1.0f, 1.0f / 16, 1.0f / 256, 1.0f / 4096};
#pragma unroll
  for (int i = 0; i < 32; ++i) a[i] *= places[i % 4];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const unsigned w[4] = {loaded[r].x, loaded[r].y, loaded[r].z, loaded[r].w};
    float low = 0.0f, high = 0.0f;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        // In the mantissa of 2^23 a number needs no conversion.
        const unsigned mask = 0xfu << (4 * i);
        low += a[j * 8 + i] * (__uint_as_float((w[j] & mask) | 0x4B000000u) - 8388608.0f);
        high += a[j * 8 + 4 + i] * (__uint_as_float(((w[j] >> 16) & mask) | 0x4B000000u) - 8388608.0f);
      }
    }
    sums[r] += scale[r] * (low + high) + bias[r] * sum;
  }
}
#pragma unroll
for (int r = 0; r < R; ++r) {
  for (int other = 16; other > 0; other /= 2) sums[r] += __shfl_xor_sync(0xffffffffu, sums[r], other);
  if (lane == 0) y[size_t(slot) * outputs + first + r] = sums[r];
}
