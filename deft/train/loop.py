"""The training loop: one screen, the same for every policy, alone or on many ranks."""

import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from deft import nn, policies, spec, store
from deft.errors import DeftError
from deft.train import beginnings, checkpoint, memory, sharding
from deft.train.augmenting import Augmentation
from deft.train.broken import check_finite
from deft.train.config import Job
from deft.train.distributed import Ranks
from deft.train.interrupt import StoppedError, Stopping
from deft.train.journal import Journal, Mute
from deft.train.language import fitted
from deft.train.loader import (
    Transfer,
    chosen,
    draws_of,
    golden_pairs,
    held_out,
    to_device,
    training_batches,
    training_windows,
    val_batches,
    val_turns,
)
from deft.train.meter import Meter
from deft.train.settling import settle
from deft.train.state import assemble, fresh, resume_from, save, spread_dropout, tidy
from deft.train.stepping import Stepper, learned, pieces
from deft.train.trackers import Tracker
from deft.train.validate import validate

Evaluate = Callable[[policies.Policy, int], Mapping[str, float]]
"""Plays episodes with a policy in eval mode after some step, and says how it went."""


def train(
    job: Job,
    data: store.Store,
    run: Path,
    *,
    resume: bool = False,
    evaluate: Evaluate | None = None,
    tracker: Tracker | None = None,
) -> dict[str, float]:
    """Train one policy and leave checkpoints and measurements in `run`.

    Under torchrun every process calls this alike; the first one writes.

    Args:
        job: every setting.
        data: the store to learn from.
        run: folder of the run; created when missing.
        resume: go on from the newest checkpoint in `run`; from the start when there is none.
        evaluate: called every `val.online_freq` steps, on the first rank; what it gives is written
            with the other measurements, as `eval/…`.
        tracker: is told every measurement, on the first rank.

    Returns:
        The last value of every measurement.

    Raises:
        SpecError: policy and data do not fit.
        ConfigError: the batch cannot be split evenly.
        TrainError: nothing to train on, a loss that is not finite, ranks that differ, a full disk.
        OutOfMemoryError: with the settings that can be turned down.
        StoppedError: SIGTERM, SIGINT or `train.max_minutes`; everything is saved.
    """
    ranks = Ranks.here()
    device = nn.pick_device(ranks.device(job.device))
    data = chosen(job, data)
    contract = policies.contract(job.policy, data.spec, job.data.observations)
    job = fitted(job, data, contract)
    try:
        with ranks.joined(device), memory.explained(job, contract, device):
            return _Training(job, data, run, contract, device, ranks, evaluate, tracker).go(resume)
    except DeftError as error:
        if ranks.count > 1 and not isinstance(error, StoppedError):
            error.args = (f"Rank {ranks.rank}: {error}",)
        raise


