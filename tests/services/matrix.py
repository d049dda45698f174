"""The tables of docs/reference/services.md: the id of each row and the head of each column name the tests of a cell.

``python -m tests.services.matrix`` prints them again.
"""

import inspect
from types import ModuleType

from tests.services import test_anonymous, test_refusals, test_services, test_writers
from tests.services.catalogue import AZURE, SERVICES
from tests.services.test_anonymous import WAYS

ABSENT = "-"
TITLES = {
    "test_a_public_bucket_just_works": "unsigned, one request, no metadata",
    "test_a_refused_unsigned_request_says_so": "unsigned and refused",
    "test_refused_credentials_say_how_to_go_without": "credentials refused",
    "test_metadata_is_asked_only_after_a_refusal": "instance metadata, after a refusal",
}


def tests_of(module: ModuleType) -> list[str]:
    """Names of the test functions of a module, in their order."""
    return [name for name in vars(module) if name.startswith("test_")]


def services(module: ModuleType = test_services) -> str:
    """Return the table of services, and what the tests of a module show for each: equal columns are one."""
    tests = [getattr(module, name) for name in tests_of(module)]
    cells = {service: [cell(test, service) for test in tests] for service in SERVICES}
    cells = {service: row for service, row in cells.items() if set(row) != {ABSENT}}
    columns: dict[tuple[str, ...], list[str]] = {}
    for test, column in zip(tests, zip(*cells.values(), strict=True), strict=True):
        columns.setdefault(column, []).append(test.__name__.removeprefix("test_").replace("_", " "))
    names = [[f"`{shown(service)}`", service.backend, f"`{service.name}`"] for service in cells]
    rows = [[*name, *row] for name, row in zip(names, zip(*columns, strict=True), strict=True)]
    return table(["store", "backend", "id", *map(", ".join, columns.values())], rows)


def cell(test, service):
    """Whether a test runs for a service; a dash if the service is not one of its parameters."""
    if "writable" in inspect.signature(test).parameters and service.name not in names_of(test):
        return ABSENT
    return "yes"


def names_of(test):
    """Names of the services that a test of writing runs on."""
    marks = [mark.args[1] for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    return [param.id for param in marks[0]] if marks else [service.name for service in SERVICES if service.writable]


def shown(service):
    form = AZURE.get(service.name.rpartition("-")[0], service.shown)
    return form.format(account="account", container="container", path="path")


def credentials() -> str:
    """Return the table of clouds without credentials or with wrong ones, and the list of tests that run for each."""
    rows = [[f"`{way.url}`", way.backend, f"`{name}`"] for name, way in WAYS.items()]
    tests = [f"- {TITLES[name]}: `{name}`" for name in tests_of(test_anonymous)]
    return table(["store", "backend", "id"], rows) + "\n\n" + "\n".join(tests)


def refusals() -> str:
    """Return the list of other tests of credentials and requests."""
    return "\n".join(f"- `{name}`" for name in tests_of(test_refusals))


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def every() -> list[str]:
    """Return the tables, in the order of the page."""
    return [services(), services(test_writers), credentials(), refusals()]


if __name__ == "__main__":
    print("\n\n".join(every()))
