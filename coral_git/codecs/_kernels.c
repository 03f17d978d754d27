/* The inner loops of the numeric codecs. coral_git/codecs/kernels.py says what each function does, and
 * _numpy_kernels.py does the same in numpy; both give equal bytes.
 *
 * Written for the compiler's vectoriser: units are worked on in tiles that stay in the first-level cache, each
 * step is a plain loop without branches, and all sign handling is unsigned arithmetic. Loads and stores go
 * through memcpy, so any alignment is fine. The loops run without the interpreter lock.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdint.h>
#include <string.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__)
#define CLONES __attribute__((target_clones("avx2", "default")))
#else
#define CLONES
#endif

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#elif defined(_MSC_VER)
#define INLINE static __forceinline
#else
#define INLINE static inline
#endif

#define RESTRICT __restrict

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define SWAP_BYTES 1
#else
#define SWAP_BYTES 0
#endif

#define TILE 256
#define MAX_WIDTH 8

/* Units <-> byte planes of a tile of m units. Interleaving bytes, rather than shifting units, is what gcc
 * turns into shuffles. `planes` has n bytes per plane; the tile belongs at unit i. */
INLINE void scatter_uint8_t(uint8_t *planes, size_t n, size_t i, const uint8_t *RESTRICT tile, size_t m)
{
    (void)n;
    memcpy(planes + i, tile, m);
}

INLINE void scatter_uint16_t(uint8_t *planes, size_t n, size_t i, const uint8_t *RESTRICT tile, size_t m)
{
    uint8_t *RESTRICT p0 = planes + i, *RESTRICT p1 = planes + n + i;
    for (size_t j = 0; j < m; j++) {
        p0[j] = tile[2 * j];
        p1[j] = tile[2 * j + 1];
    }
}

INLINE void scatter_uint32_t(uint8_t *planes, size_t n, size_t i, const uint8_t *RESTRICT tile, size_t m)
{
    uint8_t *RESTRICT p0 = planes + i, *RESTRICT p1 = planes + n + i;
    uint8_t *RESTRICT p2 = planes + 2 * n + i, *RESTRICT p3 = planes + 3 * n + i;
    for (size_t j = 0; j < m; j++) {
        p0[j] = tile[4 * j];
        p1[j] = tile[4 * j + 1];
        p2[j] = tile[4 * j + 2];
        p3[j] = tile[4 * j + 3];
    }
}

INLINE void scatter_uint64_t(uint8_t *planes, size_t n, size_t i, const uint8_t *RESTRICT tile, size_t m)
{
    uint32_t low[TILE], high[TILE]; /* in two steps, because gcc gives up on eight strided streams */
    for (size_t j = 0; j < m; j++) {
        memcpy(&low[j], tile + 8 * j, 4);
        memcpy(&high[j], tile + 8 * j + 4, 4);
    }
    scatter_uint32_t(planes, n, i, (const uint8_t *)low, m);
    scatter_uint32_t(planes + 4 * n, n, i, (const uint8_t *)high, m);
}

INLINE void gather_uint8_t(uint8_t *RESTRICT tile, const uint8_t *const *planes, size_t i, size_t m)
{
    memcpy(tile, planes[0] + i, m);
}

INLINE void gather_uint16_t(uint8_t *RESTRICT tile, const uint8_t *const *planes, size_t i, size_t m)
{
    const uint8_t *RESTRICT p0 = planes[0] + i, *RESTRICT p1 = planes[1] + i;
    for (size_t j = 0; j < m; j++) {
        tile[2 * j] = p0[j];
        tile[2 * j + 1] = p1[j];
    }
}

INLINE void gather_uint32_t(uint8_t *RESTRICT tile, const uint8_t *const *planes, size_t i, size_t m)
{
    const uint8_t *RESTRICT p0 = planes[0] + i, *RESTRICT p1 = planes[1] + i;
    const uint8_t *RESTRICT p2 = planes[2] + i, *RESTRICT p3 = planes[3] + i;
    for (size_t j = 0; j < m; j++) {
        tile[4 * j] = p0[j];
        tile[4 * j + 1] = p1[j];
        tile[4 * j + 2] = p2[j];
        tile[4 * j + 3] = p3[j];
    }
}

