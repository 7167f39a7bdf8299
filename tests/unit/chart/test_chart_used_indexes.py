"""The policy for indexes in use: off unless it is asked for, and limited to what the release serves."""

from __future__ import annotations

from helm_chart import objects, pick, refusal, render

NAME = "cortex-system.datapunk-cortex-used-indexes"
ON = {"admission": {"protectUsedIndexes": True}}


def test_it_is_there_only_where_it_is_asked_for() -> None:
    assert not [obj for obj in objects(render()) if obj["kind"].startswith("ValidatingAdmission")]
    found = objects(render(values=ON))
    pick(found, "ValidatingAdmissionPolicy", NAME)
    binding = pick(found, "ValidatingAdmissionPolicyBinding", NAME)
    assert binding["spec"] == {"policyName": NAME, "validationActions": ["Deny"]}


def test_a_release_of_some_namespaces_refuses_in_these_alone() -> None:
    found = objects(render(values={**ON, "watchNamespaces": ["team-a", "team-b"]}))
    selector = pick(found, "ValidatingAdmissionPolicyBinding", NAME)["spec"]["matchResources"]["namespaceSelector"]
    assert selector["matchExpressions"] == [
        {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["team-a", "team-b"]}
    ]


def test_another_value_is_refused_by_its_name() -> None:
    assert "protectUsedIndex" in refusal(values={"admission": {"protectUsedIndex": True}})
