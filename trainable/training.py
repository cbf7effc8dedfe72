"""A training of one configuration, step by step, without Ray: what the single run and every trial share.

A step is a part of the full length, as long as all others: an epoch, a part of one, or several.
"""

import logging
import math
import resource
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from timm.data.loader import PrefetchLoader
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from trainable import metrics
from trainable.architectures import build_model, classifiers, frozen_modules, normalisation, parameter_ids
from trainable.config import TrialConfig
from trainable.data.augmentation import strength_at
from trainable.data.dataset import Dataset
from trainable.data.loader import BatchOrder, choose_workers, dead_workers, in_order, train_loader
from trainable.data.mixing import BatchMixer
from trainable.data.resident import ResidentBatches, choose_place, resident_in_order
from trainable.device import EVAL_BATCH, choose_arithmetic, images_at_once
from trainable.epoch import (
    HeldOutScores,
    Machinery,
    MicroBatch,
    Normalise,
    TrainScores,
    predict_logits,
    score,
    together,
    train_epoch,
)
from trainable.errors import UserError
from trainable.linear_probe import Head, probe_head, set_head
from trainable.time_split import TimeSplit

logger = logging.getLogger(__name__)

WORST = HeldOutScores(loss=math.inf, top1=0.0, top5=0.0)
"""The scores of a step that diverged."""


