"""The linear algebra behind MLX on Linux.

MLX's Linux wheel links the reference BLAS, some forty times slower than OpenBLAS. A library with the same symbols that
is loaded globally before MLX takes its place. Debian's `libopenblas0-pthread` is such a library; without it, a few
lines of C compiled once forward the calls to the OpenBLAS inside SciPy's wheel, whose symbols carry a prefix. On
macOS, MLX uses Accelerate.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SYSTEM_LIBRARY = "libopenblas.so.0"
_SHIM = """\
void scipy_cblas_sgemm(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
void cblas_sgemm(int o, int ta, int tb, int m, int n, int k, float alpha, const float* a, int lda,
                 const float* b, int ldb, float beta, float* c, int ldc) {
  scipy_cblas_sgemm(o, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
"""


def load_blas() -> str:
    """Puts the fastest BLAS at hand under MLX and returns its name. Call before the first `import mlx`."""
    if sys.platform == "darwin":
        return "Accelerate"
    with contextlib.suppress(OSError):
        ctypes.CDLL(SYSTEM_LIBRARY, mode=ctypes.RTLD_GLOBAL)
        return "OpenBLAS"
    with contextlib.suppress(OSError, subprocess.SubprocessError, StopIteration, ImportError):
        ctypes.CDLL(str(_scipy_shim()), mode=ctypes.RTLD_GLOBAL)
        return "OpenBLAS of SciPy"
    return "reference BLAS"


def cache_folder() -> Path:
    """Where what is built once is kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mlxdistill"


def _scipy_shim() -> Path:
    """The forwarding library, compiled on first use. Raises where SciPy's OpenBLAS or a C compiler is missing."""
    import importlib.util

    found = importlib.util.find_spec("scipy")
    if found is None or found.origin is None:
        raise ImportError("scipy")
    libraries = Path(found.origin).parent.parent / "scipy.libs"
    openblas = next(libraries.glob("libscipy_openblas-*.so"))
    key = hashlib.sha256(f"{openblas}{_SHIM}".encode()).hexdigest()[:16]
    shim = cache_folder() / "blas" / f"shim-{key}.so"
    if shim.exists():
        return shim
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise OSError("no C compiler")
    shim.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=shim.parent) as folder:
        source, built = Path(folder) / "shim.c", Path(folder) / "shim.so"
        source.write_text(_SHIM)
        arguments = ["-shared", "-fPIC", "-O2", str(source), str(openblas), f"-Wl,-rpath,{libraries}", "-o", str(built)]
        subprocess.run([compiler, *arguments], check=True, capture_output=True, timeout=60)
        os.replace(built, shim)
    return shim
