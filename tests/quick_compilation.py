"""Flags of XLA for programs that are compiled often and run for a moment.

    python -m tests.quick_compilation   # prints them

These optimisations of XLA and LLVM take most of the tests' time and change rounding only. CI runs
the golden models with them, too (XLA_FLAGS= make test).
"""

from importlib.metadata import version

FLAGS = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1"
)
# Later versions end the process at a flag that they do not know.
if tuple(map(int, version("jax").split(".")[:2])) < (0, 11):
    FLAGS += " --xla_cpu_use_fusion_emitters=false"

if __name__ == "__main__":
    print(FLAGS)
