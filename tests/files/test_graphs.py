"""GraphML and lists of edges, read and written, compared with networkx's files."""

import networkx as nx
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.files.rounds import assert_same, back, loaded
from zarr_vectors_lazy.errors import FileError

BIG = 720575940631797753


@pytest.fixture
def graph(tmp_path):
    """Nodes with values of each kind, some missing; parallel edges."""
    found = nx.MultiGraph()
    for number in range(4):
        found.add_node(f"n{number}", x=number * 1.5, y=2.0, z=-1.0, root=BIG + number, kind=["a", ""][number % 2])
    found.nodes["n2"]["only"] = 7
    found.add_edge("n0", "n1", weight=0.5, count=3)
    found.add_edge("n0", "n1", weight=0.25, count=4)
    found.add_edge("n3", "n1", weight=1e-9, count=BIG)
    nx.write_graphml(found, tmp_path / "a.graphml")
    return tmp_path / "a.graphml"


def test_graphml_comes_back(graph, tmp_path):
    one, other, done = back(graph, tmp_path / "b.graphml", tmp_path)
    assert one.kind == "graph"
    assert one.attributes["root"].tolist() == [BIG + number for number in range(4)]
    assert one.attributes["only"].tolist() == [None, None, 7, None]
    assert one.attributes["id"].tolist() == ["n0", "n1", "n2", "n3"]
    assert one.link_attributes["count"].tolist() == [3, 4, BIG]
    assert done["left_out"] == []
    for found in (one, other):
        found.attributes["only"] = found.attributes["only"].filled(-1)
    assert_same(one, other)
    again = nx.read_graphml(tmp_path / "b.graphml")
    assert again.nodes["n2"] == {"x": 3.0, "y": 2.0, "z": -1.0, "root": BIG + 2, "kind": "a", "only": 7}
    assert sorted(data["count"] for *_, data in again.edges(data=True)) == [3, 4, BIG]
    assert len({key for *_, key in again.edges(keys=True)}) == 3


def test_graphml_has_whole_numbers_of_any_length(tmp_path):
    values = {"u": np.array([2**64 - 1, 0], "u8"), "name": [f"{2**70}", "5"]}
    zvl.write_graph(tmp_path / "a.zv", [[0, 0], [1, 1]], [[0, 1]], chunk_shape=5, vertex_attributes=values)
    zvl.open_zv(tmp_path / "a.zv")[0].to_file(tmp_path / "a.graphml")
    text = (tmp_path / "a.graphml").read_text()
    (tmp_path / "a.graphml").write_text(
        text.replace('attr.name="name" attr.type="string"', 'attr.name="name" attr.type="long"')
    )
    found = loaded(tmp_path / "a.graphml").attributes
    assert sorted(found["u"].tolist()) == [0, 2**64 - 1]
    assert sorted(found["name"].tolist()) == [f"{2**70}", "5"]


def test_trees_paths_and_points_are_graphs(tmp_path):
    place, at = tmp_path / "a.zarrvectors", np.arange(12.0).reshape(4, 3)
    zvl.write_polylines(place, [at[:2], at[2:]], chunk_shape=99)
    zvl.open_zv(place)[0].to_file(tmp_path / "a.graphml")
    found = loaded(tmp_path / "a.graphml")
    assert len(found.edges) == 2
    assert sorted(found.object_ids.tolist()) == [0, 0, 1, 1]
    zvl.write_points(place, at[:, :2], chunk_shape=99, mode="w", vertex_attributes={"v": at, "v_0": at[:, 0]})
    zvl.open_zv(place)[0].to_file(tmp_path / "b.graphml")
    found = loaded(tmp_path / "b.graphml")
    assert found.kind == "points"
    assert sorted(found.attributes) == ["id", "v_0", "v_0_", "v_1", "v_2"]


def test_a_list_of_edges_has_its_nodes_beside_it(tmp_path):
    place, at = tmp_path / "a.zarrvectors", np.random.default_rng(0).random((5, 3))
    ids, edges = np.array([10, 20, 30, 40, 50]), [[0, 1], [1, 2], [4, 0]]
    zvl.write_graph(
        place, at, edges, chunk_shape=0.5, vertex_attributes={"id": ids}, link_attributes={"w": [1.5, 2.5, 3.5]}
    )
    level = zvl.open_zv(place)[0]
    done = level.to_file(tmp_path / "g.edgelist")
    assert done["left_out"] == ["positions (they are a table's: g.nodes.csv)"]
    measure = nx.read_edgelist(tmp_path / "g.edgelist", nodetype=int)
    assert sorted((*sorted(pair), data["w"]) for *pair, data in measure.edges(data=True)) == [
        (10, 20, 1.5), (10, 50, 3.5), (20, 30, 2.5),
    ]  # fmt: skip
    with pytest.raises(FileError, match=r"g\.nodes\.csv is needed next to it"):
        loaded(tmp_path / "g.edgelist")
    level.to_file(tmp_path / "g.nodes.csv")
    found = loaded(tmp_path / "g.edgelist")
    assert {tuple(pair) for pair in found.attributes["id"][found.edges].tolist()} == {(10, 20), (20, 30), (50, 10)}
    assert sorted(found.link_attributes["w"].tolist()) == [1.5, 2.5, 3.5]


def test_numbers_behind_edges(tmp_path):
    (tmp_path / "a.nodes.csv").write_text("x,y,z\n0,0,0\n1,0,0\n2,0,0\n")
    (tmp_path / "a.edges").write_text("# source target weight\n0 1 2.5\n1,2,3\n")
    found = loaded(tmp_path / "a.edges")
    assert found.edges.tolist() == [[0, 1], [1, 2]]
    assert found.link_attributes["weight"].tolist() == [2.5, 3]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.graphml", "nonsense", r"a\.graphml cannot be read as GraphML"),
        ("a.graphml", "<graphml/>", r"a\.graphml"),
        ("a.edges", "0\n", "edge 1 has only one node"),
        ("a.edges", "0 9\n", "node '9' is not in"),
        ("a.edges", "0 0 {'a': __import__('os')}\n", r"a\.edges cannot be read"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, text, message):
    (tmp_path / "a.nodes.csv").write_text("x,y,z\n0,0,0\n")
    (tmp_path / name).write_text(text)
    with pytest.raises(FileError, match=message):
        loaded(tmp_path / name)


def test_nodes_without_coordinates_are_named(tmp_path):
    nx.write_graphml(nx.path_graph(3), tmp_path / "a.graphml")
    with pytest.raises(FileError, match="expected nodes with the values x, y and z"):
        loaded(tmp_path / "a.graphml")