INLINE void gather_uint64_t(uint8_t *RESTRICT tile, const uint8_t *const *planes, size_t i, size_t m)
{
    const uint8_t *RESTRICT p0 = planes[0] + i, *RESTRICT p1 = planes[1] + i;
    const uint8_t *RESTRICT p2 = planes[2] + i, *RESTRICT p3 = planes[3] + i;
    const uint8_t *RESTRICT p4 = planes[4] + i, *RESTRICT p5 = planes[5] + i;
    const uint8_t *RESTRICT p6 = planes[6] + i, *RESTRICT p7 = planes[7] + i;
    for (size_t j = 0; j < m; j++) {
        tile[8 * j] = p0[j];
        tile[8 * j + 1] = p1[j];
        tile[8 * j + 2] = p2[j];
        tile[8 * j + 3] = p3[j];
        tile[8 * j + 4] = p4[j];
        tile[8 * j + 5] = p5[j];
        tile[8 * j + 6] = p6[j];
        tile[8 * j + 7] = p7[j];
    }
}

/* Everything for one width: U is the unsigned type, W its bytes. A tile holds units in the host's byte order
 * for arithmetic, and little-endian bytes when it is loaded, stored, scattered or gathered. */
#define DEFINE_WIDTH(U, W)                                                                                   \
    INLINE void swap_tile_##U(U *tile, size_t m)                                                             \
    {                                                                                                        \
        if (SWAP_BYTES)                                                                                      \
            for (size_t j = 0; j < m; j++)                                                                   \
                tile[j] = swap_##U(tile[j]);                                                                 \
    }                                                                                                        \
    INLINE void load_##U(U *tile, const uint8_t *from, size_t m)                                             \
    {                                                                                                        \
        memcpy(tile, from, m * W);                                                                           \
        swap_tile_##U(tile, m);                                                                              \
    }                                                                                                        \
    INLINE U sign_##U(U u) { return (U)(0 - (U)(u >> (8 * W - 1))); }                                        \
    INLINE U ordered_##U(U u, int is_float)                                                                  \
    {                                                                                                        \
        return is_float ? (U)(u ^ (sign_##U(u) | (U)((U)1 << (8 * W - 1)))) : u;                             \
    }                                                                                                        \
    INLINE U unordered_##U(U u, int is_float)                                                                \
    {                                                                                                        \
        return is_float ? (U)(u ^ ((U)~sign_##U(u) | (U)((U)1 << (8 * W - 1)))) : u;                         \
    }                                                                                                        \
    INLINE void split_tile_##U(uint8_t *out, const uint8_t *raw, size_t n, size_t i, size_t m, int rotate)   \
    {                                                                                                        \
        U tile[TILE];                                                                                        \
        load_##U(tile, raw + i * W, m);                                                                      \
        if (rotate)                                                                                          \
            for (size_t j = 0; j < m; j++)                                                                   \
                tile[j] = (U)((U)(tile[j] << 1) | (U)(tile[j] >> (8 * W - 1)));                              \
        swap_tile_##U(tile, m);                                                                              \
        scatter_##U(out, n, i, (const uint8_t *)tile, m);                                                    \
    }                                                                                                        \
    INLINE void merge_tile_##U(uint8_t *out, const uint8_t *const *planes, size_t i, size_t m, int rotate)   \
    {                                                                                                        \
        U tile[TILE];                                                                                        \
        gather_##U((uint8_t *)tile, planes, i, m);                                                           \
        swap_tile_##U(tile, m);                                                                              \
        if (rotate)                                                                                          \
            for (size_t j = 0; j < m; j++)                                                                   \
                tile[j] = (U)((U)(tile[j] >> 1) | (U)(tile[j] << (8 * W - 1)));                              \
        swap_tile_##U(tile, m);                                                                              \
        memcpy(out, tile, m * W);                                                                            \
    }                                                                                                        \
    /* Zigzagged differences of a tile of raw units to those of the base. */                                 \
    INLINE void residual_tile_##U(U *tile, const U *other, const uint8_t *raw, size_t m, int is_float)       \
    {                                                                                                        \
        load_##U(tile, raw, m);                                                                              \
        for (size_t j = 0; j < m; j++) {                                                                     \
            U d = (U)(ordered_##U(tile[j], is_float) - ordered_##U(other[j], is_float));                     \
            tile[j] = (U)((U)(d << 1) ^ sign_##U(d));                                                        \
        }                                                                                                    \
    }                                                                                                        \
    INLINE void restore_tile_##U(uint8_t *out, U *tile, const U *other, size_t m, int is_float)              \
    {                                                                                                        \
        for (size_t j = 0; j < m; j++) {                                                                     \
            U d = (U)((U)(tile[j] >> 1) ^ (U)(0 - (U)(tile[j] & 1)));                                        \
            tile[j] = unordered_##U((U)(d + ordered_##U(other[j], is_float)), is_float);                     \
        }                                                                                                    \
        swap_tile_##U(tile, m);                                                                              \
        memcpy(out, tile, m * W);                                                                            \
    }                                                                                                        \
    INLINE void sub_split_tile_##U(uint8_t *out, const uint8_t *raw, const uint8_t *base, size_t n,          \
                                   size_t i, size_t m, int is_float)                                         \
    {                                                                                                        \
        U tile[TILE], other[TILE];                                                                           \
        load_##U(other, base + i * W, m);                                                                    \
        residual_tile_##U(tile, other, raw + i * W, m, is_float);                                            \
        swap_tile_##U(tile, m);                                                                              \
        scatter_##U(out, n, i, (const uint8_t *)tile, m);                                                    \
    }                                                                                                        \
    INLINE void sub_merge_tile_##U(uint8_t *out, const uint8_t *const *planes, const uint8_t *base,          \
                                   size_t i, size_t m, int is_float)                                         \
    {                                                                                                        \
        U tile[TILE], other[TILE];                                                                           \
        gather_##U((uint8_t *)tile, planes, i, m);                                                           \
        swap_tile_##U(tile, m);                                                                              \
        load_##U(other, base + i * W, m);                                                                    \
        restore_tile_##U(out, tile, other, m, is_float);                                                     \
    }                                                                                                        \
    CLONES static void split_##U(uint8_t *out, const uint8_t *raw, size_t n, int rotate)                     \
    {                                                                                                        \
        FOR_TILES(if (rotate) split_tile_##U(out, raw, n, i, TILE, 1);                                       \
                  else split_tile_##U(out, raw, n, i, TILE, 0), split_tile_##U(out, raw, n, i, n - i, rotate))\
    }                                                                                                        \
    CLONES static void merge_##U(uint8_t *out, const uint8_t *const *planes, size_t n, int rotate)           \
    {                                                                                                        \
        FOR_TILES(if (rotate) merge_tile_##U(out + i * W, planes, i, TILE, 1);                               \
                  else merge_tile_##U(out + i * W, planes, i, TILE, 0),                                      \
                  merge_tile_##U(out + i * W, planes, i, n - i, rotate))                                     \
    }                                                                                                        \
    CLONES static int merges_to_##U(const uint8_t *raw, const uint8_t *const *planes, size_t n, int rotate)  \
    {                                                                                                        \
        uint8_t out[TILE * W];                                                                               \
        int differs = 0;                                                                                     \
        FOR_TILES(if (rotate) merge_tile_##U(out, planes, i, TILE, 1);                                       \
                  else merge_tile_##U(out, planes, i, TILE, 0);                                              \
                  differs |= memcmp(out, raw + i * W, TILE * W),                                             \
                  merge_tile_##U(out, planes, i, n - i, rotate);                                             \
                  differs |= memcmp(out, raw + i * W, (n - i) * W))                                          \
        return !differs;                                                                                     \
    }                                                                                                        \
    CLONES static void sub_split_##U(uint8_t *out, const uint8_t *raw, const uint8_t *base, size_t n,        \
                                     int is_float)                                                           \
    {                                                                                                        \
        FOR_TILES(if (is_float) sub_split_tile_##U(out, raw, base, n, i, TILE, 1);                           \
                  else sub_split_tile_##U(out, raw, base, n, i, TILE, 0),                                    \
                  sub_split_tile_##U(out, raw, base, n, i, n - i, is_float))                                 \
    }                                                                                                        \
    CLONES static void sub_merge_##U(uint8_t *out, const uint8_t *const *planes, const uint8_t *base,        \
                                     size_t n, int is_float)                                                 \
    {                                                                                                        \
        FOR_TILES(if (is_float) sub_merge_tile_##U(out + i * W, planes, base, i, TILE, 1);                   \
                  else sub_merge_tile_##U(out + i * W, planes, base, i, TILE, 0),                            \
                  sub_merge_tile_##U(out + i * W, planes, base, i, n - i, is_float))                         \
    }                                                                                                        \
    CLONES static int sub_merges_to_##U(const uint8_t *raw, const uint8_t *const *planes,                    \
                                        const uint8_t *base, size_t n, int is_float)                         \
    {                                                                                                        \
        uint8_t out[TILE * W];                                                                               \
        int differs = 0;                                                                                     \
        FOR_TILES(if (is_float) sub_merge_tile_##U(out, planes, base, i, TILE, 1);                           \
                  else sub_merge_tile_##U(out, planes, base, i, TILE, 0);                                    \
                  differs |= memcmp(out, raw + i * W, TILE * W),                                             \
                  sub_merge_tile_##U(out, planes, base, i, n - i, is_float);                                 \
                  differs |= memcmp(out, raw + i * W, (n - i) * W))                                          \
        return !differs;                                                                                     \
    }

/* Whole tiles have a length known to the compiler; the last, shorter one has its own copy of the loops. */
#define FOR_TILES(WHOLE, LAST)                                                                               \
    size_t i = 0;                                                                                            \
    for (; i + TILE <= n; i += TILE) {                                                                       \
        WHOLE;                                                                                               \
    }                                                                                                        \
    if (i < n) {                                                                                             \
        LAST;                                                                                                \
    }

INLINE uint8_t swap_uint8_t(uint8_t u) { return u; }
INLINE uint16_t swap_uint16_t(uint16_t u) { return (uint16_t)(u << 8 | u >> 8); }
INLINE uint32_t swap_uint32_t(uint32_t u)
{
    return u << 24 | (u << 8 & 0xff0000u) | (u >> 8 & 0xff00u) | u >> 24;
}
INLINE uint64_t swap_uint64_t(uint64_t u)
{
    return (uint64_t)swap_uint32_t((uint32_t)u) << 32 | swap_uint32_t((uint32_t)(u >> 32));
}

DEFINE_WIDTH(uint8_t, 1)
DEFINE_WIDTH(uint16_t, 2)
DEFINE_WIDTH(uint32_t, 4)
DEFINE_WIDTH(uint64_t, 8)

#include "_buckets.h"
#include "_steps.h"

#define BY_WIDTH(WIDTH, FUNCTION, ...)                                                                       \
    switch (WIDTH) {                                                                                         \
    case 1: FUNCTION##_uint8_t(__VA_ARGS__); break;                                                          \
    case 2: FUNCTION##_uint16_t(__VA_ARGS__); break;                                                         \
    case 4: FUNCTION##_uint32_t(__VA_ARGS__); break;                                                         \
    default: FUNCTION##_uint64_t(__VA_ARGS__); break;                                                        \
    }

static int is_width(Py_ssize_t width)
{
    if (width == 1 || width == 2 || width == 4 || width == 8)
        return 1;
    PyErr_Format(PyExc_ValueError, "no unit has %zd bytes", width);
    return 0;
}

static int is_whole(const Py_buffer *raw, Py_ssize_t width)
{
    if (!is_width(width))
        return 0;
    if (raw->len % width == 0)
        return 1;
    PyErr_Format(PyExc_ValueError, "%zd bytes are no whole units of %zd", raw->len, width);
    return 0;
}

/* Buffers of the planes of one block, held while they are used. */
typedef struct {
    Py_buffer buffers[MAX_WIDTH];
    const uint8_t *starts[MAX_WIDTH];
    Py_ssize_t width;
    Py_ssize_t units;
} Planes;

static void release_planes(Planes *planes)
{
    for (Py_ssize_t k = 0; k < planes->width; k++)
        PyBuffer_Release(&planes->buffers[k]);
    planes->width = 0;
}

/* Hold the 1, 2, 4 or 8 buffers of equal length in `sequence`; returns 0 with an error set otherwise. */
static int hold_planes(PyObject *sequence, Planes *planes)
{
    planes->width = 0;
    planes->units = 0;
    PyObject *items = PySequence_Tuple(sequence);
    if (items == NULL)
        return 0;
    Py_ssize_t width = PyTuple_Size(items);
    int held = is_width(width);
    for (Py_ssize_t k = 0; held && k < width; k++) {
        held = PyObject_GetBuffer(PyTuple_GetItem(items, k), &planes->buffers[k], PyBUF_SIMPLE) == 0;
        if (!held)
            break;
        planes->width = k + 1;
        planes->starts[k] = planes->buffers[k].buf;
        if (k == 0)
            planes->units = planes->buffers[0].len;
        if (planes->buffers[k].len != planes->units) {
            PyErr_SetString(PyExc_ValueError, "planes differ in length");
            held = 0;
        }
    }
    if (held && planes->units > PY_SSIZE_T_MAX / width) {
        PyErr_SetString(PyExc_OverflowError, "planes are too long");
        held = 0;
    }
    Py_DECREF(items);
    if (!held)
        release_planes(planes);
    return held;
}

static PyObject *py_split(PyObject *module, PyObject *args)
{
    Py_buffer raw;
    Py_ssize_t width;
    int rotate;
    PyObject *result = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*np:split", &raw, &width, &rotate))
        return NULL;
    if (is_whole(&raw, width) && (result = PyBytes_FromStringAndSize(NULL, raw.len)) != NULL) {
        uint8_t *out = (uint8_t *)PyBytes_AsString(result);
        size_t n = (size_t)(raw.len / width);
        Py_BEGIN_ALLOW_THREADS
        BY_WIDTH(width, split, out, raw.buf, n, rotate)
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&raw);
    return result;
}

static PyObject *py_merge(PyObject *module, PyObject *args)
{
    PyObject *sequence, *result;
    Planes planes;
    int rotate;
    (void)module;
    if (!PyArg_ParseTuple(args, "Op:merge", &sequence, &rotate) || !hold_planes(sequence, &planes))
        return NULL;
    result = PyBytes_FromStringAndSize(NULL, planes.units * planes.width);
    if (result != NULL) {
        uint8_t *out = (uint8_t *)PyBytes_AsString(result);
        size_t n = (size_t)planes.units;
        Py_BEGIN_ALLOW_THREADS
        BY_WIDTH(planes.width, merge, out, planes.starts, n, rotate)
        Py_END_ALLOW_THREADS
    }
    release_planes(&planes);
    return result;
}

static PyObject *py_sub_split(PyObject *module, PyObject *args)
{
    Py_buffer raw, base;
    Py_ssize_t width;
    int is_float;
    PyObject *result = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*np:sub_split", &raw, &base, &width, &is_float))
        return NULL;
    if (raw.len != base.len)
        PyErr_SetString(PyExc_ValueError, "base and raw differ in length");
    else if (is_whole(&raw, width) && (result = PyBytes_FromStringAndSize(NULL, raw.len)) != NULL) {
        uint8_t *out = (uint8_t *)PyBytes_AsString(result);
        size_t n = (size_t)(raw.len / width);
        Py_BEGIN_ALLOW_THREADS
        BY_WIDTH(width, sub_split, out, raw.buf, base.buf, n, is_float)
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&raw);
    PyBuffer_Release(&base);
    return result;
}

static PyObject *py_sub_merge(PyObject *module, PyObject *args)
{
    PyObject *sequence, *result = NULL;
    Py_buffer base;
    Py_ssize_t width;
    Planes planes;
    int is_float;
    (void)module;
    if (!PyArg_ParseTuple(args, "Oy*np:sub_merge", &sequence, &base, &width, &is_float))
        return NULL;
    if (hold_planes(sequence, &planes)) {
        if (planes.width != width || planes.units * width != base.len)
            PyErr_SetString(PyExc_ValueError, "base and planes differ in length");
        else if ((result = PyBytes_FromStringAndSize(NULL, base.len)) != NULL) {
            uint8_t *out = (uint8_t *)PyBytes_AsString(result);
            size_t n = (size_t)planes.units;
            Py_BEGIN_ALLOW_THREADS
            BY_WIDTH(width, sub_merge, out, planes.starts, base.buf, n, is_float)
            Py_END_ALLOW_THREADS
        }
        release_planes(&planes);
    }
    PyBuffer_Release(&base);
    return result;
}

/* Whether planes merge to the raw bytes, without writing these down. */
static PyObject *py_merges_to(PyObject *module, PyObject *args)
{
    PyObject *sequence, *result = NULL;
    Py_buffer raw;
    Planes planes;
    int rotate;
    (void)module;
    if (!PyArg_ParseTuple(args, "Oy*p:merges_to", &sequence, &raw, &rotate))
        return NULL;
    if (hold_planes(sequence, &planes)) {
        int same = planes.units * planes.width == raw.len;
        size_t n = (size_t)planes.units;
        if (same) {
            Py_BEGIN_ALLOW_THREADS
            BY_WIDTH(planes.width, same = merges_to, raw.buf, planes.starts, n, rotate)
            Py_END_ALLOW_THREADS
        }
        result = PyBool_FromLong(same);
        release_planes(&planes);
    }
    PyBuffer_Release(&raw);
    return result;
}

/* Whether planes of differences to the base merge to the raw bytes. */
static PyObject *py_sub_merges_to(PyObject *module, PyObject *args)
{
    PyObject *sequence, *result = NULL;
    Py_buffer base, raw;
    Planes planes;
    int is_float;
    (void)module;
    if (!PyArg_ParseTuple(args, "Oy*y*p:sub_merges_to", &sequence, &base, &raw, &is_float))
        return NULL;
    if (hold_planes(sequence, &planes)) {
        int same = planes.units * planes.width == raw.len;
        size_t n = (size_t)planes.units;
        if (same && raw.len != base.len)
            PyErr_SetString(PyExc_ValueError, "base and raw differ in length");
        else {
            if (same) {
                Py_BEGIN_ALLOW_THREADS
                BY_WIDTH(planes.width, same = sub_merges_to, raw.buf, planes.starts, base.buf, n, is_float)
                Py_END_ALLOW_THREADS
            }
            result = PyBool_FromLong(same);
        }
        release_planes(&planes);
    }
    PyBuffer_Release(&base);
    PyBuffer_Release(&raw);
    return result;
}

static PyObject *py_bucket_lengths(PyObject *module, PyObject *args)
{
    Py_buffer base;
    Py_ssize_t width;
    int shift, bits;
    PyObject *result = NULL;
    Buckets buckets;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*nii:bucket_lengths", &base, &width, &shift, &bits))
        return NULL;
    if (is_whole(&base, width) && is_key(width, shift, bits)) {
        Py_BEGIN_ALLOW_THREADS
        find_buckets(&buckets, base.buf, (size_t)(base.len / width), width, shift, bits);
        Py_END_ALLOW_THREADS
        result = PyList_New((Py_ssize_t)buckets.count);
        for (uint32_t b = 0; result != NULL && b < buckets.count; b++)
            PyList_SetItem(result, (Py_ssize_t)b, PyLong_FromSize_t(buckets.length[b]));
    }
    PyBuffer_Release(&base);
    return result;
}

static PyObject *py_bucket_split(PyObject *module, PyObject *args)
{
    Py_buffer raw, base;
    Py_ssize_t width;
    int is_float, shift, bits;
    PyObject *result = NULL;
    uint8_t *room = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*npii:bucket_split", &raw, &base, &width, &is_float, &shift, &bits))
        return NULL;
    if (raw.len != base.len)
        PyErr_SetString(PyExc_ValueError, "base and raw differ in length");
    else if (is_whole(&raw, width) && is_key(width, shift, bits) && (room = take_room(raw.len)) != NULL &&
             (result = PyBytes_FromStringAndSize(NULL, raw.len)) != NULL) {
        uint8_t *out = (uint8_t *)PyBytes_AsString(result);
        size_t n = (size_t)(raw.len / width);
        Buckets buckets;
        Py_BEGIN_ALLOW_THREADS
        find_buckets(&buckets, base.buf, n, width, shift, bits);
        BY_WIDTH(width, bucket_split, out, room, raw.buf, base.buf, n, is_float, &buckets, shift, key_mask(bits))
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(room);
    PyBuffer_Release(&raw);
    PyBuffer_Release(&base);
    return result;
}

static PyObject *py_bucket_merge(PyObject *module, PyObject *args)
{
    PyObject *sequence, *result = NULL;
    Py_buffer base;
    Planes planes;
    int is_float, shift, bits;
    uint8_t *room = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "Oy*pii:bucket_merge", &sequence, &base, &is_float, &shift, &bits))
        return NULL;
    if (hold_planes(sequence, &planes)) {
        Py_ssize_t width = planes.width;
        if (planes.units * width != base.len)
            PyErr_SetString(PyExc_ValueError, "base and planes differ in length");
        else if (is_key(width, shift, bits) && (room = take_room(base.len)) != NULL &&
                 (result = PyBytes_FromStringAndSize(NULL, base.len)) != NULL) {
            uint8_t *out = (uint8_t *)PyBytes_AsString(result);
            size_t n = (size_t)planes.units;
            Buckets buckets;
            Py_BEGIN_ALLOW_THREADS
            find_buckets(&buckets, base.buf, n, width, shift, bits);
            BY_WIDTH(width, bucket_merge, out, room, planes.starts, base.buf, n, is_float, &buckets, shift,
                     key_mask(bits))
            Py_END_ALLOW_THREADS
        }
        PyMem_Free(room);
        release_planes(&planes);
    }
    PyBuffer_Release(&base);
    return result;
}

static PyObject *py_usual_steps(PyObject *module, PyObject *args)
{
    Py_buffer raw, base;
    Py_ssize_t width;
    int shift, bits;
    PyObject *result = NULL;
    uint8_t *room = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*nii:usual_steps", &raw, &base, &width, &shift, &bits))
        return NULL;
    if (raw.len != base.len)
        PyErr_SetString(PyExc_ValueError, "base and raw differ in length");
    else if (is_whole(&raw, width) && is_cell(width, shift, bits)) {
        Py_ssize_t cells = (Py_ssize_t)1 << bits, steps = cells * STEPS_SEEN * width;
        if ((room = take_room(steps + cells)) != NULL &&
            (result = PyBytes_FromStringAndSize(NULL, cells * width)) != NULL) {
            uint8_t *out = (uint8_t *)PyBytes_AsString(result);
            size_t n = (size_t)(raw.len / width);
            Py_BEGIN_ALLOW_THREADS
            BY_WIDTH(width, usual_steps, out, (void *)room, room + steps, raw.buf, base.buf, n, shift, bits)
            Py_END_ALLOW_THREADS
        }
    }
    PyMem_Free(room);
    PyBuffer_Release(&raw);
    PyBuffer_Release(&base);
    return result;
}

static PyObject *py_move_units(PyObject *module, PyObject *args)
{
    Py_buffer base, table;
    Py_ssize_t width;
    int shift, bits;
    PyObject *result = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*nii:move_units", &base, &table, &width, &shift, &bits))
        return NULL;
    if (is_whole(&base, width) && is_cell(width, shift, bits)) {
        if (table.len != width << bits)
            PyErr_SetString(PyExc_ValueError, "the table has another length than its bits say");
        else if ((result = PyBytes_FromStringAndSize(NULL, base.len)) != NULL) {
            uint8_t *out = (uint8_t *)PyBytes_AsString(result);
            size_t n = (size_t)(base.len / width);
            Py_BEGIN_ALLOW_THREADS
            BY_WIDTH(width, move_units, out, base.buf, table.buf, n, shift, bits)
            Py_END_ALLOW_THREADS
        }
    }
    PyBuffer_Release(&base);
    PyBuffer_Release(&table);
    return result;
}

static PyObject *py_running_sums(PyObject *module, PyObject *args)
{
    PyObject *sequence, *result;
    Planes planes;
    (void)module;
    if (!PyArg_ParseTuple(args, "O:running_sums", &sequence) || !hold_planes(sequence, &planes))
        return NULL;
    result = PyBytes_FromStringAndSize(NULL, planes.units * planes.width);
    if (result != NULL) {
        uint8_t *out = (uint8_t *)PyBytes_AsString(result);
        size_t n = (size_t)planes.units;
        Py_BEGIN_ALLOW_THREADS
        BY_WIDTH(planes.width, running_sums, out, planes.starts, n)
        Py_END_ALLOW_THREADS
    }
    release_planes(&planes);
    return result;
}

static PyObject *py_nonzero_count(PyObject *module, PyObject *args)
{
    PyObject *sequence;
    Planes planes;
    size_t found = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "O:nonzero_count", &sequence) || !hold_planes(sequence, &planes))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    found = nonzero_count(planes.starts, (size_t)planes.width, (size_t)planes.units);
    Py_END_ALLOW_THREADS
    release_planes(&planes);
    return PyLong_FromSize_t(found);
}

static PyObject *py_nonzero_split(PyObject *module, PyObject *args)
{
    PyObject *sequence, *mask = NULL, *kept = NULL, *result = NULL;
    Planes planes;
    (void)module;
    if (!PyArg_ParseTuple(args, "O:nonzero_split", &sequence) || !hold_planes(sequence, &planes))
        return NULL;
    size_t n = (size_t)planes.units, width = (size_t)planes.width;
    size_t found = nonzero_count(planes.starts, width, n);
    mask = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)((n + 7) / 8));
    kept = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(found * width));
    if (mask != NULL && kept != NULL) {
        uint8_t *bits = (uint8_t *)PyBytes_AsString(mask), *out = (uint8_t *)PyBytes_AsString(kept);
        Py_BEGIN_ALLOW_THREADS
        nonzero_split(bits, out, planes.starts, width, n, found);
        Py_END_ALLOW_THREADS
        result = PyTuple_Pack(2, mask, kept);
    }
    Py_XDECREF(mask);
    Py_XDECREF(kept);
    release_planes(&planes);
    return result;
}

