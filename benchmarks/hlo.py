"""Counts the work of a compiled program from its text (HLO): kernels, bytes, products, collectives.

For GPUs the compiler reports no costs, so they are counted here. A kernel is an instruction that is not inside another
one. It reads its operands and writes its results, each once. If it reads only a slice or some rows of an operand, only
these count.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_WIDTHS = {"pred": 1, "bf16": 2}
_ARRAY = re.compile(r"\b(?P<dtype>pred|[suf]\d+|bf16)\[(?P<shape>[\d,]*)\]")
_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_COLLECTIVE = re.compile(rf"= (?P<result>\(.*?\)|\S+) (?P<kind>{'|'.join(_KINDS)})(?P<start>-start)?\(")
_HEAD = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.-]+) \(.*\) -> .*\{$")
_INSTRUCTION = re.compile(
    r"^\s*(?P<root>ROOT )?%?(?P<name>[\w.-]+) = (?P<result>\(.*?\)|\S+) (?P<kind>[a-z][\w-]*)\((?P<rest>.*)$"
)

Array = tuple[str, tuple[int, ...]]


def arrays(text: str) -> list[Array]:
    """Returns the dtypes and shapes in a piece of a compiled program's text."""
    return [
        (match["dtype"], tuple(int(length) for length in match["shape"].split(",") if length))
        for match in _ARRAY.finditer(text)
    ]


