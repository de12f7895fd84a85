import sys
from pathlib import Path

# Appended, so that a test module of the same name takes precedence.
sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
