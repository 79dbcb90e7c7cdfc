"""Finding the operation that went wrong first: a program, run one operation at a time.

Numbers that are not finite are usual inside a program (log 0 behind a `where`, the -inf that a
maximum begins with), so the first of them says nothing. Here every value that is not finite carries
its origin, the first operation that made such numbers of finite ones; an operation on such a value
hands the origin on, and it is lost where a value is finite again. The origin that a result has at
the end is to blame for it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from dncx.debugging.origins import (
    FINITE,
    INFINITE,
    NAN,
    Context,
    Origin,
    Stack,
    Step,
    Value,
    constant_value,
    earliest,
    kind_of,
    mended,
    place_of,
    row_kinds,
    rows_at,
)

# Operations that stand for the program that they hold, which takes and gives just what they do.
_CALLS = {
    *("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call"),
    *("custom_vjp_call_jaxpr", "checkpoint", "remat", "remat2"),
}
_HELD = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # the parameters that may hold it
UNKNOWN = Value(None)
_LOOKS = 20  # into the steps of a loop in which something new goes wrong


def replay(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Runs a function one operation at a time, or up to a first result that is not finite.

    Args:
      function: of the arguments, in their order; what JAX can trace.
      arguments: trees of arrays, by what they are to be called.

    Returns:
      The function's result, with a `Value` in the place of each array: `UNKNOWN` after such an end.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments.values())
    values = []
    for name, tree in arguments.items():
        for path, leaf in jax.tree.leaves_with_path(tree):
            array = jnp.asarray(leaf)
            kind, called = kind_of(array), name + jax.tree_util.keystr(path)
            origin = Origin(len(values) - 10**6, called, outputs=(array,)) if kind else None
            values.append(Value(array, kind, origin))
    results = _Interpreter().run(closed, values, Context(), may_end=True)
    return jax.tree.unflatten(jax.tree.structure(shape), results)


class _Interpreter:
    """Runs programs, and numbers what it finds."""

    def __init__(self) -> None:
        self.found = 0
        self.programs: dict[int, tuple[Any, Any]] = {}  # compiled; and what they were compiled from

    def run(
        self,
        program: core.ClosedJaxpr,
        arguments: Sequence[Value],
        context: Context,
        may_end: bool = False,
    ) -> list[Value]:
        """The results of a program."""
        jaxpr = program.jaxpr
        known: dict[Any, Value] = dict(zip(jaxpr.invars, arguments, strict=True))
        for variable, array in zip(jaxpr.constvars, program.consts, strict=True):
            known[variable] = constant_value(array)

        def read(atom: Any) -> Value:
            if isinstance(atom, core.Literal):
                return constant_value(atom.val)
            return known.get(atom, UNKNOWN)

        last = {atom: n for n, eqn in enumerate(jaxpr.eqns) for atom in _variables(eqn.invars)}
        kept = {*_variables(jaxpr.outvars)}
        for number, eqn in enumerate(jaxpr.eqns):
            inputs = [read(atom) for atom in eqn.invars]
            outputs = self._outputs(eqn, inputs, context)
            known |= zip(eqn.outvars, outputs, strict=True)
            for atom in _variables(eqn.invars):  # those of large networks would not fit together
                if last[atom] == number and atom not in kept:
                    known.pop(atom, None)
            if may_end and read(jaxpr.outvars[0]).origin:
                break
        return [read(atom) for atom in jaxpr.outvars]

    def _outputs(self, eqn: core.JaxprEqn, inputs: list[Value], context: Context) -> list[Value]:
        """What an operation gives; looks inside only where that is not finite."""
        name = eqn.primitive.name
        if name == "scan" and eqn.params["length"]:
            return self._scan(eqn, inputs, context)
        if name == "while":
            return self._while(eqn, inputs, context)
        arrays = _bind(eqn, [value.array for value in inputs])
        kinds = [kind_of(array) for array in arrays]
        constant = all(value.constant for value in inputs)
        if constant or not any(kinds):
            pairs = zip(arrays, kinds, strict=True)
            return [Value(array, kind, constant=constant) for array, kind in pairs]
        inside = self._inside(eqn, inputs, context)
        return self.settle(eqn, inputs, inside, arrays, kinds, context)

    def _inside(
        self, eqn: core.JaxprEqn, inputs: list[Value], context: Context
    ) -> list[Value] | None:
        """The results of an operation that holds a program; None if it does not."""
        name, held = eqn.primitive.name, None
        if name == "cond":
            held = eqn.params["branches"][int(inputs[0].array)]
            inputs = inputs[1:]
        elif name in _CALLS:
            held = next((eqn.params[key] for key in _HELD if key in eqn.params), None)
        if held is None:
            return None
        if isinstance(held, core.Jaxpr):
            held = core.ClosedJaxpr(held, ())
        return self.run(held, inputs, context.within(eqn, held))

    def settle(
        self,
        eqn: core.JaxprEqn,
        inputs: list[Value],
        inside: list[Value] | None,
        arrays: list[Any],
        kinds: list[int],
        context: Context,
    ) -> list[Value]:
        """The outputs of an operation, with the origins that were found inside of it.

        Where none was, the operation has it: compiled as a whole it may round otherwise.
        """
        blamed, outputs = None, []
        for number, (array, kind) in enumerate(zip(arrays, kinds, strict=True)):
            found = inside[number] if inside else Value(array)
            constant = bool(found.kind and found.constant)
            if kind and not constant and not found.origin:
                blamed = blamed or self._blame(eqn, inputs, arrays, kinds, context)
                found = Value(array, origin=blamed)
            outputs.append(Value(array, kind, found.origin if kind else None, constant=constant))
        return outputs

    def _blame(
        self,
        eqn: core.JaxprEqn,
        inputs: list[Value],
        arrays: list[Any],
        kinds: list[int],
        context: Context,
    ) -> Origin:
        """The origin that an operation hands on, or itself."""
        cause = _responsible(eqn, inputs)
        worst = max((value.kind for value in inputs if value.origin), default=FINITE)
        if cause and (worst == NAN or max(kinds) == INFINITE):
            return cause
        self.found += 1
        return Origin(
            order=self.found,
            operation=eqn.primitive.name,
            place=context.place or place_of(eqn),
            scope=context.scope_of(eqn),
            steps=context.steps,
            inputs=tuple(value.array for value in inputs),
            outputs=tuple(arrays),
            cause=cause,
        )

    def _scan(self, eqn: core.JaxprEqn, inputs: list[Value], context: Context) -> list[Value]:
        """A loop over time, step by step; each is one compiled program."""
        program, length = eqn.params["jaxpr"], eqn.params["length"]
        consts, carried = eqn.params["num_consts"], eqn.params["num_carry"]
        fixed, xs = inputs[:consts], inputs[consts + carried :]
        carry, loop = inputs[consts : consts + carried], _Loop(self, eqn, program, context)
        stacks = [Stack(aval, length) for aval in program.out_avals[carried:]]
        kinds = [row_kinds(value, length) for value in xs]
        indices = range(length)
        for index in reversed(indices) if eqn.params["reverse"] else indices:
            step = Step(index, length, eqn.params["reverse"])
            outputs = loop.step([*fixed, *carry, *rows_at(xs, kinds, index)], step)
            carry = outputs[:carried]
            for stack, value in zip(stacks, outputs[carried:], strict=True):
                stack.put(index, value)
        return [*carry, *(stack.value() for stack in stacks)]

    def _while(self, eqn: core.JaxprEqn, inputs: list[Value], context: Context) -> list[Value]:
        """A loop until a condition; likewise."""
        of_condition, of_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        known = [value.array for value in inputs[:of_condition]]
        fixed = inputs[of_condition : of_condition + of_body]
        carry, index = inputs[of_condition + of_body :], 0
        condition = self.compiled(eqn.params["cond_jaxpr"])
        loop = _Loop(self, eqn, eqn.params["body_jaxpr"], context)
        while bool(condition(*known, *(value.array for value in carry))[0]):
            carry = loop.step([*fixed, *carry], Step(index, None, False))
            index += 1
        return carry

    def compiled(self, program: core.ClosedJaxpr) -> Callable[..., Any]:
        """A program as a function of its arguments, compiled once."""
        if id(program) not in self.programs:
            self.programs[id(program)] = jax.jit(core.jaxpr_as_fun(program)), program
        return self.programs[id(program)][0]


class _Loop:
    """The steps of a loop. Looks inside those in which it cannot know an origin otherwise."""

    def __init__(
        self, interpreter: _Interpreter, eqn: core.JaxprEqn, program: Any, context: Context
    ):
        self.interpreter, self.eqn, self.program, self.context = interpreter, eqn, program, context
        self.call = interpreter.compiled(program)
        # By what is and what is not finite in a step: the outputs when it was looked at, and for
        # each the input that has the same origin.
        self.seen: dict[Any, tuple[list[Value], list[int | None]]] = {}
        self.looks = 0

    def step(self, inputs: list[Value], step: Step) -> list[Value]:
        """One step."""
        arrays = self.call(*(value.array for value in inputs))
        kinds = [kind_of(array) for array in arrays]
        if not any(kinds):
            return [Value(array) for array in arrays]
        pattern = (*((value.kind, value.origin is None) for value in inputs), *kinds)
        before, sources = self.seen.get(pattern, ([], []))
        new = any(v.origin and s is None for v, s in zip(before, sources, strict=True))
        if not before or (new and self.looks < _LOOKS):
            return self._look(inputs, arrays, kinds, step, pattern)
        return [
            value._replace(array=array, origin=value.origin if s is None else inputs[s].origin)
            for array, value, s in zip(arrays, before, sources, strict=True)
        ]

    def _look(
        self,
        inputs: list[Value],
        arrays: list[Any],
        kinds: list[int],
        step: Step,
        pattern: tuple[Any, ...],
    ) -> list[Value]:
        self.looks += 1
        context = self.context.within(self.eqn, self.program)
        context = context._replace(steps=(*self.context.steps, step))
        inside = self.interpreter.run(self.program, inputs, context)
        outputs = self.interpreter.settle(self.eqn, inputs, inside, arrays, kinds, context)
        origins = [value.origin for value in inputs]
        sources = [
            next((n for n, o in enumerate(origins) if o and o is value.origin), None)
            for value in outputs
        ]
        small = [value._replace(array=None) for value in outputs]
        self.seen[pattern] = small, sources
        return outputs


def _variables(atoms: Sequence[Any]) -> list[Any]:
    return [atom for atom in atoms if not isinstance(atom, core.Literal)]


def _bind(eqn: core.JaxprEqn, arrays: list[Any]) -> list[Any]:
    """The outputs of an operation."""
    parameters = eqn.primitive.get_bind_params(eqn.params)
    with eqn.ctx.manager:
        outputs = eqn.primitive.bind(*arrays, **parameters)
    return [*outputs] if eqn.primitive.multiple_results else [outputs]


def _responsible(eqn: core.JaxprEqn, inputs: list[Value]) -> Origin | None:
    """The earliest origin of the inputs that alone make the outputs what they are."""
    origins = {id(value.origin): value.origin for value in inputs if value.origin}
    if len(origins) < 2:
        return next(iter(origins.values()), None)
    alone = []
    for origin in origins.values():
        arrays = [v.array if v.origin in (None, origin) else mended(v.array) for v in inputs]
        if any(kind_of(array) for array in _bind(eqn, arrays)):
            alone.append(origin)
    return earliest(alone or [*origins.values()])