class _Training:
    """What the parts of one training share."""

    def __init__(
        self,
        job: Job,
        data: store.Store,
        run: Path,
        contract: spec.Spec,
        device: torch.device,
        ranks: Ranks,
        evaluate: Evaluate | None,
        tracker: Tracker | None,
    ) -> None:
        self.job, self.data, self.run, self.contract = job, data, run, contract
        self.device, self.ranks, self.evaluate, self.tracker = device, ranks, evaluate, tracker
        self.meter = Meter()

    def go(self, resume: bool) -> dict[str, float]:
        said = self.prepare(resume)
        job, data, ranks, state = self.job, self.data, self.ranks, self.state
        self.windows = held_out(job, data, self.contract)
        self.vary = Augmentation.of(job, self.contract, data.spec, self.device)
        plan, last, stopping = job.train, dict[str, float](), Stopping(job.train.max_minutes)
        kind = Journal if ranks.is_first else Mute
        with (
            stopping.listening(),
            kind(
                self.run, start_step=state.step, total_steps=plan.steps, tracker=self.tracker
            ) as journal,
            self.batches(journal.say) as loader,
        ):
            send = Transfer(data, self.contract, self.device)
            step_with = Stepper(state, job, self.device, ranks)
            for line in (*said, self.opening()):
                journal.say(line)
            for batch in loader:
                draws = draws_of(batch, job.seed, self.device)
                varied = self.vary(send(batch), draws)
                shares, is_asked = self.share(batch, stopping)
                self.meter.add(step_with(pieces(varied, draws, plan.grad_accum_steps, shares)))
                step = state.step
                if ranks.count == 1:
                    is_asked = stopping.is_asked
                is_due = step % plan.save_freq == 0 or step == plan.steps
                if step % plan.log_freq == 0 or is_due:
                    times = loader.timings() | {"transfer": send.share()} | self.vary.timings()
                    spent = _named("time", times) | {"memory_gb": memory.used_gb(self.device)}
                    last |= journal.write(step, self.means() | spent)
                scores = self.scores(is_due)
                last |= journal.write(step, scores) if scores else {}
                if is_due or is_asked:
                    self.save(scores)
                if is_asked and step < plan.steps:
                    raise stopping.stopped(self.run, step)
        return last

    def prepare(self, resume: bool) -> list[str]:
        """Settle the job, make the state and bring back what was saved; gives what to say."""
        said: list[str] = []
        job, data, run, ranks = self.job, self.data, self.run, self.ranks
        # The first rank's word: on a shared disk the others may not see its last one yet.
        done = ranks.gather(checkpoint.steps(run) if resume else [])[0]
        begun = checkpoint.folder_of(run, done[-1]) if done else None
        self.job = job = settle(
            job,
            data,
            self.contract,
            len(training_windows(job, data, self.contract)),
            self.device,
            ranks,
            lambda: assemble(job, fresh(job, self.contract, data, self.device), self.device),
            begun,
            said.append,
        )

        def learned_before(policy: policies.Policy) -> None:
            if job.init_from is not None:
                said.extend(beginnings.from_bundle(policy, job.init_from).lines())
            if job.init_encoder is not None:
                said.extend(beginnings.encoder_from_file(policy, job.init_encoder).lines())

        weights = learned_before if begun is None else None
        is_split = sharding.wanted(job, ranks)
        # What is split must not be whole on a GPU even once; splitting moves it there in parts.
        where = torch.device("cpu") if is_split else self.device
        policy = fresh(job, self.contract, data, where, weights)
        ranks.agree(_facts(policy, data, self.contract))
        ranks.share(list(policy.state_dict().values()))
        if is_split:
            sharding.split(policy, job, self.device, ranks)
        self.state = assemble(job, policy, self.device)
        spread_dropout(job, ranks, self.state.step)
        if begun is not None:
            held = resume_from(self.state, job, run, done[-1], data, self.device, ranks)
            self.meter.load(held, ranks)
            if ranks.is_first:
                # A kill between a checkpoint and its links leaves the links one behind.
                tidy(job, run)
            ranks.wait()
        return said

    def share(self, batch: store.Batch, stopping: Stopping) -> tuple[list[float] | None, bool]:
        """What each piece is worth in this step, and whether some rank was asked to stop before
        it: all must know of it in the same step."""
        count = self.job.train.grad_accum_steps
        if count == 1 and self.ranks.count == 1:
            return None, False
        mine = learned(batch.action_valid, count)
        total, asked = self.ranks.total([sum(mine), float(stopping.is_asked)])
        return [each / max(total, 1.0) for each in mine], asked > 0

    def means(self) -> dict[str, float]:
        """Means since the last look, starting afresh."""
        means = self.checked(self.meter.held(self.ranks))
        self.meter.clear()
        return means

    def checked(self, held: Mapping[str, torch.Tensor]) -> dict[str, float]:
        return check_finite(held, self.state.step, self.run, self.ranks, self.again)

    def scores(self, is_due: bool) -> dict[str, float]:
        """Measurements that this step asks for; those of held-out data with every checkpoint."""
        job, step, found = self.job, self.state.step, dict[str, float]()
        freq = job.val.offline_freq
        if self.windows is not None and (is_due or step % freq == 0):
            with self.state.average.applied():
                batches = val_batches(job, self.windows, self.contract, self.device, self.ranks)
                actions = self.data.stats[self.contract.action().name]
                mine = val_turns(job, self.windows, self.ranks).mine
                found |= validate(self.state.policy, batches, actions, self.ranks, mine)
        freq = job.val.online_freq
        if freq and (step % freq == 0 or (is_due and job.val.best.startswith("eval/"))):
            found |= self.play()
        return found

    def play(self) -> dict[str, float]:
        """How the policy does in a simulator, on the first rank."""
        found: dict[str, float] = {}
        # What a simulator draws must not change what training draws next.
        with torch.random.fork_rng(), torch.no_grad(), self.averaged() as policy:
            if self.ranks.is_first and self.evaluate is not None:
                found = _named("eval", self.evaluate(policy, self.state.step))
        return self.ranks.gather(found)[0]

    @contextmanager
    def averaged(self) -> Generator[policies.Policy]:
        """A policy in eval mode that is whole on the first rank; every rank calls it."""
        state = self.state
        if not sharding.wanted(self.job, self.ranks):
            with state.average.applied():
                yield state.policy
            return
        weights = sharding.whole(state.average.tensors, keep=self.ranks.is_first)
        policy = state.policy
        if self.ranks.is_first:
            policy = policies.build(self.job.policy, self.contract, self.data.stats)
            policy.load_state_dict(weights)
            policy = policy.to(self.device).eval()
        yield policy

    def save(self, scores: Mapping[str, float]) -> None:
        held = self.meter.held(self.ranks)
        if held:
            self.checked(held)
        pairs = golden_pairs(self.job, self.data, self.contract, count=2)
        save(self.state, self.job, self.data, self.run, scores, held, pairs, self.ranks)

    def batches(self, say: Callable[[str], None], step: int | None = None) -> store.Loader:
        return training_batches(
            self.job,
            self.data,
            self.contract,
            self.state.step if step is None else step,
            self.vary.threads,
            device=self.device,
            rank=self.ranks.rank,
            world_size=self.ranks.count,
            say=say,
        )

    def again(self, step: int) -> tuple[nn.Batch, nn.Draws]:
        """This rank's rows of one step once more: order and augmentation are functions of it."""
        with self.batches(lambda line: None, step) as loader:
            batch = next(iter(loader))
            draws = draws_of(batch, self.job.seed, self.device)
            sent = to_device(batch, self.data, self.contract, self.device)
            return self.vary(sent, draws), draws

    def opening(self) -> str:
        state, data, device = self.state, self.data, self.device
        count = sum(weight.numel() for weight in state.policy.parameters())
        begun = f"goes on from step {state.step}" if state.step else "starts"
        threads = f" with {torch.get_num_threads()} threads" if device.type == "cpu" else ""
        ranks = f", {self.ranks.count} ranks" if self.ranks.count > 1 else ""
        ranks += ", weights in shards" if sharding.wanted(self.job, self.ranks) else ""
        held = "" if self.windows is not None else "; nothing is held out, so no validation"
        return (
            f"{policies.family(state.policy.config)} with {count:,} weights {begun} on "
            f"{device}{threads}{ranks}; data {data.path.name}, {len(data.episodes)} episodes, "
            f"Python {sys.version.split()[0]}, torch {torch.__version__}{held}"
        )


def _facts(policy: policies.Policy, data: store.Store, contract: spec.Spec) -> dict[str, str]:
    """What all ranks must have in common."""
    facts = {f"feature '{each.name}'": each.describe() for each in contract.features}
    weights = policy.state_dict().items()
    facts |= {f"weight {name}": str(tuple(tensor.shape)) for name, tensor in weights}
    return facts | {"data": data.digest, "contract": contract.digest()}


def _named(group: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{group}/{name}": value for name, value in values.items()}