static PyObject *py_nonzero_merge(PyObject *module, PyObject *args)
{
    PyObject *sequence, *result = NULL;
    Py_buffer mask;
    Planes planes;
    Py_ssize_t units;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*On:nonzero_merge", &mask, &sequence, &units))
        return NULL;
    if (hold_planes(sequence, &planes)) {
        if (units < 0 || units > PY_SSIZE_T_MAX / MAX_WIDTH || mask.len != (units + 7) / 8)
            PyErr_SetString(PyExc_ValueError, "the mask has another length than the units");
        else if (count_bits(mask.buf, (size_t)units) != (size_t)planes.units)
            PyErr_SetString(PyExc_ValueError, "a plane has another length than the mask says");
        else if ((result = PyBytes_FromStringAndSize(NULL, units * planes.width)) != NULL) {
            uint8_t *out = (uint8_t *)PyBytes_AsString(result);
            Py_BEGIN_ALLOW_THREADS
            nonzero_merge(out, mask.buf, planes.starts, (size_t)planes.width, (size_t)units,
                          (size_t)planes.units);
            Py_END_ALLOW_THREADS
        }
        release_planes(&planes);
    }
    PyBuffer_Release(&mask);
    return result;
}

/* glibc gives every freed block of a megabyte back to the system and takes it again, page by page, for the
   next one: a third of the time of decoding a chain. From here on this process keeps up to 256 MiB of freed
   memory instead. */
