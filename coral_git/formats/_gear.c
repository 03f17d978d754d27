/* The search for a cut of the chunker. coral_git/formats/cuts.py says what it does, and does the same in numpy.
 * The hash rolls: what is older than 32 bytes was shifted out. The loop runs without the interpreter lock.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdint.h>

#define WINDOW 32
#define SYMBOLS 256

/* The first of n windows whose hash is below the bound, or n. */
static size_t find_cut(const uint8_t *bytes, size_t n, const uint32_t *gear, uint32_t bound)
{
    uint32_t hash = 0;
    for (size_t i = 0; i < WINDOW - 1; i++)
        hash = (hash << 1) + gear[bytes[i]];
    for (size_t i = 0; i < n; i++) {
        hash = (hash << 1) + gear[bytes[i + WINDOW - 1]];
        if (hash < bound)
            return i;
    }
    return n;
}

static PyObject *py_find_cut(PyObject *module, PyObject *args)
{
    Py_buffer block, table;
    unsigned long bound;
    PyObject *result = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*k:find_cut", &block, &table, &bound))
        return NULL;
    if (table.len != 4 * SYMBOLS)
        PyErr_SetString(PyExc_ValueError, "the table does not have 256 numbers");
    else if (block.len < WINDOW)
        PyErr_SetString(PyExc_ValueError, "the block is shorter than a window");
    else {
        size_t n = (size_t)block.len - WINDOW + 1, found;
        uint32_t gear[SYMBOLS];
        const uint8_t *raw = table.buf;
        for (int i = 0; i < SYMBOLS; i++)
            gear[i] = raw[4 * i] | (uint32_t)raw[4 * i + 1] << 8 | (uint32_t)raw[4 * i + 2] << 16 |
                      (uint32_t)raw[4 * i + 3] << 24;
        Py_BEGIN_ALLOW_THREADS
        found = find_cut(block.buf, n, gear, (uint32_t)bound);
        Py_END_ALLOW_THREADS
        result = found < n ? PyLong_FromSize_t(found) : Py_NewRef(Py_None);
    }
    PyBuffer_Release(&table);
    PyBuffer_Release(&block);
    return result;
}

static PyMethodDef methods[] = {
    {"find_cut", py_find_cut, METH_VARARGS, "find_cut(block, table, bound) -> int | None"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_gear",
    .m_doc = "The search for a cut of the chunker.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__gear(void) { return PyModuleDef_Init(&definition); }