def num_bytes(found: Sequence[Array]) -> int:
    """Returns the total bytes of these arrays, without padding."""
    return sum((_WIDTHS.get(dtype) or int(dtype[1:]) // 8) * math.prod(shape) for dtype, shape in found)


def collectives(text: str) -> list[tuple[str, str, tuple[int, ...]]]:
    """Returns kind, dtype and shape of each result of a compiled program's collectives."""
    found = []
    for match in _COLLECTIVE.finditer(text):
        results = arrays(match["result"])
        if match["start"] and match["result"].startswith("(") and match["kind"] != "all-reduce":
            results = results[len(results) // 2 :]  # the first half are the operands
        found += [(match["kind"], dtype, shape) for dtype, shape in results]
    return found


def exchanged(text: str) -> dict[str, int]:
    """Returns the bytes of all results of each kind of collective, by dtype: {"all-reduce f32": 123}."""
    totals: collections.Counter[str] = collections.Counter()
    for kind, dtype, shape in collectives(text):
        totals[f"{kind} {dtype}"] += num_bytes([(dtype, shape)])
    return dict(sorted(totals.items()))


@dataclasses.dataclass(frozen=True)
class Instruction:
    """An instruction, one line of a program's text.

    Attributes:
        name: its name within its computation.
        kind: such as "fusion", "custom-call" or "copy".
        results: dtype and shape of each result.
        operands: their names; for a parameter, its number.
        attributes: the text after the operands.
        root: whether its computation returns it.
    """

    name: str
    kind: str
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    root: bool

    def named(self, attribute: str) -> str:
        """Returns the value of an attribute such as calls=%name; "" if there is none."""
        found = re.search(rf'\b{attribute}=%?"?([\w.$-]+)', self.attributes)
        return found[1] if found else ""


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel that a GPU launches.

    Attributes:
        name: name of its instruction.
        kind: a key of `KINDS`.
        dtype: dtype of the factors of a product; "" for other kernels.
        results: dtype and shape of each result.
        read: bytes read.
        written: bytes written.
        operations: two for each multiply-add of a convolution or matrix product; nothing else counts.
        origin: the operation of the model that it comes from, as named in the program's text.
        times: executions per step.
    """

    name: str
    kind: str
    dtype: str
    results: tuple[Array, ...]
    read: int
    written: int
    operations: int
    origin: str
    times: int = 1


KINDS = {
    "convolution": "convolutions",
    "product": "matrix products",
    "copy": "layout copies",
    "exchange": "exchanges",
    "fusion": "everything else",
}
_NO_KERNEL = {
    "after-all", "bitcast", "constant", "get-tuple-element", "opt-barrier", "parameter", "partition-id", "replica-id",
    "tuple",
}  # fmt: skip
_MOVING = {"bitcast", "broadcast", "constant", "convert", "copy", "parameter", "reshape", "transpose", "tuple"}
_TAKING = {"dynamic-slice", "gather", "slice"}


class Program:
    """A compiled program, parsed from its text."""

    def __init__(self, text: str):
        self.computations: dict[str, Computation] = {}
        self.entry = ""
        computation: Computation = {}
        for line in text.splitlines():
            if head := _HEAD.match(line):
                computation = self.computations[head["name"]] = {}
                self.entry = head["name"] if head["entry"] else self.entry
            elif found := _INSTRUCTION.match(line):
                operands, attributes = _parted(found["rest"])
                computation[found["name"]] = Instruction(
                    found["name"],
                    found["kind"],
                    tuple(arrays(found["result"])),
                    (operands,) if found["kind"] == "parameter" else tuple(re.findall(r"%([\w.-]+)", operands)),
                    attributes,
                    bool(found["root"]),
                )

    @functools.cached_property
    def step(self) -> str:
        """The computation of one training step: the body of the outermost loop with convolutions, or else the entry."""
        for each in self.computations[self.entry].values():
            if each.kind == "while" and any(kernel.kind == "convolution" for kernel in self._of(each.named("body"))):
                return each.named("body")
        return self.entry

    def kernels(self) -> list[Kernel]:
        """Returns the kernels of one step, or of one call of a program that is not a loop of steps."""
        return list(self._of(self.step))

    def _of(self, name: str, times: int = 1) -> Iterator[Kernel]:
        computation = self.computations[name]
        for each in computation.values():
            if each.kind == "while":
                count = re.search(r'"known_trip_count":\{"n":"(\d+)"', each.attributes)
                yield from self._of(each.named("body"), times * (int(count[1]) if count else 1))
            elif each.kind in ("call", "async-start"):
                yield from self._of(each.named("to_apply") or each.named("calls"), times)
            elif each.kind == "conditional":
                branches = re.search(r"branch_computations=\{([^}]*)\}", each.attributes)
                names = re.findall(r"%([\w.-]+)", branches[1]) if branches else [each.named("true_computation")]
                yield from max((list(self._of(branch, times)) for branch in names), key=len)
            elif each.kind not in _NO_KERNEL and not each.kind.endswith(("-done", "-update")):
                yield self._kernel(each, computation, times)

    def _kernel(self, each: Instruction, computation: Computation, times: int) -> Kernel:
        inside = self.computations.get(each.named("calls"), {}) if each.kind == "fusion" else {}
        operands = [computation[name] for name in each.operands]
        if inside:
            given = {int(part.operands[0]): part for part in inside.values() if part.kind == "parameter"}
            read = sum(_taken(given[i], inside) for i in _first(each.operands))
            written = _left(next(i for i in inside.values() if i.root), inside)
        elif each.kind in _TAKING:
            read = written = num_bytes(each.results)
        elif each.kind == "dynamic-update-slice":
            read = written = num_bytes(operands[1].results)
        else:
            read = sum(num_bytes(operands[i].results) for i in _first(each.operands))
            written = num_bytes(each.results)
        kind, dtype, operations = self._work(each, operands, inside)
        origin = re.search(r'op_name="([^"]*)"', each.attributes)
        return Kernel(
            each.name, kind, dtype, each.results, read, written, operations, origin[1] if origin else "", times
        )

    def _work(self, each: Instruction, operands: list[Instruction], inside: Computation) -> tuple[str, str, int]:
        """Returns kind, dtype and operations of a kernel."""
        if each.kind.removesuffix("-start") in _KINDS:
            return "exchange", "", 0
        target = each.named("custom_call_target") if each.kind == "custom-call" else ""
        if target.startswith("__cudnn$conv"):
            return "convolution", operands[0].results[0][0], _convolved(each, operands, backward=_backward(target))
        if target.startswith("__cublas"):
            return "product", operands[0].results[0][0], _multiplied(each.attributes, each, operands, _IN_CONFIG)
        for part in inside.values():
            if part.kind == "dot":
                parts = [inside[name] for name in part.operands]
                return "product", parts[0].results[0][0], _multiplied(part.attributes, part, parts, _IN_TEXT)
        moves = {part.kind for part in inside.values()} if inside else {each.kind}
        return ("copy" if moves <= _MOVING and moves & {"copy", "transpose"} else "fusion"), "", 0


_IN_TEXT = r"lhs_contracting_dims=\{([\d,]*)\}"
_IN_CONFIG = r'"lhs_contracting_dimensions":\[([^\]]*)\]'


def _multiplied(text: str, product: Instruction, operands: list[Instruction], where: str) -> int:
    """Returns the operations of a matrix product."""
    found = re.search(where, text)
    shape = operands[0].results[0][1]
    inner = math.prod(shape[int(d)] for d in re.findall(r"\d+", found[1])) if found else shape[-1]
    return 2 * math.prod(product.results[0][1]) * inner


def _backward(target: str) -> str:
    """Returns the gradient that a cuDNN custom call computes: "input", "kernel", or "" for a forward convolution."""
    return "input" if "BackwardInput" in target else "kernel" if "BackwardFilter" in target else ""


def _convolved(each: Instruction, operands: list[Instruction], *, backward: str) -> int:
    """Returns the operations of a convolution or either of its gradients, which are equal except at the edges."""
    first, second, result = operands[0].results[0][1], operands[1].results[0][1], each.results[0][1]
    # The labels are those of the forward convolution: input, kernel, output.
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", each.attributes)
    assert labels, f"{each.name} is a convolution without dim_labels"
    output, kernel = {
        "": (result, second),
        "input": (first, second),
        "kernel": (second, result),
    }[backward]
    return 2 * math.prod(output) * math.prod(kernel) // kernel[labels[2].index("o")]


def _parted(rest: str) -> tuple[str, str]:
    """Splits the text after an opening parenthesis into an instruction's operands and attributes."""
    depth = 1
    for at, character in enumerate(rest):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if not depth:
            return (rest[:at], rest[at + 1 :].removeprefix(", "))
    return rest, ""


def _first(names: Sequence[str]) -> list[int]:
    """Returns the index of each name's first occurrence, because a repeated operand is read once."""
    return [i for i, name in enumerate(names) if name not in names[:i]]


def _taken(parameter: Instruction, computation: Computation) -> int:
    """Returns the bytes of a parameter that a fusion reads: only slices or rows, if it uses no more."""

    def of(name: str) -> list[int]:
        found: list[int] = []
        for user in computation.values():
            if name not in user.operands:
                continue
            if user.kind == "bitcast":
                found += of(user.name)
            elif user.kind in _TAKING and user.operands[0] == name and name not in user.operands[1:]:
                found.append(num_bytes(user.results))
            elif user.kind == "dynamic-update-slice" and user.operands[0] == name:
                found.append(0)  # in place
            else:
                found.append(num_bytes(parameter.results))
        return found

    return min(sum(of(parameter.name)), num_bytes(parameter.results))


def _left(result: Instruction, computation: Computation) -> int:
    """Returns the bytes that a fusion writes: only the slice, if it updates one in place."""
    if result.kind == "tuple":
        return sum(_left(computation[name], computation) for name in result.operands)
    if result.kind == "bitcast":
        return _left(computation[result.operands[0]], computation)
    if result.kind == "dynamic-update-slice":
        return num_bytes(computation[result.operands[1]].results)
    return num_bytes(result.results)


def summary(kernels: Sequence[Kernel]) -> dict[str, Any]:
    """Returns the kernels, operations and bytes of a step, and kernels and bytes by kind."""

    def total(count: Callable[[Kernel], int]) -> int:
        return sum(kernel.times * count(kernel) for kernel in kernels)

    return {
        "kernels": total(lambda kernel: 1),
        "operations": total(lambda kernel: kernel.operations),
        "bytes": total(lambda kernel: kernel.read + kernel.written),
        "of": {
            kind: {
                "kernels": total(lambda kernel, kind=kind: kernel.kind == kind),  # type: ignore[misc]
                "bytes": total(lambda kernel, kind=kind: (kernel.kind == kind) * (kernel.read + kernel.written)),  # type: ignore[misc]
            }
            for kind in KINDS
        },
    }


def floor_seconds(kernels: Sequence[Kernel], *, bandwidth: float, speed: dict[str, float]) -> float:
    """Returns the minimum time of sequential kernels, each limited by its bytes or its operations.

    Args:
        kernels: the kernels of a step.
        bandwidth: bytes per second between the device and its memory.
        speed: operations per second of products, by dtype.
    """
    return sum(
        kernel.times
        * max(
            (kernel.read + kernel.written) / bandwidth,
            kernel.operations / speed[kernel.dtype] if kernel.operations else 0.0,
        )
        for kernel in kernels
    )