class Training:
    """The state of one training: weights, optimiser, updates done, and the best step so far.

    Trains on the cache rows `train_rows` and scores on `held_out_rows`. Everything random in an epoch follows from
    the seed and the epoch's number, whatever the steps, and within an epoch from the generators' states. So a training
    continued from a checkpoint equals an undisturbed one on a CPU.

    UserError if the configuration has more steps than updates.
    """

    def __init__(
        self,
        config: TrialConfig,
        dataset: Dataset,
        train_rows: np.ndarray,
        held_out_rows: np.ndarray,
        device: torch.device,
        cores: int = 1,
    ) -> None:
        self.config = config
        self.dataset = dataset
        self.held_out_rows = held_out_rows
        self.order = BatchOrder(train_rows, config.batch_size, config.seed)
        self.machinery = build_machinery(config, dataset, device, updates_per_epoch=len(self.order))
        self.place = choose_place(config.data_on, device, dataset.cache.images.nbytes)
        self.loader: DataLoader | None = None
        self.batches: Iterable[tuple[torch.Tensor, torch.Tensor]]
        """Of an epoch, on the device where they are made there."""
        if self.place.on_device:
            self.workers, self.workers_reason = 0, "batches are made where the model trains"
            normalise = self.machinery.normalise
            self.batches = ResidentBatches(dataset.cache, self.order, config, normalise.offset, normalise.scale, device)
        else:
            self.workers, self.workers_reason = choose_workers(device, cores, config.augment)
            on_gpu = device.type == "cuda"
            self.batches = self.loader = train_loader(dataset.cache, self.order, config, self.workers, pin=on_gpu)
            if on_gpu:  # copies the next batch while this one is trained on
                self.batches = PrefetchLoader(self.loader, *normalisation(self.machinery.model), device=device)
        self.updates = 0
        self.generators: dict[str, torch.Tensor] = {}
        """States of torch's generators within an epoch; empty between two."""
        self.deadline = math.inf
        """Seconds since 1970 after which a step ends with the update that runs."""
        self.history: list[dict[str, Any]] = []
        self.best: tuple[float, float] | None = None
        self.best_epoch: float = 0
        self.best_weights: dict[str, torch.Tensor] = {}
        self.best_logits = np.zeros((0, dataset.num_classes), dtype=np.float16)
        self.probe: Head | None = None
        """What the head started from, if that was a probe and this process fitted it."""
        self.seconds_checkpoint = 0.0
        self.watch: Callable[[Iterable], Iterable] = iter
        """What an epoch's batches pass through on their way: a progress bar, say."""
        if self.steps > self.total_updates:
            raise UserError(
                f"{config.arch}: {self.steps} steps, but its {config.epochs:g} epochs are only {self.total_updates} "
                f"updates of {config.batch_size} images; give fewer steps, or smaller batches"
            )

    @property
    def total_updates(self) -> int:
        """Of the full length."""
        return total_updates(self.config.epochs, len(self.order))

    @property
    def steps(self) -> int:
        """Parts that the full length is trained in."""
        return self.config.steps or math.ceil(self.config.epochs)

    @property
    def epoch(self) -> float:
        """Epochs done: a whole number between two, a fraction within one."""
        whole, part = divmod(self.updates, len(self.order))
        return self.updates / len(self.order) if part else whole

    @property
    def step(self) -> float:
        """Steps done, a fraction within one."""
        done = self._whole_steps
        begin = self._updates_at(done)
        if begin == self.updates:
            return done
        return done + (self.updates - begin) / (self._updates_at(done + 1) - begin)

    @property
    def _whole_steps(self) -> int:
        return ((self.updates + 1) * self.steps - 1) // self.total_updates

    def _updates_at(self, step: int) -> int:
        return step * self.total_updates // self.steps

    @property
    def done(self) -> bool:
        """Whether the training has its full length behind it, or has diverged."""
        return self.updates >= self.total_updates or bool(self.history and self.history[-1][metrics.DIVERGED])

    @property
    def batch(self) -> int:
        """Images an update: the batch size, or all images where there are fewer."""
        return min(self.config.batch_size, len(self.order.rows))

    @property
    def micro_batch(self) -> int:
        """Images a pass through the model in the latest step, which the next one begins with."""
        # records of earlier versions lack it
        return self.history[-1].get(metrics.MICRO_BATCH, self.batch) if self.history else self.batch

    @property
    def micro_batch_note(self) -> str | None:
        """How a batch is split since memory ran out, and what that means; None where it is whole."""
        micro_batch = self.micro_batch
        if micro_batch >= self.batch:
            return None
        note = f"memory ran out: {self.config.arch} trains batches of {self.batch} in micro-batches of {micro_batch}"
        if any(isinstance(module, _BatchNorm) for module in self.machinery.model.modules()):
            return f"{note}, and its batch norm takes the statistics of a micro-batch, not of the batch"
        return f"{note}, whose gradients add up to the batch's"

    def run_step(self, until: float = math.inf) -> dict[str, Any]:
        """Train to the end of a step, or to `until` updates in all, and score; returns the record.

        Its keys are those of `trainable.metrics`. Past the deadline a step ends with the update that runs. What a user
        can fix, memory that doesn't suffice or a data worker that died, is raised as a UserError.
        """
        note_before = self.micro_batch_note
        try:
            record = self._run_step(until)
        except torch.OutOfMemoryError as error:
            raise UserError(self._out_of_memory()) from error
        except (RuntimeError, OSError, EOFError) as error:  # which of them depends on where torch notices the death
            death = self._dead_workers()
            if death is None:
                raise
            raise UserError(death) from error
        if self.micro_batch_note != note_before:
            logger.warning(self.micro_batch_note)
        return record

    def _dead_workers(self) -> str | None:
        if self.loader is None:
            return None
        try:
            return dead_workers(self.loader)
        except RuntimeError:  # torch's handler of SIGCHLD, once for a death, wherever the main thread is by then
            return dead_workers(self.loader)

    def _run_step(self, until: float) -> dict[str, Any]:
        started = time.perf_counter()
        if self.updates == 0 and (self.config.is_probe or self.config.head == "probe"):
            self._start_from_probe()
        train = (
            self._as_trained()
            if self.config.is_probe
            else self.train_up_to(int(min(until, self._updates_at(self._whole_steps + 1))))
        )
        trained = time.perf_counter()
        logits, held_out = self._evaluate() if train.finite else (None, WORST)
        if logits is not None:
            self._keep_if_best(logits, held_out)
        train = train._replace(finite=logits is not None)
        record = self._record(train, held_out, trained - started, time.perf_counter() - trained)
        self.history.append(record)
        return record

    def _start_from_probe(self) -> None:
        """Give the model the head of logistic regression on its frozen features."""
        config, machinery = self.config, self.machinery
        rows, caches = self.order.rows, config.cache_dir
        self.probe = probe_head(machinery, self.dataset, rows, config.arch, config.flip, config.seed, caches)
        set_head(machinery.model, self.probe)
        if machinery.ema:
            machinery.ema.set(machinery.model)

    def _as_trained(self) -> TrainScores:
        """A probe is at its full length at once; its scores are those of training images that a fit didn't see."""
        assert self.probe is not None
        labels = torch.from_numpy(self.dataset.cache.labels[self.order.rows])
        self.updates = self.total_updates
        self.machinery.split = TimeSplit(self.machinery.device)
        self.machinery.split.totals[metrics.SECONDS_DATA] = self.probe.features_s
        return TrainScores(*score(torch.from_numpy(self.probe.out_of_fold), labels), len(labels), True, 0)

    def predict(self, rows: np.ndarray) -> torch.Tensor:
        """float32 logits (rows, classes) of the evaluated weights for rows of the cache."""
        on_gpu = self.place.on_device and self.machinery.device.type == "cuda"
        batches = resident_in_order if on_gpu else in_order
        return predict_logits(self.machinery, batches(self.dataset.cache, rows, EVAL_BATCH))

    def _evaluate(self) -> tuple[torch.Tensor | None, HeldOutScores]:
        logits = self.predict(self.held_out_rows)
        held_out = score(logits, torch.from_numpy(self.dataset.cache.labels[self.held_out_rows]))
        # the step's last update can break the weights after a loss that was finite
        return (logits, held_out) if math.isfinite(held_out.loss) else (None, WORST)

    def train_up_to(self, target: int) -> TrainScores:
        """Train up to `target` updates, epoch by epoch."""
        self.machinery.split = TimeSplit(self.machinery.device)
        self.machinery.micro_batch.images = self.micro_batch
        parts: list[TrainScores] = []
        while self.updates < target:
            parts.append(self._train_in_epoch(target))
            self.updates += parts[-1].updates
            if not parts[-1].finite or self._is_over():
                break
        return together(parts)

    def _train_in_epoch(self, target: int) -> TrainScores:
        """Train from where the epoch was left, up to `target` updates or its end."""
        config, order = self.config, self.order
        order.epoch, order.start = divmod(self.updates, len(order))
        order.stop = min(len(order), order.start + target - self.updates)
        if order.start == 0:
            torch.manual_seed(int(np.random.SeedSequence((config.seed, order.epoch)).generate_state(1)[0]))
        else:
            set_generators(self.generators, self.machinery.device)
        mixer = BatchMixer(self.dataset.num_classes, config.mix_prob, strength_at(order.epoch, config.epochs))
        batches, smoothing = self.watch(self.batches), config.label_smoothing
        scores = train_epoch(self.machinery, batches, mixer, smoothing, config.clip_grad, self.updates, self._is_over)
        within = order.start + scores.updates < len(order)
        self.generators = generators(self.machinery.device) if within else {}
        return scores

    def _is_over(self) -> bool:
        """Whether the deadline leaves time for no more than scoring."""
        scoring_s = self.history[-1][metrics.SECONDS_EVAL] if self.history else 0.0
        return time.time() + scoring_s >= self.deadline

    def _out_of_memory(self) -> str:
        return (
            f"{self.config.arch}: out of memory with {self.machinery.micro_batch.images} of a batch's {self.batch} "
            f"images at a time, at {self.dataset.image_size} px, and fewer wouldn't help; give a larger "
            "--gpus-per-trial, a smaller --image-size or smaller batches "
            "(--set batch_size=N, in a single run --batch-size N)"
        )

    def _keep_if_best(self, logits: torch.Tensor, held_out: HeldOutScores) -> None:
        scored = (held_out.top1, -held_out.loss)
        if self.best is None or scored > self.best:
            self.best = scored
            self.best_epoch = self.epoch
            self.best_weights = cpu_weights(self.machinery.evaluated)
            self.best_logits = logits.numpy().astype(np.float16)

    def _record(
        self, train: TrainScores, held_out: HeldOutScores, seconds_train: float, seconds_eval: float
    ) -> dict[str, Any]:
        return {
            metrics.STEP: self.step,
            metrics.UPDATES: 0 if self.config.is_probe else self.updates,
            metrics.EPOCH: self.epoch,
            metrics.TRAIN_LOSS: train.loss,
            metrics.TRAIN_TOP1: train.top1,
            metrics.TRAIN_TOP5: train.top5,
            metrics.SELECT_LOSS: held_out.loss,
            metrics.SELECT_TOP1: held_out.top1,
            metrics.SELECT_TOP5: held_out.top5,
            metrics.BEST_TOP1: self.best[0] if self.best else 0.0,
            metrics.BEST_EPOCH: self.best_epoch,
            metrics.LEARNING_RATE: max(group["lr"] for group in self.machinery.optimizer.param_groups),
            metrics.STRENGTH: strength_at(self.order.epoch, self.config.epochs),
            metrics.MICRO_BATCH: self.machinery.micro_batch.images,
            metrics.IMAGES_PER_SECOND: train.images / seconds_train,
            metrics.PEAK_MEMORY: peak_memory_bytes(self.machinery.device),
            **self.machinery.split.seconds(),
            metrics.SECONDS_TRAIN: seconds_train,
            metrics.SECONDS_EVAL: seconds_eval,
            metrics.SECONDS_CHECKPOINT: self.seconds_checkpoint,
            metrics.DIVERGED: not train.finite,
        }


