"""Frozen parameters: constants of the graph, turned round for the products that read them."""

from __future__ import annotations

import pytest
import torch
from conftest import assert_same
from torch.fx.experimental.proxy_tensor import make_fx
from torch_rvv.runtime import record
from torch_rvv.runtime.program import Program

from torch_rvv.packing import pack

OPTIONS = {"freezing": True}


class Net(torch.nn.Module):
    """A linear layer, one with a weight of bytes, and a table that is read in two ways."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(40, 72)
        self.norm = torch.nn.BatchNorm1d(72)
        self.register_buffer("weight", torch.randint(-128, 128, (56, 72), dtype=torch.int8))
        self.register_buffer("scale", torch.rand(56) / 128)
        self.table = torch.nn.Embedding(30, 56)

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.first(x)).relu()
        x = (x @ self.weight.t().float()) * self.scale + self.table(ids)
        return x @ self.table.weight.t()


@pytest.fixture
def programs(monkeypatch):
    made: list[Program] = []
    build = Program.from_graph
    monkeypatch.setattr(Program, "from_graph", lambda *args: made.append(build(*args)) or made[-1])
    return made


def inputs(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows)
    return torch.randn(rows, 40, generator=generator), torch.randint(0, 30, (rows,), generator=generator)


@pytest.mark.board
@pytest.mark.parametrize("rows", [1, 2, 9, 40])
def test_a_frozen_module_agrees_with_aten(rows, rvv, programs):
    net = Net().eval()
    arguments = inputs(rows)
    with torch.no_grad(), record.collecting() as graphs:
        ours = torch.compile(net, backend="rvv", options=OPTIONS)(*arguments)
        theirs = net(*arguments)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert not any(g.extern for g in graphs)
    (program,) = programs
    assert len(program.inputs) == 2 and program.constants


@pytest.mark.board
def test_weights_are_turned_round_and_keep_their_type(rvv, programs):
    with torch.no_grad():
        torch.compile(Net().eval(), backend="rvv", options=OPTIONS)(*inputs(9))
    held = {(tuple(c.shape), c.dtype, c.is_contiguous()) for c in programs[0].constants.values()}
    assert ((40, 72), torch.float32, True) in held and ((72, 56), torch.int8, True) in held
    assert ((30, 56), torch.float32, True) in held  # Rows of it are looked up too.


@pytest.mark.board
def test_inputs_stay_inputs_with_gradients(rvv, programs):
    net = torch.nn.Linear(8, 6)
    x = torch.randn(3, 8)
    out = torch.compile(net, backend="rvv", options=OPTIONS)(x)
    out.sum().backward()
    assert_same(net.bias.grad, torch.full((6,), 3.0))
    assert not any(isinstance(c, torch.Tensor) for p in programs for c in p.constants.values())


@pytest.mark.board
def test_two_modules_of_one_shape_have_their_own_constants(rvv):
    x = torch.randn(5, 8)
    with torch.no_grad():
        for seed in (1, 2):
            torch.manual_seed(seed)
            net = torch.nn.Linear(8, 6)
            torch._dynamo.reset()
            ours = torch.compile(net, backend="rvv", options=OPTIONS)(x)
            torch.testing.assert_close(ours, net(x), rtol=1e-5, atol=1e-6)


def traced(function, weight, x):
    """The ATen graph of function(weight, x) with the weight as an attribute."""
    graph = make_fx(function)(weight, x)
    placeholder = next(n for n in graph.graph.nodes if n.op == "placeholder")
    graph.register_buffer("weight", weight)
    with graph.graph.inserting_before(placeholder):
        constant = graph.graph.get_attr("weight")
    placeholder.replace_all_uses_with(constant)
    for node in graph.graph.nodes:
        node.meta.setdefault("val", node.meta.get("tensor_meta"))
    graph.graph.erase_node(placeholder)
    graph.recompile()
    return graph


@pytest.mark.ir
def test_only_right_operands_are_turned():
    weight, x = torch.randn(6, 8), torch.randn(5, 8)
    turn = lambda w: torch.ops.aten.permute.default(w, [1, 0])  # noqa: E731
    for function, packed in (
        (lambda w, x: torch.mm(x, turn(w)), True),
        (lambda w, x: torch.mm(w, turn(x)), False),  # no constant
        (lambda w, x: torch.mm(x, turn(w)) + w.sum(), False),  # read otherwise too
        (lambda w, x: turn(w) + 1, False),
        (lambda w, x: torch.mm(turn(w), x[:, :6].t() @ x), False),  # the left operand
    ):
        graph = traced(function, weight, x)
        for node in graph.graph.nodes:
            if node.target == torch.ops.aten.permute.default:
                node.meta["val"] = torch.empty(8, 6)
        wanted = graph(x) if packed else None
        graph = pack(graph)
        assert packed == any("packed" in str(n.target) for n in graph.graph.nodes)
        if packed:
            torch.testing.assert_close(graph(x), wanted)
            assert not hasattr(graph, "weight")