static PyObject *py_keep_memory(PyObject *self, PyObject *unused) {
    (void)self;
    (void)unused;
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 256 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
#endif
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"keep_memory", py_keep_memory, METH_NOARGS, "keep_memory() -> None"},
    {"split", py_split, METH_VARARGS, "split(raw, width, rotate) -> bytes"},
    {"merge", py_merge, METH_VARARGS, "merge(planes, rotate) -> bytes"},
    {"merges_to", py_merges_to, METH_VARARGS, "merges_to(planes, raw, rotate) -> bool"},
    {"sub_split", py_sub_split, METH_VARARGS, "sub_split(raw, base, width, is_float) -> bytes"},
    {"sub_merge", py_sub_merge, METH_VARARGS, "sub_merge(planes, base, width, is_float) -> bytes"},
    {"sub_merges_to", py_sub_merges_to, METH_VARARGS, "sub_merges_to(planes, base, raw, is_float) -> bool"},
    {"bucket_lengths", py_bucket_lengths, METH_VARARGS, "bucket_lengths(base, width, shift, bits) -> list"},
    {"bucket_split", py_bucket_split, METH_VARARGS,
     "bucket_split(raw, base, width, is_float, shift, bits) -> bytes"},
    {"bucket_merge", py_bucket_merge, METH_VARARGS, "bucket_merge(planes, base, is_float, shift, bits) -> bytes"},
    {"usual_steps", py_usual_steps, METH_VARARGS, "usual_steps(raw, base, width, shift, bits) -> bytes"},
    {"move_units", py_move_units, METH_VARARGS, "move_units(base, table, width, shift, bits) -> bytes"},
    {"running_sums", py_running_sums, METH_VARARGS, "running_sums(planes) -> bytes"},
    {"nonzero_count", py_nonzero_count, METH_VARARGS, "nonzero_count(planes) -> int"},
    {"nonzero_split", py_nonzero_split, METH_VARARGS, "nonzero_split(planes) -> (mask, planes)"},
    {"nonzero_merge", py_nonzero_merge, METH_VARARGS, "nonzero_merge(mask, planes, units) -> bytes"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_kernels",
    .m_doc = "The inner loops of the numeric codecs.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModuleDef_Init(&definition); }
