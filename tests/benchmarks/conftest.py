import sys
from pathlib import Path

# Last, as tests have a module of the same name.
sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
