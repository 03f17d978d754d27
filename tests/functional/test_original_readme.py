"""The programs of the original Coral's README run as the guide has them, and give what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from coral_git.testing.health import assert_store_healthy

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "from-original-coral.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def carry_out(code, folder):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_programs_work(installed, tmp_path):
    *blocks, _ = BLOCKS
    assert len(blocks) == 8
    said = carry_out("\n".join(blocks), tmp_path)
    assert re.search(r"^Hash: [0-9a-f]{64}$", said, re.MULTILINE)
    assert re.search(r"^Size: 2359296 bytes$", said, re.MULTILINE)
    assert re.search(r"^1\.weight: \d+\.\d% of its bytes$", said, re.MULTILINE)
    assert re.search(r"^Weights: 100$", said, re.MULTILINE)
    assert re.search(r"^Checkpoint! Epoch 5, Loss: \d\.\d{4}$", said, re.MULTILINE)
    for name in ("my_model_repo", "training_repo"):
        assert_store_healthy(str(tmp_path / name))


def test_the_programs_with_models_work(installed, tmp_path):
    carry_out(BLOCKS[-1], tmp_path)
    assert_store_healthy(str(tmp_path / "model_repo"))


def test_every_program_is_about_what_the_original_has():
    page = "\n".join(BLOCKS)
    named = (
        "Repository WeightTensor WeightMetadata stage_weights commit tag_version create_branch checkout "
        "merge DeltaEncoder DeltaConfig DeltaType can_encode_as_delta encode_delta decode_delta "
        "Deduplicator add_weight store_batch get_storage_info CoralTrainer CheckpointConfig epoch_end "
        "load_checkpoint compute_hash nbytes"
    )
    assert not [name for name in named.split() if not re.search(rf"\b{name}\b", page)]
