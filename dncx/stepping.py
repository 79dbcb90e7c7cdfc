"""Running a cell one step per call, for robots, games and streams."""

from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from dncx.checks import as_array
from dncx.parts import RecurrentCell
from dncx.sequence import unroll

State = TypeVar("State")


class Stepper(Generic[State]):
    """A cell that is called once per step and keeps its state on the device.

    Each call runs one compiled program. It keeps the weights that the cell has when the
    stepper is created; after an update, create a new one.

    Args:
      cell: a `dncx.DNC`, any other flax recurrent cell, or a network with layers before its cell
        that computes single steps.
      batch_shape: the batch axes, such as (8,) for eight environments; () for one.
      input_size: features of a step's inputs; by default `cell.input_size`.

    Attributes:
      state: the state after the last step; it can be kept and set.

    Raises:
      TypeError: if the cell cannot compute single steps, or its input size is not known.

    Example:
      >>> from flax import nnx
      >>> from dncx import DNC
      >>> step = Stepper(DNC(6, 5, rngs=nnx.Rngs(0)), batch_shape=(8,))
      >>> outputs = step(jnp.ones((8, 6)))
      >>> outputs.shape
      (8, 5)
      >>> outputs = step(jnp.ones((8, 6)), resets=jnp.arange(8) == 3)  # environment 3 starts anew
      >>> step.reset()
    """

    def __init__(
        self,
        cell: RecurrentCell[State],
        batch_shape: tuple[int, ...] = (),
        *,
        input_size: int | None = None,
    ):
        if not getattr(cell, "step_by_step", True):
            raise TypeError(f"a {type(cell).__name__} needs complete sequences")
        size = getattr(cell, "input_size", None) if input_size is None else input_size
        if size is None:
            raise TypeError(f"a {type(cell).__name__} has no input_size: pass input_size=...")
        if not isinstance(batch_shape, tuple):
            raise TypeError(f"batch_shape: must be a tuple, such as (8,); got {batch_shape!r}")
        self._shape = (*batch_shape, size)
        self._graph, self._weights = nnx.split(cell)
        self._start = cell.initialize_carry(self._shape, nnx.Rngs(0))
        self.state: State = self._start
        self._run = jax.jit(self._step)

    def reset(self) -> None:
        """Sets the whole batch back to the initial state."""
        self.state = self._start

    def __call__(
        self, inputs: ArrayLike, resets: ArrayLike | None = None
    ) -> Float[Array, "*batch O"]:
        """One step.

        Args:
          inputs: x_t, [*batch, F].
          resets: [*batch] booleans; if True, the state is reset before the step.

        Returns:
          y_t, [*batch, O].

        Raises:
          ValueError: if the inputs or resets have the wrong shape.
        """
        inputs = as_array("inputs", inputs)
        if inputs.shape != self._shape:
            raise ValueError(f"inputs must have the shape {self._shape}; got {inputs.shape}")
        if resets is not None and jnp.shape(resets) != self._shape[:-1]:
            raise ValueError(
                f"resets must have the shape {self._shape[:-1]}; got {jnp.shape(resets)}"
            )
        self.state, outputs = self._run(self._weights, self.state, inputs, resets)
        return outputs

    def _step(
        self, weights: Any, state: Any, inputs: Array, resets: ArrayLike | None
    ) -> tuple[Any, Array]:
        cell = nnx.merge(self._graph, weights)
        if resets is None:
            return cell(state, inputs)
        sequence = inputs[..., None, :]
        outputs, state = unroll(
            cell, sequence, initial_state=state, resets=jnp.asarray(resets)[..., None]
        )
        return state, outputs[..., 0, :]
