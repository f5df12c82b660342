"""Fit the shipped profiles to the tables of a downloaded ``aiconfigurator-core`` wheel.

``make profiles WHEEL=FILE``; the wheel is not part of the repository. Only fitted figures go into
``hardware_profiles/``, each with its source.
"""

from __future__ import annotations

import sys
from pathlib import Path

from moesim.calibrate.fit import fit_table
from moesim.calibrate.importing import import_measurements
from moesim.calibrate.limits import within
from moesim.calibrate.profile_file import with_calibration
from moesim.hardware import load_hardware

TABLES = {
    "a100-sxm-80gb": "a100_sxm/moe/vllm/0.14.0/moe_perf",
    "h100-sxm": "h100_sxm/moe/vllm/0.24.0/moe_perf",
    "h200-sxm": "h200_sxm/moe/vllm/0.24.0/moe_perf",
    "b200-sxm": "b200_sxm/moe/vllm/0.24.0/moe_perf",
    "l40s": "l40s/moe/vllm/0.24.0/moe_perf",
    "rtx-pro-6000": "rtx_pro_6000_server/moe/vllm/0.24.0/moe_perf",
}
"""The expert table of each profile: one framework and version a card."""
FOLDER = Path(__file__).resolve().parents[1] / "hardware_profiles"


def main(wheel: Path) -> int:
    """Refit every profile and print what each fit reached."""
    for name, pattern in TABLES.items():
        products = pattern.replace("moe", "gemm")
        path = FOLDER / f"{name}.yaml"
        profile = load_hardware(str(path))
        table, impossible = within(
            import_measurements(wheel, only=[pattern, products]).table, profile
        )
        bare = profile.model_copy(
            update={"sources": {k: v for k, v in profile.sources.items() if k[:4] != "fit-"}}
        )
        fits = fit_table(table, bare)
        path.write_text(with_calibration(path.read_text(encoding="utf-8"), fits), encoding="utf-8")
        load_hardware(str(path))
        print(f"{name}: {len(table)} rows, {len(impossible)} impossible")
        print("\n".join(f"  {line}" for line in (*fits.lines(), *fits.missing)))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
