"""Second-order MAML: this package, learn2learn and torch.func, interleaved in one run on one thread.

Case "sinusoid": 2 x 40 network, 10 support and 10 query rows, 25 tasks an iteration, one inner step, Adam. The peers
read batches that were drawn beforehand; this package draws its tasks inside the loop and keeps its whole history. Case
"wide": two-layer ReLU network on y = (w.x + b)^2 + z, a fixed set of tasks, gradient descent. Before timing, all
meta-gradients are compared on one batch. Ratios are of paired rounds, since the speed of a shared machine drifts.

    taskset -c 0 python benchmarks/gradient_against_peers.py --learn2learn learn2learn-0.2.0 [--rounds 7] [--out FILE]

See requirements-peers.txt for what to install. Without --learn2learn only torch.func is measured.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import time
import types
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import jax
import numpy as np
import optax
import torch
from torch.func import functional_call, grad, vmap

import undertow as ut
from undertow import gradient as ug


class Case:
    """A problem, its sizes and a network; the same for all competitors."""

    def __init__(self, name: str, width: int) -> None:
        self.wide = name == "wide"
        if self.wide:
            self.problem, self.design = ut.QuadraticRegression(n_features=10), ut.Design(5, 30, 5)
            self.sizes, self.rate, self.lr = (10, width, 1), -0.01, 1e-4
        else:
            self.problem, self.design = ut.Sinusoid(), ut.Design(25, 10, 10)
            self.sizes, self.rate, self.lr = (1, 40, 40, 1), 0.01, 1e-3
        self.params, apply = ug.mlp(self.sizes, 0)
        self.loss_fn = ug.squared_loss(apply)
        self.batches = [self.problem.sample(self.design, seed, np.float32) for seed in range(1 if self.wide else 50)]

    def optimizer(self) -> optax.GradientTransformation:
        return optax.sgd(self.lr) if self.wide else optax.adam(self.lr)

    def torch_optimizer(self, parameters) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, self.lr) if self.wide else torch.optim.Adam(parameters, self.lr)

    def module(self) -> torch.nn.Module:
        layers: list[torch.nn.Module] = []
        for layer in self.params:
            linear = torch.nn.Linear(*layer["weight"].shape)
            with torch.no_grad():
                linear.weight.copy_(torch.tensor(np.asarray(layer["weight"]).T))
                linear.bias.copy_(torch.tensor(np.asarray(layer["bias"])))
            layers += [linear, torch.nn.ReLU()]
        return torch.nn.Sequential(*layers[:-1])


class Ours:
    def __init__(self, case: Case) -> None:
        self.case, self.optimizer, self.loss_fn = case, case.optimizer(), lambda p, x, y: case.loss_fn(p, x, y)
        self.source = case.batches[0] if case.wide else ug.Source(case.problem, case.design)

    def run(self, iterations: int) -> None:
        state, _ = ug.train(
            self.loss_fn, self.case.params, self.source, self.optimizer, self.case.rate, iterations=iterations
        )
        jax.block_until_ready(state.params)

    def gradient(self) -> np.ndarray:
        case = self.case
        tasks = case.batches[0]
        grads = jax.grad(lambda p: ug.meta_loss(case.loss_fn, p, tasks, case.rate)[0])(case.params)
        return np.concatenate([np.concatenate([np.asarray(g["weight"]).T.ravel(), g["bias"]]) for g in grads])


class Peer:
    def __init__(self, case: Case) -> None:
        self.case, self.model = case, case.module()
        self.optimizer = case.torch_optimizer(self.model.parameters())
        tensors = [[torch.tensor(a) for a in batch[:4]] for batch in case.batches]
        self.tensors, self.next = tensors, itertools.cycle(tensors)

    def run(self, iterations: int) -> None:
        for _ in range(iterations):
            self.optimizer.zero_grad()
            self.backward(next(self.next))
            self.optimizer.step()

    def gradient(self) -> np.ndarray:
        self.optimizer.zero_grad()
        self.backward(self.tensors[0])
        return np.concatenate([p.grad.numpy().ravel() for p in self.model.parameters()])

    def backward(self, batch) -> None:
        raise NotImplementedError


class TorchFunc(Peer):
    """vmap over tasks of grad, within grad: the idiom of the documentation of torch.func."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        rate = case.rate

        def loss(params, x, y):
            return 0.5 * (functional_call(self.model, params, (x,))[:, 0] - y).square().mean()

        def task(params, x, y, qx, qy):
            inner = grad(loss)(params, x, y)
            return loss({name: p - rate * inner[name] for name, p in params.items()}, qx, qy)

        def meta(params, *batch):
            return vmap(task, in_dims=(None, 0, 0, 0, 0))(params, *batch).mean()

        self.meta_gradient = grad(meta)

    def backward(self, batch) -> None:
        grads = self.meta_gradient({name: p.detach() for name, p in self.model.named_parameters()}, *batch)
        for name, p in self.model.named_parameters():
            p.grad = grads[name]


