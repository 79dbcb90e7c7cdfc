"""The baseline of `acting`: PPO with a DNC in eager PyTorch, as such code is usually written.

It does what `dncx.rl.ppo` does, with the same settings: a window of steps in each environment,
advantages, then epochs of minibatches of whole windows.
"""

# pyright: reportMissingImports=false

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.models import Size, make_cell
from benchmarks.pytorch_dnc import pytorch_dnc
from dncx.tasks.acting.repeat_previous import RepeatPrevious


class Cards:
    """A batch of repeat-previous."""

    def __init__(self, world: RepeatPrevious, batch: int):
        self.suits, self.k, self.batch = world.num_actions, world.k, batch
        self.gain = 1 / (world.num_cards - world.k)
        self.deck = torch.arange(world.num_cards) % world.num_actions
        self.deal()

    def deal(self) -> None:
        """Shuffles the deck of every environment; all episodes have the same length."""
        self.cards = self.deck[torch.rand(self.batch, len(self.deck)).argsort(dim=1)]
        self.time = 0

    def observe(self) -> Tensor:
        """The present cards."""
        return functional.one_hot(self.cards[:, self.time], self.suits).float()

    def step(self, actions: Tensor) -> tuple[Tensor, bool]:
        """The rewards, and whether the episodes have ended."""
        wanted = self.time - self.k + 1
        rewards = torch.zeros(self.batch)
        if wanted >= 0:
            right = actions == self.cards[:, wanted]
            rewards = torch.where(right, self.gain, -self.gain)
        self.time += 1
        done = self.time == len(self.deck) - 1
        if done:
            self.deal()
        return rewards, done


def iteration(size: Size, world: RepeatPrevious, batch: int) -> Callable[[], Any]:
    """A function that acts for a window and learns from it."""
    model = pytorch_dnc(size, make_cell(size, "plain"))
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-4, alpha=0.9)
    cards, steps = Cards(world, batch), world.window_steps
    parts = batch // world.minibatches

    def act() -> tuple[Tensor, ...]:
        seen: list[list[Tensor]] = [[] for _ in range(5)]
        state = model.initial_state(batch)  # a window is an episode
        with torch.no_grad():
            for _ in range(steps):
                inputs = cards.observe()
                outputs, state = model.step(inputs, state)
                policy = torch.distributions.Categorical(logits=outputs[:, :-1])
                actions = policy.sample()
                rewards, _ = cards.step(actions)
                now = inputs, actions, policy.log_prob(actions), outputs[:, -1], rewards
                for kept, new in zip(seen, now, strict=True):
                    kept.append(new)
        inputs, actions, log_probs, values, rewards = map(torch.stack, seen)
        advantages, later, following = (
            torch.zeros_like(values),
            torch.zeros(batch),
            torch.zeros(batch),
        )
        for t in reversed(range(steps)):
            error = rewards[t] + world.discount * following - values[t]
            later = error + world.discount * world.gae_lambda * later
            advantages[t], following = later, values[t]
        return inputs, actions, log_probs, values, advantages

    def learn(inputs: Tensor, actions: Tensor, log_probs: Tensor, values: Tensor, gains: Tensor):
        outputs, _ = model(inputs.transpose(0, 1))
        outputs = outputs.transpose(0, 1)
        policy = torch.distributions.Categorical(logits=outputs[..., :-1])
        fair = (gains - gains.mean()) / (gains.std(correction=0) + 1e-8)
        ratio = torch.exp(policy.log_prob(actions) - log_probs)
        clipped = ratio.clamp(1 - world.ppo_clip, 1 + world.ppo_clip)
        gain = torch.minimum(ratio * fair, clipped * fair).mean()
        errors = outputs[..., -1] - (gains + values)
        loss = world.value_cost * 0.5 * errors.square().mean() - gain
        loss = loss - world.entropy_cost * policy.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 50.0)
        optimizer.step()

    def call() -> None:
        window = act()
        for _ in range(world.epochs):
            for part in torch.randperm(batch).split(parts):
                learn(*(x[:, part] for x in window))

    return call