def build_machinery(config: TrialConfig, dataset: Dataset, device: torch.device, updates_per_epoch: int) -> Machinery:
    """Model, optimiser, schedule and arithmetic of `config` on `device`."""
    model = build_model(config, dataset.num_classes, dataset.image_size).to(device)
    model = model.to(memory_format=torch.channels_last)
    arithmetic = choose_arithmetic(config.precision, device)
    optimizer = make_optimizer(model, config)
    return Machinery(
        model=model,
        normalise=Normalise(*normalisation(model)).to(device),
        optimizer=optimizer,
        schedule=cosine_with_warmup(optimizer, config, updates_per_epoch),
        scaler=torch.amp.GradScaler(device.type, enabled=arithmetic.scale_gradients),
        arithmetic=arithmetic,
        ema=ModelEmaV3(model, decay=config.ema_decay, use_warmup=True) if config.ema_decay else None,
        device=device,
        micro_batch=MicroBatch(config.batch_size),
        eval_micro_batch=MicroBatch(images_at_once(dataset.image_size, device)),
        frozen=frozen_modules(model, config),
    )


def make_optimizer(model: torch.nn.Module, config: TrialConfig) -> torch.optim.Optimizer:
    """AdamW with a learning rate for each layer, and for the classifier, as configured."""
    optimizer = create_optimizer_v2(
        model, opt="adamw", lr=config.lr, weight_decay=config.weight_decay, layer_decay=config.layer_decay, fused=True
    )
    if config.backbone_lr != 1:
        head = parameter_ids(classifiers(model))
        optimizer.param_groups = [
            group | {"params": params, "lr_scale": group.get("lr_scale", 1.0) * factor}
            for group in optimizer.param_groups
            for factor, wanted in ((1.0, True), (config.backbone_lr, False))
            if (params := [each for each in group["params"] if (id(each) in head) is wanted])
        ]
    return optimizer


