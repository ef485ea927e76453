"""Reading traced programs."""

import jax


def equations(program):
    """Yields every operation of a traced program, including those of its inner functions."""
    for equation in program.eqns:
        yield equation
        inner = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns"))
        for part in inner:
            if hasattr(part, "eqns"):
                yield from equations(part)
