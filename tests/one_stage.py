"""ResNet-10 cut after the first of its four stages, which compiles sooner.

    python -m tests.one_stage MODULE ARGUMENTS

runs a module of the package, such as sas_jax.main, with it. tests/test_install.py trains all four stages.
"""

import runpy
import sys

from sas_jax.models import resnet

STAGES = ((1,), False)


if __name__ == "__main__":
    resnet.DEPTHS[10] = STAGES
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
