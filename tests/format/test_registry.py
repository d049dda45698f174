import pytest

from zarr_vectors_lazy.errors import FormatError, UnsupportedCapabilityError, UnsupportedVersionError
from zarr_vectors_lazy.format import registry
from zarr_vectors_lazy.format.base import Found


def group(attributes, **doc):
    return Found("", {"zarr_format": 3, "node_type": "group", "attributes": attributes} | doc, "digest")


def of_version(version):
    return group({"zarr_vectors": {"zv_version": version}})


@pytest.mark.parametrize("version", ["0.9.0", "0.9.1", "0.9.2", "0.9.17", "0.9", "0.9.3.dev0"])
def test_versions_that_are_read(version):
    assert registry.generation_of(of_version(version), where="here").name == "0.9"


@pytest.mark.parametrize("version", ["0.7.0", "0.7", "0.7.3"])
def test_versions_of_the_older_generation(version):
    assert registry.generation_of(of_version(version), where="here").name == "0.7"


@pytest.mark.parametrize("version", ["0.6.1", "0.70.0", "0.8.4", "0.10.0", "0.90.1", "1.0.0", "1.0", "0.99", "9.0.9"])
def test_versions_that_are_not(version):
    with pytest.raises(UnsupportedVersionError, match=f"{version} cannot be read, only 0.7.x, 0.9.x") as caught:
        registry.generation_of(of_version(version), where="s3://bucket/store")
    assert caught.value.where == "s3://bucket/store"


@pytest.mark.parametrize(
    "version", [None, 9, 0.9, "", "nine", "0", "v0.9.2", "0.x.1", "0..9", "0.9x", ["0.9"], "9" * 5000, "\u0660.\u0669"]
)
def test_versions_that_are_none(version):
    with pytest.raises(FormatError, match="zv_version") as caught:
        registry.generation_of(of_version(version), where="here")
    assert not isinstance(caught.value, UnsupportedVersionError)


@pytest.mark.parametrize(
    ("root", "match"),
    [
        (group({}), "a plain Zarr group.*found none"),
        (group({"title": "x"}), "a plain Zarr group.*'title'"),
        (group({"ome": {}}), "an OME-Zarr group"),
        (group({"multiscales": []}), "an OME-Zarr group"),
        (group({"zarr_vectors": "0.9.2"}), "no 'zarr_vectors'"),
        (group({"zarr_vectors": {}}), "zv_version"),
        (group({"zarr_vectors": {"zv_version": "0.9.2"}}, zarr_format=2), "v3 group; found zarr_format 2"),
        (group({"zarr_vectors": {"zv_version": "0.9.2"}}, node_type="array"), "node_type 'array'"),
        (Found("", {}, ""), "found zarr_format None"),
        (Found("", {"zarr_format": 3, "node_type": "group", "attributes": [1]}, ""), "plain Zarr group"),
    ],
)
def test_what_is_no_store(root, match):
    with pytest.raises(FormatError, match=match) as caught:
        registry.generation_of(root, where="there")
    assert caught.value.where == "there"


def test_a_write_that_was_not_finished():
    attributes = {"zarr_vectors": {"zv_version": "0.9.2"}, "zarr_vectors_lazy": {"state": "writing"}}
    with pytest.raises(FormatError, match="unfinished write"):
        registry.generation_of(group(attributes), where="here")
    finished = group(attributes | {"zarr_vectors_lazy": {"state": "complete"}})
    assert registry.generation_of(finished, where="here").name == "0.9"


def requiring(tokens, version="0.9.3"):
    return group({"zarr_vectors": {"zv_version": version, "required_capabilities": tokens}})


def test_what_a_store_requires():
    assert registry.generation_of(requiring(["dense_manifests", "multiscale_links"]), where="here").name == "0.9"
    with pytest.raises(UnsupportedCapabilityError, match="requires 'a', 'b', which is not supported here; supported: "):
        registry.generation_of(requiring(["b", "shared_fragments", "a"]), where="here")
    with pytest.raises(UnsupportedCapabilityError, match="supported: none"):
        registry.generation_of(requiring(["shared_fragments"], "0.7.0"), where="here")
    for wrong in ("additive_levels", None, [1], {"a": 1}):
        with pytest.raises(FormatError, match="required_capabilities must be a list of names"):
            registry.generation_of(requiring(wrong), where="here")