class Learn2Learn(Peer):
    """A loop over tasks of clone, adapt, query loss, as in learn2learn's own examples."""

    def __init__(self, case: Case, maml_class) -> None:
        super().__init__(case)
        self.maml = maml_class(self.model, lr=case.rate, first_order=False)

    def backward(self, batch) -> None:
        total = 0.0
        for x, y, qx, qy in zip(*batch, strict=True):
            learner = self.maml.clone()
            learner.adapt(0.5 * (learner(x)[:, 0] - y).square().mean())
            total = total + 0.5 * (learner(qx)[:, 0] - qy).square().mean()
        (total / len(batch[0])).backward()


def learn2learn_maml(folder: str):
    """The MAML class of an unpacked source release, without the package's compiled data loader."""
    for name in ("learn2learn", "learn2learn.algorithms"):
        package = types.ModuleType(name)
        package.__path__ = [str(Path(folder, *name.split(".")))]
        sys.modules[name] = package
    from learn2learn.algorithms.maml import MAML

    return MAML


def seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(case: Case, maml_class, rounds: int) -> dict[str, object]:
    peers: dict[str, Ours | Peer] = {"undertow": Ours(case), "torch.func": TorchFunc(case)}
    if maml_class is not None:
        peers["learn2learn"] = Learn2Learn(case, maml_class)
    expected = peers["undertow"].gradient()
    for name, peer in peers.items():
        error = np.linalg.norm(peer.gradient() - expected) / np.linalg.norm(expected)
        assert error < 1e-4, f"{name} computes another meta-gradient: relative difference {error:.2g}"
    counts = {"undertow": 500, "torch.func": 50, "learn2learn": 10}
    for name, peer in peers.items():
        peer.run(counts[name])
    times: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name, peer in peers.items():
            times[name].append(seconds(lambda peer=peer, n=counts[name]: peer.run(n)) / counts[name])
    report: dict[str, object] = {f"{name} ms per iteration": 1e3 * statistics.median(t) for name, t in times.items()}
    for name in list(peers)[1:]:
        ratios = sorted(a / b for a, b in zip(times[name], times["undertow"], strict=True))
        report[f"{name} / undertow"] = statistics.median(ratios)
        report[f"{name} / undertow, least and most"] = (ratios[0], ratios[-1])
    if "learn2learn" in peers:
        # New objects for the loss and the optimiser: everything is traced and compiled again.
        whole = [
            (seconds(lambda: Ours(case).run(1000)), seconds(lambda: peers["learn2learn"].run(1000))) for _ in range(2)
        ]
        report["1000 iterations, undertow with compilation, s"] = min(a for a, _ in whole)
        report["1000 iterations, learn2learn, s"] = min(b for _, b in whole)
        report["1000 iterations, learn2learn / undertow"] = statistics.median(b / a for a, b in whole)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=("sinusoid", "wide", "both"), default="both")
    parser.add_argument("--width", type=int, default=400, help="hidden units of the wide network")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--learn2learn", help="folder of the unpacked source release of learn2learn")
    parser.add_argument("--out", help="write the figures as JSON into this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    maml_class = learn2learn_maml(options.learn2learn) if options.learn2learn else None
    report: dict[str, object] = {"jax": jax.__version__, "torch": torch.__version__, "device": str(jax.devices()[0])}
    for name in ("sinusoid", "wide") if options.case == "both" else (options.case,):
        print(f"--- {name}", flush=True)
        figures = compare(Case(name, options.width), maml_class if name == "sinusoid" else None, options.rounds)
        report[name] = figures
        for key, value in figures.items():
            shown = ", ".join(f"{v:.3g}" for v in value) if isinstance(value, tuple) else f"{value:.4g}"
            print(f"{key:50s} {shown}", flush=True)
    if options.out:
        Path(options.out).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
