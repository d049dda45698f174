"""Cross-origin configurations, as the clients of each service expect them."""

import json

import pytest
from azure.storage.blob import CorsRule
from botocore.session import get_session
from botocore.validate import ParamValidator

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import SelectionError


def test_s3_takes_it():
    shape = get_session().get_service_model("s3").operation_model("PutBucketCors").input_shape
    made = {"Bucket": "b", "CORSConfiguration": zvl.cors("s3")}
    assert not ParamValidator().validate(made, shape).has_errors()
    (rule,) = zvl.cors("s3")["CORSRules"]
    assert {"GET", "HEAD"} == set(rule["AllowedMethods"])
    assert {"Content-Range", "Content-Length"} <= set(rule["ExposeHeaders"])


def test_google_and_azure():
    (rule,) = zvl.cors("gcs", origins=["https://example.org"])
    assert rule["origin"] == ["https://example.org"]
    assert {"Range", "Content-Range"} <= set(rule["responseHeader"])
    (rule,) = zvl.cors("azure")["corsRules"]
    made = CorsRule(
        rule["allowedOrigins"],
        rule["allowedMethods"],
        max_age_in_seconds=rule["maxAgeInSeconds"],
        exposed_headers=rule["exposedHeaders"],
        allowed_headers=rule["allowedHeaders"],
    )
    assert made.allowed_methods == "GET,HEAD,OPTIONS"


def test_each_is_json_and_ones_own():
    for service in ("s3", "gcs", "azure"):
        first = zvl.cors(service)
        assert json.loads(json.dumps(first)) == first
        next(iter(first.values() if isinstance(first, dict) else [first]))[0].clear()
        assert zvl.cors(service) != first


@pytest.mark.parametrize(
    "arguments",
    [
        {"service": "ftp"},
        {"service": "s3", "origins": "*"},
        {"service": "s3", "origins": []},
        {"service": "s3", "origins": ["example.org"]},
    ],
)
def test_bad_arguments_are_errors(arguments):
    with pytest.raises(SelectionError):
        zvl.cors(**arguments)