def cosine_with_warmup(
    optimizer: torch.optim.Optimizer, config: TrialConfig, updates_per_epoch: int
) -> CosineLRScheduler:
    """Linear warm-up from 1 % of the peak, then a cosine towards 0 after the last update (Loshchilov & Hutter 2017)."""
    warmup_updates = round(min(config.warmup_epochs, config.epochs / 5) * updates_per_epoch)
    return CosineLRScheduler(
        optimizer,
        t_initial=total_updates(config.epochs, updates_per_epoch) - warmup_updates,
        warmup_t=warmup_updates,
        warmup_lr_init=config.lr / 100,
        warmup_prefix=True,
        t_in_epochs=False,
    )


def total_updates(epochs: float, updates_per_epoch: int) -> int:
    """Updates of a training of so many epochs, at least one."""
    return max(1, round(epochs * updates_per_epoch))


def generators(device: torch.device) -> dict[str, torch.Tensor]:
    """States of torch's generators that a training on `device` draws from, as tensors on the host."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_generators(states: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Put them back; one that was saved on a device without a GPU has no state for it."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def cpu_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A contiguous copy of the weights on the CPU, as safetensors wants them."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }


def peak_memory_bytes(device: torch.device) -> int:
    """Peak device memory that torch took on a GPU; the process's peak resident memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
